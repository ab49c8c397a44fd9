"""Every declared type of SQLite, and values that break what it promises."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.config.structs import ExportConfig, Mode
from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.keys import KeyKind, KeyPart
from procflow_export.model.plan import KeyRange, NullKeys, Query, Relation, Selection, TableChunk
from procflow_export.model.settings import Format
from procflow_export.model.types import Fidelity
from procflow_export.pipeline.cutting import Cutter
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.sqlite.decoder import RefusedError, decode_column
from procflow_export.sources.sqlite.types import declared_column
from tests.export.sources.databases import SqliteDatabase, facts_of, opened, read, reading

pytestmark = pytest.mark.anyio

# declared type, stored values, Arrow type, expected values; a NULL row is added to each.
EXACT: list[tuple[str, list[Any], pa.DataType, list[Any]]] = [
    ("INTEGER", [-(2**63), 2**63 - 1, "12"], pa.int64(), [-(2**63), 2**63 - 1, 12]),
    ("BIGINT UNSIGNED", [0], pa.int64(), [0]),
    ("REAL", [0.1, 1e308, 5e-324, -0.0, math.inf, 7], pa.float64(), [0.1, 1e308, 5e-324, -0.0, math.inf, 7.0]),
    ("DOUBLE PRECISION", [2.5], pa.float64(), [2.5]),
    ("TEXT", ["", "é😀", "a\nb", "NULL", 5], pa.string(), ["", "é😀", "a\nb", "NULL", "5"]),
    ("VARCHAR(10)", ["longer than ten"], pa.string(), ["longer than ten"]),
    ("BLOB", [b"", b"\x00\xff"], pa.binary(), [b"", b"\x00\xff"]),
    ("BOOLEAN", [0, 1], pa.bool_(), [False, True]),
    (
        "DECIMAL(10,2)",
        [12.34, 5, -0.01, "99999999.99"],
        pa.decimal128(10, 2),
        [Decimal("12.34"), Decimal("5.00"), Decimal("-0.01"), Decimal("99999999.99")],
    ),
    ("decimal( 60 , 1 )", [1.5], pa.decimal256(60, 1), [Decimal("1.5")]),
    ("NUMERIC", [1, 1.5, "abc", 1e300], pa.string(), ["1", "1.5", "abc", "1e+300"]),
    ("DATE", ["0001-01-01", "9999-12-31"], pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    (
        "DATETIME",
        ["2024-01-02 03:04:05", "2024-01-02T03:04:05.123456", "2024-01-02"],
        pa.timestamp("us"),
        [dt.datetime(2024, 1, 2, 3, 4, 5), dt.datetime(2024, 1, 2, 3, 4, 5, 123456), dt.datetime(2024, 1, 2)],
    ),
    ("TIMESTAMP", ["1969-12-31 23:59:59.5"], pa.timestamp("us"), [dt.datetime(1969, 12, 31, 23, 59, 59, 500000)]),
    ("TIME", ["23:59:59.999999"], pa.time64("us"), [dt.time(23, 59, 59, 999999)]),
    ("JSON", ['{"a": 1}'], pa.json_(), ['{"a": 1}']),
    ("", [1, 2], pa.int64(), [1, 2]),
    ("", ["a", 1], pa.string(), ["a", "1"]),
    ("", [b"\x00"], pa.binary(), [b"\x00"]),
    ("", [], pa.string(), []),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_every_declared_type_keeps_its_values(sqlite: SqliteDatabase) -> None:
    """E-20, E-23: the declared type decides, and every value arrives as it is stored."""
    for number, (declared, values, _, _) in enumerate(EXACT):
        sqlite.execute(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, v {declared})")
        for value in (*values, None):
            sqlite.execute(f"INSERT INTO t{number} (v) VALUES (?)", parameters=(value,))

    async with opened(sqlite) as source:
        for number, (declared, _, arrow_type, expected) in enumerate(EXACT):
            for selection in (Relation(table=f"t{number}"), Query(text=f"SELECT id, v FROM t{number}")):
                table = (await read(source, selection)).sort_by("id")
                assert table.schema.field("v").type == arrow_type, declared
                assert table["v"].to_pylist() == [*expected, None], declared


@pytest.mark.parametrize(
    ("declared", "value", "shown"),
    [
        ("INTEGER", "abc", "abc"),
        ("INTEGER", 1.5, "1.5"),
        ("INTEGER", b"\x01", "01"),
        ("REAL", "abc", "abc"),
        ("TEXT", b"bytes", "6279746573"),
        ("BLOB", "text", "text"),
        ("BOOLEAN", 2, "2"),
        ("DECIMAL(5,2)", 1.005, "1.005"),
        ("DECIMAL(5,2)", 12345, "12345"),
        ("DECIMAL(5,2)", "many", "many"),
        ("DATE", "2024-02-30", "2024-02-30"),
        ("DATE", "0000-00-00", "0000-00-00"),
        ("DATE", 1700000000, "1700000000"),
        ("DATETIME", "2024-01-02 03:04:05Z", "2024-01-02 03:04:05Z"),
        ("DATETIME", "tomorrow", "tomorrow"),
        ("TIME", "24:00:00", "24:00:00"),
    ],
)
async def test_value_that_breaks_the_promise_is_an_error_that_names_it(
    sqlite: SqliteDatabase, declared: str, value: Any, shown: str
) -> None:
    """E-21: SQLite stores anything anywhere; what does not fit is an error with column and row id, never another value."""
    sqlite.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})", "INSERT INTO t VALUES (1, NULL)")
    sqlite.execute("INSERT INTO t VALUES (41, ?)", parameters=(value,))

    async with opened(sqlite) as source:
        with pytest.raises(ValueRefusedError) as caught:
            await read(source, "t")

    assert caught.value.code is Code.VALUE_REFUSED
    assert (caught.value.column, caught.value.place, caught.value.value) == ("v", "rowid 41", shown)


async def test_text_that_is_not_utf8_is_an_error_that_names_it(sqlite: SqliteDatabase) -> None:
    """E-21: invalid text is neither replaced nor skipped."""
    sqlite.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT)", "INSERT INTO t VALUES (1, 'fine', 'fine')"
    )
    sqlite.execute("INSERT INTO t VALUES (5, 'fine', CAST(x'ff41' AS TEXT))")

    async with opened(sqlite) as source:
        with pytest.raises(ValueRefusedError) as caught:
            await read(source, "t")

    assert (caught.value.column, caught.value.place) == ("w", "rowid 5")


async def test_mixed_bytes_without_a_declared_type_are_refused(sqlite: SqliteDatabase) -> None:
    """E-20: no Arrow type keeps the difference between bytes and text, so none is chosen silently."""
    sqlite.execute("CREATE TABLE t (v)", "INSERT INTO t VALUES ('a'), (x'00')")

    async with opened(sqlite) as source:
        with pytest.raises(ExportError) as caught:
            await source.profile(Relation(table="t"))

    assert caught.value.code is Code.TYPE_NOT_SUPPORTED


async def test_generated_columns_and_tables_without_row_ids(sqlite: SqliteDatabase) -> None:
    """E-20: a table has the columns that SELECT * has; a key that is not the row id is checked for NULL and type."""
    sqlite.execute(
        "CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, twice INTEGER AS (id * 2)) WITHOUT ROWID",
        "INSERT INTO t (id) VALUES (3)",
        "CREATE TABLE loose (id INTEGER UNIQUE NOT NULL, v TEXT)",
        "INSERT INTO loose VALUES (1, 'a'), ('zzz', 'b')",
    )

    by_id = ExportConfig(name="loose", table="loose", mode=Mode.CHUNKED, chunk_column="id", format=Format.PARQUET)

    async with opened(sqlite) as source:
        profile = await source.profile(Relation(table="t"))
        table = await read(source, "t")
        with pytest.raises(ExportError) as caught:
            await Cutter(source, await facts_of(source, "loose")).chunked(by_id)

    assert profile.indexes.unique_keys[0] == ("id",)
    assert table.to_pylist() == [{"id": 3, "twice": 6}]
    assert caught.value.code is Code.PLAN_KEY_NOT_USABLE


async def test_file_that_is_missing_or_no_database(sqlite: SqliteDatabase) -> None:
    """E-61: a wrong path is told from a wrong file, and each is named."""
    from msgspec.structs import replace

    from procflow_export.sources import open_source

    text = sqlite.path.with_name("text.db")
    text.write_text("this is no database, only text" * 50)

    for path, code in ((sqlite.path.with_name("none.db"), Code.SOURCE_UNREACHABLE), (text, Code.SOURCE_FAILED)):
        async with open_source(replace(sqlite.config, path=str(path)), environ={}) as source:
            with pytest.raises(SourceError) as caught:
                await source.profile(Relation(table="t"))
        assert caught.value.code is code
        assert str(path) in str(caught.value)
    assert not sqlite.path.with_name("none.db").exists()


async def test_path_may_hold_any_character(sqlite: SqliteDatabase) -> None:
    """E-2: a path is a path, whatever it means in a URL."""
    from msgspec.structs import replace

    from procflow_export.sources import open_source

    sqlite.execute("CREATE TABLE t (v)", "INSERT INTO t VALUES (1)")
    odd = sqlite.path.with_name("a?mode=rwc&b#c%41 é.db")
    odd.write_bytes(sqlite.path.read_bytes())

    async with open_source(replace(sqlite.config, path=str(odd)), environ={}) as source:
        assert (await read(source, "t"))["v"].to_pylist() == [1]


async def test_one_reader_sees_one_state(sqlite: SqliteDatabase) -> None:
    """E-1: a chunk is read inside one read transaction."""
    sqlite.execute(
        "PRAGMA journal_mode = WAL", "CREATE TABLE t (id INTEGER PRIMARY KEY)", f"INSERT INTO t {sqlite.numbers(5000)}"
    )

    async with opened(sqlite) as source:
        seen = []
        async with reading(source, Relation(table="t"), batch_rows=100) as batches:
            seen += (await anext(batches))["id"].to_pylist()
            sqlite.execute("DELETE FROM t WHERE id > 10")
            async for batch in batches:
                seen += batch["id"].to_pylist()

    assert seen == list(range(1, 5001))


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)
DECLARED = st.sampled_from([declared for declared, _, _, _ in EXACT if declared])


@given(declared=DECLARED, values=st.lists(VALUES, min_size=1))
def test_a_column_is_exact_or_refused(declared: str, values: list[Any]) -> None:
    """E-20: whatever the values are, each arrives with its value, or the column is refused at the first that cannot."""
    column = declared_column("v", declared, is_nullable=True, is_expression=False)
    assert column is not None

    try:
        result = decode_column(column, values).to_pylist()
    except RefusedError as exc:
        refused = exc.value
        assert any(value is refused for value in values)
    else:
        assert [value is None for value in result] == [value is None for value in values]
        if column.fidelity is Fidelity.EXACT:
            same = [a == b or (a != a and b != b) for a, b in zip(result, values, strict=True)]
            assert all(same)


@pytest.mark.parametrize(
    "chunk",
    [
        None,
        KeyRange.of_integers("k", 0, 10),
        NullKeys(key=(KeyPart(column="k", kind=KeyKind.INTEGER, is_nullable=True),)),
    ],
)
@pytest.mark.parametrize("selection", [Relation(table="t"), Query(text="SELECT * FROM t")], ids=str)
@pytest.mark.parametrize("renamed", ["name", "k"])
async def test_a_name_that_is_no_column_any_more_is_not_taken_for_a_text(
    sqlite: SqliteDatabase, selection: Selection, chunk: TableChunk | None, renamed: str
) -> None:
    """E-20, E-22: SQLite reads an unknown name in double quotes as a text, every row of which would be that name."""
    sqlite.execute("CREATE TABLE t (name text, k integer)", "INSERT INTO t VALUES ('x', 1), ('y', NULL)")

    async with opened(sqlite) as source:
        columns = (await source.profile(selection)).columns
        sqlite.execute(f"ALTER TABLE t RENAME COLUMN {renamed} TO other")
        with pytest.raises(ExportError) as caught:
            await read(source, selection, chunk, columns=columns)

    assert renamed in str(caught.value)
    if isinstance(selection, Relation):
        assert caught.value.code is Code.SCHEMA_CHANGED


@pytest.mark.parametrize(
    ("collation", "index", "keys"),
    [
        ("NOCASE", "k COLLATE BINARY", []),
        ("NOCASE", "k COLLATE RTRIM, id", []),
        ("RTRIM", "k COLLATE BINARY", []),
        ("NOCASE", "k", [("k",)]),
        ("RTRIM", "k", [("k",)]),
        ("BINARY", "k COLLATE NOCASE", [("k",)]),
    ],
)
async def test_an_index_that_tells_apart_what_its_column_does_not_is_no_key(
    sqlite: SqliteDatabase, collation: str, index: str, keys: list[tuple[str, ...]]
) -> None:
    """E-10: behind the key `A` of a column without cases, `a` would never be new."""
    sqlite.execute(
        f"CREATE TABLE t (k text COLLATE {collation} NOT NULL, id integer NOT NULL, v text COLLATE NOCASE)",
        f"CREATE UNIQUE INDEX u ON t ({index})",
        "INSERT INTO t VALUES ('A', 1, 'x')",
    )

    async with opened(sqlite) as source:
        profile = await source.profile(Relation(table="t"))

    assert list(profile.indexes.unique_keys) == keys
