"""Every PostgreSQL type, its extremes and NULL, against values that are known independently."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from procflow_export.model.codes import Code
from procflow_export.model.plan import KeyRange, Query, Relation
from procflow_export.model.types import Fidelity
from procflow_export.sources.failures import ValueRefusedError
from tests.export.sources.databases import PostgresDatabase, opened, read, values

pytestmark = pytest.mark.anyio

UTC = dt.UTC
INT2, INT4, INT8 = 2**15, 2**31, 2**63

# SQL type, SQL literals, Arrow type, expected values; a NULL row is added to each.
EXACT: list[tuple[str, list[str], pa.DataType, list[Any]]] = [
    ("bool", ["true", "false"], pa.bool_(), [True, False]),
    ("int2", [f"{-INT2}", f"{INT2 - 1}"], pa.int16(), [-INT2, INT2 - 1]),
    ("int4", [f"{-INT4}", f"{INT4 - 1}"], pa.int32(), [-INT4, INT4 - 1]),
    ("int8", [f"{-INT8}", f"{INT8 - 1}"], pa.int64(), [-INT8, INT8 - 1]),
    ("oid", ["0", "4294967295"], pa.int64(), [0, 4294967295]),
    (
        "float4",
        ["'1e-45'", "'3.4028235e38'", "'-0'", "'inf'", "'-inf'", "16777217"],
        pa.float32(),
        [2.0**-149, 2.0**128 - 2.0**104, -0.0, math.inf, -math.inf, 16777216.0],
    ),
    (
        "float8",
        ["'5e-324'", "'1.7976931348623157e308'", "'-0'", "'inf'", "'-inf'", "0.1"],
        pa.float64(),
        [5e-324, 1.7976931348623157e308, -0.0, math.inf, -math.inf, 0.1],
    ),
    (
        "numeric(10,2)",
        ["12345678.91", "-0.01", "0"],
        pa.decimal128(10, 2),
        [Decimal("12345678.91"), Decimal("-0.01"), Decimal("0.00")],
    ),
    ("numeric(38,0)", ["9" * 38, "-" + "9" * 38], pa.decimal128(38, 0), [Decimal("9" * 38), Decimal("-" + "9" * 38)]),
    ("numeric(76,38)", ["9" * 38 + "." + "9" * 38], pa.decimal256(76, 38), [Decimal("9" * 38 + "." + "9" * 38)]),
    ("numeric(3,-2)", ["12345"], pa.decimal128(5, 0), [Decimal(12300)]),
    ("numeric(2,5)", ["0.00012"], pa.decimal128(5, 5), [Decimal("0.00012")]),
    (
        "numeric",
        ["'NaN'", "'Infinity'", "1e-20", "1.50"],
        pa.string(),
        ["NaN", "Infinity", "0.00000000000000000001", "1.50"],
    ),
    ("numeric(100,2)", ["9" * 90], pa.string(), ["9" * 90 + ".00"]),
    (
        "money",
        ["'-92233720368547758.08'", "12.5"],
        pa.decimal128(19, 2),
        [Decimal("-92233720368547758.08"), Decimal("12.50")],
    ),
    (
        "text",
        ["''", "' '", "'NULL'", r"'\N'", "E'a\\nb\\r\\n\\t\"\\\\,'", "'é😀'", "'null'"],
        pa.string(),
        ["", " ", "NULL", r"\N", 'a\nb\r\n\t"\\,', "é😀", "null"],
    ),
    ("varchar(5)", ["'abc'", "''"], pa.string(), ["abc", ""]),
    ("char(5)", ["'abc'", "''"], pa.string(), ["abc  ", "     "]),
    ("name", ["'pg'"], pa.string(), ["pg"]),
    ("bytea", ["''", r"'\x00ff5c6e'", r"'\x22'"], pa.binary(), [b"", b"\x00\xff\\n", b'"']),
    (
        "uuid",
        ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
        pa.uuid(),
        [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    ),
    ("json", ['\'{"b":1, "a": [1.10]}\'', "'null'", "'\"\"'"], pa.json_(), ['{"b":1, "a": [1.10]}', "null", '""']),
    ("jsonb", ['\'{"b":1, "a": [1.10]}\''], pa.json_(), ['{"a": [1.10], "b": 1}']),
    (
        "date",
        ["'0001-01-01'", "'9999-12-31'", "'1970-01-01'"],
        pa.date32(),
        [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1970, 1, 1)],
    ),
    (
        "time",
        ["'00:00'", "'23:59:59.999999'", "'12:34:56.5'"],
        pa.time64("us"),
        [dt.time(0), dt.time(23, 59, 59, 999999), dt.time(12, 34, 56, 500000)],
    ),
    (
        "timestamp",
        ["'0001-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.5'"],
        pa.timestamp("us"),
        [
            dt.datetime(1, 1, 1, microsecond=1),
            dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
            dt.datetime(1969, 12, 31, 23, 59, 59, 500000),
        ],
    ),
    (
        "timestamptz",
        ["'2024-06-01 12:00:00+02'", "'1900-01-01 00:00:00.25-08'"],
        pa.timestamp("us", "UTC"),
        [dt.datetime(2024, 6, 1, 10, tzinfo=UTC), dt.datetime(1900, 1, 1, 8, 0, 0, 250000, tzinfo=UTC)],
    ),
    ("mood", ["'sad'", "'very, \"happy\"'"], pa.string(), ["sad", 'very, "happy"']),
    ("price", ["1.239"], pa.decimal128(8, 2), [Decimal("1.24")]),
    ("dear_price", ["7"], pa.decimal128(8, 2), [Decimal("7.00")]),
    ("int4[]", ["'{1,NULL,3}'", "'{}'", "'{{1,2},{3,4}}'"], pa.string(), ["[1,null,3]", "[]", "[[1,2],[3,4]]"]),
    ("text[]", ["ARRAY['a,b','\"',NULL,'']"], pa.string(), ['["a,b","\\"",null,""]']),
    ("numeric[]", ["'{1.10,2}'"], pa.string(), ["[1.10,2]"]),
    ("mood[]", ["'{sad}'"], pa.string(), ['["sad"]']),
    (
        "interval",
        ["'1 year 2 mons 3 days 04:05:06.7'", "'-1 day +00:00:01'", "'0'"],
        pa.string(),
        ["P1Y2M3DT4H5M6.7S", "P-1DT1S", "PT0S"],
    ),
    ("timetz", ["'12:00:00+02'"], pa.string(), ["12:00:00+02"]),
    ("bit(4)", ["B'0101'"], pa.string(), ["0101"]),
    ("varbit", ["B'1'", "B''"], pa.string(), ["1", ""]),
    ("inet", ["'10.0.0.1'", "'::1/64'"], pa.string(), ["10.0.0.1", "::1/64"]),
    ("cidr", ["'10.0.0.0/8'"], pa.string(), ["10.0.0.0/8"]),
    ("macaddr", ["'08:00:2b:01:02:03'"], pa.string(), ["08:00:2b:01:02:03"]),
    ("point", ["'(1.5,-2)'"], pa.string(), ["(1.5,-2)"]),
    ("polygon", ["'((0,0),(1,1))'"], pa.string(), ["((0,0),(1,1))"]),
    ("int4range", ["'[1,5)'", "'empty'"], pa.string(), ["[1,5)", "empty"]),
    ("int4multirange", ["'{[1,3),[5,7)}'"], pa.string(), ["{[1,3),[5,7)}"]),
    ("pair", ["ROW(1,'a b')"], pa.string(), ['(1,"a b")']),
    ("xml", ["'<a>1</a>'"], pa.string(), ["<a>1</a>"]),
    ("tsvector", ["'a b'"], pa.string(), ["'a' 'b'"]),
    ('"char"', ["'x'"], pa.string(), ["x"]),
    ("pg_lsn", ["'0/16B3748'"], pa.string(), ["0/16B3748"]),
    ("regclass", ["'pg_class'"], pa.string(), ["pg_class"]),
]

SETUP = (
    "CREATE TYPE mood AS ENUM ('sad', 'very, \"happy\"')",
    "CREATE DOMAIN price AS numeric(8,2)",
    "CREATE DOMAIN dear_price AS price CHECK (VALUE > 5)",
    "CREATE TYPE pair AS (a int, b text)",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_every_type_keeps_its_values(postgres: PostgresDatabase) -> None:
    """E-20, E-23: every type, its extremes and NULL arrive as they are stored."""
    statements = list(SETUP)
    for number, (sql_type, literals, _, _) in enumerate(EXACT):
        if sql_type == "xml":
            continue
        statements.append(f"CREATE TABLE t{number} (id int NOT NULL, v {sql_type})")
        rows = ", ".join(f"({row}, ({literal})::{sql_type})" for row, literal in enumerate(literals))
        statements.append(f"INSERT INTO t{number} VALUES {rows}, ({len(literals)}, NULL)")
    postgres.execute(*statements)

    async with opened(postgres) as source:
        for number, (sql_type, _, arrow_type, expected) in enumerate(EXACT):
            if sql_type == "xml":
                continue
            for selection in (Relation(table=f"t{number}"), Query(text=f"SELECT id, v FROM t{number}")):
                table = (await read(source, selection)).sort_by("id")
                assert table.schema.field("v").type == arrow_type, sql_type
                assert table["v"].to_pylist() == [*expected, None], sql_type
                if pa.types.is_floating(arrow_type):
                    signs = [math.copysign(1, value) for value in values(table, "v")[:-1]]
                    assert signs == [math.copysign(1, value) for value in expected]


async def test_byte_order_mark_is_data_in_every_chunk(postgres: PostgresDatabase) -> None:
    """E-20: a text that begins with U+FEFF, or is nothing else, keeps it at the beginning of every chunk and block."""
    postgres.execute(
        "CREATE TABLE t (v text, id int)",
        "INSERT INTO t SELECT E'\\uFEFF' || CASE WHEN n % 2 = 0 THEN '' ELSE repeat('x', 100000) END, n"
        " FROM generate_series(1, 60) AS g (n)",
    )
    expected = {n: "\ufeff" + ("" if n % 2 == 0 else "x" * 100_000) for n in range(1, 61)}

    async with opened(postgres) as source:
        for low, high in ((1, 61), (1, 2), (2, 3), (3, 4)):
            table = await read(source, "t", KeyRange.of_integers("id", low, high))
            numbers = range(low, high)
            assert dict(zip(values(table), values(table, "v"), strict=True)) == {n: expected[n] for n in numbers}


async def test_nan_stays_nan(postgres: PostgresDatabase) -> None:
    """E-20: a float's NaN is a NaN, not a NULL."""
    postgres.execute("CREATE TABLE t (a float8, b float4)", "INSERT INTO t VALUES ('NaN', 'NaN'), (NULL, NULL)")

    async with opened(postgres) as source:
        table = await read(source, "t")

    assert all(math.isnan(value) for value in (table["a"][0].as_py(), table["b"][0].as_py()))
    assert table["a"].null_count == table["b"].null_count == 1


async def test_years_outside_four_digits_are_exact(postgres: PostgresDatabase) -> None:
    """E-20: BC and five-digit years are values like others, also beside them."""
    postgres.execute(
        "CREATE TABLE t (id int, d date, t timestamp, z timestamptz)",
        "INSERT INTO t VALUES (1, '0044-03-15 BC', '0001-12-31 23:59:59.999999 BC', '0001-12-31 00:00:00+00 BC'),"
        " (2, '2024-02-29', '2024-02-29 01:02:03.4', '2024-02-29 01:02:03+00'),"
        " (3, '5874897-12-31', '294246-01-01 00:00:00', '10000-01-01 00:00:00.5+00'), (4, NULL, NULL, NULL)",
    )

    async with opened(postgres) as source:
        profile = await source.profile(Relation(table="t"))
        table = await read(source, "t")
        by_server = await read(
            source,
            Query(
                text="SELECT (d - date '1970-01-01')::int8 AS d,"
                " (extract(epoch FROM t) * 1000000)::int8 AS t, (extract(epoch FROM z) * 1000000)::int8 AS z FROM t ORDER BY id"
            ),
        )

    assert [column.fidelity for column in profile.columns] == [Fidelity.EXACT] * 4
    assert table["d"].cast(pa.int32()).to_pylist() == by_server["d"].to_pylist()
    assert table["t"].cast(pa.int64()).to_pylist() == by_server["t"].to_pylist()
    assert table["z"].cast(pa.int64()).to_pylist() == by_server["z"].to_pylist()


@pytest.mark.parametrize(
    ("sql_type", "literal"),
    [
        ("date", "infinity"),
        ("timestamp", "-infinity"),
        ("timestamptz", "infinity"),
        ("timestamp", "294276-12-31 23:59:59"),
        ("time", "24:00:00"),
        ("numeric(10,2)", "NaN"),
    ],
)
async def test_value_that_does_not_fit_is_an_error_that_names_it(
    postgres: PostgresDatabase, sql_type: str, literal: str
) -> None:
    """E-21: the default is an error with column and key; never NULL, never another value."""
    postgres.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, v {sql_type})",
        f"INSERT INTO t VALUES (1, NULL), (7, '{literal}'), (8, NULL)",
    )

    async with opened(postgres) as source:
        with pytest.raises(ValueRefusedError) as caught:
            await read(source, "t", KeyRange.of_integers("id", 0, 10))

    assert caught.value.code is Code.VALUE_REFUSED
    assert caught.value.column == "v"
    assert caught.value.place == "id = 7"
    assert caught.value.value == literal


async def test_numerics_of_queries_keep_their_precision_or_travel_as_text(postgres: PostgresDatabase) -> None:
    """E-20: precision is found out for a query's columns; where there is none, the value is text."""
    postgres.execute("CREATE TABLE t (n numeric(10,2))", "INSERT INTO t VALUES (1.25)")

    async with opened(postgres) as source:
        table = await read(
            source, Query(text="SELECT n, n::numeric(30,5) AS cast, n / 3 AS ratio, sum(n) OVER () AS total FROM t")
        )

    assert table.schema.types == [pa.decimal128(10, 2), pa.decimal128(30, 5), pa.string(), pa.string()]
    assert table.to_pylist() == [
        {"n": Decimal("1.25"), "cast": Decimal("1.25000"), "ratio": "0.41666666666666666667", "total": "1.25"}
    ]


async def test_role_without_temporary_privilege_gets_text(postgres: PostgresDatabase) -> None:
    """E-20: where precision cannot be found out, the value is exact text all the same."""
    name = postgres.url.rpartition("/")[2]
    role = f"reader_{name}"
    postgres.execute(
        "CREATE TABLE t (n numeric(10,2))",
        "INSERT INTO t VALUES (1.25)",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON t TO {role}",
        f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
    )
    try:
        reader = PostgresDatabase(postgres.url.replace("postgres@", f"{role}@"))
        async with opened(reader) as source:
            table = await read(source, Query(text="SELECT n FROM t"))
            direct = await read(source, "t")
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    assert table["n"].to_pylist() == ["1.25"]
    assert direct["n"].to_pylist() == [Decimal("1.25")]


async def test_session_of_the_server_does_not_change_values(postgres: PostgresDatabase) -> None:
    """E-20: what the database's own settings say about texts has no effect."""
    name = postgres.url.rpartition("/")[2]
    postgres.execute(
        *(
            f"ALTER DATABASE {name} SET {setting}"
            for setting in (
                "TimeZone = 'America/Los_Angeles'",
                "DateStyle = 'German, DMY'",
                "IntervalStyle = 'sql_standard'",
                "bytea_output = 'escape'",
                "extra_float_digits = -10",
            )
        ),
        "CREATE TABLE t (z timestamptz, d date, i interval, b bytea, f float8)",
        r"INSERT INTO t VALUES ('2024-06-01 12:00:00+00', '2024-06-01', '1 day', '\x00', 0.1)",
    )

    async with opened(postgres) as source:
        table = await read(source, "t")

    assert table.to_pylist() == [
        {"z": dt.datetime(2024, 6, 1, 12, tzinfo=UTC), "d": dt.date(2024, 6, 1), "i": "P1D", "b": b"\x00", "f": 0.1}
    ]


@pytest.mark.parametrize("decimals", [0, 20], ids=["binary", "text"])
async def test_text_that_is_no_utf8_is_an_error_that_names_it(postgres: PostgresDatabase, decimals: int) -> None:
    """E-21: a database without an encoding may hold any bytes; those that are no text are refused, all others exported."""
    name = f"{postgres.url.rpartition('/')[2]}_bytes"
    postgres.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        database = PostgresDatabase(postgres.url + "_bytes")
        numbers = "".join(f", n{number} numeric(5,2)" for number in range(decimals))
        database.execute(
            f'CREATE TABLE "Größe" (id int PRIMARY KEY, "text ä" text{numbers})',
            "INSERT INTO \"Größe\" VALUES (1, 'é'), (2, E'a\\xff'), (3, NULL)",
        )
        async with opened(database) as source:
            good = await read(source, "Größe", KeyRange.of_integers("id", 1, 2))
            with pytest.raises(ValueRefusedError, match="not valid UTF-8") as caught:
                await read(source, "Größe", KeyRange.of_integers("id", 1, 4))
            again = await read(source, "Größe", KeyRange.of_integers("id", 3, 4))
    finally:
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")

    assert values(good, "text ä") == ["é"]
    assert (caught.value.column, caught.value.place) == ("text ä", "id = 2")
    assert values(again, "text ä") == [None]


async def test_one_nullable_column_and_very_long_values(postgres: PostgresDatabase) -> None:
    """E-23: an empty line is NULL, a quoted one is empty, and a value longer than every block arrives."""
    postgres.execute(
        "CREATE TABLE t (v text)",
        "INSERT INTO t VALUES (NULL), (''), (repeat(E'line\\n\"', 1000000)), ('end'), (NULL)",
    )

    async with opened(postgres) as source:
        table = await read(source, "t")

    assert table["v"].to_pylist() == [None, "", 'line\n"' * 1_000_000, "end", None]
