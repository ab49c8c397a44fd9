"""The holder of an exported snapshot: one transaction that keeps a state of PostgreSQL for everybody who knows its name.

Owns the order of its steps, and the watch over its connection.  Must not know who reads.

The transaction first plans a statement over the selection, which locks what it reads, and exports a snapshot only then: it
is younger than the locks, so no reader sees a table empty that was truncated in between (see ``session``), and nobody
truncates it while the holder lives.  Nothing is read here.  ``READ COMMITTED`` is what makes the second step see more than
the first.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.plan import Selection, Snapshot
from procflow_export.model.settings import ReadLimits
from procflow_export.sources import sql
from procflow_export.sources.held import HeldState
from procflow_export.sources.postgres import session
from procflow_export.sources.postgres.session import Connection

PING_INTERVAL_S: Final = 30.0
"""How often the holder says something: middle boxes forget connections that are silent for minutes."""
PING_DEADLINE_S: Final = 15.0


class PostgresHolder(HeldState):
    """See ``sources.port.SnapshotHolder``."""

    def __init__(self, connection: Connection, snapshot: Snapshot, *, began_s: float) -> None:
        super().__init__(snapshot, began_s=began_s)
        self._connection = connection
        self._ended = anyio.Event()
        connection.add_termination_listener(self._note_end)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Nothing: the state is fixed already."""
        yield

    @property
    def is_one_state(self) -> bool:
        """True: the server says so."""
        return True

    async def wait_lost(self) -> SourceError:
        """Wait for the end of the holder's connection."""
        while not self._ended.is_set():
            with anyio.move_on_after(PING_INTERVAL_S):
                await self._ended.wait()
                break
            await self._ping()
        return SourceError(Code.SOURCE_SNAPSHOT_LOST, "the connection that held the snapshot was lost")

    def forget(self) -> None:
        """Watch the connection no longer."""
        self._connection.remove_termination_listener(self._note_end)

    def _note_end(self, _: object) -> None:
        self._ended.set()

    async def _ping(self) -> None:
        # Shielded: a statement that is cancelled would take the transaction with it.
        with anyio.move_on_after(PING_DEADLINE_S, shield=True) as scope:
            try:
                with session.translated(self._connection):
                    await self._connection.execute("SELECT 1")
            except ExportError:
                self._ended.set()
        if scope.cancelled_caught:
            self._ended.set()


@asynccontextmanager
async def hold_exported(
    connection: Connection, selection: Selection, limits: ReadLimits
) -> AsyncIterator[PostgresHolder]:
    """Hold a state of what a selection reads until the block is left."""
    began_s = time.monotonic()
    await session.begin(connection, limits)
    await session.stay(connection)
    await session.hold(connection, f"SELECT 1 FROM {sql.POSTGRES.from_item(selection)}")
    holder = PostgresHolder(connection, await session.export_snapshot(connection), began_s=began_s)
    try:
        yield holder
    finally:
        holder.forget()
    if not connection.is_closed():
        await session.commit(connection)
