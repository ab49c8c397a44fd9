"""What the format tests share: options in one word, and the bytes that an encoder makes of batches."""

from __future__ import annotations

import io
from collections.abc import Iterable

import msgspec
import pyarrow as pa

from procflow_export.formats import open_encoder
from procflow_export.formats._arrow import Column
from procflow_export.model.settings import Compression, CsvOptions, Format, FormatOptions

CSV = FormatOptions(format=Format.CSV, compression=Compression.NONE)
PARQUET = FormatOptions(format=Format.PARQUET)


def csv_options(compression: Compression = Compression.NONE, level: int | None = None, **csv: object) -> FormatOptions:
    options = msgspec.convert(csv, CsvOptions)
    return FormatOptions(format=Format.CSV, compression=compression, compression_level=level, csv=options)


def encode(options: FormatOptions, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> bytes:
    sink = io.BytesIO()
    with open_encoder(options, schema, sink) as encoder:
        row_count = 0
        for batch in batches:
            encoder.write(batch)
            row_count += batch.num_rows
        assert encoder.finish() == row_count
    return sink.getvalue()


def encode_column(column: Column, options: FormatOptions = CSV, name: str = "c") -> str:
    schema = pa.schema([pa.field(name, column.type)])
    return encode(options, schema, [pa.RecordBatch.from_arrays([column], schema=schema)]).decode()


def cut(table: pa.Table, sizes: Iterable[int]) -> list[pa.RecordBatch]:
    """The rows of ``table`` in batches of ``sizes`` rows, repeated until the rows are used up."""
    whole = table.combine_chunks().to_batches()[0]
    batches: list[pa.RecordBatch] = []
    start, wanted = 0, list(sizes)
    while start < whole.num_rows:
        size = wanted[len(batches) % len(wanted)]
        batches.append(whole.slice(start, size))
        start += size
    return batches
