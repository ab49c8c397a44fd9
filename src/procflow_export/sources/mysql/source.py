"""The MySQL source: ``Source`` over MySQL and MariaDB servers.

Owns how a chunk travels: an unbuffered SELECT, its raw rows on a bounded stream of the core, blocks, a decoder in a thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio
import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Everything, Query, Selection, TableChunk
from procflow_export.model.settings import ReadLimits
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.blocks import MAX_DECODER_THREADS, BlockDecoder, decoded_batches
from procflow_export.sources.byte_streams import ReadsBytes, open_byte_chunks
from procflow_export.sources.columns.choices import chosen_columns, is_still
from procflow_export.sources.columns.converting import converting
from procflow_export.sources.connection import ServerAddress
from procflow_export.sources.failures import connection_failure
from procflow_export.sources.leases import Leases
from procflow_export.sources.mysql import session
from procflow_export.sources.mysql.binary import TextRows
from procflow_export.sources.mysql.catalog import (
    can_stand_alone,
    columns_of,
    key_bounds,
    profile,
    refuse_changes_by_wrapping,
)
from procflow_export.sources.mysql.decoder import PacketDecoder
from procflow_export.sources.mysql.types import loses_digits, offers, projection
from procflow_export.sources.mysql.wire import RowSource, WireConnection
from procflow_export.sources.port import ChunkRequest, KeyBounds, ReadStatistics, TableProfile
from procflow_export.sources.scopes import open_task_group


class MysqlSource:
    """A MySQL or MariaDB database, open for reading."""

    def __init__(self, address: ServerAddress, limits: ReadLimits) -> None:
        self._statistics = ReadStatistics()
        self._limiter = anyio.CapacityLimiter(MAX_DECODER_THREADS)
        self._version: str | None = None

        async def connect() -> WireConnection:
            try:
                connection = await session.connect(address, limits)
            except SourceError as exc:
                raise connection_failure(exc, was_connected=self._version is not None) from exc.__cause__
            version, is_mariadb = session.version_of(connection)
            self._version = f"{'MariaDB' if is_mariadb else 'MySQL'} {version}"
            return connection

        self._connections = Leases(
            connect=connect,
            is_reusable=lambda connection: connection.is_idle,
            close=session.close,
            abort=session.abort,
        )

    @property
    def statistics(self) -> ReadStatistics:
        """Live figures of everything but chunk readers, which have their own."""
        return self._statistics

    @property
    def description(self) -> str:
        """Product, and version once a connection was made."""
        return self._version or "MySQL"

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._connections.aclose()

    async def profile(self, selection: Selection, choices: Choices = NO_CHOICES) -> TableProfile:
        """Return columns, row estimate and integer key of a selection."""
        async with self._connections.lease() as connection:
            started = time.monotonic()
            result = await profile(connection, selection)
            self._statistics.record_statement(time.monotonic() - started)
            return replace(result, columns=chosen_columns(result.columns, choices, offers))

    async def key_bounds(self, selection: Selection, column: str) -> KeyBounds:
        """Return the lowest and highest key, and whether any key is NULL."""
        async with self._connections.lease() as connection:
            started = time.monotonic()
            result = await key_bounds(connection, selection, column)
            self._statistics.record_statement(time.monotonic() - started)
            return result

    @asynccontextmanager
    async def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk: see ``Source.read_chunk``."""
        started = time.monotonic()
        async with (
            self._connections.lease() as connection,
            _result(connection, request.selection, request.columns, request.chunk) as (rows, decoder),
            # Left early, the result is unread, so the connection is not idle and is closed.
            open_task_group(),
            open_byte_chunks(_Translated(rows), statistics) as chunks,
        ):
            batches = decoded_batches(chunks, decoder, batch_rows=request.batch_rows, limiter=self._limiter)
            try:
                yield batches
            finally:
                elapsed_s = time.monotonic() - started
                statistics.record_statement(elapsed_s)
                statistics.record_transaction(elapsed_s)
                statistics.changed_values.update(decoder.changed_values)
                with anyio.CancelScope(shield=True):
                    await batches.aclose()


@asynccontextmanager
async def _result(
    connection: WireConnection, selection: Selection, columns: Sequence[Column], chunk: TableChunk
) -> AsyncIterator[tuple[RowSource, BlockDecoder]]:
    """Start the statement for a chunk, and give its rows with the decoder for them.

    A query that is read whole is sent as it stands: as a derived table the server may change values on their way.
    """
    if isinstance(selection, Query):
        if isinstance(chunk, Everything) and can_stand_alone(columns):
            async with _query_result(connection, selection, columns) as found:
                yield found
            return
        refuse_changes_by_wrapping(columns, selection)
    with session.translated():
        statement = sql.MYSQL.select(selection, [projection(column.carried()) for column in columns], chunk)
        _, rows = await connection.start_rows(statement)
    key = None if isinstance(chunk, Everything) else chunk.column
    decoder = PacketDecoder([column.carried() for column in columns], key=key)
    yield rows, converting(decoder, columns, key=key)


@asynccontextmanager
async def _query_result(
    connection: WireConnection, query: Query, columns: Sequence[Column]
) -> AsyncIterator[tuple[RowSource, BlockDecoder]]:
    statement = sql.strip_statement_end(query.text)
    async with AsyncExitStack() as stack:
        is_binary = any(loses_digits(column) for column in columns)
        with session.translated():
            if is_binary:
                fields, rows = await stack.enter_async_context(connection.binary_rows(statement))
            else:
                fields, rows = await connection.start_rows(statement)
        found = {column.name: column for column in columns_of(fields)}
        if not all(column.name in found and is_still(column, found[column.name]) for column in columns):
            raise SourceError(Code.SCHEMA_CHANGED, f"the columns of {query} changed since the export was planned")
        carried = [column.carried() for column in columns]
        agreed = found | {column.name: column for column in carried}
        decoder = PacketDecoder(list(agreed.values()), wanted=carried, binary=TextRows(fields) if is_binary else None)
        yield rows, converting(decoder, columns)


class _Translated(ReadsBytes):
    """A row source whose errors are ours."""

    def __init__(self, rows: RowSource) -> None:
        self._rows = rows

    async def receive(self) -> bytes:
        """Return the next rows, or nothing at the end."""
        with session.translated():
            return await self._rows.receive()

    async def aclose(self) -> None:
        """Let go."""
        await self._rows.aclose()


@asynccontextmanager
async def open_mysql(address: ServerAddress, limits: ReadLimits) -> AsyncIterator[MysqlSource]:
    """Open a MySQL or MariaDB database; leaving the block closes its connections."""
    source = MysqlSource(address, limits)
    try:
        yield source
    finally:
        await source.aclose()
