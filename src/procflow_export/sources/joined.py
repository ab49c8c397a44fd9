"""Connections that joined a snapshot: lent out one at a time, and never replaced.

Owns which of them are left: one that failed cannot see that state again, so it is closed and there is one fewer.  Whoever
finds all of them lent waits; whoever finds none left is told that the snapshot is lost.  Must not know a driver.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Snapshot
from procflow_export.sources.leases import CLOSE_DEADLINE_S
from procflow_export.sources.scopes import open_task_group

C = TypeVar("C")


@dataclass(slots=True, eq=False)
class _Readers(Generic[C]):
    """The readers of one snapshot in this process."""

    idle: list[C] = field(default_factory=list)
    count: int = 0
    changed: anyio.Event = field(default_factory=anyio.Event)


class JoinedReaders(Generic[C]):
    """The connections of one source that read joined snapshots.

    Args:
        connect: Makes a connection that will wait for its snapshot.
        begin: Begins to read the state that is committed now.
        is_reusable: Whether a connection is open, idle, and still in its snapshot.
        end: Closes a connection.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[C]],
        begin: Callable[[C], Coroutine[None, None, None]],
        is_reusable: Callable[[C], bool],
        end: Callable[[C], Awaitable[None]],
    ) -> None:
        self._connect = connect
        self._begin = begin
        self._is_reusable = is_reusable
        self._end_connection = end
        self._readers: dict[str, _Readers[C]] = {}

    async def prepare(self, snapshot: Snapshot, count: int) -> None:
        """Open ``count`` connections, all at once."""
        readers = self._readers.setdefault(snapshot.name, _Readers())

        async def connect() -> None:
            # Shielded: a connection that was made must be known, or nobody would close it.
            with anyio.CancelScope(shield=True):
                connection = await self._connect()
                readers.idle.append(connection)
                readers.count += 1

        async with open_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(connect, name="connect for a snapshot")

    async def join(self, snapshot: Snapshot) -> None:
        """Let every connection begin, all at once."""
        async with open_task_group() as tasks:
            for connection in self._of(snapshot).idle:
                tasks.start_soon(self._begin, connection, name="join a snapshot")

    @asynccontextmanager
    async def lease(self, snapshot: Snapshot) -> AsyncIterator[C]:
        """Lend a connection that sees the snapshot; after an error, or when it is not idle again, it is closed.

        Raises:
            SourceError: ``SOURCE_SNAPSHOT_LOST`` if none is left.
        """
        readers = self._of(snapshot)
        connection = await self._taken(readers)
        is_clean = False
        try:
            yield connection
            is_clean = self._is_reusable(connection)
        finally:
            if is_clean and self._readers.get(snapshot.name) is readers:
                readers.idle.append(connection)
                self._notify(readers)
            else:
                await self._end(readers, connection)

    async def leave(self, snapshot: Snapshot) -> None:
        """Close the connections of a snapshot; one that is lent is closed when it comes back."""
        readers = self._readers.pop(snapshot.name, None)
        while readers is not None and readers.idle:
            await self._end(readers, readers.idle.pop())

    async def aclose(self) -> None:
        """Leave every snapshot."""
        for name in list(self._readers):
            await self.leave(Snapshot(name=name))

    def _of(self, snapshot: Snapshot) -> _Readers[C]:
        readers = self._readers.get(snapshot.name)
        if readers is None:
            raise _lost()
        return readers

    async def _taken(self, readers: _Readers[C]) -> C:
        while True:
            while readers.idle:
                connection = readers.idle.pop()
                if self._is_reusable(connection):
                    return connection
                await self._end(readers, connection)
            if not readers.count:
                raise _lost()
            await readers.changed.wait()

    async def _end(self, readers: _Readers[C], connection: C) -> None:
        readers.count -= 1
        self._notify(readers)
        with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
            await self._end_connection(connection)

    def _notify(self, readers: _Readers[C]) -> None:
        changed, readers.changed = readers.changed, anyio.Event()
        changed.set()


def _lost() -> SourceError:
    return SourceError(Code.SOURCE_SNAPSHOT_LOST, "no connection that reads the snapshot is left")
