"""The SQLite source: ``Source`` over a file.

Owns one connection for each call that reads.  Chunk readers that are open at once read each their own snapshot: a file
gives no way to share one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices, OnInvalid
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Relation, Selection, TableChunk
from procflow_export.model.types import Column, LogicalType
from procflow_export.sources import sql
from procflow_export.sources.failures import ValueRefusedError, unreadable_bounds
from procflow_export.sources.port import MIB, ChunkRequest, KeyBounds, ReadStatistics, TableProfile
from procflow_export.sources.sqlite.catalog import profile
from procflow_export.sources.sqlite.database import MAX_THREADS, Database, open_database
from procflow_export.sources.sqlite.decoder import RefusedError, RowDecoder, Value, decode_text

FIRST_BATCH_ROWS: Final = 1_024
BATCH_BYTES: Final = 8 * MIB
DEFAULT_BUSY_TIMEOUT_S: Final = 5.0


class SqliteSource:
    """A SQLite file, open for reading."""

    def __init__(self, path: Path, *, lock_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = lock_timeout_s or DEFAULT_BUSY_TIMEOUT_S
        self._limiter = anyio.CapacityLimiter(MAX_THREADS)
        self._statistics = ReadStatistics()

    @property
    def statistics(self) -> ReadStatistics:
        """Live figures of everything but chunk readers, which have their own."""
        return self._statistics

    @property
    def description(self) -> str:
        """Product and version."""
        return f"SQLite {sqlite3.sqlite_version}"

    async def profile(self, selection: Selection, choices: Choices = NO_CHOICES) -> TableProfile:
        """Return columns, row estimate and integer key of a selection."""
        async with self._open() as database:
            started = time.monotonic()
            result = await database.call(lambda connection: profile(connection, selection, choices))
            self._statistics.record_statement(time.monotonic() - started)
            return result

    async def key_bounds(self, selection: Selection, column: str) -> KeyBounds:
        """Return the lowest and highest key, and whether any key is NULL."""
        async with self._open() as database:
            started = time.monotonic()
            ((low, high),) = await database.rows(sql.SQLITE.bounds(selection, column))
            nulls = await database.rows(sql.SQLITE.null_presence(selection, column))
            self._statistics.record_statement(time.monotonic() - started)
        for bound in (low, high):
            if bound is not None and not isinstance(bound, int):
                raise unreadable_bounds(column, f"of type {type(bound).__name__}")
        return KeyBounds(low=low, high=high, has_nulls=bool(nulls))  # type: ignore[arg-type]  # checked above

    @asynccontextmanager
    async def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk: see ``Source.read_chunk``."""
        started = time.monotonic()
        async with self._open() as database:
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
        selection, columns, chunk, batch_rows = request.selection, request.columns, request.chunk, request.batch_rows
        statement = sql.SQLITE.select(selection, [sql.SQLITE.identifier(column.name) for column in columns], chunk)
        decoder = RowDecoder(columns)
        started = time.monotonic()
        row_count = 0
        fetch_rows = min(batch_rows, FIRST_BATCH_ROWS)
        opened: list[sqlite3.Cursor] = []  # filled in the thread: a cancelled call returns nothing
        try:
            await database.call(partial(_set_text_factory, columns=columns))
            await database.call(lambda connection: opened.append(connection.execute(statement)))
            fetchmany = opened[0].fetchmany
            while True:
                wanted = fetch_rows

                def fetch(_: sqlite3.Connection, wanted: int = wanted) -> pa.RecordBatch | None:
                    rows: list[tuple[Value, ...]] = fetchmany(wanted)
                    return decoder.decode(rows) if rows else None

                batch = await database.call(fetch)
                if batch is None:
                    return
                row_count += batch.num_rows
                statistics.received_bytes += batch.nbytes
                yield batch
                fetch_rows = max(1, min(batch_rows, BATCH_BYTES * batch.num_rows // max(1, batch.nbytes)))
        except RefusedError as exc:
            place = await self._place(database, selection, exc)
            raise ValueRefusedError(exc.column, value=_shown(exc.value), place=place, reason=exc.reason) from exc
        except SourceError as exc:
            if getattr(exc.__cause__, "sqlite_errorcode", None) is None:
                await self._refuse_undecodable(database, selection, columns, chunk)
            raise
        finally:
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
            for row in connection.execute(statement):
                for column, value in zip(texts, row, strict=False):
                    if isinstance(value, bytes) and not _is_utf8(value):
                        return column, f"rowid {row[-1]}" if rowid else "a row of the query"
            return None

        found = await database.call(search)
        if found is not None:
            raise ValueRefusedError(found[0], value="", place=found[1], reason="the text is not valid UTF-8")

    def _open(self) -> AbstractAsyncContextManager[Database]:
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
