"""What others write when they export a table: `python -m benchmarks.export_peers NAME QUERY FILE`, the URL in PROCFLOW_BENCH_URL.

Every peer runs the query in a process of its own, with the Python of its own environment, and writes one zstd-3 Parquet file.  Loops
over a driver's cursor make a pyarrow batch of every 10 000 rows.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.tables import TABLES, Column

BATCH_ROWS: Final = 10_000
CODEC: Final = {"compression": "zstd", "compression_level": 3}
URL_VARIABLE: Final = "PROCFLOW_BENCH_URL"


class Writer:
    """A Parquet file for rows of Python objects."""

    def __init__(self, query: str, path: str) -> None:
        self._columns = TABLES[table_of(query)].columns
        self._file = pq.ParquetWriter(path, TABLES[table_of(query)].schema, **CODEC)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = zip(self._columns, zip(*rows, strict=True), strict=True)
        self._file.write_batch(
            pa.record_batch([array(column, values) for column, values in columns], schema=self._file.schema)
        )

    def close(self) -> None:
        self._file.close()


class Nothing:
    """Takes rows and lets go of them."""

    def __init__(self, _query: str, _path: str) -> None:
        pass

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        pass

    def close(self) -> None:
        pass


def array(column: Column, values: Iterable[Any]) -> pa.Array:
    """Return the values of a driver as the column's type."""
    if column.kind == "uuid":
        values = [str(value) for value in values]
    elif pa.types.is_boolean(column.arrow):
        values = [None if value is None else bool(value) for value in values]
    return pa.array(values, column.arrow)


def table_of(query: str) -> str:
    found = re.search(r"FROM (\w+)", query)
    assert found is not None, query
    return found.group(1)


def address(url: str, **names: str) -> dict[str, Any]:
    """Return the parts of a URL as a driver's arguments, under the driver's names for them."""
    parts = urlsplit(url)
    found = {"host": parts.hostname, "port": parts.port, "user": parts.username, "database": parts.path[1:]}
    return {names.get(name, name): value for name, value in found.items()}


# --- loops over a cursor --------------------------------------------------------------------------------------------


async def asyncpg_loop(url: str, query: str, writer: Writer | Nothing) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    async with connection.transaction():
        cursor = await connection.cursor(query)
        while rows := await cursor.fetch(BATCH_ROWS):
            writer.write([tuple(row) for row in rows])
    await connection.close()


async def aiomysql_loop(url: str, query: str, writer: Writer | Nothing) -> None:
    import aiomysql

    connection = await aiomysql.connect(**address(url, database="db"), charset="utf8mb4")
    async with connection.cursor(aiomysql.SSCursor) as cursor:
        await cursor.execute(query)
        while rows := await cursor.fetchmany(BATCH_ROWS):
            writer.write(rows)
    connection.close()


async def asyncmy_loop(url: str, query: str, writer: Writer | Nothing) -> None:
    import asyncmy
    import asyncmy.cursors

    connection = await asyncmy.connect(**address(url), charset="utf8mb4")
    async with connection.cursor(asyncmy.cursors.SSCursor) as cursor:
        await cursor.execute(query)
        while rows := await cursor.fetchmany(BATCH_ROWS):
            writer.write(rows)
    connection.close()


def cursor_loop(connection: Any, query: str, writer: Writer | Nothing, **options: Any) -> None:
    cursor = connection.cursor(**options)
    cursor.execute(query)
    while rows := cursor.fetchmany(BATCH_ROWS):
        writer.write(rows)
    cursor.close()
    connection.close()


def mariadb_loop(url: str, query: str, writer: Writer | Nothing) -> None:
    import mariadb

    cursor_loop(mariadb.connect(**address(url)), query, writer, buffered=False)


def mysql_connector_loop(url: str, query: str, writer: Writer | Nothing) -> None:
    import mysql.connector

    cursor_loop(mysql.connector.connect(**address(url), use_pure=False), query, writer)


def sqlite_loop(url: str, query: str, writer: Writer | Nothing) -> None:
    import sqlite3

    cursor_loop(sqlite3.connect(url.removeprefix("sqlite:///")), query, writer)


LOOPS: Final[dict[str, Callable[[str, str, Any], Any]]] = {
    "asyncpg": asyncpg_loop,
    "aiomysql": aiomysql_loop,
    "asyncmy": asyncmy_loop,
    "mariadb": mariadb_loop,
    "mysql-connector": mysql_connector_loop,
    "sqlite3": sqlite_loop,
}


# --- tools that have their own tables -------------------------------------------------------------------------------


def connectorx(url: str, query: str, path: str, *, connections: int = 1) -> None:
    import connectorx as cx

    key = TABLES[table_of(query)].key[0]
    options = {} if connections == 1 else {"partition_on": key, "partition_num": connections}
    pq.write_table(cx.read_sql(url, query, return_type="arrow", **options), path, **CODEC)


def adbc(url: str, query: str, path: str) -> None:
    import adbc_driver_postgresql.dbapi

    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(path, reader.schema, **CODEC) as file:
            for batch in reader:
                file.write_batch(batch)


def pandas(url: str, query: str, path: str) -> None:
    import pandas as pd
    import sqlalchemy

    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    scheme, _, rest = url.partition("://")
    engine = sqlalchemy.create_engine(f"{driver[scheme]}://{rest}")
    pd.read_sql(query, engine).to_parquet(path, index=False, **CODEC)


TOOLS: Final[dict[str, Callable[[str, str, str], None]]] = {
    "connectorx": connectorx,
    "connectorx-2": lambda url, query, path: connectorx(url, query, path, connections=2),
    "adbc": adbc,
    "pandas": pandas,
}


def rows_through(loop: Callable[[str, str, Any], Any], url: str, query: str, writer: Writer | Nothing) -> None:
    found = loop(url, query, writer)
    if asyncio.iscoroutine(found):
        asyncio.run(found)
    writer.close()


def main() -> None:
    name, query, path = sys.argv[1:4]
    url = os.environ[URL_VARIABLE]
    if name in TOOLS:
        TOOLS[name](url, query, path)
    elif name.endswith("-fetch"):
        rows_through(LOOPS[name.removesuffix("-fetch")], url, query, Nothing(query, path))
    else:
        rows_through(LOOPS[name], url, query, Writer(query, path))


if __name__ == "__main__":
    main()
