"""Encoders and the sinks under them: failures come through unchanged, and memory stays where it belongs."""

from __future__ import annotations

import gc

import pyarrow as pa
import pytest

from procflow_export.formats import open_encoder
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError
from procflow_export.model.settings import Compression, Format, FormatOptions, ParquetOptions, RowGroupStrategy
from tests.export.formats.encoding import csv_options, cut

PARQUET = FormatOptions(
    format=Format.PARQUET,
    compression=Compression.NONE,
    parquet=ParquetOptions(row_group_strategy=RowGroupStrategy.FIXED_ROWS, row_group_rows=1_000),
)
ENCODINGS = [PARQUET, csv_options(), csv_options(Compression.GZIP), csv_options(Compression.ZSTD)]


class FillingDisk:
    """Takes a number of bytes, then refuses as a full disk does."""

    def __init__(self, max_bytes: int) -> None:
        self.size_bytes = 0
        self.max_bytes = max_bytes

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self.size_bytes + len(data) > self.max_bytes:
            raise DestinationError(Code.DESTINATION_FULL, "cannot write a: no space left")
        self.size_bytes += len(data)
        return len(data)


@pytest.mark.parametrize("options", ENCODINGS, ids=["parquet", "csv", "gzip", "zstd"])
@pytest.mark.parametrize("max_bytes", [0, 3, 4, 10_000, 60_000])
def test_a_failure_of_the_sink_keeps_its_class_and_code(options: FormatOptions, max_bytes: int) -> None:
    """E-24, E-61: a full disk under an encoder is still a full disk to whoever decides about retry and exit status."""
    table = pa.table({"n": pa.array(range(200_000)), "t": pa.array([str(i * 7919 % 65_537) for i in range(200_000)])})
    sink = FillingDisk(max_bytes)

    def encode() -> None:
        with open_encoder(options, table.schema, sink) as encoder:
            for batch in cut(table, [500]):
                encoder.write(batch)
            encoder.finish()

    with pytest.raises(DestinationError, match="no space left") as caught:
        encode()

    assert caught.value.code is Code.DESTINATION_FULL
    written = sink.size_bytes
    sink.max_bytes = 1 << 40
    gc.collect()
    assert sink.size_bytes == written, "an abandoned encoder wrote into its sink"


def test_a_parquet_part_holds_one_row_group_in_memory() -> None:
    """E-24, E-30: however many rows a part has, what waits for encoding is one row group."""
    options = FormatOptions(
        format=Format.PARQUET,
        parquet=ParquetOptions(row_group_strategy=RowGroupStrategy.FIXED_MEMORY, target_row_group_mb=4),
    )
    schema = pa.schema([pa.field("t", pa.string())])
    sink = FillingDisk(1 << 40)
    gc.collect()
    before = pa.total_allocated_bytes()
    largest = 0

    with open_encoder(options, schema, sink) as encoder:
        for number in range(400):
            encoder.write(pa.RecordBatch.from_pydict({"t": [f"{number} " + "x" * 200] * 1_000}, schema=schema))
            largest = max(largest, pa.total_allocated_bytes() - before)
        encoder.finish()

    assert encoder.row_count == 400_000
    assert largest < 3 * 4 * 1024 * 1024
    gc.collect()
    assert pa.total_allocated_bytes() - before < 1024 * 1024
