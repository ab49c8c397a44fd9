"""The three kinds of databases as the soak uses them: connections of its own, and the means to hurt a server.

Knows servers and drivers; what is in a table, and who is killed when, it does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pymysql

from tools.servers import Kind, Server, own_server

PATIENCE_S: Final = 60.0
OBSERVER: Final = "soak-observer"
"""How our own connections call themselves."""

Values = tuple[Any, ...]
T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, *, patience_s: float = PATIENCE_S) -> T:
    """Return what ``condition`` says as soon as that is true.

    Raises:
        TimeoutError: If it does not become true.
    """
    deadline = time.monotonic() + patience_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"never: {what}")
        time.sleep(0.01)
    return answer


class Connection(Protocol):
    """One connection, for synchronous code."""

    def execute(self, *statements: str) -> None: ...

    def rows(self, statement: str) -> list[Values]: ...

    def replace(self, owners: Sequence[int], rows: Sequence[Values]) -> None:
        """Remove the rows of ``owners`` from table ``t`` and add ``rows``, in one transaction."""
        ...

    def close(self) -> None: ...


class Database(Protocol):
    """A database that is exported."""

    kind: str

    @property
    def source(self) -> dict[str, Any]:
        """What a configuration says of it."""
        ...

    def connect(self) -> Connection: ...

    def clients(self) -> list[str]:
        """Who is connected, ourselves left out; the server's own view."""
        ...

    def drop(self) -> None:
        """Remove the database; whoever is connected is cut off."""
        ...

    def kill_backends(self) -> None:
        """End every connection but our own, the polite way."""
        ...

    def kill_backend_process(self) -> None:
        """End the server's process of one connection by SIGKILL, and return when the server has recovered."""
        ...

    def kill_server(self) -> None:
        """End the server by SIGKILL and start it again on what it left."""
        ...


# --- SQLite ---------------------------------------------------------------------------------------------------------


class SqliteDatabase:
    """A file: nobody can be killed but whoever reads it."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        connection = self.connect()
        connection.execute("pragma journal_mode = wal")
        connection.close()

    @property
    def source(self) -> dict[str, Any]:
        return {"type": "sqlite", "path": str(self._path)}

    def connect(self) -> SqliteConnection:
        return SqliteConnection(self._path)

    def clients(self) -> list[str]:
        return []

    def drop(self) -> None:
        self._path.unlink()

    def kill_backends(self) -> None:
        raise NotImplementedError("SQLite has no backends")

    def kill_backend_process(self) -> None:
        raise NotImplementedError("SQLite has no backends")

    def kill_server(self) -> None:
        raise NotImplementedError("SQLite has no server")


class SqliteConnection:
    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S, check_same_thread=False)

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self._database.execute(statement)

    def rows(self, statement: str) -> list[Values]:
        return self._database.execute(statement).fetchall()

    def replace(self, owners: Sequence[int], rows: Sequence[Values]) -> None:
        self.execute("begin immediate")
        self._database.executemany("delete from t where owner = ?", [(owner,) for owner in owners])
        if rows:
            self._database.executemany(f"insert into t values ({', '.join('?' * len(rows[0]))})", rows)
        self.execute("commit")

    def close(self) -> None:
        self._database.close()


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


class PostgresDatabase:
    """A database of a server, which may be killed if it is given."""

    kind = "postgres"

    def __init__(self, server_url: str, name: str, server: Server | None = None) -> None:
        self._server_url = server_url
        self._server = server
        self._name = name
        self._url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        with _open(PostgresConnection(server_url)) as admin:
            admin.execute(f"create database {name} strategy = file_copy")

    @property
    def source(self) -> dict[str, Any]:
        return {"type": "postgres", "url": self._url, "tls": {"mode": "disable"}}

    def connect(self) -> PostgresConnection:
        connection = PostgresConnection(self._url)
        # What we have committed must be there after SIGKILL of the server.
        connection.execute("set synchronous_commit = on")
        return connection

    def clients(self) -> list[str]:
        with _open(PostgresConnection(self._server_url)) as admin:
            return [f"{pid} {state}: {query}" for pid, state, query in admin.rows(self._others("pid, state, query"))]

    def drop(self) -> None:
        with _open(PostgresConnection(self._server_url)) as admin:
            admin.execute(f"drop database {self._name} with (force)")

    def kill_backends(self) -> None:
        with _open(PostgresConnection(self._server_url)) as admin:
            admin.rows(self._others("pg_terminate_backend(pid)"))

    def kill_server(self) -> None:
        assert self._server is not None, "a server that others use is not killed"
        restart(self._server)
        wait_until(self._is_up, "PostgreSQL has recovered")

    def kill_backend_process(self) -> None:
        with _open(PostgresConnection(self._server_url)) as admin:
            pids = [int(pid) for (pid,) in admin.rows(self._others("pid"))]
        for pid in pids[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(self._is_up, "PostgreSQL has recovered")

    def _others(self, what: str) -> str:
        return (
            f"select {what} from pg_stat_activity where datname = '{self._name}' and application_name <> '{OBSERVER}'"
        )

    def _is_up(self) -> bool:
        with contextlib.suppress(*AWAY), _open(PostgresConnection(self._server_url)) as admin:
            return admin.rows("select 1") == [(1,)]
        return False


class PostgresConnection:
    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._connection = self._finish(asyncpg.connect(url, server_settings={"application_name": OBSERVER}))
        except BaseException:
            self._loop.close()
            raise

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self._finish(self._connection.execute(statement))

    def rows(self, statement: str) -> list[Values]:
        return [tuple(row) for row in self._finish(self._connection.fetch(statement))]

    def replace(self, owners: Sequence[int], rows: Sequence[Values]) -> None:
        async def work() -> None:
            async with self._connection.transaction():
                await self._connection.execute("delete from t where owner = any($1)", list(owners))
                await self._connection.copy_records_to_table("t", records=rows)

        self._finish(work())

    def close(self) -> None:
        if self._loop.is_closed():
            return
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            self._finish(self._connection.close(timeout=5))
        self._loop.close()

    def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)


# --- MariaDB --------------------------------------------------------------------------------------------------------


class MariaDatabase:
    """A database of a server, which may be killed if it is given."""

    kind = "mysql"

    def __init__(self, server_url: str, name: str, server: Server | None = None) -> None:
        self._server_url = server_url
        self._server = server
        self._name = name
        self._url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        self._own: set[int] = set()
        with _open(MariaConnection(server_url)) as admin:
            # What we have committed must be there after SIGKILL of the server.
            admin.execute(f"create database {name}", "set global innodb_flush_log_at_trx_commit = 2")

    @property
    def source(self) -> dict[str, Any]:
        return {"type": "mysql", "url": self._url, "tls": {"mode": "disable"}}

    def connect(self) -> MariaConnection:
        connection = MariaConnection(self._url)
        self._own.add(connection.number)
        return connection

    def clients(self) -> list[str]:
        with _open(MariaConnection(self._server_url)) as admin:
            found = admin.rows(
                f"select id, command, info from information_schema.processlist where db = '{self._name}'"
            )
        return [f"{number} {command}: {info}" for number, command, info in found if number not in self._own]

    def drop(self) -> None:
        with _open(MariaConnection(self._server_url)) as admin:
            admin.execute(f"drop database {self._name}")

    def kill_backends(self) -> None:
        with _open(MariaConnection(self._server_url)) as admin:
            found = admin.rows(f"select id from information_schema.processlist where db = '{self._name}'")
            for (number,) in found:
                if number not in self._own:
                    with contextlib.suppress(pymysql.err.MySQLError):  # it has ended by itself
                        admin.execute(f"kill connection {number}")

    def kill_backend_process(self) -> None:
        raise NotImplementedError("MariaDB's connections are threads")

    def kill_server(self) -> None:
        self._own.clear()
        assert self._server is not None, "a server that others use is not killed"
        restart(self._server)
        with _open(MariaConnection(self._server_url)) as admin:
            admin.execute("set global innodb_flush_log_at_trx_commit = 2")


class MariaConnection:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=parts.username,
            database=parts.path[1:],
            charset="utf8mb4",
            autocommit=True,
        )
        self.number = int(self.rows("select connection_id()")[0][0])

    def execute(self, *statements: str) -> None:
        with self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, statement: str) -> list[Values]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def replace(self, owners: Sequence[int], rows: Sequence[Values]) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("begin")
            cursor.executemany("delete from t where owner = %s", [(owner,) for owner in owners])
            if rows:
                cursor.executemany(f"insert into t values ({', '.join(['%s'] * len(rows[0]))})", rows)
            cursor.execute("commit")

    def close(self) -> None:
        with contextlib.suppress(pymysql.err.MySQLError):
            self._connection.close()


AWAY: Final = (
    *(OSError, EOFError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
    pymysql.err.MySQLError,
)
"""What a connection raises whose server is not there."""


# --- servers --------------------------------------------------------------------------------------------------------


class Servers:
    """The servers of this process, which nobody else uses, so that they may be killed; each is started when it is wanted."""

    def __init__(self) -> None:
        self._blocks = contextlib.ExitStack()
        self._running: dict[Kind, Server] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks.close()

    def get(self, kind: Kind) -> Server:
        """Return the server of a kind.

        Raises:
            ServerUnavailableError: If it is not installed.
        """
        if kind not in self._running:
            self._running[kind] = self._blocks.enter_context(own_server(kind))
        return self._running[kind]


def restart(server: Server) -> None:
    """End a server by SIGKILL, and start it again on what it left."""
    children = _children(server.pid)
    server.kill()
    # PostgreSQL refuses to start while a backend of its predecessor is attached to the shared memory.
    wait_until(lambda: not any(_is_alive(child) for child in children), "the server's processes are gone")
    server.start()


@contextmanager
def _open(connection: T) -> Iterator[T]:
    try:
        yield connection
    finally:
        connection.close()  # type: ignore[attr-defined]  # every connection has it


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
