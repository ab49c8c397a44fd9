"""The PostgreSQL source: ``Source`` over a server.

Owns how a chunk travels: ``COPY (SELECT …) TO STDOUT``, a bounded stream of the core, blocks, a decoder in a thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import anyio
import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.plan import Everything, Query, Selection
from procflow_export.model.settings import ReadLimits
from procflow_export.sources import sql
from procflow_export.sources.blocks import MAX_DECODER_THREADS, decoded_batches
from procflow_export.sources.byte_streams import PushSource, open_byte_chunks
from procflow_export.sources.columns.choices import chosen_columns
from procflow_export.sources.columns.converting import converting
from procflow_export.sources.connection import ServerAddress
from procflow_export.sources.failures import connection_failure, unreadable_bounds
from procflow_export.sources.leases import Leases
from procflow_export.sources.port import ChunkRequest, KeyBounds, ReadStatistics, TableProfile
from procflow_export.sources.postgres import session
from procflow_export.sources.postgres.catalog import (
    has_unknown_precision,
    precise_query_columns,
    query_profile,
    relation_profile,
)
from procflow_export.sources.postgres.csv_decoder import COPY_OPTIONS, CsvDecoder
from procflow_export.sources.postgres.session import Connection
from procflow_export.sources.postgres.shape import hold_shape
from procflow_export.sources.postgres.types import dialect_for_key, offers, projection
from procflow_export.sources.scopes import open_task_group


class PostgresSource:
    """A PostgreSQL database, open for reading."""

    def __init__(self, address: ServerAddress, limits: ReadLimits) -> None:
        self._limits = limits
        self._statistics = ReadStatistics()
        self._limiter = anyio.CapacityLimiter(MAX_DECODER_THREADS)
        self._version: str | None = None

        async def connect() -> Connection:
            try:
                connection = await session.connect(address)
            except SourceError as exc:
                raise connection_failure(exc, was_connected=self._version is not None) from exc.__cause__
            version = connection.get_server_version()
            self._version = f"{version.major}.{version.minor}"
            return connection

        self._connections = Leases(
            connect=connect, is_reusable=session.is_idle, close=session.close, abort=session.abort
        )

    @property
    def statistics(self) -> ReadStatistics:
        """Live figures of everything but chunk readers, which have their own."""
        return self._statistics

    @property
    def description(self) -> str:
        """Product, and version once a connection was made."""
        return "PostgreSQL" if self._version is None else f"PostgreSQL {self._version}"

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._connections.aclose()

    async def profile(self, selection: Selection, choices: Choices = NO_CHOICES) -> TableProfile:
        """Return columns, row estimate and integer key of a selection."""
        async with self._connections.lease() as connection:
            started = time.monotonic()
            if isinstance(selection, Query):
                result = await self._query_profile(connection, selection)
            else:
                await session.begin(connection, self._limits)
                result = await relation_profile(connection, selection)
                await session.commit(connection)
            self._statistics.record_statement(time.monotonic() - started)
            return replace(result, columns=chosen_columns(result.columns, choices, offers))

    async def _query_profile(self, connection: Connection, query: Query) -> TableProfile:
        await session.begin(connection, self._limits)
        result = await query_profile(connection, query)
        await session.commit(connection)
        if not has_unknown_precision(result):
            return result
        await session.begin(connection, self._limits, is_read_only=False)
        try:
            result = replace(result, columns=await precise_query_columns(connection, query))
        except SourceError as exc:
            if exc.is_transient or connection.is_closed():
                raise
            # No privilege, or a standby: the numerics of this query travel as text.
        await session.rollback(connection)
        return result

    async def key_bounds(self, selection: Selection, column: str) -> KeyBounds:
        """Return the lowest and highest key, and whether any key is NULL."""
        async with self._connections.lease() as connection:
            started = time.monotonic()
            await session.begin(connection, self._limits)
            with session.translated(connection):
                # One statement, so one snapshot: no key is missed that becomes NULL, or ceases to be, between two.
                low, high, has_nulls = await connection.fetchrow(
                    f"SELECT low, high, EXISTS ({sql.POSTGRES.null_presence(selection, column)})"
                    f" FROM ({sql.POSTGRES.bounds(selection, column)}) AS bounds (low, high)"
                )
            await session.commit(connection)
            self._statistics.record_statement(time.monotonic() - started)
        for bound in (low, high):
            if bound is not None and type(bound) is not int:
                raise unreadable_bounds(column, f"of type {type(bound).__name__}")
        return KeyBounds(low=low, high=high, has_nulls=has_nulls)

    @asynccontextmanager
    async def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk: see ``Source.read_chunk``."""
        chunk = request.chunk
        key = None if isinstance(chunk, Everything) else chunk.column
        carried = [column.carried() for column in request.columns]
        decoder = converting(CsvDecoder(carried, key=key), request.columns, key=key)
        source = PushSource()
        async with self._connections.lease() as connection:
            started = time.monotonic()
            await session.begin(connection, self._limits)
            async with open_task_group() as tasks, open_byte_chunks(source, statistics) as chunks:
                copying = anyio.CancelScope(shield=True)
                copy = partial(self._copy, connection, request, statistics)
                tasks.start_soon(copy, source, copying, name="postgres copy")
                batches = decoded_batches(chunks, decoder, batch_rows=request.batch_rows, limiter=self._limiter)
                try:
                    yield batches
                finally:
                    # Left early, the copy is cancelled on the server and the connection is not used again.  Not through
                    # the group's own scope: a cancellation of this task would take the place of the body's error.
                    with anyio.CancelScope(shield=True):
                        await session.cancel_between_reads(copying)
                        await batches.aclose()
                    statistics.changed_values.update(decoder.changed_values)
            if source.is_finished:
                await session.commit(connection)
            statistics.record_transaction(time.monotonic() - started)

    async def _copy(
        self,
        connection: Connection,
        request: ChunkRequest,
        statistics: ReadStatistics,
        source: PushSource,
        scope: anyio.CancelScope,
    ) -> None:
        started = time.monotonic()
        selection, columns, chunk = request.selection, request.columns, request.chunk
        try:
            # Shielded: only ``scope`` itself ends it, in a moment that the driver bears.
            with scope, session.translated(connection):
                found = await hold_shape(connection, selection, columns)
                dialect = dialect_for_key(found, chunk)
                statement = dialect.select(selection, [projection(column.carried()) for column in columns], chunk)
                # The statement itself too: its plan locks the partitions and the views' tables that it reads.
                await session.hold(connection, statement)
                await connection.copy_from_query(statement, output=source.put, **COPY_OPTIONS)
        except ExportError as exc:
            source.finish(exc)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            # The reader was cancelled and took the stream with it; the driver has cancelled the statement.
            pass
        else:
            if not scope.cancelled_caught:
                source.finish()
        finally:
            statistics.record_statement(time.monotonic() - started)


@asynccontextmanager
async def open_postgres(address: ServerAddress, limits: ReadLimits) -> AsyncIterator[PostgresSource]:
    """Open a PostgreSQL database; leaving the block closes its connections."""
    source = PostgresSource(address, limits)
    try:
        yield source
    finally:
        await source.aclose()
