"""Parquet files: what readers get back, and what the bytes depend on."""

from __future__ import annotations

import io
import json
import random
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow_export.formats import file_suffix, open_encoder
from procflow_export.formats.parquet import NATIVE_TYPES_KEY
from procflow_export.formats.settings import parquet_settings
from procflow_export.formats.strips import STRIP_BYTES
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.settings import (
    AUTO_ROW_GROUP_BYTES,
    Compression,
    Format,
    FormatOptions,
    ParquetOptions,
    RowGroupStrategy,
)
from procflow_export.model.types import Column, LogicalType, arrow_schema
from tests.export.formats.encoding import PARQUET, cut, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MICROS = st.integers(-(2**62), 2**62)
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "bool": (pa.bool_(), st.booleans()),
    "i16": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "i64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "u64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f32": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "f64": (pa.float64(), st.floats(allow_nan=False)),
    "dec": (pa.decimal128(10, 2), st.decimals(-99_999_999, 99_999_999, places=2)),
    "big": (pa.decimal128(38, 10), st.decimals(Decimal("-9e27"), Decimal("9e27"), places=10)),
    "text": (pa.string(), TEXT),
    "bin": (pa.binary(), st.binary(max_size=20)),
    "day": (pa.date32(), st.dates()),
    "ts": (pa.timestamp("us"), st.datetimes()),
    "tz": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    "time": (pa.time64("us"), st.times()),
    "list": (pa.list_(pa.string()), st.lists(st.one_of(st.none(), TEXT), max_size=4)),
}
SCHEMA = pa.schema([(name, arrow_type) for name, (arrow_type, _) in VALUES.items()])
ROWS = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), values) for name, (_, values) in VALUES.items()}), max_size=20
)


def read(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def metadata_of(data: bytes) -> pq.FileMetaData:
    return pq.read_metadata(io.BytesIO(data))


def duckdb_rows(data: bytes) -> list[tuple[Any, ...]]:
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(data)
        file.flush()
        return duckdb.execute("select * from read_parquet(?)", [file.name]).fetchall()


def options(compression: Compression = Compression.ZSTD, level: int | None = None, **parquet: Any) -> FormatOptions:
    return FormatOptions(
        format=Format.PARQUET, compression=compression, compression_level=level, parquet=ParquetOptions(**parquet)
    )


def fixed_rows(count: int) -> FormatOptions:
    return options(row_group_strategy=RowGroupStrategy.FIXED_ROWS, row_group_rows=count)


def fixed_memory(mb: int) -> FormatOptions:
    return options(row_group_strategy=RowGroupStrategy.FIXED_MEMORY, target_row_group_mb=mb)


def sample_table(row_count: int) -> pa.Table:
    rng = random.Random(7)
    return pa.table(
        {
            "id": pa.array(range(row_count)),
            "kind": pa.array([f"kind {rng.randrange(5)}" for _ in range(row_count)]),
            "note": pa.array([None if rng.random() < 0.1 else "z" * rng.randrange(200) for _ in range(row_count)]),
            "tags": pa.array([[f"t{rng.randrange(3)}"] * rng.randrange(3) for _ in range(row_count)]),
        }
    )


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_pyarrow_and_duckdb_read_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    """E-23, E-24: two independent readers get every value back, extremes and nulls included."""
    path = tmp_path_factory.getbasetemp() / "rows.parquet"
    path.write_bytes(encode(PARQUET, SCHEMA, [pa.RecordBatch.from_pylist(rows, schema=SCHEMA)]))

    assert read(path.read_bytes()).to_pylist() == pa.Table.from_pylist(rows, schema=SCHEMA).to_pylist()
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    seen = connection.execute("select * exclude (tz), epoch_us(tz) as tz from read_parquet(?)", [str(path)]).fetchall()
    expected = [
        (*(row[name] for name in SCHEMA.names if name != "tz"), None if row["tz"] is None else micros(row["tz"]))
        for row in rows
    ]
    assert seen == expected


def micros(instant: datetime) -> int:
    delta = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


@pytest.mark.parametrize("make", [lambda: PARQUET, lambda: fixed_rows(1000), lambda: fixed_memory(1)])
@pytest.mark.parametrize("sizes", [[1000], [1, 7, 4999], [333]])
def test_bytes_depend_on_rows_alone(make: Callable[[], FormatOptions], sizes: list[int]) -> None:
    """E-24: equal rows give equal bytes, however they were cut into batches, under every row-group strategy."""
    table = sample_table(20_000)

    whole = encode(make(), table.schema, cut(table, [20_000]))

    assert encode(make(), table.schema, cut(table, sizes)) == whole


def test_pages_depend_on_rows_alone() -> None:
    """E-24: pages are cut where the rows say so, not where a batch ended: seen only in columns of many pages."""
    rng = random.Random(11)
    texts = [f"{row} {'w' * rng.randrange(300)}" for row in range(100_000)]
    table = pa.table({"t": pa.array(texts), "n": pa.array([rng.getrandbits(60) for _ in texts])})
    plain = options(Compression.NONE)

    whole = encode(plain, table.schema, cut(table, [100_000]))

    assert len(whole) > 12 * 1024 * 1024
    for sizes in ([333], [1000], [4999, 1]):
        assert encode(plain, table.schema, cut(table, sizes)) == whole


@pytest.mark.parametrize("sizes", [[6], [2], [3, 1], [1]])
def test_bytes_do_not_depend_on_dictionaries_of_batches(sizes: list[int]) -> None:
    """E-24: a column that arrives dictionary-encoded stays one, with the same bytes whatever dictionaries the batches have."""
    plain = pa.table({"c": pa.array(["a", "b", None, "b", "c", "a"])})
    arrow_type = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    schema = pa.schema([pa.field("c", arrow_type)])
    labels = pa.array(["unused", "c", "b", "a", None])
    same = pa.DictionaryArray.from_arrays(pa.array([3, 2, 4, 2, 1, 3], pa.int8()), labels, ordered=True)
    whole = encode(PARQUET, schema, [pa.RecordBatch.from_arrays([same], schema=schema)])

    batches = [
        pa.RecordBatch.from_arrays([batch.column(0).dictionary_encode().cast(arrow_type)], schema=schema)
        for batch in cut(plain, sizes)
    ]

    assert encode(PARQUET, schema, batches) == whole
    column = read(whole).column(0)
    assert pa.types.is_dictionary(column.type)
    assert column.type.ordered
    assert column.to_pylist() == plain.column(0).to_pylist()
    assert duckdb_rows(whole) == [("a",), ("b",), (None,), ("b",), ("c",), ("a",)]


def test_dictionaries_of_two_row_groups_are_their_own() -> None:
    """E-24: a dictionary column of many row groups reads back exactly, NOT NULL and nested ones included."""
    labels = [f"label {number % 90}" for number in range(5_000)]
    schema = pa.schema([pa.field("c", pa.dictionary(pa.int8(), pa.string()), nullable=False)])
    encoded = pa.array(labels).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int8()), encoded.dictionary)
    table = pa.Table.from_arrays([column], schema=schema)

    data = encode(fixed_rows(700), schema, cut(table, [999, 1]))

    assert metadata_of(data).num_row_groups == 8
    assert read(data).column(0).to_pylist() == labels
    assert encode(fixed_rows(700), schema, cut(table, [13])) == data


def test_a_file_names_no_time_host_or_path() -> None:
    """E-24: the only producer information is the library's version; key-value metadata is the schema's."""
    metadata = metadata_of(encode(PARQUET, SCHEMA, []))

    assert metadata.created_by == f"parquet-cpp-arrow version {pa.__version__}"
    assert metadata.metadata is not None
    assert set(metadata.metadata) == {b"ARROW:schema"}


def test_fixed_rows_cuts_row_groups_exactly() -> None:
    """E-24: `fixed_rows` gives groups of exactly that many rows, and a rest."""
    table = sample_table(2_500)

    metadata = metadata_of(encode(fixed_rows(1_000), table.schema, cut(table, [333])))

    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [1000, 1000, 500]


def test_fixed_memory_bounds_row_groups() -> None:
    """E-24: `fixed_memory` ends a group before its cells exceed the target; a larger row stands alone."""
    mb = 1024 * 1024
    table = pa.table({"c": pa.array(["x" * (400 * 1024)] * 5 + ["y" * (3 * mb)] + ["z"])})

    metadata = metadata_of(encode(fixed_memory(1), table.schema, cut(table, [7])))

    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2, 2, 1, 1, 1]


def test_automatic_row_groups_hold_at_most_a_mebirow() -> None:
    """E-24: `auto` ends a group after 1 048 576 rows however narrow they are, and earlier when they are wide."""
    narrow = pa.table({"c": pa.array(range(1_500_000), pa.int32())})
    wide = pa.table({"c": pa.array([b"w" * 65_536] * 1_500)})

    narrow_metadata = metadata_of(encode(PARQUET, narrow.schema, cut(narrow, [100_000])))
    wide_metadata = metadata_of(encode(PARQUET, wide.schema, cut(wide, [500])))

    assert narrow_metadata.row_group(0).num_rows == 1_048_576
    most = AUTO_ROW_GROUP_BYTES // (65_536 + 4)
    assert most - STRIP_BYTES // 65_536 <= wide_metadata.row_group(0).num_rows <= most


def test_dictionaries_stand_where_they_pay() -> None:
    """E-24: repeated texts get a dictionary, unique numbers do not; elements of lists are judged, too."""
    table = sample_table(30_000)

    group = metadata_of(encode(PARQUET, table.schema, cut(table, [10_000]))).row_group(0)

    has_dictionary = {
        group.column(i).path_in_schema: group.column(i).has_dictionary_page for i in range(group.num_columns)
    }
    assert has_dictionary == {"id": False, "kind": True, "note": True, "tags.list.element": True}


@pytest.mark.parametrize(
    ("codec", "level", "written"),
    [
        (Compression.ZSTD, None, "ZSTD"),
        (Compression.ZSTD, 22, "ZSTD"),
        (Compression.SNAPPY, None, "SNAPPY"),
        (Compression.GZIP, 0, "GZIP"),
        (Compression.GZIP, 9, "GZIP"),
        (Compression.LZ4, None, "LZ4"),
        (Compression.NONE, None, "UNCOMPRESSED"),
    ],
)
def test_every_codec_is_read_back(tmp_path: Path, codec: Compression, level: int | None, written: str) -> None:
    """E-24: every codec and level is written as itself and read by pyarrow and DuckDB."""
    table = sample_table(500)
    path = tmp_path / "rows.parquet"
    path.write_bytes(encode(options(codec, level), table.schema, cut(table, [500])))

    assert metadata_of(path.read_bytes()).row_group(0).column(0).compression == written
    assert read(path.read_bytes()).equals(table)
    assert duckdb.execute("select sum(id) from read_parquet(?)", [str(path)]).fetchone() == (sum(range(500)),)


@pytest.mark.parametrize(
    ("codec", "level"),
    [
        (Compression.SNAPPY, 1),
        (Compression.LZ4, 3),
        (Compression.NONE, 0),
        (Compression.ZSTD, 0),
        (Compression.ZSTD, 23),
        (Compression.GZIP, 10),
    ],
)
def test_levels_that_a_codec_lacks_are_refused(codec: Compression, level: int) -> None:
    """E-24: a level outside the codec's range, or for a codec without levels, is an error and not ignored."""
    with pytest.raises(DataError, match=codec.value) as caught:
        encode(options(codec, level), SCHEMA, [])
    assert caught.value.code is Code.FORMAT_FAILED


def test_zstd_means_level_three_unless_said() -> None:
    """E-24: the default of `zstd` is level 3."""
    table = sample_table(5_000)

    assert encode(options(), table.schema, cut(table, [5_000])) == encode(
        options(level=3), table.schema, cut(table, [5_000])
    )
    assert parquet_settings(options()).compression.level == 3


def test_statistics_are_written() -> None:
    """E-24: readers can skip row groups by minimum, maximum and null count."""
    table = pa.table({"n": pa.array([3, None, 9])})

    statistics = metadata_of(encode(PARQUET, table.schema, cut(table, [3]))).row_group(0).column(0).statistics

    assert statistics is not None
    assert (statistics.min, statistics.max, statistics.null_count) == (3, 9, 1)


def test_not_null_and_native_types_are_carried(tmp_path: Path) -> None:
    """E-20, E-24: NOT NULL is REQUIRED in the file, native types stand in field and file metadata."""
    columns = [
        Column(
            name="id", native_type="bigint", logical_type=LogicalType.INTEGER, arrow_type=pa.int64(), is_nullable=False
        ),
        Column(name="uid", native_type="uuid", logical_type=LogicalType.UUID, arrow_type=pa.uuid()),
        Column(name="doc", native_type="jsonb", logical_type=LogicalType.JSON, arrow_type=pa.json_()),
        Column(
            name="price", native_type="numeric(10,2)", logical_type=LogicalType.DECIMAL, arrow_type=pa.decimal128(10, 2)
        ),
    ]
    schema = arrow_schema(columns)
    row = {"id": 1, "uid": UUID(int=5).bytes, "doc": '{"a": 1}', "price": Decimal("1.50")}
    data = encode(PARQUET, schema, [pa.RecordBatch.from_pylist([row], schema=schema)])

    file_schema = pq.ParquetFile(io.BytesIO(data)).schema
    assert [file_schema.column(i).max_definition_level for i in range(4)] == [0, 1, 1, 1]
    assert [json.loads(file_schema.column(i).logical_type.to_json())["Type"] for i in (1, 2, 3)] == [
        "UUID",
        "JSON",
        "Decimal",
    ]
    assert file_schema.column(3).physical_type == "INT64"
    assert read(data).schema.equals(schema, check_metadata=False)
    assert (read(data).schema.field("price").metadata or {})[b"procflow.native_type"] == b"numeric(10,2)"
    native_types = {column.name: column.native_type for column in columns}
    assert json.loads((metadata_of(data).metadata or {})[NATIVE_TYPES_KEY]) == native_types
    path = tmp_path / "row.parquet"
    path.write_bytes(data)
    assert duckdb.execute("select * from read_parquet(?)", [str(path)]).fetchall() == [
        (1, UUID(int=5), '{"a": 1}', Decimal("1.50"))
    ]


def test_a_null_in_a_required_column_is_an_error() -> None:
    """E-24: NOT NULL is held to: a null in such a column ends the part with the column's name."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    batch = pa.RecordBatch.from_arrays([pa.array([1, None])], schema=schema)

    with pytest.raises(DataError, match="column 'id' was NOT NULL") as caught:
        encode(PARQUET, schema, [batch])
    assert caught.value.code is Code.SCHEMA_CHANGED


def test_a_type_that_parquet_lacks_is_refused_at_once() -> None:
    """E-24: what Parquet cannot hold is refused before the first row, naming the column."""
    schema = pa.schema([("gap", pa.month_day_nano_interval())])

    with pytest.raises(DataError, match="column 'gap' of type month_day_nano_interval") as caught:
        open_encoder(PARQUET, schema, io.BytesIO())
    assert caught.value.code is Code.TYPE_NOT_SUPPORTED


def test_an_empty_part_is_a_file_with_a_schema() -> None:
    """E-24: a part without rows can be read and has its columns."""
    assert read(encode(PARQUET, SCHEMA, [])).schema.equals(SCHEMA)
    assert read(encode(PARQUET, SCHEMA, [pa.RecordBatch.from_pylist([], schema=SCHEMA)])).num_rows == 0
    assert file_suffix(PARQUET) == ".parquet"


def test_an_abandoned_part_writes_no_footer() -> None:
    """E-42: W1: leaving an encoder without `finish()` writes nothing more, so that half a part never looks whole."""
    table = sample_table(30_000)
    sink = io.BytesIO()
    large = options(Compression.NONE, row_group_strategy=RowGroupStrategy.FIXED_ROWS, row_group_rows=1_000)

    with pytest.raises(RuntimeError, match="source"), open_encoder(large, table.schema, sink) as encoder:
        encoder.write(cut(table, [30_000])[0])
        raise RuntimeError("source")

    encoder.close()
    assert sink.getvalue().startswith(b"PAR1")
    assert not sink.getvalue().endswith(b"PAR1")
    with pytest.raises(ValueError, match="closed"):
        encoder.finish()


@pytest.mark.parametrize("group_rows", [10, 100, 500])
def test_the_size_of_a_part_can_be_watched(group_rows: int) -> None:
    """E-24: the estimate grows with the rows and is exact after the end; rotation relies on it."""
    table = sample_table(5_000)
    sink = io.BytesIO()
    seen = []

    with open_encoder(fixed_rows(group_rows), table.schema, sink) as encoder:
        for batch in cut(table, [500]):
            encoder.write(batch)
            seen.append(encoder.part_bytes_estimate)
        encoder.finish()
        assert encoder.part_bytes_estimate == len(sink.getvalue())

    assert seen == sorted(seen)
    assert seen[0] > 0


def test_dates_before_christ_survive() -> None:
    """E-20: a date that Python cannot hold is a day number in the file all the same."""
    schema = pa.schema([("d", pa.date32())])
    column = pa.array([-735_160, 2_145_042_905], pa.int32()).cast(pa.date32())

    data = encode(PARQUET, schema, [pa.RecordBatch.from_arrays([column], schema=schema)])

    assert read(data).column("d").cast(pa.int32()).to_pylist() == [-735_160, 2_145_042_905]
    assert read(
        encode(PARQUET, schema, [pa.RecordBatch.from_arrays([pa.array([date.max])], schema=schema)])
    ).to_pylist() == [{"d": date.max}]
