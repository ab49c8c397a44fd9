"""The types of MariaDB; MySQL's own are the same where both have them."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from procflow_export.model.types import ENUM, Fidelity, LogicalType
from tests.export.types.rows import Misfit, TypeRow

TEXTS: Final = (
    "''",
    "' '",
    "'NULL'",
    r"'\\N'",
    r"'a\nb\r\n\t\"\\,'",
    "'é😀'",
    "'שלום עולם'",
    r"'\0\Z'",
    "'=1+1'",
    "repeat('x', 70000)",
    "repeat('é', 200)",
)


def _integer(native: str, arrow_type: pa.DataType, *literals: str, notes: str = "") -> TypeRow:
    return TypeRow(
        native=native, literals=literals, arrow_type=arrow_type, logical_type=LogicalType.INTEGER, notes=notes
    )


def _decimal(native: str, arrow_type: pa.DataType, *literals: str, shown: str = "", notes: str = "") -> TypeRow:
    return TypeRow(
        native=native,
        literals=literals,
        arrow_type=arrow_type,
        logical_type=LogicalType.DECIMAL,
        shown=shown,
        notes=notes,
    )


def _float(native: str, arrow_type: pa.DataType, *literals: str, shown: str = "", notes: str = "") -> TypeRow:
    return TypeRow(
        native=native,
        literals=literals,
        arrow_type=arrow_type,
        logical_type=LogicalType.FLOAT,
        shown=shown,
        notes=notes,
    )


def _text(native: str, *literals: str, shown: str = "", notes: str = "") -> TypeRow:
    return TypeRow(
        native=native,
        literals=literals,
        arrow_type=pa.string(),
        logical_type=LogicalType.TEXT,
        shown=shown,
        notes=notes,
    )


def _bytes(native: str, *literals: str, shown: str = "") -> TypeRow:
    return TypeRow(
        native=native, literals=literals, arrow_type=pa.binary(), logical_type=LogicalType.BYTES, shown=shown
    )


ROWS: Final = (
    _integer("tinyint", pa.int8(), "-128", "127"),
    _integer("tinyint(1)", pa.int8(), "0", "1", "2", notes="a number, as any can be in it; `bool` makes it one"),
    _integer("tinyint unsigned", pa.uint8(), "0", "255"),
    _integer("smallint", pa.int16(), "-32768", "32767"),
    _integer("smallint unsigned", pa.uint16(), "65535"),
    _integer("mediumint", pa.int32(), "-8388608", "8388607"),
    _integer("mediumint unsigned zerofill", pa.uint32(), "42", "16777215"),
    _integer("int", pa.int32(), "-2147483648", "2147483647"),
    _integer("int unsigned", pa.uint32(), "4294967295"),
    _integer("bigint", pa.int64(), "-9223372036854775808", "9223372036854775807"),
    _integer("bigint unsigned", pa.uint64(), "0", "18446744073709551615"),
    _decimal(
        "decimal(10,2)",
        pa.decimal128(10, 2),
        "12345678.91",
        "-0.01",
        "0",
        shown="decimal(p,s), p ≤ 38",
        notes="in queries too",
    ),
    _decimal("decimal(10,2) unsigned", pa.decimal128(10, 2), "12345678.91"),
    _decimal("decimal(38,0)", pa.decimal128(38, 0), "9" * 38, "-" + "9" * 38),
    _decimal(
        "decimal(65,30)",
        pa.decimal256(65, 30),
        "9" * 35 + "." + "9" * 30,
        "-1",
        shown="decimal(p,s), p > 38",
        notes="DuckDB reads it as DOUBLE",
    ),
    _float(
        "float", pa.float32(), "16777215", "0.1", "3.4028234e38", "-1e-38", "0", notes="all digits, not the six printed"
    ),
    _float("float(7,2)", pa.float32(), "1.1", shown="float(M,D)"),
    _float("double", pa.float64(), "0.1", "1.7976931348623157e308", "5e-324", "-1e-300", "1e22"),
    _float(
        "double(15,2)",
        pa.float64(),
        "1234567890123.45",
        shown="double(M,D)",
        notes="refused in a query that is read as a derived table",
    ),
    TypeRow(
        native="bit(1)",
        literals=("b'0'", "b'1'"),
        arrow_type=pa.bool_(),
        logical_type=LogicalType.BOOL,
        fidelity=Fidelity.COMPATIBLE,
    ),
    TypeRow(
        native="bit(10)",
        shown="bit(n)",
        literals=("b'1111111111'", "b'0'"),
        arrow_type=pa.uint64(),
        logical_type=LogicalType.BITS,
        fidelity=Fidelity.COMPATIBLE,
    ),
    TypeRow(
        native="bit(64)",
        literals=("x'ffffffffffffffff'",),
        arrow_type=pa.uint64(),
        logical_type=LogicalType.BITS,
        fidelity=Fidelity.COMPATIBLE,
    ),
    TypeRow(native="year", literals=("1901", "2155"), arrow_type=pa.int16(), logical_type=LogicalType.YEAR),
    TypeRow(
        native="date",
        literals=("'1000-01-01'", "'9999-12-31'", "'1969-12-31'"),
        arrow_type=pa.date32(),
        logical_type=LogicalType.DATE,
        misfits=(
            Misfit(literal="'0000-00-00'", text="0000-00-00"),
            Misfit(literal="'2020-02-00'", text="2020-02-00"),
        ),
    ),
    TypeRow(
        native="datetime",
        literals=("'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"),
        arrow_type=pa.timestamp("us"),
        logical_type=LogicalType.TIMESTAMP,
        misfits=(Misfit(literal="'0000-00-00 00:00:00'", text="0000-00-00 00:00:00"),),
    ),
    TypeRow(
        native="datetime(6)",
        literals=("'1969-12-31 23:59:59.999999'", "'1000-01-01 00:00:00.000001'"),
        arrow_type=pa.timestamp("us"),
        logical_type=LogicalType.TIMESTAMP,
        misfits=(Misfit(literal="'2020-00-01 00:00:00'", text="2020-00-01 00:00:00.000000"),),
    ),
    TypeRow(
        native="timestamp(3) NULL",
        shown="timestamp",
        literals=("'2024-06-01 10:00:00.125'", "'1970-01-01 00:00:01'"),
        arrow_type=pa.timestamp("us", "UTC"),
        logical_type=LogicalType.INSTANT,
        misfits=(Misfit(literal="'0000-00-00 00:00:00'", text="0000-00-00 00:00:00.000"),),
    ),
    TypeRow(
        native="time",
        literals=("'-838:59:59'", "'838:59:59'", "'00:00:00'"),
        arrow_type=pa.duration("us"),
        logical_type=LogicalType.DURATION,
        notes="Parquet has whole microseconds, which DuckDB reads as BIGINT",
    ),
    TypeRow(
        native="time(6)",
        literals=("'-00:00:00.000001'", "'12:00:00.5'"),
        arrow_type=pa.duration("us"),
        logical_type=LogicalType.DURATION,
    ),
    _text("char(5)", "'abc'", "''", shown="char(n)", notes="without its padding, as the server sends it"),
    _text("varchar(100)", *TEXTS[:7], shown="varchar(n)"),
    _text("varchar(10) CHARACTER SET latin1", "'é'"),
    _text("longtext", *TEXTS, shown="text, tinytext, mediumtext, longtext"),
    TypeRow(
        native="enum('a','b,c','schön')",
        shown="enum",
        literals=("'a'", "'b,c'", "'schön'"),
        arrow_type=ENUM,
        logical_type=LogicalType.ENUM,
    ),
    _text("set('a','b')", "'a,b'", "''", "'b'", shown="set"),
    _bytes("binary(4)", "x'00ff'", shown="binary(n)"),
    _bytes("varbinary(10)", "x'00ff'", "''", shown="varbinary(n)"),
    _bytes("longblob", "x'fbfcfdfeff00'", "repeat(x'ff', 66000)", shown="blob, tinyblob, mediumblob, longblob"),
    _text("json", "'{\"b\": 1}'", notes="MariaDB's is a `longtext`; MySQL's own is `arrow.json`"),
    TypeRow(
        native="point",
        shown="geometry and its kinds",
        literals=("ST_GeomFromText('POINT(1.5 -2)')", "ST_GeomFromText('POINT(0 0)', 4326)"),
        arrow_type=pa.binary(),
        logical_type=LogicalType.GEOMETRY,
        fidelity=Fidelity.COMPATIBLE,
        notes="well-known binary, without the number of its reference system",
    ),
    _text("uuid", "'123e4567-e89b-12d3-a456-426614174000'", shown="uuid (MariaDB)"),
    _text("inet4", "'10.0.0.1'", shown="inet4 (MariaDB)"),
    _text("inet6", "'::1'", "'2001:db8::1'", shown="inet6 (MariaDB)"),
)
