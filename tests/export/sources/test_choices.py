"""Columns that get another type, and policies for what does not fit: what every source can do, value by value."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from procflow_export.model.choices import Choice, OnInvalid, parse_type
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError, PlanError
from procflow_export.model.plan import Everything, KeyRange, Query, Relation, Selection, TableChunk
from procflow_export.model.types import ENUM, Fidelity, arrow_schema
from procflow_export.sources import ChunkRequest, ReadStatistics
from procflow_export.sources.failures import ValueRefusedError
from tests.export.sources.databases import Database, MariaDatabase, PostgresDatabase, SqliteDatabase, opened, row_key_of
from tests.export.types import mysql_rows, postgres_rows, sqlite_rows
from tests.export.types.meaning import of_arrow, of_text
from tests.export.types.rows import TypeRow

pytestmark = pytest.mark.anyio

UTC = dt.UTC
TZ = pa.timestamp("us", "UTC")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def choice(type_text: str | None = None, on_invalid: OnInvalid = OnInvalid.ERROR) -> Choice:
    return Choice(type=None if type_text is None else parse_type(type_text), on_invalid=on_invalid)


@dataclass(frozen=True, slots=True)
class Read:
    table: Any
    changed: Mapping[str, int]


async def read(
    database: Database, selection: Selection, choices: Mapping[str, Choice], chunk: TableChunk | None = None
) -> Read:
    """Everything that one chunk reader gives, and what it changed."""
    statistics = ReadStatistics()
    async with opened(database) as source:
        columns = (await source.profile(selection, choices)).columns
        request = ChunkRequest(
            selection=selection,
            columns=columns,
            chunk=chunk or Everything(),
            batch_rows=1000,
            row_key=row_key_of(chunk),
        )
        batches = []
        async with source.read_chunk(request, statistics) as reader:
            async for batch in reader:
                batch.validate(full=True)
                batches.append(batch)
    return Read(pa.Table.from_batches(batches, schema=arrow_schema(columns)), dict(statistics.changed_values))


def selections(table: str) -> list[Selection]:
    return [Relation(table=table), Query(text=f"SELECT id, v FROM {table}")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A native type as another.

    Attributes:
        native: How the column is declared.
        chosen: What it becomes.
        arrow_type: The Arrow type for that.
        fits: Literals, and what they become.
        misfits: Literals that do not fit, with what ``clamp`` makes of each; ``ValueRefusedError`` where nothing is near.
    """

    native: str
    chosen: str
    arrow_type: pa.DataType
    fits: Mapping[Any, Any]
    misfits: Mapping[Any, Any]

    @property
    def slug(self) -> str:
        return f"{self.native} as {self.chosen}"


NONE_NEAR = ValueRefusedError
D = Decimal

POSTGRES = [
    Case(
        native="numeric",
        chosen="decimal(5,2)",
        arrow_type=pa.decimal128(5, 2),
        fits={"1.5": D("1.50"), "1.500": D("1.50"), "-999.99": D("-999.99"), "0e-30": D("0.00")},
        misfits={
            "1.005": D("1.00"),
            "1000": D("999.99"),
            "'-Infinity'": D("-999.99"),
            "'NaN'": NONE_NEAR,
        },
    ),
    Case(
        native="numeric(10,2)",
        chosen="decimal(10,0)",
        arrow_type=pa.decimal128(10, 0),
        fits={"7": D("7"), "7.00": D("7"), "-12345678": D("-12345678")},
        misfits={"1.05": D("1"), "0.5": D("0"), "1.5": D("2"), "'NaN'": NONE_NEAR},
    ),
    Case(
        native="numeric(30,5)",
        chosen="int8",
        arrow_type=pa.int64(),
        fits={"9223372036854775807": 2**63 - 1, "-9223372036854775808.00000": -(2**63)},
        misfits={"9223372036854775808": 2**63 - 1, "0.00001": 0, "'NaN'": NONE_NEAR},
    ),
    Case(
        native="numeric",
        chosen="float8",
        arrow_type=pa.float64(),
        fits={"0.1": 0.1, "1e300": 1e300, "-2.50": -2.5, "'Infinity'": float("inf")},
        misfits={
            "0.10000000000000000001": 0.1,
            "9007199254740993": 9007199254740992.0,
            "1e400": 1.7976931348623157e308,
        },
    ),
    Case(
        native="money",
        chosen="decimal(7,1)",
        arrow_type=pa.decimal128(7, 1),
        fits={"12.5::numeric": D("12.5")},
        misfits={"12.25::numeric": D("12.2"), "10000000::numeric": D("999999.9")},
    ),
    Case(
        native="bigint",
        chosen="int2",
        arrow_type=pa.int16(),
        fits={"-32768": -32768, "32767": 32767},
        misfits={"32768": 32767, "-9223372036854775808": -32768},
    ),
    Case(
        native="integer",
        chosen="uint4",
        arrow_type=pa.uint32(),
        fits={"0": 0, "2147483647": 2147483647},
        misfits={"-1": 0},
    ),
    Case(
        native="smallint",
        chosen="bool",
        arrow_type=pa.bool_(),
        fits={"0": False, "1": True},
        misfits={"2": NONE_NEAR},
    ),
    Case(native="bool", chosen="int1", arrow_type=pa.int8(), fits={"true": 1, "false": 0}, misfits={}),
    Case(
        native="double precision",
        chosen="float4",
        arrow_type=pa.float32(),
        fits={"0.5": 0.5, "'NaN'": float("nan"), "'-Infinity'": float("-inf")},
        misfits={"0.1": 0.10000000149011612, "1e300": 3.4028234663852886e38},
    ),
    Case(
        native="double precision",
        chosen="decimal(6,3)",
        arrow_type=pa.decimal128(6, 3),
        fits={"0.1": D("0.100"), "1e2": D("100.000")},
        misfits={"0.0001": D("0.000"), "'NaN'": NONE_NEAR, "'Infinity'": D("999.999")},
    ),
    Case(
        native="text",
        chosen="uuid",
        arrow_type=pa.uuid(),
        fits={"'00000000-0000-0000-0000-000000000001'": uuid.UUID(int=1), f"'{'F' * 32}'": uuid.UUID(int=2**128 - 1)},
        misfits={"'not-a-uuid'": NONE_NEAR, "''": NONE_NEAR},
    ),
    Case(
        native="bytea",
        chosen="uuid",
        arrow_type=pa.uuid(),
        fits={r"'\x00000000000000000000000000000001'": uuid.UUID(int=1)},
        misfits={r"'\x00'": NONE_NEAR},
    ),
    Case(
        native="text",
        chosen="json",
        arrow_type=pa.json_(),
        fits={"'{\"a\": [1.10]}'": '{"a": [1.10]}', "'null'": "null"},
        misfits={"'{'": NONE_NEAR, "'NaN'": NONE_NEAR, "''": NONE_NEAR},
    ),
    Case(
        native="text",
        chosen="int4",
        arrow_type=pa.int32(),
        fits={"'7'": 7, "'+7'": 7, "'7.0'": 7, "'007'": 7},
        misfits={"'0x1A'": NONE_NEAR, "' 7'": NONE_NEAR, "'3000000000'": 2147483647, "'seven'": NONE_NEAR},
    ),
    Case(native="text", chosen="binary", arrow_type=pa.binary(), fits={"'é'": "é".encode()}, misfits={}),
    Case(native="varchar", chosen="enum", arrow_type=ENUM, fits={"'b'": "b", "'a'": "a"}, misfits={}),
    Case(
        native="text",
        chosen="timestamp_tz",
        arrow_type=TZ,
        fits={
            "'2024-06-01T12:00:00.5+02:00'": dt.datetime(2024, 6, 1, 10, 0, 0, 500_000, tzinfo=UTC),
            "'2024-06-01 12:00:00Z'": dt.datetime(2024, 6, 1, 12, tzinfo=UTC),
            "'2024-06-01 12:00'": dt.datetime(2024, 6, 1, 12, tzinfo=UTC),
        },
        misfits={
            "'2024-06-01 12:00:00.1234567Z'": dt.datetime(2024, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC),
            "'2024-02-30 00:00'": NONE_NEAR,
            "'soon'": NONE_NEAR,
        },
    ),
    Case(
        native="timestamptz",
        chosen="timestamp",
        arrow_type=pa.timestamp("us"),
        fits={"'2024-06-01 12:00:00+02'": dt.datetime(2024, 6, 1, 10)},
        misfits={},
    ),
    Case(
        native="timestamp",
        chosen="timestamp_tz",
        arrow_type=TZ,
        fits={"'2024-06-01 12:00:00'": dt.datetime(2024, 6, 1, 12, tzinfo=UTC)},
        misfits={},
    ),
    Case(
        native="timestamp",
        chosen="date",
        arrow_type=pa.date32(),
        fits={"'2024-06-01'": dt.date(2024, 6, 1)},
        misfits={"'2024-06-01 00:00:00.000001'": NONE_NEAR},
    ),
    Case(
        native="date",
        chosen="timestamp",
        arrow_type=pa.timestamp("us"),
        fits={"'2024-06-01'": dt.datetime(2024, 6, 1)},
        misfits={},
    ),
    Case(
        native="timetz",
        chosen="time",
        arrow_type=pa.time64("us"),
        fits={"'12:00:00+02'": dt.time(10), "'23:00:00.25-05:30'": dt.time(4, 30, 0, 250_000)},
        misfits={"'24:00:00+00'": NONE_NEAR},
    ),
    Case(
        native="pair",
        chosen="json",
        arrow_type=pa.json_(),
        fits={"ROW(1,'a b')": '{"a":1,"b":"a b"}', "ROW(NULL,NULL)": '{"a":null,"b":null}'},
        misfits={},
    ),
    Case(native="int4range", chosen="json", arrow_type=pa.json_(), fits={"'[1,5)'": '"[1,5)"'}, misfits={}),
    Case(
        native="numeric[]",
        chosen="list<decimal(5,2)>",
        arrow_type=pa.list_(pa.decimal128(5, 2)),
        fits={"'{1.1,NULL,-999.99}'": [D("1.10"), None, D("-999.99")], "'{}'": []},
        misfits={"'{{1}}'": NONE_NEAR},
    ),
    Case(
        native="int[][]",
        chosen="list<list<int4>>",
        arrow_type=pa.list_(pa.list_(pa.int32())),
        fits={"'{{1,NULL},{3,4}}'": [[1, None], [3, 4]], "'{}'": []},
        misfits={"'{1}'": NONE_NEAR},
    ),
    Case(
        native="int[]",
        chosen="json",
        arrow_type=pa.json_(),
        fits={"'{1,NULL}'": "[1,null]", "'{{1,2}}'": "[[1,2]]"},
        misfits={},
    ),
]

TEXTS_POSTGRES = {
    "bool": {"true": "t"},
    "numeric(10,2)": {"1": "1.00", "'NaN'": "NaN"},
    "money": {"12.5::numeric": "$12.50"},
    "char(5)": {"'abc'": "abc  "},
    "bytea": {r"'\x00ff'": r"\x00ff"},
    "uuid": {f"'{'0' * 32}'": str(uuid.UUID(int=0))},
    "date": {"'infinity'": "infinity", "'0044-03-15 BC'": "0044-03-15 BC"},
    "timestamptz": {"'2024-06-01 12:00:00+02'": "2024-06-01 10:00:00+00", "'-infinity'": "-infinity"},
    "time": {"'24:00'": "24:00:00"},
    "mood": {"'sad'": "sad"},
    "int[]": {"'[0:1]={1,NULL}'": "[0:1]={1,NULL}"},
    "inet": {"'10.0.0.1'": "10.0.0.1"},
    "pair": {"ROW(NULL,'')": '(,"")'},
    "double precision": {"0.1": "0.1", "'NaN'": "NaN"},
    "json": {"'{\"a\":  1}'": '{"a":  1}'},
}
SETUP = ("CREATE TYPE mood AS ENUM ('sad')", "CREATE TYPE pair AS (a int, b text)")


def as_read(values: list[Any]) -> list[Any]:
    """Values that can be compared: NaN is what it is."""
    return ["NaN" if isinstance(value, float) and value != value else value for value in values]


async def assert_case(database: Database, case: Case, insert: Any) -> None:
    """Read what fits, then each misfit under every policy."""
    chosen = {"v": choice(case.chosen)}
    insert("fits", case.native, list(case.fits))
    for selection in selections("fits"):
        found = await read(database, selection, chosen)
        assert found.table.schema.field("v").type == case.arrow_type
        values = found.table.sort_by("id")["v"].to_pylist()
        assert as_read(values) == [*as_read(list(case.fits.values())), None]
        assert not found.changed
    for number, (literal, clamped) in enumerate(case.misfits.items()):
        table = f"misfit{number}"
        insert(table, case.native, [literal])
        await assert_policies(database, table, case.chosen, clamped)


async def assert_policies(database: Database, table: str, type_text: str | None, clamped: Any) -> None:
    """The value of row 0 does not fit, that of row 1 is NULL."""
    everything = KeyRange.of_integers("id", 0, 10)
    selection = Relation(table=table)
    with pytest.raises(ValueRefusedError) as caught:
        await read(database, selection, {"v": choice(type_text)}, everything)
    assert caught.value.code is Code.VALUE_REFUSED
    assert caught.value.column == "v"
    assert caught.value.place in {"id = 0", "rowid 0"}

    for each in selections(table):
        found = await read(database, each, {"v": choice(type_text, OnInvalid.NULL)})
        assert found.table["v"].to_pylist() == [None, None]
        assert found.table.schema.field("v").nullable
        assert found.changed == {"v": 1}

    if clamped is NONE_NEAR:
        with pytest.raises(ValueRefusedError) as caught:
            await read(database, selection, {"v": choice(type_text, OnInvalid.CLAMP)}, everything)
        assert caught.value.column == "v"
    else:
        found = await read(database, selection, {"v": choice(type_text, OnInvalid.CLAMP)})
        assert found.table.sort_by("id")["v"].to_pylist() == [clamped, None]
        assert found.changed == {"v": 1}


def mysql_insert(mariadb: MariaDatabase) -> Any:
    def insert(table: str, native: str, literals: list[Any]) -> None:
        rows = [f"({number}, {literal})" for number, literal in enumerate(literals)]
        mariadb.execute(
            "SET sql_mode = ''",  # zero dates are stored
            "SET time_zone = '+00:00'",
            f"CREATE TABLE {table} (id int PRIMARY KEY, v {native})",
            f"INSERT INTO {table} VALUES {', '.join([*rows, f'({len(literals)}, NULL)'])}",
        )

    return insert


def postgres_insert(postgres: PostgresDatabase) -> Any:
    def insert(table: str, native: str, literals: list[Any]) -> None:
        rows = [f"({number}, ({literal})::{native})" for number, literal in enumerate(literals)]
        postgres.execute(
            f"CREATE TABLE {table} (id int PRIMARY KEY, v {native})",
            f"INSERT INTO {table} VALUES {', '.join([*rows, f'({len(literals)}, NULL)'])}",
        )

    return insert


@pytest.mark.parametrize("case", POSTGRES, ids=lambda case: case.slug)
async def test_a_postgres_column_becomes_what_was_chosen(postgres: PostgresDatabase, case: Case) -> None:
    """E-20, E-21: every value that fits arrives exactly, by table and by query; what does not fit follows the policy, counted."""
    postgres.execute(*SETUP)

    await assert_case(postgres, case, postgres_insert(postgres))


@pytest.mark.parametrize("native", TEXTS_POSTGRES)
async def test_a_postgres_column_as_text_is_what_the_server_prints(postgres: PostgresDatabase, native: str) -> None:
    """E-21: as text a column holds every value, in the words of the type's own output function; type and policy are one."""
    postgres.execute(*SETUP)
    texts = TEXTS_POSTGRES[native]
    postgres_insert(postgres)("t", native, list(texts))

    for wanted in (choice("text"), choice(on_invalid=OnInvalid.TEXT)):
        for selection in selections("t"):
            found = await read(postgres, selection, {"v": wanted})
            assert found.table.schema.field("v").type == pa.string()
            assert found.table.sort_by("id")["v"].to_pylist() == [*texts.values(), None]
            assert not found.changed


MYSQL = [
    Case(
        native="tinyint(1)",
        chosen="bool",
        arrow_type=pa.bool_(),
        fits={"0": False, "1": True},
        misfits={"2": NONE_NEAR, "-1": NONE_NEAR},
    ),
    Case(
        native="bigint unsigned",
        chosen="int8",
        arrow_type=pa.int64(),
        fits={"9223372036854775807": 2**63 - 1},
        misfits={"18446744073709551615": 2**63 - 1},
    ),
    Case(
        native="bigint unsigned",
        chosen="decimal(20,0)",
        arrow_type=pa.decimal128(20, 0),
        fits={"18446744073709551615": D(2**64 - 1)},
        misfits={},
    ),
    Case(
        native="decimal(10,2)",
        chosen="int4",
        arrow_type=pa.int32(),
        fits={"7.00": 7},
        misfits={"7.01": 7, "-99999999.99": -100000000},
    ),
    Case(native="bit(1)", chosen="uint1", arrow_type=pa.uint8(), fits={"b'1'": 1, "b'0'": 0}, misfits={}),
    Case(
        native="bit(16)",
        chosen="uint1",
        arrow_type=pa.uint8(),
        fits={"b'11111111'": 255},
        misfits={"b'100000000'": 255},
    ),
    Case(
        native="time",
        chosen="time",
        arrow_type=pa.time64("us"),
        fits={"'23:59:59'": dt.time(23, 59, 59), "'00:00'": dt.time(0)},
        misfits={"'24:00:00'": dt.time(23, 59, 59, 999_999), "'-00:00:01'": dt.time(0)},
    ),
    Case(
        native="datetime(6)",
        chosen="timestamp_tz_ns",
        arrow_type=pa.timestamp("ns", "UTC"),
        fits={"'2024-06-01 12:00:00.5'": dt.datetime(2024, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC)},
        misfits={"'0000-00-00 00:00:00'": NONE_NEAR},
    ),
    Case(
        native="timestamp NULL",
        chosen="timestamp",
        arrow_type=pa.timestamp("us"),
        fits={"'2024-06-01 12:00:00'": dt.datetime(2024, 6, 1, 12)},
        misfits={"'0000-00-00 00:00:00'": NONE_NEAR},
    ),
    Case(
        native="binary(16)",
        chosen="uuid",
        arrow_type=pa.uuid(),
        fits={f"x'{'0' * 31}1'": uuid.UUID(int=1)},
        misfits={},
    ),
    Case(
        native="varbinary(16)",
        chosen="uuid",
        arrow_type=pa.uuid(),
        fits={f"x'{'f' * 32}'": uuid.UUID(int=2**128 - 1)},
        misfits={"x'00'": NONE_NEAR},
    ),
    Case(
        native="char(36)",
        chosen="uuid",
        arrow_type=pa.uuid(),
        fits={f"'{uuid.UUID(int=7)}'": uuid.UUID(int=7)},
        misfits={"'nothing'": NONE_NEAR},
    ),
    Case(
        native="uuid",
        chosen="uuid",
        arrow_type=pa.uuid(),
        fits={f"'{uuid.UUID(int=2**77)}'": uuid.UUID(int=2**77)},
        misfits={},
    ),
    Case(
        native="blob",
        chosen="text",
        arrow_type=pa.string(),
        fits={"'é'": "é"},
        misfits={"x'ff'": NONE_NEAR},
    ),
    Case(native="enum('a','b')", chosen="text", arrow_type=pa.string(), fits={"'b'": "b"}, misfits={}),
    Case(native="json", chosen="json", arrow_type=pa.json_(), fits={"'[1]'": "[1]"}, misfits={}),
    Case(native="year", chosen="text", arrow_type=pa.string(), fits={"2024": "2024"}, misfits={}),
    Case(native="bit(10)", chosen="text", arrow_type=pa.string(), fits={"b'101'": "0000000101"}, misfits={}),
    Case(native="bit(1)", chosen="text", arrow_type=pa.string(), fits={"b'1'": "1"}, misfits={}),
    Case(native="date", chosen="text", arrow_type=pa.string(), fits={"'0000-00-00'": "0000-00-00"}, misfits={}),
    Case(
        native="datetime(3)",
        chosen="text",
        arrow_type=pa.string(),
        fits={"'2020-02-00'": "2020-02-00 00:00:00.000"},
        misfits={},
    ),
    Case(native="time", chosen="text", arrow_type=pa.string(), fits={"'-838:59:59'": "-838:59:59"}, misfits={}),
    Case(native="decimal(10,2)", chosen="text", arrow_type=pa.string(), fits={"1": "1.00"}, misfits={}),
    Case(native="bigint", chosen="text", arrow_type=pa.string(), fits={"-7": "-7"}, misfits={}),
]


@pytest.mark.parametrize("case", MYSQL, ids=lambda case: case.slug)
async def test_a_mysql_column_becomes_what_was_chosen(mariadb: MariaDatabase, case: Case) -> None:
    """E-20, E-21: every value that fits arrives exactly, by table and by query; what does not fit follows the policy, counted."""
    await assert_case(mariadb, case, mysql_insert(mariadb))


async def test_a_geometry_as_text_is_well_known_text(mariadb: MariaDatabase) -> None:
    """E-20: a geometry can be text instead of bytes, beside any other column of a query as well."""
    mariadb.execute("CREATE TABLE t (id int, v point)", "INSERT INTO t VALUES (0, ST_GeomFromText('POINT(1.5 -2)'))")

    for selection in selections("t"):
        found = await read(mariadb, selection, {"v": choice("text")})
        assert found.table["v"].to_pylist() == ["POINT(1.5 -2)"]


SQLITE = [
    Case(
        native="TEXT",
        chosen="timestamp",
        arrow_type=pa.timestamp("us"),
        fits={"2024-06-01T12:00:00Z": dt.datetime(2024, 6, 1, 12)},
        misfits={"2024-06-01T12:00:00+02:00": NONE_NEAR, "soon": NONE_NEAR, b"\x00": NONE_NEAR},
    ),
    Case(
        native="NUMERIC",
        chosen="decimal(6,2)",
        arrow_type=pa.decimal128(6, 2),
        fits={1: D("1.00"), 1.25: D("1.25"), "7.5": D("7.50")},
        misfits={1.005: D("1.00"), "many": NONE_NEAR, 123456: D("9999.99")},
    ),
    Case(
        native="INTEGER",
        chosen="bool",
        arrow_type=pa.bool_(),
        fits={0: False, 1: True},
        misfits={2: NONE_NEAR},
    ),
    Case(
        native="INTEGER",
        chosen="uint2",
        arrow_type=pa.uint16(),
        fits={65535: 65535},
        misfits={-1: 0, 65536: 65535, 1.5: 2, "x": NONE_NEAR},
    ),
    Case(
        native="REAL",
        chosen="int4",
        arrow_type=pa.int32(),
        fits={7.0: 7, -1e9: -1_000_000_000},
        misfits={0.5: 0, 1e300: 2147483647},
    ),
    Case(
        native="REAL",
        chosen="float4",
        arrow_type=pa.float32(),
        fits={0.5: 0.5},
        misfits={0.1: 0.10000000149011612},
    ),
    Case(
        native="BLOB",
        chosen="uuid",
        arrow_type=pa.uuid(),
        fits={uuid.UUID(int=5).bytes: uuid.UUID(int=5)},
        misfits={b"\x00": NONE_NEAR},
    ),
    Case(
        native="BLOB",
        chosen="text",
        arrow_type=pa.string(),
        fits={"é".encode(): "é", "text": "text"},
        misfits={b"\xff": NONE_NEAR},
    ),
    Case(
        native="",
        chosen="text",
        arrow_type=pa.string(),
        fits={"a": "a", 1: "1", b"b": "b", 0.5: "0.5"},
        misfits={b"\xff": NONE_NEAR},
    ),
    Case(native="TEXT", chosen="enum", arrow_type=ENUM, fits={"b": "b"}, misfits={}),
    Case(
        native="TEXT",
        chosen="json",
        arrow_type=pa.json_(),
        fits={"{}": "{}"},
        misfits={"{": NONE_NEAR},
    ),
    Case(
        native="TEXT", chosen="binary", arrow_type=pa.binary(), fits={"é": "é".encode(), b"\xff": b"\xff"}, misfits={}
    ),
    Case(
        native="DATE",
        chosen="timestamp_tz",
        arrow_type=TZ,
        fits={"2024-06-01": dt.datetime(2024, 6, 1, tzinfo=UTC)},
        misfits={20240601: NONE_NEAR},
    ),
]


def sqlite_insert(sqlite: SqliteDatabase) -> Any:
    def insert(table: str, native: str, literals: list[Any]) -> None:
        sqlite.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v {native})")
        for number, value in enumerate((*literals, None)):
            sqlite.execute(f"INSERT INTO {table} VALUES ({number}, ?)", parameters=(value,))

    return insert


@pytest.mark.parametrize("case", SQLITE, ids=lambda case: case.slug)
async def test_a_sqlite_column_becomes_what_was_chosen(sqlite: SqliteDatabase, case: Case) -> None:
    """E-20, E-21: every value that fits arrives exactly, by table and by query; what does not fit follows the policy, counted."""
    await assert_case(sqlite, case, sqlite_insert(sqlite))


# --- the types of each source, whose own values do not fit ------------------------------------------------------------------


async def assert_native_policies(database: Database, row: TypeRow, insert: Any, of_text: Any) -> None:
    """Every misfit of a type, under every policy, with the type that it has anyway."""
    for number, misfit in enumerate(row.misfits):
        table = f"m{number}"
        insert(table, row.native, [misfit.literal])
        chunk = KeyRange.of_integers("id", 0, 10)
        with pytest.raises(ValueRefusedError) as caught:
            await read(database, Relation(table=table), {}, chunk)
        assert (caught.value.column, caught.value.code) == ("v", Code.VALUE_REFUSED)
        assert caught.value.place in {"id = 0", "rowid 0"}
        # The binary form of a moment does not say how many zeros its column shows behind the point.
        assert misfit.text == "" or caught.value.value in (misfit.text, misfit.text.rstrip("0").rstrip("."))

        found = await read(database, Relation(table=table), {"v": choice(on_invalid=OnInvalid.NULL)}, chunk)
        assert found.table["v"].to_pylist() == [None, None]
        assert found.changed == {"v": 1}

        if misfit.clamped is None:
            with pytest.raises(ValueRefusedError):
                await read(database, Relation(table=table), {"v": choice(on_invalid=OnInvalid.CLAMP)}, chunk)
        else:
            found = await read(database, Relation(table=table), {"v": choice(on_invalid=OnInvalid.CLAMP)}, chunk)
            assert found.table.schema.field("v").type == row.arrow_type
            assert of_arrow(found.table.sort_by("id")["v"]) == [of_text(misfit.clamped, row.arrow_type), None]
            assert found.changed == {"v": 1}

        if misfit.text and not isinstance(misfit.literal, bytes):
            found = await read(database, Relation(table=table), {"v": choice(on_invalid=OnInvalid.TEXT)}, chunk)
            assert found.table.sort_by("id")["v"].to_pylist() == [misfit.text, None]
            assert not found.changed


MISFITS_POSTGRES = [row for row in postgres_rows.ROWS if row.misfits]
MISFITS_MYSQL = [row for row in mysql_rows.ROWS if row.misfits]
MISFITS_SQLITE = [row for row in sqlite_rows.ROWS if row.misfits]


@pytest.mark.parametrize("row", MISFITS_POSTGRES, ids=lambda row: row.slug)
async def test_what_a_postgres_type_has_and_arrow_has_not_follows_the_policy(
    postgres: PostgresDatabase, row: TypeRow
) -> None:
    """E-21: infinities, NaN, 24:00 and moments beyond 64 bits: an error that names column and key, NULL, text, or the nearest value."""
    await assert_native_policies(postgres, row, postgres_insert(postgres), of_text)


@pytest.mark.parametrize("row", MISFITS_MYSQL, ids=lambda row: row.slug)
async def test_what_a_mysql_type_has_and_arrow_has_not_follows_the_policy(mariadb: MariaDatabase, row: TypeRow) -> None:
    """E-21: dates that never were: an error that names column and key, NULL or text; nothing is near to them."""
    await assert_native_policies(mariadb, row, mysql_insert(mariadb), of_text)


@pytest.mark.parametrize("row", MISFITS_SQLITE, ids=lambda row: row.slug)
async def test_what_breaks_the_promise_of_a_sqlite_type_follows_the_policy(
    sqlite: SqliteDatabase, row: TypeRow
) -> None:
    """E-21: SQLite stores anything anywhere: an error that names column and row id, NULL, text, or the nearest value."""
    await assert_native_policies(sqlite, row, sqlite_insert(sqlite), of_text)


@pytest.mark.parametrize(
    ("native", "chosen", "literal", "nulls", "nearest"),
    [
        ("date[]", None, "'{2024-06-01,infinity,NULL}'", [dt.date(2024, 6, 1), None, None], None),
        ("time[]", None, "'{24:00,00:00}'", [None, dt.time(0)], [dt.time(23, 59, 59, 999_999), dt.time(0)]),
        (
            "numeric[]",
            "list<decimal(4,1)>",
            "'{1.25,7,1000}'",
            [None, D("7.0"), None],
            [D("1.2"), D("7.0"), D("999.9")],
        ),
        ("int8[]", "list<uint1>", "'{-1,NULL,256}'", [None, None, None], [0, None, 255]),
    ],
)
async def test_the_element_that_does_not_fit_follows_the_policy_and_not_its_array(
    postgres: PostgresDatabase, native: str, chosen: str | None, literal: str, nulls: list[Any], nearest: Any
) -> None:
    """E-21: in a list the policy changes elements, and counts them; an error names the row (lesson 14)."""
    postgres_insert(postgres)("t", native, [literal])
    t, chunk = Relation(table="t"), KeyRange.of_integers("id", 0, 10)

    with pytest.raises(ValueRefusedError) as caught:
        await read(postgres, t, {"v": choice(chosen)} if chosen else {}, chunk)
    found = await read(postgres, t, {"v": choice(chosen, OnInvalid.NULL)})
    clamped = await read(postgres, t, {"v": choice(chosen, OnInvalid.CLAMP)})

    assert caught.value.place == "id = 0"
    assert found.table["v"].to_pylist() == [nulls, None]
    assert clamped.changed == found.changed
    assert nearest is None or clamped.table["v"].to_pylist() == [nearest, None]


async def test_text_that_is_not_utf8_follows_the_policy(sqlite: SqliteDatabase) -> None:
    """E-21: broken text is an error, NULL, or has its bytes as `\\\\xNN`; texts beside it are what they are."""
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (0, 'é'), (2, NULL)")
    sqlite.execute("INSERT INTO t VALUES (1, CAST(x'61ff62' AS TEXT))")
    t = Relation(table="t")

    for on_invalid in (OnInvalid.ERROR, OnInvalid.CLAMP):
        with pytest.raises(ValueRefusedError) as caught:
            await read(sqlite, t, {"v": choice(on_invalid=on_invalid)})
        assert "UTF-8" in caught.value.message
    nulls = await read(sqlite, t, {"v": choice(on_invalid=OnInvalid.NULL)})
    texts = await read(sqlite, t, {"v": choice(on_invalid=OnInvalid.TEXT)})

    assert nulls.table["v"].to_pylist() == ["é", None, None]
    assert texts.table["v"].to_pylist() == ["é", r"a\xffb", None]
    assert nulls.changed == texts.changed == {"v": 1}


async def test_text_of_a_database_without_encoding_follows_the_policy(postgres: PostgresDatabase) -> None:
    """E-21: the same of a PostgreSQL database that never looked at its bytes, for a text and for what travels as one."""
    name = f"{postgres.url.rpartition('/')[2]}_bytes"
    postgres.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    t, chunk = Relation(table="t"), KeyRange.of_integers("id", 0, 9)
    try:
        database = PostgresDatabase(postgres.url + "_bytes")
        database.execute(
            "CREATE TYPE pair AS (a text)",
            "CREATE TABLE t (id int PRIMARY KEY, v text, p pair)",
            r"INSERT INTO t VALUES (0, 'é', ROW('é')), (1, E'a\xffb', ROW(E'\xff')), (2, NULL, NULL)",
        )
        for on_invalid in (OnInvalid.ERROR, OnInvalid.CLAMP):
            with pytest.raises(ValueRefusedError, match="UTF-8"):
                await read(
                    database, t, {"v": choice(on_invalid=on_invalid), "p": choice("text", OnInvalid.NULL)}, chunk
                )
        found = await read(database, t, {name: choice(on_invalid=OnInvalid.TEXT) for name in "vp"}, chunk)
        nulls = await read(database, t, {name: choice(on_invalid=OnInvalid.NULL) for name in "vp"}, chunk)
    finally:
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")

    assert found.table["v"].to_pylist() == ["é", r"a\xffb", None]
    assert found.table["p"].to_pylist() == ["(é)", r"(\xff)", None]
    assert nulls.table["v"].to_pylist() == ["é", None, None]
    assert nulls.table["p"].to_pylist() == ["(é)", None, None]
    assert found.changed == nulls.changed == {"v": 1, "p": 1}


async def test_bytes_as_text_follow_the_policy(mariadb: MariaDatabase) -> None:
    """E-21: what a blob spells is its text, and bytes that spell nothing are as `\\\\xNN`."""
    mariadb.execute("CREATE TABLE t (id int, v blob)", "INSERT INTO t VALUES (0, 'é'), (1, x'61ff'), (2, NULL)")

    found = await read(mariadb, Relation(table="t"), {"v": choice(on_invalid=OnInvalid.TEXT)})

    assert found.table["v"].to_pylist() == ["é", r"a\xff", None]
    assert found.changed == {"v": 1}


# --- what cannot be chosen ------------------------------------------------------------------------------------------------


async def test_a_column_that_is_not_there_is_an_error_with_the_nearest_name(database: Database) -> None:
    """E-20: a choice that would silently do nothing is none."""
    database.execute("CREATE TABLE t (id int, Amount int)")

    async with opened(database) as source:
        with pytest.raises(PlanError) as caught:
            await source.profile(Relation(table="t"), {"amuont": choice("int8"), "id": choice("int8")})
        with pytest.raises(PlanError) as case:
            await source.profile(Relation(table="t"), {"AMOUNT": choice("int8")})

    assert caught.value.code is Code.PLAN_COLUMN_UNKNOWN
    assert any("mount" in note for note in caught.value.__notes__)
    assert any("mount" in note for note in case.value.__notes__)


async def test_every_choice_that_cannot_be_had_is_told(database: Database) -> None:
    """E-20: a type that a column cannot be given is refused before a row is read, with those that it can."""
    database.execute("CREATE TABLE t (id int, d date, f float)")
    wrong = {"id": choice("list<int4>"), "d": choice("uuid"), "f": choice("date"), "x": choice("text")}

    async with opened(database) as source:
        with pytest.raises(PlanError) as caught:
            await source.profile(Relation(table="t"), wrong)
        with pytest.raises(DataError) as alone:
            await source.profile(Relation(table="t"), {"d": choice("uuid")})

    assert len([note for note in caught.value.__notes__ if "cannot become" in note]) == 3
    assert alone.value.code is Code.TYPE_NOT_SUPPORTED
    assert "it can become" in alone.value.message
    assert "timestamp" in alone.value.message


async def test_a_choice_of_what_the_column_is_changes_nothing(database: Database) -> None:
    """E-20: the type that a column has anyway is read as if nothing had been said."""
    database.execute("CREATE TABLE t (id int, v varchar(9), d date)")
    names = {"v": "text", "d": "date"}

    async with opened(database) as source:
        plain = await source.profile(Relation(table="t"))
        chosen = await source.profile(Relation(table="t"), {name: choice(text) for name, text in names.items()})

    assert chosen == plain


async def test_a_policy_of_null_makes_a_column_nullable(database: Database) -> None:
    """E-21: NOT NULL is the database's promise of its own values; a policy that makes NULLs takes it back."""
    database.execute("CREATE TABLE t (id int NOT NULL, v varchar(9) NOT NULL)", "INSERT INTO t VALUES (1, 'x')")

    found = await read(database, Relation(table="t"), {"v": choice("int4", OnInvalid.NULL)})
    kept = await read(database, Relation(table="t"), {"v": choice("enum", OnInvalid.CLAMP)})

    assert [field.nullable for field in found.table.schema] == [False, True]
    assert [field.nullable for field in kept.table.schema] == [False, False]
    assert found.table["v"].to_pylist() == [None]
    assert found.changed == {"v": 1}


async def test_a_chosen_key_still_cuts_the_table(database: Database) -> None:
    """E-20, E-22: what the key becomes in the file does not change how the table is cut; errors name it all the same."""
    database.execute(
        f"CREATE TABLE t (id {database.integer} NOT NULL PRIMARY KEY, v varchar(9))",
        "INSERT INTO t VALUES (1, '1'), (2, 'x'), (3, NULL)",
    )
    chosen = {"id": choice("text"), "v": choice("int4")}

    found = await read(database, Relation(table="t"), {"id": choice("text")}, KeyRange.of_integers("id", 2, 4))
    with pytest.raises(ValueRefusedError) as caught:
        await read(database, Relation(table="t"), chosen, KeyRange.of_integers("id", 1, 4))

    assert sorted(found.table["id"].to_pylist()) == ["2", "3"]
    assert caught.value.place in {"id = 2", "rowid 2"}


async def test_fidelity_says_what_a_choice_keeps(postgres: PostgresDatabase) -> None:
    """E-22: a choice is compatible, text where the type is lost in it, and exact where nothing is."""
    postgres.execute("CREATE TYPE mood AS ENUM ('sad')", "CREATE TABLE t (n numeric, d date, m mood)")

    async with opened(postgres) as source:
        profile = await source.profile(
            Relation(table="t"), {"n": choice("decimal(9,2)"), "d": choice("text"), "m": choice("text")}
        )

    assert [column.fidelity for column in profile.columns] == [Fidelity.COMPATIBLE, Fidelity.TEXT, Fidelity.EXACT]
