"""The PostgreSQL source: ``Source`` over a server.

Owns how a chunk travels: ``COPY (SELECT …) TO STDOUT``, a bounded stream of the core, blocks, a decoder in a thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import anyio
import asyncpg
import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.keys import KeyValues
from procflow_export.model.plan import Query, Selection, Snapshot, TableChunk
from procflow_export.model.settings import ReadLimits
from procflow_export.sources import sql
from procflow_export.sources.blocks import DECODER_THREADS, decoded_batches
from procflow_export.sources.byte_streams import PushSource, open_byte_chunks
from procflow_export.sources.columns.choices import chosen_columns
from procflow_export.sources.columns.converting import converting
from procflow_export.sources.connection import ServerAddress
from procflow_export.sources.failures import connection_failure
from procflow_export.sources.leases import Leases
from procflow_export.sources.literals import key_values
from procflow_export.sources.port import ChunkRequest, KeySearch, ReadStatistics, SnapshotPrice, TableProfile
from procflow_export.sources.postgres import session
from procflow_export.sources.postgres.catalog import (
    has_unknown_precision,
    precise_query_columns,
    query_profile,
    relation_profile,
)
from procflow_export.sources.postgres.pieces import statements
from procflow_export.sources.postgres.pooler import POOLER_WARNING, is_behind_pooler, require_second_session
from procflow_export.sources.postgres.session import Connection
from procflow_export.sources.postgres.shape import hold_shape
from procflow_export.sources.postgres.snapshot import PostgresHolder, hold_exported
from procflow_export.sources.postgres.types import offers
from procflow_export.sources.postgres.wire import WireFormat, wire_format_for
from procflow_export.sources.scopes import open_task_group


class PostgresSource:
    """A PostgreSQL database, open for reading."""

    def __init__(self, address: ServerAddress, limits: ReadLimits) -> None:
        self._limits = limits
        self._address = address
        self._statistics = ReadStatistics()
        self._limiter = anyio.CapacityLimiter(DECODER_THREADS)
        self._version: str | None = None
        self._is_pooled = False

        async def connect() -> Connection:
            try:
                connection = await session.connect(address)
            except SourceError as exc:
                raise connection_failure(exc, was_connected=self._version is not None) from exc.__cause__
            if self._version is None:
                try:
                    self._is_pooled = await is_behind_pooler(connection, limits)
                except BaseException:
                    session.abort(connection)
                    raise
            version = connection.get_server_version()
            self._version = f"{version.major}.{version.minor}"
            return connection

        def is_reusable(connection: Connection) -> bool:
            # A connection that is kept may keep a session of the pool from one that waits for it, maybe ours.
            return session.is_idle(connection) and not self._is_pooled

        self._connections = Leases(connect=connect, is_reusable=is_reusable, close=session.close, abort=session.abort)

    @property
    def statistics(self) -> ReadStatistics:
        """Live figures of everything but chunk readers, which have their own."""
        return self._statistics

    @property
    def description(self) -> str:
        """Product, and version once a connection was made."""
        return "PostgreSQL" if self._version is None else f"PostgreSQL {self._version}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know of the way to the server, once a connection was made."""
        return (*self._address.warnings, *((POOLER_WARNING,) if self._is_pooled else ()))

    @property
    def identity(self) -> str:
        """Server and database."""
        return f"postgres {self._address.place}"

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._connections.aclose()

    async def profile(
        self, selection: Selection, choices: Choices = NO_CHOICES, snapshot: Snapshot | None = None
    ) -> TableProfile:
        """Return columns, row estimate and indexes of a selection."""
        async with self._asking(snapshot) as connection:
            if isinstance(selection, Query):
                result = await self._query_profile(connection, selection, snapshot)
            else:
                await session.begin(connection, self._limits, snapshot=snapshot)
                result = await relation_profile(connection, selection)
                await session.commit(connection)
        return replace(result, columns=chosen_columns(result.columns, choices, offers))

    async def _query_profile(self, connection: Connection, query: Query, snapshot: Snapshot | None) -> TableProfile:
        await session.begin(connection, self._limits, snapshot=snapshot)
        result = await query_profile(connection, query)
        await session.commit(connection)
        if not has_unknown_precision(result):
            return result
        await session.begin(connection, self._limits, is_read_only=False, snapshot=snapshot)
        try:
            result = replace(result, columns=await precise_query_columns(connection, query))
        except SourceError as exc:
            if exc.is_transient or connection.is_closed():
                raise
            # No privilege, or a standby: the numerics of this query travel as text.
        await session.rollback(connection)
        return result

    async def find_key(self, search: KeySearch, snapshot: Snapshot | None = None) -> KeyValues | None:
        """Return one key: see ``Source.find_key``."""
        row = await self._first_row(sql.POSTGRES.nth_key(search), snapshot)
        if row is None:
            return None
        return key_values(search.within.key, row)

    async def has_rows(self, selection: Selection, chunk: TableChunk, snapshot: Snapshot | None = None) -> bool:
        """Return whether a chunk has any row."""
        return await self._first_row(sql.POSTGRES.presence(selection, chunk), snapshot) is not None

    async def now(self) -> datetime:
        """Return the time of the server's clock."""
        row = await self._first_row("SELECT pg_catalog.floor(EXTRACT(EPOCH FROM pg_catalog.clock_timestamp()))::int8")
        assert row is not None, "a SELECT without FROM has one row"
        return datetime.fromtimestamp(row[0], UTC)

    async def _first_row(self, statement: str, snapshot: Snapshot | None = None) -> asyncpg.Record | None:
        async with self._asking(snapshot) as connection:
            await session.begin(connection, self._limits, snapshot=snapshot)
            with session.translated(connection):
                row = await connection.fetchrow(statement)
            await session.commit(connection)
        return row

    @asynccontextmanager
    async def _asking(self, snapshot: Snapshot | None) -> AsyncIterator[Connection]:
        """Lend a connection for a question about what is read."""
        async with self._connections.lease() as connection:
            with self._statistics.statement(), session.in_snapshot(snapshot):
                yield connection

    @asynccontextmanager
    async def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk: see ``Source.read_chunk``."""
        carried = tuple(column.carried() for column in request.columns)
        wire = wire_format_for(carried)
        decoder = converting(wire.decoder(carried, key=request.row_key), request.columns, key=request.row_key)
        async with self._connections.lease() as connection:
            started = time.monotonic()
            await session.begin(connection, self._limits, snapshot=request.snapshot)
            source = PushSource()
            async with open_task_group() as tasks, open_byte_chunks(source, statistics) as chunks:
                ended = anyio.Event()
                copy = partial(self._copy, connection, request, wire, statistics)
                tasks.start_soon(copy, source, ended, name="postgres copy")
                batches = decoded_batches(
                    chunks,
                    decoder,
                    batch_rows=request.batch_rows,
                    batch_bytes=request.batch_bytes,
                    limiter=self._limiter,
                )
                try:
                    yield batches
                finally:
                    # Left early, the copy is cancelled on the server.  Its transaction stays open, so that the connection is not
                    # used again but closed by its lease, which bounds how long that may take.
                    is_left = not ended.is_set()
                    with anyio.CancelScope(shield=True):
                        if is_left:
                            await source.aclose()
                            await session.cancel(connection, ended)
                        await batches.aclose()
                    statistics.changed_values.update(decoder.changed_values)
            if source.is_finished and not is_left:
                await session.commit(connection)
            statistics.record_transaction(time.monotonic() - started)

    @property
    def snapshot_price(self) -> SnapshotPrice:
        """One transaction holds it, and bounds are read by another."""
        return SnapshotPrice(holder=1, preparing=1, is_joined=False)

    async def close_idle(self) -> None:
        """Close the connections that nobody uses now."""
        await self._connections.aclose()

    async def check_snapshot(self, selection: Selection) -> None:
        """Whoever may read may export a snapshot; behind a pooler, a second session is needed to read it."""
        del selection  # a snapshot is of the whole database
        async with self._connections.lease() as connection:
            if self._is_pooled:
                await session.begin(connection, self._limits)
                await require_second_session(self._connections, self._limits)
                await session.rollback(connection)

    @asynccontextmanager
    async def hold_snapshot(self, selection: Selection) -> AsyncIterator[PostgresHolder]:
        """Export a state of the database: see ``Source.hold_snapshot``."""
        async with (
            self._connections.lease() as connection,
            hold_exported(connection, selection, self._limits) as holder,
        ):
            if self._is_pooled:
                await require_second_session(self._connections, self._limits)
            yield holder

    async def prepare_readers(self, snapshot: Snapshot, count: int) -> None:
        """Nothing: any connection imports an exported snapshot."""

    async def join_snapshot(self, snapshot: Snapshot) -> None:
        """Nothing, as above."""

    async def leave_snapshot(self, snapshot: Snapshot) -> None:
        """Nothing, as above."""

    async def _copy(
        self,
        connection: Connection,
        request: ChunkRequest,
        wire: WireFormat,
        statistics: ReadStatistics,
        source: PushSource,
        ended: anyio.Event,
    ) -> None:
        try:
            # Shielded: the driver does not bear it that a copy is cancelled, see ``session.cancel``.
            with anyio.CancelScope(shield=True), session.in_snapshot(request.snapshot), session.translated(connection):
                await hold_shape(connection, request.selection, request.columns)
                async with aclosing(statements(connection, request, wire, statistics)) as pieces:
                    async for piece in pieces:
                        with statistics.statement():
                            await session.copy_out(connection, piece, source.put, wire.copy_options)
        except ExportError as exc:
            source.finish(exc)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # nobody reads any more
        else:
            source.finish()
        finally:
            ended.set()


@asynccontextmanager
async def open_postgres(address: ServerAddress, limits: ReadLimits) -> AsyncIterator[PostgresSource]:
    """Open a PostgreSQL database; leaving the block closes its connections."""
    source = PostgresSource(address, limits)
    try:
        yield source
    finally:
        await source.aclose()
