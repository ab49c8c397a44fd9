"""One state of MySQL or MariaDB for several connections: they begin while nobody can write.

Owns the lock, its limits, and the connections that read the state.  Must not know who reads what.

Neither server can hand a snapshot from one connection to another, so all begin while a lock keeps writers out: ``LOCK TABLES
… READ`` waits for transactions that have written to the table and blocks new ones; for a query, whose tables we do not
know, ``FLUSH TABLES WITH READ LOCK`` blocks every commit of the server.  A lock request that waits makes others wait behind
it, the application included, so none waits longer than ``LOCK_WAIT_S``.

Known holes: a snapshot holds InnoDB tables only.  A table of another engine is refused; whether a view or a query reads one,
nobody tells.  A table that is emptied or rebuilt before a reader first looks at it is an error in that reader (1412), not
wrong rows.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query, Relation, Selection, Snapshot
from procflow_export.sources import sql
from procflow_export.sources.held import JoinedState
from procflow_export.sources.joined import JoinedReaders
from procflow_export.sources.mysql import session
from procflow_export.sources.mysql.catalog import engine_of, may_reload
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.port import ReadStatistics

LOCK_WAIT_S: Final = 2
LOCK_ATTEMPTS: Final = 3
LOCK_PAUSE_S: Final = 1.0
_REFUSALS: Final = {
    Code.SOURCE_AUTH_FAILED: "not permitted",
    Code.SOURCE_DENIED: "not permitted",
    Code.SOURCE_LOCKED: f"not granted within {LOCK_WAIT_S} s",
}
_BEGIN: Final = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
_SNAPSHOT_ENGINES: Final = frozenset({"InnoDB", "ROCKSDB", "RocksDB", "TokuDB"})


class MysqlHolder(JoinedState):
    """See ``sources.port.SnapshotHolder``.  Holds nothing once it is sealed: the readers do."""

    def __init__(
        self,
        locker: WireConnection,
        readers: JoinedReaders[WireConnection],
        snapshot: Snapshot,
        selection: Selection,
        statistics: ReadStatistics,
    ) -> None:
        super().__init__(snapshot)
        self._locker = locker
        self._readers = readers
        self._selection = selection
        self._statistics = statistics

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep writers out, once; the planner's own reader joins too."""
        try:
            await self._lock()
            self.begin()
            await self._readers.join(self.snapshot)
            yield
            with session.translated():
                # That it answers proves that the lock was held until now: it would have ended with its connection.
                await self._locker.query("UNLOCK TABLES")
        finally:
            self._locker.close()

    @property
    def is_one_state(self) -> bool:
        """True: nobody could write."""
        return True

    async def _lock(self) -> None:
        statement = _lock_statement(self._selection)
        for attempt in range(1, LOCK_ATTEMPTS + 1):
            try:
                with self._statistics.statement(), session.translated():
                    await self._locker.query(statement)
                return
            except SourceError as exc:
                if exc.code not in _REFUSALS:
                    raise
                if exc.code is not Code.SOURCE_LOCKED or attempt == LOCK_ATTEMPTS:
                    reason = f"{statement} was {_REFUSALS[exc.code]}"
                    raise SourceError(Code.SOURCE_SNAPSHOT_REFUSED, reason) from exc.__cause__
            await anyio.sleep(LOCK_PAUSE_S)


async def has_snapshots(connection: WireConnection, relation: Relation) -> bool:
    """Return whether several statements of a connection can read one state of a table."""
    return connection.server.proxy is None and await engine_of(connection, relation) in _SNAPSHOT_ENGINES


@asynccontextmanager
async def one_state(connection: WireConnection) -> AsyncIterator[None]:
    """Let the statements of the block read one state, what is committed now; the caller knows that it can be had."""
    with session.translated():
        for statement in (session.snapshot_settings(connection.server), _BEGIN):
            await connection.query(statement)
    yield
    if connection.is_idle:
        with session.translated():
            await connection.query("COMMIT")


async def check_joined(connection: WireConnection, selection: Selection) -> None:
    """Say whether a lock would be permitted; a table is locked for a moment, a whole server is not.

    Args:
        connection: It is closed: its limits are not those of the configuration any more.
        selection: What would be read.

    Raises:
        SourceError: ``SOURCE_SNAPSHOT_REFUSED`` if not.
    """
    await _check_way(connection, selection)
    statement = _lock_statement(selection)
    is_permitted = True
    if isinstance(selection, Query):
        is_permitted = await may_reload(connection)
    else:
        try:
            with session.translated():
                await connection.query("SET SESSION lock_wait_timeout = 1, SESSION innodb_lock_wait_timeout = 1")
                await connection.query(statement)
        except SourceError as exc:
            if exc.code not in _REFUSALS:
                raise
            # Somebody writes just now: that this lasts is not likely.
            is_permitted = exc.code is Code.SOURCE_LOCKED
        connection.close()
    if not is_permitted:
        raise SourceError(Code.SOURCE_SNAPSHOT_REFUSED, f"{statement} is not permitted")


def _lock_statement(selection: Selection) -> str:
    if isinstance(selection, Query):
        return "FLUSH TABLES WITH READ LOCK"
    return f"LOCK TABLES {sql.MYSQL.relation(selection)} READ"


async def _check_way(connection: WireConnection, selection: Selection) -> None:
    server = connection.server
    if server.proxy is not None:
        raise SourceError(
            Code.SOURCE_SNAPSHOT_REFUSED,
            f"{server.proxy} stands before {server.product}, and nobody tells whether its connections end at one server",
        )
    engine = None if isinstance(selection, Query) else await engine_of(connection, selection)
    if engine is not None and engine not in _SNAPSHOT_ENGINES:
        raise SourceError(Code.SOURCE_SNAPSHOT_REFUSED, f"{selection} is a table of {engine}, which has no snapshots")


def joined_readers(connect: session.Connector) -> JoinedReaders[WireConnection]:
    """Return the readers of a source, none yet."""

    async def begin(connection: WireConnection) -> None:
        with session.translated():
            await connection.query(_BEGIN)

    async def prepared() -> WireConnection:
        connection = await connect()
        try:
            with session.translated():
                await connection.query(session.snapshot_settings(connection.server))
        except BaseException:
            connection.close()
            raise
        return connection

    async def end(connection: WireConnection) -> None:
        try:
            await session.close(connection)
        finally:
            session.abort(connection)

    return JoinedReaders(connect=prepared, begin=begin, is_reusable=lambda connection: connection.is_idle, end=end)


@asynccontextmanager
async def hold_joined(
    locker: WireConnection,
    readers: JoinedReaders[WireConnection],
    selection: Selection,
    statistics: ReadStatistics,
) -> AsyncIterator[MysqlHolder]:
    """Give a holder that has not locked yet, with one reader of its own for the planner.

    Args:
        locker: A connection of its own; it is closed with the lock.
        readers: Of the holder's source.
        selection: What will be read.
        statistics: Is told of the statement that locks.
    """
    await _check_way(locker, selection)
    with session.translated():
        await locker.query(
            f"SET SESSION lock_wait_timeout = {LOCK_WAIT_S}, SESSION innodb_lock_wait_timeout = {LOCK_WAIT_S}"
        )
    holder = MysqlHolder(locker, readers, Snapshot(name=secrets.token_hex(8), is_joined=True), selection, statistics)
    try:
        await readers.prepare(holder.snapshot, 1)
        yield holder
    finally:
        with anyio.CancelScope(shield=True):
            await readers.leave(holder.snapshot)
