"""The types of PostgreSQL."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from procflow_export.model.types import ENUM, Fidelity, LogicalType
from tests.export.types.rows import Misfit, TypeRow

SETUP: Final = (
    "CREATE TYPE mood AS ENUM ('sad', 'very, \"happy\"', 'schön')",
    "CREATE DOMAIN price AS numeric(8,2)",
    "CREATE DOMAIN dear_price AS price CHECK (VALUE > 5)",
    "CREATE DOMAIN tags AS text[]",
    "CREATE TYPE pair AS (a int, b text)",
)

TEXTS: Final = (
    "''",
    "' '",
    "'NULL'",
    r"'\N'",
    "E'a\\nb\\r\\n\\t\"\\\\,'",
    "'é😀'",
    "'שלום עולם'",
    "E'\\uFEFFmark'",
    "E'\\x01\\x1f'",
    "'null'",
    "'=1+1'",
    r"'\.'",
    "repeat('x', 70000)",
)
_MOMENTS: Final = (
    Misfit(literal="'infinity'", text="infinity", clamped="294247-01-10 04:00:54.775807"),
    Misfit(literal="'-infinity'", text="-infinity", clamped="290309-12-21 19:59:05.224193 BC"),
    Misfit(
        literal="'294276-12-31 23:59:59.999999'",
        text="294276-12-31 23:59:59.999999",
        clamped="294247-01-10 04:00:54.775807",
    ),
)


def _list(
    native: str,
    element: pa.DataType,
    *literals: str,
    shown: str = "",
    notes: str = "",
    misfits: tuple[Misfit, ...] = (),
) -> TypeRow:
    return TypeRow(
        native=native,
        literals=("'{}'", "'{NULL}'", *literals),
        arrow_type=pa.list_(element),
        logical_type=LogicalType.ARRAY,
        shown=shown,
        notes=notes,
        misfits=misfits,
    )


def _text(native: str, *literals: str, shown: str = "", notes: str = "", catalog_name: str = "") -> TypeRow:
    return TypeRow(
        native=native,
        literals=literals,
        arrow_type=pa.string(),
        logical_type=LogicalType.OTHER,
        fidelity=Fidelity.TEXT,
        shown=shown,
        notes=notes,
        catalog_name=catalog_name,
    )


def _json(native: str, *literals: str, shown: str = "", notes: str = "") -> TypeRow:
    return TypeRow(
        native=native,
        literals=literals,
        arrow_type=pa.string(),
        logical_type=LogicalType.ARRAY,
        fidelity=Fidelity.COMPATIBLE,
        shown=shown,
        notes=notes,
    )


ROWS: Final = (
    TypeRow(native="boolean", literals=("true", "false"), arrow_type=pa.bool_(), logical_type=LogicalType.BOOL),
    TypeRow(native="smallint", literals=("-32768", "32767"), arrow_type=pa.int16(), logical_type=LogicalType.INTEGER),
    TypeRow(
        native="integer",
        literals=("-2147483648", "2147483647"),
        arrow_type=pa.int32(),
        logical_type=LogicalType.INTEGER,
    ),
    TypeRow(
        native="bigint",
        literals=("-9223372036854775808", "9223372036854775807"),
        arrow_type=pa.int64(),
        logical_type=LogicalType.INTEGER,
    ),
    TypeRow(native="oid", literals=("0", "4294967295"), arrow_type=pa.int64(), logical_type=LogicalType.INTEGER),
    TypeRow(
        native="real",
        literals=("'1e-45'", "'3.4028235e38'", "'-0'", "'inf'", "'-inf'", "'NaN'", "16777217", "0.1"),
        arrow_type=pa.float32(),
        logical_type=LogicalType.FLOAT,
        notes="NaN, infinities and −0 are kept",
    ),
    TypeRow(
        native="double precision",
        literals=("'5e-324'", "'1.7976931348623157e308'", "'-0'", "'inf'", "'-inf'", "'NaN'", "0.1", "1e22"),
        arrow_type=pa.float64(),
        logical_type=LogicalType.FLOAT,
        notes="the same",
    ),
    TypeRow(
        native="numeric(10,2)",
        shown="numeric(p,s), p ≤ 38",
        literals=("12345678.91", "-0.01", "0", "99999999.99"),
        arrow_type=pa.decimal128(10, 2),
        logical_type=LogicalType.DECIMAL,
        notes="in queries too, where the precision can be found out",
        misfits=(Misfit(literal="'NaN'", text="NaN"),),
    ),
    TypeRow(
        native="numeric(38,0)",
        literals=("9" * 38, "-" + "9" * 38),
        arrow_type=pa.decimal128(38, 0),
        logical_type=LogicalType.DECIMAL,
        misfits=(Misfit(literal="'NaN'", text="NaN"),),
    ),
    TypeRow(
        native="numeric(76,38)",
        shown="numeric(p,s), p ≤ 76",
        literals=("9" * 38 + "." + "9" * 38, "-1", "0." + "0" * 37 + "1"),
        arrow_type=pa.decimal256(76, 38),
        logical_type=LogicalType.DECIMAL,
        notes="DuckDB reads it as DOUBLE",
        misfits=(Misfit(literal="'NaN'", text="NaN"),),
    ),
    TypeRow(
        native="numeric(3,-2)",
        shown="numeric(p,−s)",
        literals=("12345", "-99900"),
        arrow_type=pa.decimal128(5, 0),
        logical_type=LogicalType.DECIMAL,
        notes="scale 0, with the digits that it needs",
    ),
    TypeRow(
        native="numeric(2,5)",
        shown="numeric(p,s), s > p",
        literals=("0.00012",),
        arrow_type=pa.decimal128(5, 5),
        logical_type=LogicalType.DECIMAL,
    ),
    _text(
        "numeric",
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "1e-20",
        "1.50",
        "9" * 90,
        shown="numeric without precision",
        notes="NaN and infinities are kept",
    ),
    _text("numeric(100,2)", "9" * 90, shown="numeric(p,s), p > 76"),
    TypeRow(
        native="money",
        literals=("'-92233720368547758.08'", "'92233720368547758.07'", "12.5::numeric"),
        arrow_type=pa.decimal128(19, 2),
        logical_type=LogicalType.MONEY,
        fidelity=Fidelity.COMPATIBLE,
        notes="whatever the server's locale",
    ),
    TypeRow(native="text", literals=TEXTS, arrow_type=pa.string(), logical_type=LogicalType.TEXT),
    TypeRow(
        native="varchar(20)",
        shown="varchar",
        literals=("'abc'", "''", "'é😀'"),
        arrow_type=pa.string(),
        logical_type=LogicalType.TEXT,
    ),
    TypeRow(
        native="char(5)",
        shown="char(n)",
        literals=("'abc'", "''", "'é'"),
        arrow_type=pa.string(),
        logical_type=LogicalType.TEXT,
        notes="the padding is kept",
    ),
    TypeRow(native="name", literals=("'pg'", "''"), arrow_type=pa.string(), logical_type=LogicalType.TEXT),
    TypeRow(
        native="bytea",
        literals=("''", r"'\x00ff5c6e'", r"'\x22'", "decode(repeat('00ff', 40000), 'hex')"),
        arrow_type=pa.binary(),
        logical_type=LogicalType.BYTES,
    ),
    TypeRow(
        native="uuid",
        literals=("'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
        arrow_type=pa.uuid(),
        logical_type=LogicalType.UUID,
    ),
    TypeRow(
        native="json",
        literals=('\'{"b":1, "a": [1.10]}\'', "'null'", "'\"\"'", "'\"😀\"'"),
        arrow_type=pa.json_(),
        logical_type=LogicalType.JSON,
        notes="verbatim",
    ),
    TypeRow(
        native="jsonb",
        literals=('\'{"b":1, "a": [1.10]}\'', "'null'"),
        arrow_type=pa.json_(),
        logical_type=LogicalType.JSON,
        notes="as the server prints it",
    ),
    TypeRow(
        native="date",
        literals=(
            "'0001-01-01'",
            "'9999-12-31'",
            "'1970-01-01'",
            "'1969-12-31'",
            "'4713-01-01 BC'",
            "'0044-03-15 BC'",
            "'5874897-12-31'",
        ),
        arrow_type=pa.date32(),
        logical_type=LogicalType.DATE,
        notes="any year",
        misfits=(
            Misfit(literal="'infinity'", text="infinity", clamped="5881580-07-11"),
            Misfit(literal="'-infinity'", text="-infinity", clamped="5877642-06-24 BC"),
        ),
    ),
    TypeRow(
        native="timestamp",
        literals=(
            "'0001-01-01 00:00:00.000001'",
            "'9999-12-31 23:59:59.999999'",
            "'1969-12-31 23:59:59.5'",
            "'0044-03-15 12:00 BC'",
            "'20000-02-29 00:00:00.000001'",
        ),
        arrow_type=pa.timestamp("us"),
        logical_type=LogicalType.TIMESTAMP,
        notes="any year that fits",
        misfits=_MOMENTS,
    ),
    TypeRow(
        native="timestamptz",
        literals=(
            "'2024-06-01 12:00:00+02'",
            "'1900-01-01 00:00:00.25-08'",
            "'1969-12-31 23:59:59.999999+00'",
            "'0044-03-15 12:00+00 BC'",
        ),
        arrow_type=pa.timestamp("us", "UTC"),
        logical_type=LogicalType.INSTANT,
        misfits=tuple(
            Misfit(
                literal=one.literal.replace("59'", "59+00'").replace("999'", "999+00'"),
                text=one.text if "inf" in one.text else f"{one.text}+00",
                clamped=one.clamped,
            )
            for one in _MOMENTS
        ),
    ),
    TypeRow(
        native="time",
        literals=("'00:00'", "'23:59:59.999999'", "'12:34:56.5'"),
        arrow_type=pa.time64("us"),
        logical_type=LogicalType.TIME,
        misfits=(Misfit(literal="'24:00:00'", text="24:00:00", clamped="23:59:59.999999"),),
    ),
    TypeRow(
        native="mood",
        shown="enum",
        literals=("'sad'", "'very, \"happy\"'", "'schön'"),
        arrow_type=ENUM,
        logical_type=LogicalType.ENUM,
    ),
    TypeRow(
        native="price",
        shown="domain",
        literals=("1.239",),
        arrow_type=pa.decimal128(8, 2),
        logical_type=LogicalType.DECIMAL,
        notes="as its base type",
    ),
    TypeRow(
        native="dear_price",
        shown="domain over a domain",
        literals=("7",),
        arrow_type=pa.decimal128(8, 2),
        logical_type=LogicalType.DECIMAL,
    ),
    _list("boolean[]", pa.bool_(), "'{t,NULL,f}'"),
    _list("smallint[]", pa.int16(), "'{-32768,NULL,32767}'"),
    _list(
        "integer[]",
        pa.int32(),
        "'{1,NULL,3}'",
        notes="NULL elements are kept",
        misfits=(
            Misfit(literal="'{{1,2},{3,4}}'", text=""),
            Misfit(literal="'[0:1]={1,2}'", text=""),
        ),
    ),
    _list("bigint[]", pa.int64(), "'{-9223372036854775808,NULL,9223372036854775807}'"),
    _list("real[]", pa.float32(), "'{0.1,NULL,NaN,-Infinity}'"),
    _list("double precision[]", pa.float64(), "'{0.1,NULL,NaN,-Infinity,5e-324}'"),
    _list("text[]", pa.string(), "ARRAY['a,b','\"',NULL,'',E'\\n\\\\','é😀']"),
    _list("varchar(9)[]", pa.string(), "ARRAY['a',NULL]", shown="varchar[]"),
    _list("uuid[]", pa.uuid(), "'{00000000-0000-0000-0000-000000000000,NULL}'"),
    _list("bytea[]", pa.binary(), r"ARRAY['\x00ff'::bytea,NULL,'\x']"),
    _list(
        "date[]",
        pa.date32(),
        "'{0001-01-01,NULL,9999-12-31}'",
        notes="elements have the policy of a date",
    ),
    _list("time[]", pa.time64("us"), "'{00:00,NULL,23:59:59.999999}'"),
    _list("timestamp[]", pa.timestamp("us"), "ARRAY['1969-12-31 23:59:59.5'::timestamp,NULL]"),
    _list("timestamptz[]", pa.timestamp("us", "UTC"), "ARRAY['2024-06-01 12:00:00.25+02'::timestamptz,NULL]"),
    _list("mood[]", pa.string(), "ARRAY['sad',NULL,'very, \"happy\"']::mood[]", shown="enum[]"),
    _list("tags", pa.string(), "ARRAY['a',NULL]", shown="domain over an array"),
    _json("integer[][]", "'{{1,2},{3,NULL}}'", "'{}'", "'{1}'", shown="array of more dimensions"),
    _json("numeric(9,2)[]", "'{1.10,NULL,2}'", shown="numeric[]"),
    _json("jsonb[]", "ARRAY['{\"a\": 1}'::jsonb, NULL]", shown="json[], jsonb[]"),
    _json("inet[]", "'{10.0.0.1,NULL}'", shown="array of any other type"),
    _text(
        "interval",
        "'1 year 2 mons 3 days 04:05:06.7'",
        "'-1 day +00:00:01'",
        "'0'",
        "'178000000 years'",
        notes="ISO 8601: `P1Y2M3DT4H5M6.7S`",
    ),
    _text("timetz", "'12:00:00+02'", "'24:00:00-15:59'", catalog_name="time with time zone"),
    _text("bit(4)", "B'0101'", shown="bit(n)"),
    _text("varbit", "B'1'", "B''", shown="bit varying"),
    _text("inet", "'10.0.0.1'", "'::1/64'"),
    _text("cidr", "'10.0.0.0/8'"),
    _text("macaddr", "'08:00:2b:01:02:03'"),
    _text("macaddr8", "'08:00:2b:01:02:03:04:05'"),
    _text("point", "'(1.5,-2)'"),
    _text("polygon", "'((0,0),(1,1))'", shown="polygon, path, box, circle, line"),
    _text("int4range", "'[1,5)'", "'empty'", shown="range"),
    _text("tstzrange", "'[2024-01-01 00:00+00,infinity)'", shown="range of moments"),
    _text("int4multirange", "'{[1,3),[5,7)}'", shown="multirange"),
    _text("pair", "ROW(1,'a b')", "ROW(NULL,'')", "ROW(NULL,NULL)", shown="composite"),
    _text("tsvector", "'a b'"),
    _text("tsquery", "'a & b'"),
    _text("jsonpath", "'$.a[*]'"),
    _text('"char"', "'x'", "''"),
    _text("pg_lsn", "'0/16B3748'"),
    _text("xid", "'7'"),
    _text("regclass", "'pg_class'"),
)
