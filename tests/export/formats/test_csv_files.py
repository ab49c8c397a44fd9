"""CSV files as independent readers see them, and the rules of lines, quotes and NULL."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow_export.formats import file_suffix, open_encoder
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.settings import Compression, Format, FormatOptions
from tests.export.formats.encoding import CSV, csv_options, encode, encode_column

NASTY = st.text(alphabet=st.sampled_from(list(",;|\t\"\r\n\\ 'aé\U0001f600\x01=+-@#NULL")), max_size=12)
TEXTS = st.one_of(st.none(), st.just(""), NASTY, st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
ROWS = st.lists(
    st.tuples(TEXTS, st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), TEXTS), min_size=1, max_size=30
)
TYPES: dict[str, pa.DataType] = {"first": pa.string(), "number": pa.int64(), "last": pa.string()}
SCHEMA = pa.schema(TYPES)


def batch_of(rows: Sequence[tuple[object, ...]], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def strict_cells(text: str, delimiter: str = ",", null_text: str = "") -> list[list[str | None]]:
    """A reader that tells NULL from an empty text: written from RFC 4180 alone, one character at a time."""
    rows: list[list[str | None]] = []
    row: list[str | None] = []
    i = 0
    while i < len(text):
        if text[i] == '"':
            cell, i = "", i + 1
            while True:
                if text[i] != '"':
                    cell += text[i]
                elif text[i + 1 : i + 2] == '"':
                    cell += '"'
                    i += 1
                else:
                    break
                i += 1
            row.append(cell)
            i += 1
        else:
            stop = min(text.index(mark, i) for mark in (delimiter, "\n") if mark in text[i:])
            row.append(None if text[i:stop] == null_text else text[i:stop])
            i = stop
        if text[i] == "\n":
            rows.append(row)
            row = []
        else:
            assert text[i] == delimiter
        i += 1
    assert not row
    return rows


@settings(max_examples=150, deadline=None)
@given(
    ROWS,
    st.sampled_from([",", ";", "|", "\t", " "]),
    st.sampled_from(["", "NULL", "\\N"]),
    st.sampled_from(["needed", "all"]),
)
def test_a_strict_reader_gets_every_cell_back(
    rows: list[tuple[object, ...]], delimiter: str, null_text: str, quoting: str
) -> None:
    """E-24: whatever delimiter, NULL text and quoting, NULL and text are told apart and nothing is changed."""
    options = csv_options(delimiter=delimiter, null_text=null_text, quoting=quoting)

    text = encode(options, SCHEMA, [batch_of(rows)]).decode()

    cells = strict_cells(text, delimiter, null_text)
    assert cells[0] == SCHEMA.names
    assert cells[1:] == [[first, None if n is None else str(n), last] for first, n, last in rows]


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_the_standard_library_reads_the_same_texts(rows: list[tuple[object, ...]]) -> None:
    """E-24: Python's csv module reads every cell (it does not know NULL from empty)."""
    text = encode(CSV, SCHEMA, [batch_of(rows)]).decode()

    read = list(csv.reader(io.StringIO(text, newline=""), strict=True))

    assert read[1:] == [["" if cell is None else str(cell) for cell in row] for row in rows]


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_pyarrow_reads_the_same_rows(rows: list[tuple[object, ...]]) -> None:
    """E-24: pyarrow reads the rows back, NULL and empty text apart."""
    data = encode(CSV, SCHEMA, [batch_of(rows)])

    table = pacsv.read_csv(
        io.BytesIO(data),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )

    assert [tuple(row.values()) for row in table.to_pylist()] == rows


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_duckdb_reads_the_same_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]) -> None:
    """E-24: DuckDB reads the rows back, NULL and empty text apart."""
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_bytes(encode(CSV, SCHEMA, [batch_of(rows)]))

    read = duckdb.execute(
        "select * from read_csv(?, columns={'first':'VARCHAR','number':'BIGINT','last':'VARCHAR'}, header=true, delim=',', "
        "quote='\"', escape='\"', nullstr='', auto_detect=false, allow_quoted_nulls=false, parallel=false, "
        "new_line='\\n')",
        [str(path)],
    ).fetchall()

    assert read == rows


def test_null_is_an_empty_cell_and_empty_text_is_quoted() -> None:
    """E-24: NULL and the empty text differ by quotes alone; empty bytes are empty text."""
    rows = [(None, None, None), ("", 0, "")]

    assert encode(CSV, SCHEMA, [batch_of(rows)]) == b'first,number,last\n,,\n"",0,""\n'
    assert encode_column(pa.array([b"", None])) == 'c\n""\n\n'


def test_only_what_must_be_quoted_is() -> None:
    """E-24: spaces and formulas stand bare; delimiter, quote, CR and LF are quoted; header names obey the same rule."""
    column = pa.array([" a ", "=1+1", "a,b", 'a"b', "a\rb", "a\nb", "a;b"])

    text = encode_column(column, name='odd,"name"')

    assert text == '"odd,""name"""\n a \n=1+1\n"a,b"\n"a""b"\n"a\rb"\n"a\nb"\na;b\n'


def test_a_text_that_reads_as_null_is_quoted() -> None:
    """E-24: with a NULL text, the same characters as a value are quoted, in number columns too."""
    options = csv_options(null_text="0")

    assert encode_column(pa.array(["0", None, ""]), options) == 'c\n"0"\n0\n""\n'
    assert encode_column(pa.array([0, None, 1]), options) == 'c\n"0"\n0\n1\n'


def test_all_quoting_leaves_null_bare() -> None:
    """E-24: `quoting: all` quotes every value and the header, never NULL."""
    assert encode_column(pa.array([1, None]), csv_options(quoting="all")) == '"c"\n"1"\n\n'


def test_an_empty_part_has_its_header() -> None:
    """E-24: a part without rows is the header alone, and without `header` it is empty."""
    assert encode(CSV, SCHEMA, []) == b"first,number,last\n"
    assert encode(csv_options(header=False), SCHEMA, []) == b""


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
def test_bytes_do_not_depend_on_batches(codec: Compression) -> None:
    """E-24: equal rows give equal bytes, compressed or not, however they were cut."""
    types: dict[str, pa.DataType] = {"n": pa.int64(), "t": pa.string()}
    schema = pa.schema(types)
    whole = batch_of([(i, "x" * (i % 50)) for i in range(200_000)], schema)
    options = csv_options(codec)

    once = encode(options, schema, [whole])

    assert encode(options, schema, [whole]) == once
    assert encode(options, schema, [whole.slice(i, 777) for i in range(0, 200_000, 777)]) == once


@pytest.mark.parametrize(
    ("codec", "level", "program", "suffix"),
    [
        (Compression.GZIP, 9, "gzip", ".csv.gz"),
        (Compression.GZIP, 0, "gzip", ".csv.gz"),
        (Compression.ZSTD, 19, "zstd", ".csv.zst"),
    ],
)
def test_compressed_files_are_read_by_others(
    tmp_path: Path, codec: Compression, level: int, program: str, suffix: str
) -> None:
    """E-24: gzip and zstd files with levels are read by the system's own programs and by DuckDB."""
    options = csv_options(codec, level)
    column = pa.array([f"row {i}" for i in range(300_000)])
    schema = pa.schema([("c", pa.string())])
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(encode(options, schema, [pa.RecordBatch.from_arrays([column], schema=schema)]))

    assert file_suffix(options) == suffix
    assert duckdb.execute("select count(*), count(distinct c) from read_csv(?)", [str(path)]).fetchall() == [
        (300_000, 300_000)
    ]
    if codec is Compression.GZIP:
        assert gzip.decompress(path.read_bytes()).count(b"\n") == 300_001
    try:
        done = subprocess.run([program, "-dc", path], capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip(f"no {program} here")
    assert done.stdout.decode() == encode_column(column)


@pytest.mark.parametrize("codec", [Compression.SNAPPY, Compression.LZ4])
def test_codecs_that_no_csv_reader_knows_are_refused(codec: Compression) -> None:
    """E-24: CSV takes gzip and zstd only."""
    with pytest.raises(DataError, match="gzip or zstd") as caught:
        encode(FormatOptions(format=Format.CSV, compression=codec), SCHEMA, [])
    assert caught.value.code is Code.FORMAT_FAILED


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ""},
        {"delimiter": ",,"},
        {"delimiter": "a"},
        {"delimiter": '"'},
        {"delimiter": "-"},
        {"null_text": "a,b"},
    ],
)
def test_options_that_would_make_files_ambiguous_are_refused(options: dict[str, Any]) -> None:
    """E-24: a delimiter or NULL text that could stand in a bare cell is refused before anything is written."""
    with pytest.raises(DataError, match="csv options"):
        encode(csv_options(**options), SCHEMA, [])


def test_a_null_in_a_required_column_is_an_error() -> None:
    """E-24: NOT NULL is held to: a null in such a column ends the part with the column's name."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    batch = pa.RecordBatch.from_arrays([pa.array([1, None])], schema=schema)

    with pytest.raises(DataError, match="column 'id' was NOT NULL") as caught:
        encode(CSV, schema, [batch])
    assert caught.value.code is Code.SCHEMA_CHANGED


def test_memory_is_bounded_by_the_slice() -> None:
    """E-24: one large batch is written in slices: nothing the size of the batch is built."""

    class Counter:
        size_bytes = largest = 0

        def write(self, data: bytes | bytearray | memoryview, /) -> int:
            self.size_bytes += len(data)
            self.largest = max(self.largest, len(data))
            return len(data)

    column = pa.array(["y" * 1000] * 60_000)
    schema = pa.schema([("c", pa.string())])
    sink = Counter()
    before = pa.total_allocated_bytes()
    tracemalloc.start()

    with open_encoder(CSV, schema, sink) as encoder:
        encoder.write(pa.RecordBatch.from_arrays([column], schema=schema))
        encoder.finish()

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sink.size_bytes == 60_000 * 1001 + 2
    assert sink.largest < 8 * 1024 * 1024
    assert peak < 16 * 1024 * 1024
    assert pa.total_allocated_bytes() - before < 16 * 1024 * 1024
