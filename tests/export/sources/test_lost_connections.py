"""Servers that go away in the middle, and what is left on them when a reader goes away."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread
import pymysql
import pytest

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query, Relation
from procflow_export.model.settings import SourceConfig, SourceType, Tuning
from procflow_export.sources import Source
from procflow_export.sources.connection import server_address
from procflow_export.sources.postgres import session
from tests.export.sources.databases import MariaDatabase, PostgresDatabase, opened, read, reading
from tools.pytest_servers import _with_postgres

pytestmark = pytest.mark.anyio

TRANSIENT = {Code.SOURCE_CONNECTION_LOST, Code.SOURCE_SHUTTING_DOWN}
ROWS = 200_000


def postgres_value(url: str, statement: str) -> Any:
    """The first value of a statement's result."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_with_postgres, url, lambda connection: connection.fetchval(statement)).result()


def mariadb_rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """All rows of a statement's result."""
    parts = urlsplit(url)
    with pymysql.connect(host=parts.hostname, port=parts.port or 3306, user=parts.username) as connection:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


async def drain_after(source: Source, kill: Any) -> None:
    async with reading(source, Relation(table="t"), batch_rows=100) as batches:
        await anext(batches)
        kill()
        async for _ in batches:
            pass


async def test_postgres_backend_that_dies_is_a_transient_failure(postgres: PostgresDatabase) -> None:
    """E-31: a lost connection is told from a mistake, and the source connects again."""
    postgres.execute(
        f"CREATE TABLE t AS SELECT n AS id, repeat('x', 100) AS v FROM generate_series(1, {ROWS}) AS g (n)"
    )
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND datname = current_database()"

    async with opened(postgres) as source:
        with pytest.raises(SourceError) as caught:
            await drain_after(source, lambda: postgres_value(postgres.url, kill))
        table = await read(source, "t")

    assert caught.value.code in TRANSIENT
    assert caught.value.is_transient
    assert table.num_rows == ROWS


async def test_last_words_of_a_backend_that_was_idle_are_a_lost_connection(postgres: PostgresDatabase) -> None:
    """E-31: a server that ends a connection between two statements says so when nobody asked; the driver loses its place."""
    url = urlsplit(postgres.url)
    last_words = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    clients: list[asyncio.StreamWriter] = []
    ended = anyio.Event()

    async def relay(client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        clients.append(client)
        server_reader, server = await asyncio.open_connection(url.hostname, url.port)

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65_536):
                writer.write(data)
            writer.close()
            await writer.wait_closed()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump, client_reader, server)
            tasks.start_soon(pump, server_reader, client)
        ended.set()

    between = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    config = SourceConfig(type=SourceType.POSTGRES, url=postgres.url.replace(f":{url.port}/", f":{port}/"))
    connection = await session.connect(server_address(config, {}))
    await session.begin(connection, Tuning().limits())
    clients[0].write(b"E" + (len(last_words) + 4).to_bytes(4, "big") + last_words)
    await clients[0].drain()
    for _ in range(100):
        await anyio.lowlevel.checkpoint()

    with pytest.raises(SourceError) as caught:
        await session.commit(connection)

    connection.terminate()
    await ended.wait()
    between.close()
    await between.wait_closed()
    assert caught.value.code in TRANSIENT
    assert caught.value.is_transient


async def test_mariadb_connection_that_dies_is_a_transient_failure(mariadb: MariaDatabase) -> None:
    """E-31: the same for MariaDB."""
    mariadb.execute(
        "CREATE TABLE t (id int, v varchar(100))", f"INSERT INTO t SELECT seq, repeat('x', 100) FROM seq_1_to_{ROWS}"
    )
    name = mariadb.url.rpartition("/")[2]

    def kill() -> None:
        find = f"SELECT id FROM information_schema.processlist WHERE db = '{name}' AND info LIKE 'SELECT%'"
        for (number,) in mariadb_rows(mariadb.url, find):
            mariadb_rows(mariadb.url, f"KILL {number}")

    async with opened(mariadb) as source:
        with pytest.raises(SourceError) as caught:
            await drain_after(source, kill)
        table = await read(source, "t")

    assert caught.value.code in TRANSIENT
    assert table.num_rows == ROWS


async def test_cancelled_statement_ends_on_the_server(postgres: PostgresDatabase) -> None:
    """E-34: what nobody waits for any more does not go on working on the server."""
    selection = Query(text="SELECT pg_sleep(600)::text AS v")
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database()"
        " AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep%'"
    )

    async with opened(postgres) as source:
        columns = (await source.profile(selection)).columns
        async with anyio.create_task_group() as tasks:

            async def sleep_on_the_server() -> None:
                async with reading(source, selection, columns=columns, batch_rows=10) as batches:
                    await anext(batches)

            tasks.start_soon(sleep_on_the_server)
            with anyio.fail_after(60):
                while await anyio.to_thread.run_sync(postgres_value, postgres.url, count) == 0:
                    pass
            tasks.cancel_scope.cancel()
        with anyio.fail_after(60):  # of the ten minutes that it would take; the server is another program
            while postgres_value(postgres.url, count):
                await anyio.lowlevel.checkpoint()


async def test_closed_source_leaves_no_connection(postgres: PostgresDatabase, mariadb: MariaDatabase) -> None:
    """E-5: leaving the block closes every connection."""
    for database in (postgres, mariadb):
        async with opened(database) as source:
            await source.profile(Query(text="SELECT 1 AS a"))
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(read, source, Query(text="SELECT 1 AS a"))
    find = f"SELECT count(*) FROM information_schema.processlist WHERE db = '{mariadb.url.rpartition('/')[2]}'"
    with anyio.fail_after(30):
        while postgres_value(
            postgres.url,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        ):
            await anyio.lowlevel.checkpoint()
        while mariadb_rows(mariadb.url, find) != [(0,)]:
            await anyio.lowlevel.checkpoint()


async def test_copy_that_is_left_while_bytes_arrive_troubles_no_one(postgres: PostgresDatabase) -> None:
    """E-34: leaving a reader at any moment ends the statement, and no callback of the loop fails."""
    postgres.execute("CREATE TABLE t AS SELECT n AS id, repeat('x', 100) AS v FROM generate_series(1, 20000) AS g (n)")
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))

    try:
        async with opened(postgres) as source:
            columns = (await source.profile(Relation(table="t"))).columns
            for steps in range(120):
                async with reading(source, Relation(table="t"), columns=columns) as batches:
                    if steps % 2:
                        await anext(batches)
                    for _ in range(steps // 2 % 40):
                        await anyio.lowlevel.checkpoint()
    finally:
        loop.set_exception_handler(None)

    assert failures == []
