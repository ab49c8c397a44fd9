"""One state of a SQLite file for several connections: they begin, and then it is checked that nobody wrote meanwhile.

Owns the check.  A file gives no way to share a snapshot, but every commit changes ``PRAGMA data_version`` of all other
connections (https://www.sqlite.org/pragma.html#pragma_data_version).  Where that shows that somebody writes all the time,
the write lock is taken for the moment of it, which needs the right to write and changes nothing.  In rollback-journal mode
the first reader keeps every writer from committing anyway, as long as it reads.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeAlias

import anyio

from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Snapshot
from procflow_export.sources.held import JoinedState
from procflow_export.sources.joined import JoinedReaders
from procflow_export.sources.sqlite.database import Database

Connector: TypeAlias = Callable[[], Awaitable[Database]]

HOPEFUL_ATTEMPTS: Final = 3
"""How often the readers begin without a lock."""


class SqliteHolder(JoinedState):
    """See ``sources.port.SnapshotHolder``.  Holds nothing: the readers do."""

    def __init__(self, monitor: Database, readers: JoinedReaders[Database], connect_to_write: Connector) -> None:
        super().__init__(Snapshot(name=secrets.token_hex(8), is_joined=True))
        self._monitor = monitor
        self._connect_to_write = connect_to_write
        self._attempt_count = 0
        self._readers = readers
        self._is_one_state = False

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Look whether anybody commits; the planner's own reader joins too."""
        self._attempt_count += 1
        async with AsyncExitStack() as stack:
            if self._attempt_count > HOPEFUL_ATTEMPTS:
                await stack.enter_async_context(self._write_lock())
            before = await self._version()
            self.begin()
            await self._readers.join(self.snapshot)
            yield
            self._is_one_state = await self._version() == before

    @property
    def is_one_state(self) -> bool:
        """Whether nobody committed while the readers began."""
        return self._is_one_state

    @asynccontextmanager
    async def _write_lock(self) -> AsyncIterator[None]:
        """Hold the write lock, if that is possible; nothing is written, and the readers stay behind it."""
        database: Database | None = None
        try:
            with contextlib.suppress(SourceError):
                database = await self._connect_to_write()
                await database.rows("BEGIN IMMEDIATE")
            yield
        finally:
            if database is not None:
                database.close()

    async def _version(self) -> object:
        ((version,),) = await self._monitor.rows("PRAGMA data_version")
        return version


@asynccontextmanager
async def hold_joined(
    monitor: Database, readers: JoinedReaders[Database], connect_to_write: Connector
) -> AsyncIterator[SqliteHolder]:
    """Give a holder with one reader of its own for the planner.

    Args:
        monitor: A connection outside any transaction.
        readers: Of the holder's source.
        connect_to_write: Opens a connection that may lock the file.
    """
    holder = SqliteHolder(monitor, readers, connect_to_write)
    try:
        await readers.prepare(holder.snapshot, 1)
        yield holder
    finally:
        with anyio.CancelScope(shield=True):
            await readers.leave(holder.snapshot)
