"""The MySQL source: ``Source`` over MySQL and MariaDB servers.

Owns how a chunk travels: an unbuffered SELECT, its raw rows on a bounded stream of the core, blocks, a decoder in a thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import anyio
import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import KeyValues
from procflow_export.model.plan import Everything, Query, Relation, Selection, Snapshot, TableChunk
from procflow_export.model.settings import ReadLimits
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.blocks import DECODER_THREADS, BlockDecoder, decoded_batches
from procflow_export.sources.byte_streams import open_byte_chunks
from procflow_export.sources.columns.choices import chosen_columns, is_still
from procflow_export.sources.columns.converting import converting
from procflow_export.sources.connection import ServerAddress
from procflow_export.sources.failures import connection_failure, schema_changed
from procflow_export.sources.leases import Leases
from procflow_export.sources.literals import key_values
from procflow_export.sources.mysql import session
from procflow_export.sources.mysql.catalog import (
    can_stand_alone,
    columns_of,
    profile,
    query_columns,
    refuse_changes_by_wrapping,
    require_still,
    rows_of,
)
from procflow_export.sources.mysql.decoding.decoder import PacketDecoder
from procflow_export.sources.mysql.pieces import Piece, chosen_pieces
from procflow_export.sources.mysql.rows import ChunkRows, Forms
from procflow_export.sources.mysql.server import Server
from procflow_export.sources.mysql.snapshot import MysqlHolder, check_joined, hold_joined, joined_readers
from procflow_export.sources.mysql.types import WireField, offers, projection
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.port import ChunkRequest, KeySearch, ReadStatistics, SnapshotPrice, TableProfile
from procflow_export.sources.scopes import open_task_group


class MysqlSource:
    """A MySQL or MariaDB database, open for reading."""

    def __init__(self, address: ServerAddress, limits: ReadLimits) -> None:
        self._address = address
        self._statistics = ReadStatistics()
        self._limiter = anyio.CapacityLimiter(DECODER_THREADS)
        self._limits = limits
        self._server: Server | None = None

        async def connect() -> WireConnection:
            try:
                connection = await session.connect(address, limits)
            except SourceError as exc:
                raise connection_failure(exc, was_connected=self._server is not None) from exc.__cause__
            self._server = connection.server
            return connection

        self._joined = joined_readers(connect)
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
        return "MySQL" if self._server is None else f"{self._server.product} {self._server.version}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know of the way to the server, once a connection was made."""
        return self._address.warnings + (() if self._server is None else self._server.warnings)

    @property
    def identity(self) -> str:
        """Server and database."""
        return f"mysql {self._address.place}"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._joined.aclose()
        await self._connections.aclose()

    async def close_idle(self) -> None:
        """Close the connections that nobody uses now and that read no snapshot."""
        await self._connections.aclose()

    @property
    def snapshot_price(self) -> SnapshotPrice:
        """One connection locks, one reads bounds; afterwards every reader has its own."""
        return SnapshotPrice(holder=0, preparing=2, is_joined=True)

    async def check_snapshot(self, selection: Selection) -> None:
        """Look for the right to lock and at the table's engine: see ``Source.check_snapshot``."""
        async with self._connections.lease() as connection:
            await check_joined(connection, selection)

    @asynccontextmanager
    async def hold_snapshot(self, selection: Selection) -> AsyncIterator[MysqlHolder]:
        """Let readers begin while nobody writes: see ``Source.hold_snapshot``."""
        async with (
            self._connections.lease() as locker,
            hold_joined(locker, self._joined, selection, self._statistics) as holder,
        ):
            yield holder

    async def prepare_readers(self, snapshot: Snapshot, count: int) -> None:
        """Connect; see ``Source.prepare_readers``."""
        await self._joined.prepare(snapshot, count)

    async def join_snapshot(self, snapshot: Snapshot) -> None:
        """Begin; see ``Source.join_snapshot``."""
        await self._joined.join(snapshot)

    async def leave_snapshot(self, snapshot: Snapshot) -> None:
        """Close; see ``Source.leave_snapshot``."""
        await self._joined.leave(snapshot)

    def _lease(self, snapshot: Snapshot | None) -> AbstractAsyncContextManager[WireConnection]:
        return self._settled() if snapshot is None else self._joined.lease(snapshot)

    @asynccontextmanager
    async def _settled(self) -> AsyncIterator[WireConnection]:
        async with (
            self._connections.lease() as connection,
            session.own_settings(connection, self._limits),
        ):
            yield connection

    async def profile(
        self, selection: Selection, choices: Choices = NO_CHOICES, snapshot: Snapshot | None = None
    ) -> TableProfile:
        """Return columns, row estimate and indexes of a selection."""
        async with self._lease(snapshot) as connection:
            with self._statistics.statement():
                result = await profile(connection, selection)
            columns = chosen_columns(result.columns, choices, offers)
            if isinstance(selection, Query) and not can_stand_alone(columns):
                refuse_changes_by_wrapping(columns, selection)
            return replace(result, columns=columns)

    async def find_key(self, search: KeySearch, snapshot: Snapshot | None = None) -> KeyValues | None:
        """Return one key: see ``Source.find_key``."""
        rows = await self._rows(sql.MYSQL.nth_key(search), search.selection, snapshot)
        if not rows:
            return None
        return key_values(search.within.key, [text for text in rows[0] if text is not None])

    async def has_rows(self, selection: Selection, chunk: TableChunk, snapshot: Snapshot | None = None) -> bool:
        """Return whether a chunk has any row."""
        return bool(await self._rows(sql.MYSQL.presence(selection, chunk), selection, snapshot))

    async def now(self) -> datetime:
        """Return the time of the server's clock."""
        ((text,),) = await self._rows("SELECT UNIX_TIMESTAMP()", None)
        return datetime.fromtimestamp(int(text or 0), UTC)

    async def _rows(
        self, statement: str, selection: Selection | None, snapshot: Snapshot | None = None
    ) -> list[list[str | None]]:
        async with self._lease(snapshot) as connection:
            with self._statistics.statement():
                if isinstance(selection, Query):
                    refuse_changes_by_wrapping(await query_columns(connection, selection), selection)
                return await rows_of(connection, statement)

    @asynccontextmanager
    async def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk: see ``Source.read_chunk``."""
        started = time.monotonic()
        async with (
            self._lease(request.snapshot) as connection,
            _chunk_rows(connection, request, statistics) as (rows, decoder),
            open_task_group(),
            open_byte_chunks(rows, statistics) as chunks,
        ):
            batches = decoded_batches(
                chunks, decoder, batch_rows=request.batch_rows, batch_bytes=request.batch_bytes, limiter=self._limiter
            )
            try:
                yield batches
            finally:
                statistics.record_transaction(time.monotonic() - started)
                statistics.changed_values.update(decoder.changed_values)
                with anyio.CancelScope(shield=True):
                    await batches.aclose()


@asynccontextmanager
async def _chunk_rows(
    connection: WireConnection, request: ChunkRequest, statistics: ReadStatistics
) -> AsyncIterator[tuple[ChunkRows, BlockDecoder]]:
    """Start the first statement for a chunk, and give the rows with the decoder for them.

    A query that is read whole is sent as it stands: as a derived table the server may change values on their way.
    """
    selection, columns = request.selection, request.columns
    carried = [column.carried() for column in columns]
    stands_alone = isinstance(selection, Query) and isinstance(request.chunk, Everything) and can_stand_alone(columns)
    if isinstance(selection, Query) and not stands_alone:
        refuse_changes_by_wrapping(columns, selection)

    def write(piece: Piece) -> Forms:
        if isinstance(selection, Query) and stands_alone:
            return Forms(binary=sql.MYSQL.body(selection), text=None)
        binary, text = (
            sql.MYSQL.select(
                selection,
                [projection(column, is_binary=is_binary) for column in carried],
                *piece.chunks,
                hint=piece.hint,
                suffix=piece.suffix,
            )
            for is_binary in (True, False)
        )
        return Forms(binary=binary, text=text)

    async with chosen_pieces(connection, request, statistics) as pieces:
        rows = ChunkRows(connection, pieces, write, columns=carried, order=request.order, statistics=statistics)
        async with rows.started():
            if isinstance(selection, Relation):
                require_still(selection, columns, rows.fields, is_binary=rows.is_binary)
            sent = _agreed(columns, rows.fields, selection) if stands_alone else carried
            decoder = PacketDecoder(
                sent, rows.fields, is_binary=rows.is_binary, index=rows.index, key=request.row_key, wanted=carried
            )
            yield rows, converting(decoder, columns, key=request.row_key)


def _agreed(columns: Sequence[Column], fields: Sequence[WireField], query: Selection) -> list[Column]:
    """Return the columns of a query's result as they travel, those that the plan knows as the plan knows them.

    Raises:
        DataError: If one of these is no longer what it was.
    """
    found = {column.name: column for column in columns_of(fields)}
    for column in columns:
        if column.name not in found or not is_still(column, found[column.name]):
            raise schema_changed(query, column, "is not what it was when the export was planned")
    return list((found | {column.name: column.carried() for column in columns}).values())


@asynccontextmanager
async def open_mysql(address: ServerAddress, limits: ReadLimits) -> AsyncIterator[MysqlSource]:
    """Open a MySQL or MariaDB database; leaving the block closes its connections."""
    source = MysqlSource(address, limits)
    try:
        yield source
    finally:
        await source.aclose()
