"""One connection to a SQLite file, used from async code.

Owns the thread hand-over, interruption on cancel, and the translation of errors.  Must not know selections or types.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Scalar

_T = TypeVar("_T")

MAX_THREADS: Final = 32
MAX_MESSAGE_CHARS: Final = 500

_CODES: Final = {
    sqlite3.SQLITE_BUSY: Code.SOURCE_LOCKED,
    sqlite3.SQLITE_LOCKED: Code.SOURCE_LOCKED,
    sqlite3.SQLITE_CANTOPEN: Code.SOURCE_UNREACHABLE,
    sqlite3.SQLITE_PERM: Code.SOURCE_DENIED,
    sqlite3.SQLITE_AUTH: Code.SOURCE_DENIED,
    sqlite3.SQLITE_READONLY: Code.SOURCE_DENIED,
    sqlite3.SQLITE_NOMEM: Code.SOURCE_OUT_OF_RESOURCES,
    sqlite3.SQLITE_FULL: Code.SOURCE_OUT_OF_RESOURCES,
    sqlite3.SQLITE_ERROR: Code.SOURCE_QUERY_INVALID,
}
_OF_THE_FILE: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
    }
)
"""What is said of a file, so that its name belongs to it."""


class Database:
    """A connection whose calls run in worker threads, one at a time.

    A cancelled call is interrupted inside SQLite and awaited, so that no thread uses the connection afterwards.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, limiter: anyio.CapacityLimiter) -> None:
        self._connection = connection
        self._path = path
        self._limiter = limiter
        self._is_closed = False

    async def call(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Return what ``action`` returns for the connection.

        Raises:
            SourceError: If SQLite refuses.
        """
        return await _in_thread(lambda: action(self._connection), self._path, self._limiter, self._connection.interrupt)

    @property
    def is_reading(self) -> bool:
        """Whether it is open, in the transaction that ``begin()`` began."""
        return not self._is_closed and self._connection.in_transaction

    async def begin(self) -> None:
        """Begin a read transaction: what is committed now is what it sees; one that it was in is left."""

        def begin(connection: sqlite3.Connection) -> None:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("BEGIN")
            # The transaction sees nothing, and locks nothing, before its first read.
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()

        await self.call(begin)

    def close(self) -> None:
        """Close the connection; nothing may be using it."""
        self._is_closed = True
        self._connection.close()

    async def rows(
        self, sql: str, parameters: Sequence[Scalar | bytes] | Mapping[str, Scalar] = ()
    ) -> list[tuple[object, ...]]:
        """Return all rows of a small result."""
        return await self.call(lambda connection: connection.execute(sql, parameters).fetchall())


async def connect(
    path: Path, limiter: anyio.CapacityLimiter, *, busy_timeout_s: float, is_read_only: bool = True
) -> Database:
    """Open a file; the caller closes the connection.

    Raises:
        SourceError: If the file cannot be opened or is not a database.
    """
    uri = f"file:{quote(os.fspath(path))}?mode={'ro' if is_read_only else 'rw'}"

    def opened() -> sqlite3.Connection:
        return sqlite3.connect(
            uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=0
        )

    connection: sqlite3.Connection | None = None
    with anyio.CancelScope(shield=True):
        connection = await _in_thread(opened, path, limiter, None)
    assert connection is not None
    return Database(connection, path, limiter)


@asynccontextmanager
async def open_database(
    path: Path, limiter: anyio.CapacityLimiter, *, busy_timeout_s: float
) -> AsyncIterator[Database]:
    """Open a file read-only, inside one read transaction that lasts until the block is left.

    Raises:
        SourceError: If the file cannot be opened or is not a database.
    """
    database = await connect(path, limiter, busy_timeout_s=busy_timeout_s)
    try:
        await database.begin()
        yield database
    finally:
        database.close()


def translate(exc: sqlite3.Error, path: Path) -> SourceError:
    """Return the error of ours for one of SQLite's, met in the file at ``path``."""
    code = getattr(exc, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    message = str(exc)[:MAX_MESSAGE_CHARS]
    ours = Code.SOURCE_FAILED if primary is None else _CODES.get(primary, Code.SOURCE_FAILED)
    where = f" {os.fspath(path)!r}" if primary in _OF_THE_FILE else ""
    return SourceError(ours, f"SQLite refused{where}: {message}")


async def _in_thread(
    function: Callable[[], _T], path: Path, limiter: anyio.CapacityLimiter, interrupt: Callable[[], None] | None
) -> _T:
    result: list[_T] = []
    failure: list[sqlite3.Error] = []
    done = anyio.Event()

    def run() -> None:
        try:
            result.append(function())
        except sqlite3.Error as exc:
            failure.append(exc)

    async def work() -> None:
        try:
            # The thread cannot be abandoned: it holds the connection.  It is interrupted instead.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(run, limiter=limiter)
        finally:
            done.set()

    unexpected: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, name="sqlite call")
            try:
                await done.wait()
            finally:
                if not done.is_set() and interrupt is not None:
                    interrupt()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        unexpected = group.exceptions[0]
    if unexpected is not None:
        raise unexpected
    if failure:
        raise translate(failure[0], path) from failure[0]
    return result[0]
