"""The tables that the benchmarks of the export read: what they are, in every database.

Owns names, columns, keys and sizes.  Imports nothing but pyarrow, so that a peer in an environment of its own can ask for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; its declaration ends with ``NOT NULL`` where it is.

    Attributes:
        name: Its name.
        postgres: Its declaration in PostgreSQL.
        mariadb: Its declaration in MariaDB.
        arrow: What holds every value of it exactly; texts that are more than texts (JSON, UUID) are known by ``kind``.
        kind: ``json``, ``uuid``, or nothing.
    """

    name: str
    postgres: str
    mariadb: str
    arrow: pa.DataType
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        name: Its name.
        rows: Rows at scale 1.
        key: Columns of its primary key; the first is an integer that cuts it into chunks.
        columns: All columns, in order.
    """

    name: str
    rows: int
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns in Arrow's types."""
        return pa.schema([(column.name, column.arrow) for column in self.columns])


def _column(name: str, postgres: str, arrow: pa.DataType, *, mariadb: str = "", kind: str = "") -> Column:
    return Column(name=name, postgres=postgres, mariadb=mariadb or postgres, arrow=arrow, kind=kind)


_INSTANT: Final = pa.timestamp("us", "UTC")
_MONEY: Final = pa.decimal128(15, 2)

LINEITEM: Final = Table(
    name="lineitem",
    rows=2_999_671,
    key=("l_orderkey", "l_linenumber"),
    columns=(
        _column("l_orderkey", "bigint NOT NULL", pa.int64()),
        _column("l_partkey", "integer NOT NULL", pa.int32()),
        _column("l_suppkey", "integer NOT NULL", pa.int32()),
        _column("l_linenumber", "integer NOT NULL", pa.int32()),
        _column("l_quantity", "numeric(15,2) NOT NULL", _MONEY),
        _column("l_extendedprice", "numeric(15,2) NOT NULL", _MONEY),
        _column("l_discount", "numeric(15,2) NOT NULL", _MONEY),
        _column("l_tax", "numeric(15,2) NOT NULL", _MONEY),
        _column("l_returnflag", "char(1) NOT NULL", pa.string()),
        _column("l_linestatus", "char(1) NOT NULL", pa.string()),
        _column("l_shipdate", "date NOT NULL", pa.date32()),
        _column("l_commitdate", "date NOT NULL", pa.date32()),
        _column("l_receiptdate", "date NOT NULL", pa.date32()),
        _column("l_shipinstruct", "varchar(25) NOT NULL", pa.string()),
        _column("l_shipmode", "varchar(10) NOT NULL", pa.string()),
        _column("l_comment", "varchar(44) NOT NULL", pa.string()),
    ),
)
"""TPC-H's largest table at scale factor 0.5."""

WIDE: Final = Table(
    name="wide",
    rows=500_000,
    key=("id",),
    columns=(
        _column("id", "bigint NOT NULL", pa.int64()),
        _column("customer_id", "integer NOT NULL", pa.int32()),
        _column("quantity", "integer", pa.int32()),
        _column("grade", "smallint", pa.int16()),
        _column("views", "bigint NOT NULL", pa.int64()),
        _column("weight", "double precision NOT NULL", pa.float64()),
        _column("ratio", "double precision", pa.float64()),
        _column("price", "numeric(18,4) NOT NULL", pa.decimal128(18, 4)),
        _column("balance", "numeric(18,4)", pa.decimal128(18, 4)),
        _column("created_at", "timestamptz NOT NULL", _INSTANT, mariadb="timestamp(6) NOT NULL DEFAULT '2001-01-01'"),
        _column("updated_at", "timestamptz", _INSTANT, mariadb="timestamp(6) NULL"),
        _column("born_on", "date", pa.date32()),
        _column("is_active", "boolean NOT NULL", pa.bool_()),
        _column("is_verified", "boolean", pa.bool_()),
        _column("token", "uuid NOT NULL", pa.string(), kind="uuid"),
        _column("settings", "jsonb", pa.string(), mariadb="json", kind="json"),
        _column("name", "text NOT NULL", pa.string()),
        _column("email", "varchar(80) NOT NULL", pa.string()),
        _column("note", "text", pa.string()),
        _column("payload", "bytea", pa.binary(), mariadb="blob"),
    ),
)
"""Twenty columns of as many types as rows of an application have, half of them nullable."""

NARROW: Final = Table(
    name="narrow",
    rows=5_000_000,
    key=("id",),
    columns=(_column("id", "bigint NOT NULL", pa.int64()), _column("value", "integer NOT NULL", pa.int32())),
)
"""Two integers: what a row costs."""

PLAIN: Final = Table(
    name="plain",
    rows=WIDE.rows,
    key=WIDE.key,
    columns=tuple(column for column in WIDE.columns if not re.match("numeric|date|timestamp", column.postgres)),
)
"""What SQLite can hold of `wide` without a convention: it has neither decimals nor times."""

SERVER_TABLES: Final = (LINEITEM, WIDE, NARROW)
TABLES: Final = {table.name: table for table in (*SERVER_TABLES, PLAIN)}
