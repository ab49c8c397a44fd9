"""What others write when they export a table: `python -m benchmarks.export_peers NAME QUERY FILE`, the URL in PROCFLOW_BENCH_URL.

Every peer runs the query in a process of its own, with the Python of its own environment, and writes one zstd-3 Parquet file.  Loops
over a driver's cursor make a pyarrow batch of every 10 000 rows.  What it takes to come that far, start and imports, goes to
standard output as JSON: who gets a share of the rows only has that once, not for every row.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.tables import TABLES, Column, Table

BATCH_ROWS: Final = 10_000
CODEC: Final[dict[str, Any]] = {"compression": "zstd", "compression_level": 3}
URL_VARIABLE: Final = "PROCFLOW_BENCH_URL"


class Sink(Protocol):
    """Where rows of Python objects go."""

    def __init__(self, query: str, path: str) -> None: ...

    def write(self, rows: Sequence[Sequence[Any]]) -> None: ...

    def close(self) -> None: ...


class Writer:
    """A Parquet file."""

    def __init__(self, query: str, path: str) -> None:
        self._table = table_of(query)
        self._schema = self._table.schema
        self._file = pq.ParquetWriter(path, self._schema, **CODEC)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = zip(self._table.columns, zip(*rows, strict=True), strict=True)
        arrays = [array(column, values) for column, values in columns]
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        self._file.close()


class Nothing:
    """Lets go of every row."""

    def __init__(self, query: str, path: str) -> None:
        pass

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        pass

    def close(self) -> None:
        pass


def array(column: Column, values: Iterable[Any]) -> pa.Array[Any]:
    """Return the values of a driver as the column's type."""
    if column.kind == "uuid":
        values = [str(value) for value in values]
    elif pa.types.is_boolean(column.arrow):
        values = [None if value is None else bool(value) for value in values]
    return pa.array(values, column.arrow)


def table_of(query: str) -> Table:
    found = re.search(r"FROM (\w+)", query)
    assert found is not None, query
    return TABLES[found.group(1)]


def address(url: str, **names: str) -> dict[str, Any]:
    """Return the parts of a URL as a driver's arguments, under the driver's names for them."""
    parts = urlsplit(url)
    found = {"host": parts.hostname, "port": parts.port, "user": parts.username, "database": parts.path[1:]}
    return {names.get(name, name): value for name, value in found.items()}


# --- loops over a cursor --------------------------------------------------------------------------------------------


async def asyncpg_loop(url: str, query: str, sink: Sink, asyncpg: Any) -> None:
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        cursor = await connection.cursor(query)
        while rows := await cursor.fetch(BATCH_ROWS):
            sink.write([tuple(row) for row in rows])
    await connection.close()


async def unbuffered_loop(connection: Any, query: str, sink: Sink, cursor_type: Any) -> None:
    async with connection.cursor(cursor_type) as cursor:
        await cursor.execute(query)
        while rows := await cursor.fetchmany(BATCH_ROWS):
            sink.write(rows)
    connection.close()


async def aiomysql_loop(url: str, query: str, sink: Sink, aiomysql: Any) -> None:
    connection = await aiomysql.connect(**address(url, database="db"), charset="utf8mb4")
    await unbuffered_loop(connection, query, sink, aiomysql.SSCursor)


async def asyncmy_loop(url: str, query: str, sink: Sink, asyncmy: Any, cursors: Any) -> None:
    connection = await asyncmy.connect(**address(url), charset="utf8mb4")
    await unbuffered_loop(connection, query, sink, cursors.SSCursor)


def cursor_loop(connection: Any, query: str, sink: Sink, **options: Any) -> None:
    cursor = connection.cursor(**options)
    cursor.execute(query)
    while rows := cursor.fetchmany(BATCH_ROWS):
        sink.write(rows)
    cursor.close()
    connection.close()


def mariadb_loop(url: str, query: str, sink: Sink, mariadb: Any) -> None:
    cursor_loop(mariadb.connect(**address(url)), query, sink, buffered=False)


def sqlite_loop(url: str, query: str, sink: Sink, sqlite3: Any) -> None:
    cursor_loop(sqlite3.connect(url), query, sink)


def loop(rows_into: Callable[..., Any], sink_type: type[Sink] = Writer) -> Callable[..., None]:
    """Return what runs a loop to its end."""

    def run(url: str, query: str, path: str, *modules: Any) -> None:
        sink = sink_type(query, path)
        found = rows_into(url, query, sink, *modules)
        if asyncio.iscoroutine(found):
            asyncio.run(found)
        sink.close()

    return run


# --- tools that have their own tables -------------------------------------------------------------------------------


def connectorx(url: str, query: str, path: str, cx: Any) -> None:
    pq.write_table(cx.read_sql(url, query, return_type="arrow"), path, **CODEC)


def connectorx_twice(url: str, query: str, path: str, cx: Any) -> None:
    key = table_of(query).key[0]
    pq.write_table(cx.read_sql(url, query, return_type="arrow", partition_on=key, partition_num=2), path, **CODEC)


def adbc(url: str, query: str, path: str, dbapi: Any) -> None:
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(path, reader.schema, **CODEC) as file:
            for batch in reader:
                file.write_batch(batch)


def pandas(url: str, query: str, path: str, pd: Any, sqlalchemy: Any, driver: Any) -> None:
    scheme, _, rest = url.partition("://")
    engine = sqlalchemy.create_engine(f"{scheme}+{driver.__name__}://{rest}")
    frame = pd.read_sql(query, engine)
    for column in table_of(query).columns:
        if column.kind == "uuid":  # an object that Parquet does not know
            frame[column.name] = frame[column.name].astype(str)
    frame.to_parquet(path, index=False, **CODEC)


# --- which --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One of them: what it imports, and what it does with a URL, a query, a file and those modules."""

    modules: tuple[str, ...]
    run: Callable[..., None]


PEERS: Final = {
    "asyncpg": Peer(modules=("asyncpg",), run=loop(asyncpg_loop)),
    "aiomysql": Peer(modules=("aiomysql",), run=loop(aiomysql_loop)),
    "aiomysql-fetch": Peer(modules=("aiomysql",), run=loop(aiomysql_loop, Nothing)),
    "asyncmy": Peer(modules=("asyncmy", "asyncmy.cursors"), run=loop(asyncmy_loop)),
    "mariadb": Peer(modules=("mariadb",), run=loop(mariadb_loop)),
    "sqlite3": Peer(modules=("sqlite3",), run=loop(sqlite_loop)),
    "connectorx": Peer(modules=("connectorx",), run=connectorx),
    "connectorx-2": Peer(modules=("connectorx",), run=connectorx_twice),
    "adbc": Peer(modules=("adbc_driver_postgresql.dbapi",), run=adbc),
    "pandas-psycopg": Peer(modules=("pandas", "sqlalchemy", "psycopg"), run=pandas),
    "pandas-pymysql": Peer(modules=("pandas", "sqlalchemy", "pymysql"), run=pandas),
}


def start_costs() -> dict[str, float]:
    """Return wall time and CPU of this process until now."""
    # proc_pid_stat(5): the 20th field after the name is when it started, in ticks since the boot.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    started_s = ticks / os.sysconf("SC_CLK_TCK")
    return {"wall_s": time.clock_gettime(time.CLOCK_BOOTTIME) - started_s, "cpu_s": usage.ru_utime + usage.ru_stime}


def main() -> None:
    name, query, path = sys.argv[1:4]
    peer = PEERS[name]
    modules = [importlib.import_module(module) for module in peer.modules]
    print(json.dumps(start_costs()), flush=True)
    peer.run(os.environ[URL_VARIABLE], query, path, *modules)


if __name__ == "__main__":
    main()
