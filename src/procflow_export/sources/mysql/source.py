"""The MySQL source: ``Source`` over MySQL and MariaDB servers.

Owns how a chunk travels: an unbuffered SELECT, its raw rows on a bounded stream of the core, blocks, a decoder in a thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pyarrow as pa

from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Everything, Selection, TableChunk
from procflow_export.model.settings import ReadLimits
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.blocks import MAX_DECODER_THREADS, decoded_batches
from procflow_export.sources.byte_streams import ReadsBytes, open_byte_chunks
from procflow_export.sources.connection import ServerAddress
from procflow_export.sources.failures import connection_failure
from procflow_export.sources.leases import Leases
from procflow_export.sources.mysql import session
from procflow_export.sources.mysql.catalog import key_bounds, profile
from procflow_export.sources.mysql.decoder import PacketDecoder
from procflow_export.sources.mysql.types import projection
from procflow_export.sources.mysql.wire import RowSource, WireConnection
from procflow_export.sources.port import KeyBounds, SourceStatistics, TableProfile
from procflow_export.sources.scopes import open_task_group


class MysqlSource:
    """A MySQL or MariaDB database, open for reading."""

    def __init__(self, address: ServerAddress, limits: ReadLimits) -> None:
        self._statistics = SourceStatistics()
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
    def statistics(self) -> SourceStatistics:
        """Live figures; they only grow."""
        return self._statistics

    @property
    def description(self) -> str:
        """Product, and version once a connection was made."""
        return self._version or "MySQL"

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._connections.aclose()

    async def profile(self, selection: Selection) -> TableProfile:
        """Return columns, row estimate and integer key of a selection."""
        async with self._connections.lease() as connection:
            started = time.monotonic()
            result = await profile(connection, selection)
            self._statistics.record_statement(time.monotonic() - started)
            return result

    async def key_bounds(self, selection: Selection, column: str) -> KeyBounds:
        """Return the lowest and highest key, and whether any key is NULL."""
        async with self._connections.lease() as connection:
            started = time.monotonic()
            result = await key_bounds(connection, selection, column)
            self._statistics.record_statement(time.monotonic() - started)
            return result

    @asynccontextmanager
    async def read_chunk(
        self, selection: Selection, columns: Sequence[Column], chunk: TableChunk, *, batch_rows: int
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk in batches of at most ``batch_rows`` rows."""
        statement = sql.MYSQL.select(selection, [projection(column) for column in columns], chunk)
        decoder = PacketDecoder(columns, key=None if isinstance(chunk, Everything) else chunk.column)
        started = time.monotonic()
        async with self._connections.lease() as connection:
            with session.translated():
                _, rows = await connection.start_rows(statement)
            # Left early, the result is unread, so the connection is not idle and is closed.
            async with open_task_group(), open_byte_chunks(_Translated(rows), self._statistics) as chunks:
                batches = decoded_batches(chunks, decoder, batch_rows=batch_rows, limiter=self._limiter)
                try:
                    yield batches
                finally:
                    self._statistics.record_statement(time.monotonic() - started)
                    with anyio.CancelScope(shield=True):
                        await batches.aclose()


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
