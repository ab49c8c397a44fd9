"""Every MariaDB type, its extremes and NULL, against values that are known independently."""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import KeyRange, Query, Relation
from procflow_export.model.types import ENUM
from procflow_export.planning.keys import key_kind
from tests.export.sources.databases import MariaDatabase, integer_bounds, opened, read, values

pytestmark = pytest.mark.anyio

UTC = dt.UTC
MAX_TIME = dt.timedelta(hours=838, minutes=59, seconds=59)
WKB_POINT = struct.pack("<BIdd", 1, 1, 1.5, -2.0)


def ints(bits: int) -> list[int]:
    return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]


# SQL type, SQL literals, Arrow type, expected values; a NULL row is added to each.
EXACT: list[tuple[str, list[str], pa.DataType, list[Any]]] = [
    ("tinyint", ["-128", "127"], pa.int8(), ints(8)),
    ("tinyint(1)", ["0", "1", "2"], pa.int8(), [0, 1, 2]),
    ("tinyint unsigned", ["255"], pa.uint8(), [255]),
    ("smallint", ["-32768", "32767"], pa.int16(), ints(16)),
    ("smallint unsigned", ["65535"], pa.uint16(), [65535]),
    ("mediumint", ["-8388608", "8388607"], pa.int32(), ints(24)),
    ("mediumint unsigned zerofill", ["42"], pa.uint32(), [42]),
    ("int", ["-2147483648", "2147483647"], pa.int32(), ints(32)),
    ("int unsigned", ["4294967295"], pa.uint32(), [2**32 - 1]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"], pa.int64(), ints(64)),
    ("bigint unsigned", ["0", "18446744073709551615"], pa.uint64(), [0, 2**64 - 1]),
    ("decimal(10,2)", ["12345678.91", "-0.01"], pa.decimal128(10, 2), [Decimal("12345678.91"), Decimal("-0.01")]),
    ("decimal(10,2) unsigned", ["12345678.91"], pa.decimal128(10, 2), [Decimal("12345678.91")]),
    ("decimal(38,0)", ["9" * 38], pa.decimal128(38, 0), [Decimal("9" * 38)]),
    ("decimal(65,30)", ["9" * 35 + "." + "9" * 30], pa.decimal256(65, 30), [Decimal("9" * 35 + "." + "9" * 30)]),
    (
        "float",
        ["16777215", "0.1", "3.4028234e38", "0"],
        pa.float32(),
        [
            16777215.0,
            struct.unpack("f", struct.pack("f", 0.1))[0],
            struct.unpack("f", struct.pack("f", 3.4028234e38))[0],
            0.0,
        ],
    ),
    ("float(7,2)", ["1.1"], pa.float32(), [struct.unpack("f", struct.pack("f", 1.1))[0]]),
    (
        "double",
        ["0.1", "1.7976931348623157e308", "5e-324", "-1e-300"],
        pa.float64(),
        [0.1, 1.7976931348623157e308, 5e-324, -1e-300],
    ),
    ("double(15,2)", ["1234567890123.45"], pa.float64(), [1234567890123.45]),
    ("bit(1)", ["b'0'", "b'1'"], pa.bool_(), [False, True]),
    ("bit(10)", ["b'1111111111'", "b'0'"], pa.uint64(), [1023, 0]),
    ("bit(64)", ["x'ffffffffffffffff'"], pa.uint64(), [2**64 - 1]),
    ("year", ["1901", "2155"], pa.int16(), [1901, 2155]),
    ("date", ["'1000-01-01'", "'9999-12-31'"], pa.date32(), [dt.date(1000, 1, 1), dt.date(9999, 12, 31)]),
    (
        "datetime",
        ["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"],
        pa.timestamp("us"),
        [dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)],
    ),
    (
        "datetime(6)",
        ["'1969-12-31 23:59:59.999999'"],
        pa.timestamp("us"),
        [dt.datetime(1969, 12, 31, 23, 59, 59, 999999)],
    ),
    (
        "timestamp(3) NULL",
        ["'2024-06-01 10:00:00.125'"],
        pa.timestamp("us", "UTC"),
        [dt.datetime(2024, 6, 1, 10, 0, 0, 125000, tzinfo=UTC)],
    ),
    ("time", ["'-838:59:59'", "'838:59:59'", "'00:00:00'"], pa.duration("us"), [-MAX_TIME, MAX_TIME, dt.timedelta(0)]),
    (
        "time(6)",
        ["'-00:00:00.000001'", "'12:00:00.5'"],
        pa.duration("us"),
        [dt.timedelta(microseconds=-1), dt.timedelta(hours=12, milliseconds=500)],
    ),
    ("char(5)", ["'abc'", "''"], pa.string(), ["abc", ""]),
    (
        "varchar(100)",
        ["''", "'NULL'", "'é😀'", "'a\\nb\\t\\\\'", "' '"],
        pa.string(),
        ["", "NULL", "é😀", "a\nb\t\\", " "],
    ),
    ("varchar(10) CHARACTER SET latin1", ["'é'"], pa.string(), ["é"]),
    ("longtext", ["repeat('x', 70000)", "repeat('é', 200)"], pa.string(), ["x" * 70000, "é" * 200]),
    ("json", ["'{\"b\": 1}'"], pa.string(), ['{"b": 1}']),
    ("binary(4)", ["x'00ff'"], pa.binary(), [b"\x00\xff\x00\x00"]),
    ("varbinary(10)", ["x'00ff'", "''"], pa.binary(), [b"\x00\xff", b""]),
    (
        "longblob",
        ["x'fbfcfdfeff00'", "repeat(x'ff', 66000)"],
        pa.binary(),
        [b"\xfb\xfc\xfd\xfe\xff\x00", b"\xff" * 66000],
    ),
    ("enum('a','b,c')", ["'a'", "'b,c'"], ENUM, ["a", "b,c"]),
    ("set('a','b')", ["'a,b'", "''"], pa.string(), ["a,b", ""]),
    ("point", ["ST_GeomFromText('POINT(1.5 -2)')"], pa.binary(), [WKB_POINT]),
    ("uuid", ["'123e4567-e89b-12d3-a456-426614174000'"], pa.string(), ["123e4567-e89b-12d3-a456-426614174000"]),
    ("inet6", ["'::1'"], pa.string(), ["::1"]),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_every_type_keeps_its_values(mariadb: MariaDatabase) -> None:
    """E-20, E-23: every type, its extremes and NULL arrive as they are stored, by table and by query."""
    statements = ["SET time_zone = '+00:00'"]
    for number, (sql_type, literals, _, _) in enumerate(EXACT):
        statements.append(f"CREATE TABLE t{number} (id int NOT NULL, v {sql_type}) CHARACTER SET utf8mb4")
        rows = ", ".join(f"({row}, {literal})" for row, literal in enumerate(literals))
        statements.append(f"INSERT INTO t{number} VALUES {rows}, ({len(literals)}, NULL)")
    mariadb.execute(*statements)

    async with opened(mariadb) as source:
        for number, (sql_type, _, arrow_type, expected) in enumerate(EXACT):
            for selection in (Relation(table=f"t{number}"), Query(text=f"SELECT id, v FROM t{number}")):
                table = (await read(source, selection)).sort_by("id")
                assert table.schema.field("v").type == arrow_type, sql_type
                assert table["v"].to_pylist() == [*expected, None], sql_type
                if pa.types.is_floating(arrow_type):
                    signs = [math.copysign(1, value) for value in values(table, "v")[:-1]]
                    assert signs == [math.copysign(1, value) for value in expected]


async def test_unsigned_keys_beyond_64_bits_signed(mariadb: MariaDatabase) -> None:
    """E-10: unsigned 64-bit keys have bounds and ranges like others."""
    high = 2**64 - 1
    mariadb.execute("CREATE TABLE t (id bigint unsigned PRIMARY KEY)", f"INSERT INTO t VALUES (0), ({2**63}), ({high})")

    async with opened(mariadb) as source:
        bounds = await integer_bounds(source, Relation(table="t"), "id")
        upper = await read(source, "t", KeyRange.of_integers("id", 2**63, high + 1))
        lower = await read(source, "t", KeyRange.of_integers("id", 0, 2**63))

    assert bounds[:2] == (0, high)
    assert upper["id"].to_pylist() == [2**63, high]
    assert lower["id"].to_pylist() == [0]


@pytest.mark.parametrize("sql_type", ["enum('2', '1')", "set('b', 'a')", "float", "year", "time", "bit(3)"])
async def test_columns_whose_order_is_not_that_of_a_literal_are_no_keys(mariadb: MariaDatabase, sql_type: str) -> None:
    """E-10: the type decides whether a column is a key; an enum is ordered by its members and compared as a text."""
    mariadb.execute(f"CREATE TABLE t (k {sql_type} NULL)")

    async with opened(mariadb) as source:
        (column,) = (await source.profile(Relation(table="t"))).columns
        (of_query,) = (await source.profile(Query(text="SELECT k FROM t"))).columns

    assert key_kind(column) is None
    assert key_kind(of_query) is None


EXPRESSIONS: list[tuple[str, Any]] = [
    ("SELECT floor(d) AS x FROM t LIMIT 1", 1e30),
    ("SELECT max(round(d, 2)) AS x FROM t", 1e30),
    ("SELECT truncate(max(d), 2) AS x FROM t", 1e30),
    ("SELECT round(sum(0.1e0 * d), 1) AS x FROM t", 0.1 * 1e30),
    ("SELECT round(d, 2) AS x FROM t ORDER BY d DESC LIMIT 1;", 1e30),
    ("SELECT ceil(1e20) AS x FROM t -- the end", 1e20),
    ("SELECT max(f) AS x FROM t", 0.10000000149011612),
    ("SELECT f AS x FROM t LIMIT 1", 0.10000000149011612),
    ("SELECT round(0.1e0, 1) / 3 AS x LIMIT 1", 0.1 / 3),
    ("SELECT max(d) AS x FROM t", 1e30),
    ("SELECT NULL AS x LIMIT 1", None),
]


async def test_values_of_a_query_are_those_of_its_text(mariadb: MariaDatabase) -> None:
    """E-20: nothing around a query changes a value; a derived table would cut DOUBLE(M,D) to M digits."""
    mariadb.execute("CREATE TABLE t (d double, f float)", "INSERT INTO t VALUES (1e30, 0.1)")

    async with opened(mariadb) as source:
        found = [values(await read(source, Query(text=text)), "x") for text, _ in EXPRESSIONS]

    assert found == [[value] for _, value in EXPRESSIONS]


async def test_a_query_in_binary_form_keeps_every_type(mariadb: MariaDatabase) -> None:
    """E-20, E-23: a float beside any other type, its extremes and NULL, changes neither."""
    statements = ["SET time_zone = '+00:00'"]
    kinds = [entry for entry in EXACT if entry[0] != "point"]
    for number, (sql_type, literals, _, _) in enumerate(kinds):
        statements.append(f"CREATE TABLE t{number} (id int NOT NULL, v {sql_type}) CHARACTER SET utf8mb4")
        rows = ", ".join(f"({row}, {literal})" for row, literal in enumerate(literals))
        statements.append(f"INSERT INTO t{number} VALUES {rows}, ({len(literals)}, NULL)")
    mariadb.execute(*statements)

    async with opened(mariadb) as source:
        for number, (sql_type, _, arrow_type, expected) in enumerate(kinds):
            text = f"SELECT id, v, cast(0.1 AS float) AS f, if(id, NULL, round(id + 0.5e0, 1)) AS g FROM t{number}"
            table = (await read(source, Query(text=text))).sort_by("id")
            assert table.schema.field("v").type == arrow_type, sql_type
            assert table["v"].to_pylist() == [*expected, None], sql_type
            assert set(table["f"].to_pylist()) == {0.10000000149011612}
            assert table["g"].to_pylist() == [0.5] + [None] * len(expected)


async def test_a_query_whose_values_chunks_would_change_is_refused(mariadb: MariaDatabase) -> None:
    """E-20: a chunk of a query is read as a derived table; DOUBLE(M,D) is refused there, with what to write instead."""
    mariadb.execute("CREATE TABLE t (id int, d double)", "INSERT INTO t VALUES (1, 1e30), (2, 1)")
    cut = Query(text="SELECT id, floor(d) AS x FROM t LIMIT 9")
    cast = Query(text="SELECT id, CAST(floor(d) AS DOUBLE) AS x FROM t LIMIT 9")
    beside = Query(text="SELECT floor(1e30) AS x, point(1, 2) AS p")
    ids = KeyRange.of_integers("id", 0, 9)

    async with opened(mariadb) as source:
        columns = (await source.profile(cut)).columns
        with pytest.raises(SourceError) as bounds:
            await integer_bounds(source, cut, "id")
        with pytest.raises(SourceError) as chunk:
            await read(source, cut, ids, columns=columns)
        with pytest.raises(SourceError) as profile:
            await source.profile(beside)
        table = (await read(source, cast, ids)).sort_by("id")

    for caught in (bounds, chunk, profile):
        assert caught.value.code is Code.TYPE_NOT_SUPPORTED
        assert "'x'" in str(caught.value)
        assert "double(17,0)" in str(caught.value)
    assert values(table, "x") == [1e30, 1.0]


async def test_a_query_whose_columns_changed_is_not_read(mariadb: MariaDatabase) -> None:
    """E-22: what was planned and what the server sends are compared before a row is decoded."""
    mariadb.execute("CREATE TABLE t (v int)", "INSERT INTO t VALUES (1)")
    query = Query(text="SELECT v FROM t")

    async with opened(mariadb) as source:
        columns = (await source.profile(query)).columns
        mariadb.execute("ALTER TABLE t MODIFY v float")
        with pytest.raises(SourceError) as caught:
            await read(source, query, columns=columns)
        again = await read(source, query)

    assert caught.value.code is Code.SCHEMA_CHANGED
    assert values(again, "v") == [1.0]


@pytest.mark.parametrize("text", ["SELECT 1 AS a; SELECT 2 AS a", "SELECT ? AS a", "DO 1", "SELECT 1 AS a, 2 AS a"])
async def test_what_is_not_one_select_with_names_is_refused(mariadb: MariaDatabase, text: str) -> None:
    """E-22: a query is one statement that returns rows, and its columns have different names."""
    async with opened(mariadb) as source:
        with pytest.raises(SourceError) as caught:
            await source.profile(Query(text=text))

    assert caught.value.code is Code.SOURCE_QUERY_INVALID


async def test_settings_of_the_server_do_not_change_values(mariadb: MariaDatabase) -> None:
    """E-20: an instant does not depend on the zone of the server's sessions, a name not on its quoting mode."""
    mariadb.execute(
        "CREATE TABLE t (z timestamp)", "SET time_zone = '+05:00'", "INSERT INTO t VALUES ('2024-06-01 12:00:00')"
    )

    async with opened(mariadb) as source:
        table = await read(source, "t")

    assert table["z"].to_pylist() == [dt.datetime(2024, 6, 1, 7, tzinfo=UTC)]


async def test_rows_longer_than_a_packet(mariadb: MariaDatabase) -> None:
    """E-23: a row of more than 16 MiB travels in several packets and arrives whole."""
    packet, half = 2**24 - 1, 2**23
    # Fields a and b take 4 bytes of prefix and their text each, the id takes 2 bytes: at 0 the row just fills its packet.
    offsets = (-2, -1, 0, 1, 2, 1000)
    mariadb.execute("CREATE TABLE t (id int, a longtext, b longtext)")
    for row, offset in enumerate(offsets):
        rest = packet - 2 - 8 - half + offset
        mariadb.execute(f"INSERT INTO t VALUES ({row}, repeat('a', {half}), repeat('b', {rest}))")
    mariadb.execute("INSERT INTO t VALUES (9, '', NULL)")

    async with opened(mariadb) as source:
        table = (await read(source, "t")).sort_by("id")

    assert table["a"].to_pylist() == ["a" * half] * len(offsets) + [""]
    assert [None if text is None else len(text) for text in table["b"].to_pylist()] == [
        *(packet - 10 - half + offset for offset in offsets),
        None,
    ]


async def test_statement_timeout_of_either_server_is_understood(mariadb: MariaDatabase) -> None:
    """E-5: MariaDB has no max_execution_time; the limit is set by the name that the server knows."""
    from msgspec.structs import replace

    from procflow_export.model.settings import Tuning
    from procflow_export.sources import open_source

    config = replace(mariadb.config, tuning=Tuning(statement_timeout_s=1, lock_timeout_s=1))
    async with open_source(config, environ={}) as source:
        columns = (await source.profile(Query(text="SELECT 1 AS a"))).columns
        with pytest.raises(SourceError) as caught:
            await read(source, Query(text="SELECT sleep(30) AS a"), columns=columns)

    assert caught.value.code is Code.SOURCE_STATEMENT_TIMEOUT
