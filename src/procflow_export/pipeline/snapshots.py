"""One state of a database for all units of an export: who is asked in which order.

Owns the steps between a source, which holds the state, and an engine, whose workers read it.  Must not know a database.

The order keeps the lock short: connections first, then the lock, then one round trip in which all of them begin, then the
lock goes.  Planning comes afterwards, in the state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Snapshot
from procflow_export.model.settings import SourceConfig
from procflow_export.planning.plan import Target
from procflow_export.sources import Source
from procflow_export.sources.port import SnapshotHolder

JOIN_ATTEMPTS: Final = 30
JOIN_DEADLINE_S: Final = 5.0
LEAVE_DEADLINE_S: Final = 5.0


class Readers(Protocol):
    """Whoever has the connections that read: an engine."""

    async def prepare_readers(self, source: SourceConfig, snapshot: Snapshot, count: int) -> None:
        """See ``Source.prepare_readers``."""
        ...

    async def join_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """See ``Source.join_snapshot``."""
        ...

    async def leave_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """See ``Source.leave_snapshot``."""
        ...


class OwnReaders:
    """The connections of one source that is open in this process."""

    def __init__(self, source: Source) -> None:
        """Read with connections of ``source``."""
        self._source = source

    async def prepare_readers(self, source: SourceConfig, snapshot: Snapshot, count: int) -> None:  # noqa: ARG002 (there is one only)
        """Open them."""
        await self._source.prepare_readers(snapshot, count)

    async def join_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:  # noqa: ARG002 (there is one only)
        """Begin to read with them."""
        await self._source.join_snapshot(snapshot)

    async def leave_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:  # noqa: ARG002 (there is one only)
        """Close them."""
        await self._source.leave_snapshot(snapshot)


@asynccontextmanager
async def open_snapshot(
    target: Target, source: Source, engine: Readers, *, readers: int
) -> AsyncIterator[SnapshotHolder]:
    """Hold a state of what an export reads, joined by ``readers`` connections of the engine's workers.

    Raises:
        SourceError: ``SOURCE_SNAPSHOT_REFUSED`` if there is no such state to be had.
    """
    async with source.hold_snapshot(target.selection) as holder:
        if not holder.snapshot.is_joined:
            yield holder
            return
        try:
            await engine.prepare_readers(target.source, holder.snapshot, readers)
            await _join(target, engine, holder)
            yield holder
        finally:
            with anyio.move_on_after(LEAVE_DEADLINE_S, shield=True):
                await engine.leave_snapshot(target.source, holder.snapshot)


async def _join(target: Target, engine: Readers, holder: SnapshotHolder) -> None:
    reason = "the readers saw different states: the database is written to all the time"
    for _ in range(JOIN_ATTEMPTS):
        try:
            async with holder.locked():
                # Writers may be waiting.
                with anyio.fail_after(JOIN_DEADLINE_S):
                    await engine.join_snapshot(target.source, holder.snapshot)
        except TimeoutError:
            reason = f"the readers did not begin within {JOIN_DEADLINE_S:g} s"
            break
        except SourceError as exc:
            if exc.code is not Code.SOURCE_LOCKED:
                raise
            reason = "the readers could not begin: the database was locked"
            continue
        if holder.is_one_state:
            return
    raise SourceError(Code.SOURCE_SNAPSHOT_REFUSED, reason)
