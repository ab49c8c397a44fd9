"""CSV parts as they are read back."""

from __future__ import annotations

import gzip
import io

import pyarrow as pa
import pytest

from procflow_export.checks.decoding import csv_record_count
from procflow_export.checks.texts import OtherColumnsError, TextForm
from procflow_export.model.settings import CsvOptions

SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("note", pa.string())])
ROWS = 200_000
TEXT = "id,note\n" + "".join(f'{row},"a note, quoted ""{row}"""\n' for row in range(ROWS))


def packed(compression: str) -> io.BytesIO:
    data = TEXT.encode()
    if compression == "gzip":
        data = gzip.compress(data)
    elif compression == "zstd":
        data = pa.compress(data, codec="zstd", asbytes=True)
    return io.BytesIO(data)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_every_row_of_a_large_part_is_read_back(compression: str) -> None:
    """E-46: whatever the compression, and although the header is looked at first."""
    file = packed(compression)

    batches = list(TextForm(SCHEMA, CsvOptions()).of_file(file, compression))

    assert sum(batch.num_rows for batch in batches) == ROWS
    assert batches[0].column(1)[3].as_py() == 'a note, quoted "3"'
    assert not file.closed
    file.seek(0)
    assert csv_record_count(file, compression) == ROWS + 1
    assert not file.closed


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_other_columns_are_told(compression: str) -> None:
    """E-46: a header that is not the source's is no undecodable file."""
    other = pa.schema([pa.field("id", pa.string()), pa.field("remark", pa.string())])

    with pytest.raises(OtherColumnsError):
        list(TextForm(other, CsvOptions()).of_file(packed(compression), compression))
