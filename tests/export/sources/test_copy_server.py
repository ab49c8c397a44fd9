"""What a real server writes in each format of ``COPY``, read by the fast decoders and by the reference."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import asyncpg
import pyarrow as pa
import pytest

from procflow_export.model.types import Column, LogicalType, OnInvalid
from procflow_export.sources.blocks import BlockDecoder
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.postgres.decoding.binary import BinaryDecoder
from procflow_export.sources.postgres.decoding.reference import BinaryForm, ReferenceDecoder, TextForm
from procflow_export.sources.postgres.wire import BINARY, TEXT, WireFormat
from tests.export.sources.copy_kinds import assert_same
from tests.export.sources.databases import PostgresDatabase

pytestmark = pytest.mark.anyio

SETUP = ("CREATE TYPE mood AS ENUM ('sad', 'very, \"happy\"')", "CREATE DOMAIN code AS char(4)")
SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "iso_8601"}
WIDE = pa.decimal256(76, 38)


def column(name: str, kind: LogicalType, arrow_type: pa.DataType, native_type: str = "") -> Column:
    return Column(name=name, native_type=native_type or name, logical_type=kind, arrow_type=arrow_type)


# SQL type, column, literals.  The name of the column is its number.
SCALARS: list[tuple[str, LogicalType, pa.DataType, list[str]]] = [
    ("bool", LogicalType.BOOL, pa.bool_(), ["true", "false"]),
    ("int2", LogicalType.INTEGER, pa.int16(), ["-32768", "32767"]),
    ("int4", LogicalType.INTEGER, pa.int32(), ["-2147483648", "2147483647"]),
    ("int8", LogicalType.INTEGER, pa.int64(), ["-9223372036854775808", "9223372036854775807"]),
    ("oid", LogicalType.INTEGER, pa.int64(), ["0", "4294967295"]),
    ("float4", LogicalType.FLOAT, pa.float32(), ["'1e-45'", "'NaN'", "'-0'", "'-inf'", "0.1"]),
    ("float8", LogicalType.FLOAT, pa.float64(), ["'5e-324'", "'NaN'", "'-0'", "'inf'", "0.1"]),
    ("numeric(10,2)", LogicalType.DECIMAL, pa.decimal128(10, 2), ["12345678.91", "-0.01", "0", "100", "-20000000"]),
    ("numeric(18,4)", LogicalType.DECIMAL, pa.decimal128(18, 4), ["99999999999999.9999", "-0.0001", "10000"]),
    ("numeric(38,10)", LogicalType.DECIMAL, pa.decimal128(38, 10), ["9" * 28 + ".0000000001", "-1", "0.5"]),
    ("numeric(76,38)", LogicalType.DECIMAL, WIDE, ["9" * 38 + "." + "9" * 38, "-1e-38", "1"]),
    ("numeric(3,-2)", LogicalType.DECIMAL, pa.decimal128(5, 0), ["12345", "-50"]),
    ("money", LogicalType.MONEY, pa.decimal128(19, 2), ["'-92233720368547758.08'", "12.5"]),
    (
        "text",
        LogicalType.TEXT,
        pa.string(),
        ["''", r"'\N'", "E'a\\nb\\r\\n\\t\"\\\\,\\b\\f\\v'", "'é😀'", "E'\\uFEFF'"],
    ),
    ("char(5)", LogicalType.TEXT, pa.string(), ["'abc'", "''", "'é'"]),
    ("code", LogicalType.TEXT, pa.string(), ["'ab'", "''"]),
    ("name", LogicalType.TEXT, pa.string(), ["'pg'"]),
    ("mood", LogicalType.ENUM, pa.dictionary(pa.int32(), pa.string()), ["'sad'", "'very, \"happy\"'"]),
    ("bytea", LogicalType.BYTES, pa.binary(), ["''", r"'\x00ff5c6e'"]),
    ("uuid", LogicalType.UUID, pa.uuid(), ["'00000000-0000-0000-0000-000000000001'"]),
    ("json", LogicalType.JSON, pa.json_(), ['\'{"b":1, "a": [1.10]}\'', "'null'"]),
    ("jsonb", LogicalType.JSON, pa.json_(), ['\'{"b":1, "a": ["x\\n"]}\'', "'null'"]),
    ("date", LogicalType.DATE, pa.date32(), ["'0044-03-15 BC'", "'5874897-12-31'", "'2024-02-29'"]),
    ("time", LogicalType.TIME, pa.time64("us"), ["'00:00'", "'23:59:59.999999'"]),
    (
        "timestamp",
        LogicalType.TIMESTAMP,
        pa.timestamp("us"),
        ["'0001-12-31 23:59:59.5 BC'", "'294246-01-01'", "'1999-12-31'"],
    ),
    (
        "timestamptz",
        LogicalType.INSTANT,
        pa.timestamp("us", "UTC"),
        ["'2024-06-01 12:00:00.25+02'", "'10000-01-01+00'"],
    ),
    ("interval", LogicalType.OTHER, pa.string(), ["'1 year 2 mons 3 days 04:05:06.7'", "'0'"]),
    ("inet", LogicalType.OTHER, pa.string(), ["'10.0.0.1'", "'::1/64'"]),
    ("bit(4)", LogicalType.OTHER, pa.string(), ["B'0101'"]),
    ("numeric", LogicalType.OTHER, pa.string(), ["'NaN'", "1e-20", "1.50"]),
    ("int4range", LogicalType.OTHER, pa.string(), ["'[1,5)'", "'empty'"]),
    ('"char"', LogicalType.OTHER, pa.string(), ["'x'"]),
    ("int4[]", LogicalType.ARRAY, pa.string(), ["'{1,NULL,3}'", "'{{1,2},{3,4}}'"]),
]
LISTS: list[tuple[str, pa.DataType, str, list[Any]]] = [
    ("bool[]", pa.bool_(), "'{t,NULL,f}'", [True, None, False]),
    ("int2[]", pa.int16(), "'{1,-1}'", [1, -1]),
    ("int4[]", pa.int32(), "'{1,NULL,3}'", [1, None, 3]),
    ("int8[]", pa.int64(), "'{9223372036854775807}'", [2**63 - 1]),
    ("oid[]", pa.int64(), "'{4294967295}'", [4294967295]),
    ("float4[]", pa.float32(), "'{0.5,inf}'", [0.5, math.inf]),
    ("float8[]", pa.float64(), "'{0.1}'", [0.1]),
    ("text[]", pa.string(), "ARRAY['a,b','\"',NULL,'']", ["a,b", '"', None, ""]),
    ("varchar(3)[]", pa.string(), "ARRAY['abc']", ["abc"]),
    ("char(3)[]", pa.string(), "ARRAY['x']", ["x  "]),
    ("mood[]", pa.string(), "'{sad,NULL}'", ["sad", None]),
    ("uuid[]", pa.uuid(), "'{00000000-0000-0000-0000-000000000001}'", [uuid.UUID(int=1)]),
    ("bytea[]", pa.binary(), r"ARRAY['\x00ff'::bytea, ''::bytea]", [b"\x00\xff", b""]),
    ("date[]", pa.date32(), "'{2024-02-29,NULL}'", [date(2024, 2, 29), None]),
    ("time[]", pa.time64("us"), "'{12:34:56.5}'", [time(12, 34, 56, 500000)]),
    ("timestamp[]", pa.timestamp("us"), "'{1999-12-31 00:00:00}'", [datetime(1999, 12, 31)]),
    ("timestamptz[]", pa.timestamp("us", "UTC"), "'{2024-06-01 12:00:00+02}'", [datetime(2024, 6, 1, 10, tzinfo=UTC)]),
    ("numeric(8,2)[]", pa.decimal128(8, 2), "'{1.25,NULL,-100}'", [Decimal("1.25"), None, Decimal(-100)]),
    ("jsonb[]", pa.json_(), "ARRAY['{\"a\": 1}'::jsonb]", ['{"a": 1}']),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def pieces(database: PostgresDatabase, columns: Sequence[Column], wire: WireFormat) -> list[bytes]:
    """What the driver hands over, as it does."""
    found: list[bytes] = []

    async def put(data: bytes) -> None:
        found.append(bytes(data))

    connection = await asyncpg.connect(database.url, server_settings=SETTINGS)
    try:
        select = f"SELECT {', '.join(wire.select_list(columns))} FROM t ORDER BY number"
        await connection.copy_from_query(select, output=put, **wire.copy_options)
    finally:
        await connection.close()
    return [piece for piece in found if piece]


def decoded(decoder: BlockDecoder, blocks: Sequence[bytes]) -> pa.Table:
    return pa.Table.from_batches([decoder.decode(block) for block in blocks]).combine_chunks()


def reference(columns: Sequence[Column], wire: WireFormat) -> ReferenceDecoder:
    return ReferenceDecoder(columns, BinaryForm(columns) if wire is BINARY else TextForm(columns))


async def test_every_type_in_every_format_equals_the_reference(postgres: PostgresDatabase) -> None:
    """E-23: one table with every type, its extremes and NULLs, as a server writes it, by every decode path."""
    depth = max(len(literals) for *_, literals in SCALARS) + 1
    names = [f"c{number}" for number in range(len(SCALARS))]
    rows = [
        ", ".join(
            f"({literals[row]})::{sql_type}" if row < len(literals) else f"NULL::{sql_type}"
            for sql_type, _, _, literals in SCALARS
        )
        for row in range(depth)
    ]
    postgres.execute(
        *SETUP,
        f"CREATE TABLE t (number int, {', '.join(f'{name} {entry[0]}' for name, entry in zip(names, SCALARS, strict=True))})",
        *(f"INSERT INTO t VALUES ({number}, {row})" for number, row in enumerate(rows)),
        "INSERT INTO t SELECT t.* FROM t, generate_series(1, 300)",
    )
    columns = [
        column(name, kind, arrow_type, sql_type.replace("char(5)", "character(5)"))
        for name, (sql_type, kind, arrow_type, _) in zip(names, SCALARS, strict=True)
    ]
    without_text = {LogicalType.UUID, LogicalType.BYTES}
    printed = [entry for entry in columns if entry.logical_type not in without_text and entry.arrow_type != WIDE]

    results = []
    for chosen, wire in ((columns, BINARY), (printed, TEXT)):
        blocks = await pieces(postgres, chosen, wire)
        for decoder in (wire.decoder(chosen), reference(chosen, wire)):
            results.append((chosen, decoded(decoder, blocks)))

    right = results[1][1]
    for chosen, table in results:
        assert table.num_rows == depth * 301
        for entry in chosen:
            for one, other in zip(table[entry.name].chunks, right[entry.name].chunks, strict=True):
                assert_same(one, other)


async def test_arrays_become_lists(postgres: PostgresDatabase) -> None:
    """E-20: arrays of one dimension, their NULLs, empty ones and NULL itself."""
    names = [f"c{number}" for number in range(len(LISTS))]
    postgres.execute(
        *SETUP,
        f"CREATE TABLE t (number int, {', '.join(f'{name} {entry[0]}' for name, entry in zip(names, LISTS, strict=True))})",
        f"INSERT INTO t VALUES (1, {', '.join(f'({literal})::{sql_type}' for sql_type, _, literal, _ in LISTS)})",
        f"INSERT INTO t VALUES (2, {', '.join(chr(39) + '{}' + chr(39) for _ in LISTS)})",
        "INSERT INTO t VALUES (3)",
    )
    columns = [
        column(name, LogicalType.ARRAY, pa.list_(arrow_type), sql_type)
        for name, (sql_type, arrow_type, _, _) in zip(names, LISTS, strict=True)
    ]

    blocks = await pieces(postgres, columns, BINARY)

    for decoder in (BinaryDecoder(columns), reference(columns, BINARY)):
        table = decoded(decoder, blocks)
        for name, (sql_type, _, _, expected) in zip(names, LISTS, strict=True):
            assert table[name].to_pylist() == [expected, [], None], sql_type


@pytest.mark.parametrize("literal", ["{{1,2},{3,4}}", "[0:1]={1,2}"])
async def test_array_that_is_no_list_does_not_fit(postgres: PostgresDatabase, literal: str) -> None:
    """E-21: several dimensions, and a lower bound other than 1, are more than a list says."""
    postgres.execute("CREATE TABLE t (number int, v int[])", f"INSERT INTO t VALUES (1, '{{5}}'), (2, '{literal}')")
    refused = column("v", LogicalType.ARRAY, pa.list_(pa.int32()), "integer[]")
    blocks = await pieces(postgres, [refused], BINARY)

    for decoder in (BinaryDecoder([refused]), reference([refused], BINARY)):
        with pytest.raises(ValueRefusedError, match="lower bound") as caught:
            decoded(decoder, blocks)
        assert caught.value.place == "row 2 of the chunk"

    allowed = [replace(refused, on_invalid=OnInvalid.NULL)]
    for decoder in (BinaryDecoder(allowed), reference(allowed, BINARY)):
        assert decoded(decoder, blocks)["v"].to_pylist() == [[5], None]
        assert decoder.changed_values == {"v": 1}


MISFITS: list[tuple[str, LogicalType, pa.DataType, str, Any]] = [
    ("date", LogicalType.DATE, pa.date32(), "infinity", 2**31 - 1),
    ("date", LogicalType.DATE, pa.date32(), "-infinity", -(2**31) + 1),
    ("timestamp", LogicalType.TIMESTAMP, pa.timestamp("us"), "infinity", 2**63 - 1),
    ("timestamp", LogicalType.TIMESTAMP, pa.timestamp("us"), "294276-12-31 23:59:59", 2**63 - 1),
    ("timestamptz", LogicalType.INSTANT, pa.timestamp("us", "UTC"), "-infinity", -(2**63) + 1),
    ("time", LogicalType.TIME, pa.time64("us"), "24:00:00", 86_399_999_999),
    ("numeric", LogicalType.DECIMAL, pa.decimal128(5, 2), "NaN", None),
    ("numeric", LogicalType.DECIMAL, pa.decimal128(5, 2), "Infinity", Decimal("999.99")),
    ("numeric", LogicalType.DECIMAL, pa.decimal128(5, 2), "-1000", Decimal("-999.99")),
    ("numeric", LogicalType.DECIMAL, pa.decimal128(5, 2), "1.125", Decimal("1.12")),
]


@pytest.mark.parametrize(("sql_type", "kind", "arrow_type", "literal", "nearest"), MISFITS)
async def test_misfits_follow_the_policy(
    postgres: PostgresDatabase, sql_type: str, kind: LogicalType, arrow_type: pa.DataType, literal: str, nearest: Any
) -> None:
    """E-21: an error that names the value, NULL, or the nearest value; and what was changed is counted."""
    postgres.execute(
        f"CREATE TABLE t (number int NOT NULL, v {sql_type})",
        f"INSERT INTO t SELECT n, CASE WHEN n % 2 = 0 THEN '{literal}'::{sql_type} END FROM generate_series(1, 8) AS g (n)",
    )
    number = replace(column("number", LogicalType.INTEGER, pa.int32()), is_nullable=False)
    refused = [number, column("v", kind, arrow_type, sql_type)]
    blocks = await pieces(postgres, refused, BINARY)

    with pytest.raises(ValueRefusedError) as caught:
        decoded(BinaryDecoder(refused, key=("number",)), blocks)
    assert (caught.value.column, caught.value.value, caught.value.place) == ("v", literal, "number = 2")

    nulled = BinaryDecoder([number, replace(refused[1], on_invalid=OnInvalid.NULL)])
    assert decoded(nulled, blocks)["v"].null_count == 8
    assert nulled.changed_values == {"v": 4}

    clamped = BinaryDecoder([number, replace(refused[1], on_invalid=OnInvalid.CLAMP)])
    if nearest is None:
        with pytest.raises(ValueRefusedError):
            decoded(clamped, blocks)
        return
    values = decoded(clamped, blocks)["v"]
    if not pa.types.is_decimal(arrow_type):
        values = values.cast(pa.int32() if arrow_type == pa.date32() else pa.int64())
    assert values.to_pylist() == [None, nearest] * 4
    assert clamped.changed_values == {"v": 4}
