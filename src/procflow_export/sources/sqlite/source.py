"""The SQLite source: ``Source`` over a file.

Owns one connection for each call that reads, but for those that joined a snapshot: each of them reads it as long as it lasts.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices, OnInvalid
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import KeyValues
from procflow_export.model.plan import Relation, Selection, Snapshot, TableChunk
from procflow_export.model.types import Column, LogicalType
from procflow_export.sources import sql
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.joined import JoinedReaders
from procflow_export.sources.literals import sqlite_value
from procflow_export.sources.parameters import bound
from procflow_export.sources.port import MIB, ChunkRequest, KeySearch, ReadStatistics, SnapshotPrice, TableProfile
from procflow_export.sources.sqlite.catalog import profile, require_columns
from procflow_export.sources.sqlite.database import MAX_THREADS, Database, connect, open_database
from procflow_export.sources.sqlite.decoder import RefusedError, RowDecoder, Value, decode_text
from procflow_export.sources.sqlite.rows import RowReader
from procflow_export.sources.sqlite.snapshot import SqliteHolder, hold_joined
from procflow_export.sources.turns import Reader

MAX_BATCH_BYTES: Final = 4 * MIB
"""Rows are Python objects first, which are larger than what they become."""
DEFAULT_BUSY_TIMEOUT_S: Final = 5.0


class SqliteSource:
    """A SQLite file, open for reading."""

    def __init__(self, path: Path, *, lock_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = lock_timeout_s or DEFAULT_BUSY_TIMEOUT_S
        self._limiter = anyio.CapacityLimiter(MAX_THREADS)
        self._statistics = ReadStatistics()

        async def end(database: Database) -> None:
            database.close()

        self._joined: JoinedReaders[Database] = JoinedReaders(
            connect=self._connect,
            begin=Database.begin,
            is_reusable=lambda database: database.is_reading,
            end=end,
        )

    @property
    def statistics(self) -> ReadStatistics:
        """Live figures of everything but chunk readers, which have their own."""
        return self._statistics

    @property
    def description(self) -> str:
        """Product and version."""
        return f"SQLite {sqlite3.sqlite_version}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Nothing: nobody stands between us and a file."""
        return ()

    @property
    def identity(self) -> str:
        """The file."""
        return f"sqlite {self._path}"

    async def profile(
        self, selection: Selection, choices: Choices = NO_CHOICES, snapshot: Snapshot | None = None
    ) -> TableProfile:
        """Return columns, row estimate and indexes of a selection."""
        async with self._open(snapshot) as database:
            with self._statistics.statement():
                return await database.call(lambda connection: profile(connection, selection, choices))

    async def find_key(self, search: KeySearch, snapshot: Snapshot | None = None) -> KeyValues | None:
        """Return one key: see ``Source.find_key``."""
        rows = await self._rows(sql.SQLITE.nth_key(search), search.selection, snapshot)
        return tuple(map(sqlite_value, rows[0])) if rows else None

    async def has_rows(self, selection: Selection, chunk: TableChunk, snapshot: Snapshot | None = None) -> bool:
        """Return whether a chunk has any row."""
        return bool(await self._rows(sql.SQLITE.presence(selection, chunk), selection, snapshot))

    async def now(self) -> datetime:
        """Return the time of this machine's clock, which is the database's, too."""
        return datetime.now(UTC).replace(microsecond=0)

    async def _rows(
        self, statement: str, selection: Selection, snapshot: Snapshot | None = None
    ) -> list[tuple[object, ...]]:
        async with self._open(snapshot) as database:
            with self._statistics.statement():
                return await database.rows(statement, bound(selection))

    @asynccontextmanager
    async def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk: see ``Source.read_chunk``."""
        started = time.monotonic()
        async with self._open(request.snapshot) as database:
            batches = self._batches(database, request, statistics)
            try:
                yield batches
            finally:
                statistics.record_transaction(time.monotonic() - started)
                with anyio.CancelScope(shield=True):
                    await batches.aclose()

    async def _batches(
        self, database: Database, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        selection, columns, chunk = request.selection, request.columns, request.chunk
        statement = sql.SQLITE.select(selection, [sql.SQLITE.identifier(column.name) for column in columns], chunk)
        decoder = RowDecoder(columns)
        turn = Reader(is_wary=True)
        started = time.monotonic()
        opened: list[sqlite3.Cursor] = []  # filled in the thread: a cancelled call returns nothing
        try:
            await database.call(partial(require_columns, selection=selection, columns=columns))
            await database.call(partial(_set_text_factory, columns=columns))
            await database.call(lambda connection: opened.append(connection.execute(statement, bound(selection))))
            reader = RowReader(
                opened[0], columns, max_rows=request.batch_rows, max_bytes=min(request.batch_bytes, MAX_BATCH_BYTES)
            )

            def decode(_: sqlite3.Connection) -> pa.RecordBatch:
                return decoder.decode(reader.take())

            while True:
                await turn.before_asking()
                if not await database.call(lambda _: reader.read()):
                    return
                await turn.received(reader.size_bytes)
                batch = await database.call(decode)
                statistics.received_bytes += batch.nbytes
                yield batch
                del batch
                turn.done()
        except RefusedError as exc:
            place = await self._place(database, selection, exc)
            raise ValueRefusedError(exc.column, value=_shown(exc.value), place=place, reason=exc.reason) from exc
        except SourceError as exc:
            if getattr(exc.__cause__, "sqlite_errorcode", None) is None:
                await self._refuse_undecodable(database, selection, columns, chunk)
            raise
        finally:
            turn.done()
            for cursor in opened:
                # An open statement keeps the file open after its connection was closed, as long as a traceback holds it.
                cursor.close()
            statistics.record_statement(time.monotonic() - started)
            statistics.changed_values.update(decoder.changed_values)

    async def _place(self, database: Database, selection: Selection, refused: RefusedError) -> str:
        """Say where a refused value stands."""
        if not isinstance(selection, Relation):
            return "a row of the query"
        name = sql.SQLITE.identifier(refused.column.name)
        statement = f"SELECT rowid FROM {sql.SQLITE.relation(selection)} WHERE {name} IS ?1 AND typeof({name}) = typeof(?1) LIMIT 1"
        try:
            rows = await database.rows(statement, (refused.value,))
        except SourceError:
            return "a row of a table without row ids"
        return f"rowid {rows[0][0]}" if rows else "a row that can no longer be found"

    async def _refuse_undecodable(
        self, database: Database, selection: Selection, columns: Sequence[Column], chunk: TableChunk
    ) -> None:
        """Raise for the first text that is not UTF-8, if there is one; the connection is of no other use afterwards."""
        texts = [column for column in columns if column.logical_type is not LogicalType.BYTES]
        names = [sql.SQLITE.identifier(column.name) for column in texts]
        rowid = ["rowid"] if isinstance(selection, Relation) else []
        statement = sql.SQLITE.select(selection, [*names, *rowid], chunk)

        def search(connection: sqlite3.Connection) -> tuple[Column, str] | None:
            connection.text_factory = bytes
            for row in connection.execute(statement, bound(selection)):
                for column, value in zip(texts, row, strict=False):
                    if isinstance(value, bytes) and not _is_utf8(value):
                        return column, f"rowid {row[-1]}" if rowid else "a row of the query"
            return None

        found = await database.call(search)
        if found is not None:
            raise ValueRefusedError(found[0], value="", place=found[1], reason="the text is not valid UTF-8")

    async def aclose(self) -> None:
        """Close the connections that read snapshots."""
        await self._joined.aclose()

    async def close_idle(self) -> None:
        """Nothing: a connection is closed after each call, unless it reads a snapshot."""

    @property
    def snapshot_price(self) -> SnapshotPrice:
        """One connection watches, one reads bounds; afterwards every reader has its own."""
        return SnapshotPrice(holder=0, preparing=2, is_joined=True)

    async def check_snapshot(self, selection: Selection) -> None:
        """Nothing: it depends on who writes when."""

    @asynccontextmanager
    async def hold_snapshot(self, selection: Selection) -> AsyncIterator[SqliteHolder]:
        """Let readers begin, and see whether anybody wrote meanwhile: see ``Source.hold_snapshot``."""
        del selection  # a snapshot is of the whole file
        monitor = await self._connect()
        try:
            async with hold_joined(monitor, self._joined, self._connect_to_write) as holder:
                yield holder
        finally:
            monitor.close()

    async def prepare_readers(self, snapshot: Snapshot, count: int) -> None:
        """Connect; see ``Source.prepare_readers``."""
        await self._joined.prepare(snapshot, count)

    async def join_snapshot(self, snapshot: Snapshot) -> None:
        """Begin; see ``Source.join_snapshot``."""
        await self._joined.join(snapshot)

    async def leave_snapshot(self, snapshot: Snapshot) -> None:
        """Close; see ``Source.leave_snapshot``."""
        await self._joined.leave(snapshot)

    async def _connect(self) -> Database:
        return await connect(self._path, self._limiter, busy_timeout_s=self._busy_timeout_s)

    async def _connect_to_write(self) -> Database:
        return await connect(self._path, self._limiter, busy_timeout_s=self._busy_timeout_s, is_read_only=False)

    def _open(self, snapshot: Snapshot | None = None) -> AbstractAsyncContextManager[Database]:
        if snapshot is not None:
            return self._joined.lease(snapshot)
        return open_database(self._path, self._limiter, busy_timeout_s=self._busy_timeout_s)


def _set_text_factory(connection: sqlite3.Connection, columns: Sequence[Column]) -> None:
    """Let texts that are not UTF-8 through to the columns that have a policy; a call for each text is dear."""
    if any(column.on_invalid is not OnInvalid.ERROR for column in columns):
        connection.text_factory = decode_text


def _shown(value: Value) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
