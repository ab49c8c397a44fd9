"""The rows of a chunk as bytes, from one statement or from several that follow each other.

Owns sending the statements, the form in which their rows come, and what becomes of the connection.  Must not know what is read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

from pymysql.err import MySQLError

from procflow_export.model.keys import Key, KeyKind, KeyValue, KeyValues
from procflow_export.model.types import Column
from procflow_export.sources.byte_streams import ReadsBytes
from procflow_export.sources.mysql import session
from procflow_export.sources.mysql.decoding.decoder import PacketDecoder
from procflow_export.sources.mysql.decoding.packets import RowIndex
from procflow_export.sources.mysql.pieces import Piece, Pieces
from procflow_export.sources.mysql.types import WireField
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.port import ReadStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """A statement, once for each form in which its rows may come.

    Attributes:
        binary: For rows in binary form, which a proxy may refuse.
        text: For rows as texts; ``None`` where texts would not be exact.
    """

    binary: str
    text: str | None


class ChunkRows(ReadsBytes):
    """The rows of a chunk as bytes: those of one statement after the other.

    Args:
        connection: Lent for the chunk.
        pieces: What the statements read.
        write: Returns the statement for a piece.
        columns: As they travel.
        order: The key whose values go to ``pieces``.
        statistics: Told of every statement.

    Attributes:
        index: Where the rows begin in the bytes that were returned.
        fields: What the server says of the columns.
        is_binary: In which form the rows come.
        is_finished: Whether all of them were returned.
    """

    def __init__(
        self,
        connection: WireConnection,
        pieces: Pieces,
        write: Callable[[Piece], Forms],
        *,
        columns: Sequence[Column],
        order: Key,
        statistics: ReadStatistics,
    ) -> None:
        self._connection = connection
        self._pieces = pieces
        self._write = write
        self._columns = columns
        self._order = order
        self._statistics = statistics
        self._stack = AsyncExitStack()
        self._started: float | None = None
        self.index = RowIndex()
        self.fields: Sequence[WireField] = ()
        self.is_binary = True
        self.is_finished = False

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Send the first statement; where the rows are not read to their end, the connection is closed."""
        async with self._stack:
            try:
                with session.translated():
                    await self._next()
                yield
            finally:
                self._note_end()
                if not self.is_finished:
                    # Nobody knows what is under way on it.
                    session.abort(self._connection)

    async def receive(self) -> bytes:
        """Return the next rows, or nothing at the end."""
        with session.translated():
            while not self.is_finished:
                if data := await self._rows.receive():
                    return data
                await self._stack.aclose()
                row = None if self._rows.limit_row is None else self._key_of(self._rows.limit_row)
                if self._pieces.go_on(row, self._note_end()):
                    await self._next()
                else:
                    self.is_finished = True
        return b""

    def _note_end(self) -> float:
        """Take note that the statement that runs, if any, has ended, and return how long it took."""
        if self._started is None:
            return 0.0
        elapsed_s = time.monotonic() - self._started
        self._started = None
        self._statistics.record_statement(elapsed_s)
        return elapsed_s

    async def aclose(self) -> None:
        """Nothing to close: the connection belongs to whoever lent it."""

    async def _next(self) -> None:
        piece = await self._pieces.next_piece()
        self._started = time.monotonic()
        forms = self._write(piece)
        if self.is_binary:
            try:
                self.fields, self._rows = await self._stack.enter_async_context(
                    self._connection.binary_rows(forms.binary, index=self.index, limit=piece.row_limit)
                )
            except MySQLError as exc:
                if forms.text is None or self.fields or not session.refuses_to_prepare(exc):
                    raise
                self.is_binary = False
            else:
                return
        assert forms.text is not None, "without it, rows are binary"
        self.fields, self._rows = await self._connection.start_rows(forms.text, index=self.index, limit=piece.row_limit)

    def _key_of(self, row: bytes) -> KeyValues:
        names = {part.column for part in self._order}
        columns = {column.name: column for column in self._columns if column.name in names}
        decoder = PacketDecoder(
            self._columns,
            self.fields,
            is_binary=self.is_binary,
            wanted=[columns[part.column] for part in self._order],
        )
        values = (array[0].as_py() for array in decoder.decode(row).columns)
        return tuple(_exact(part.kind, value) for part, value in zip(self._order, values, strict=True))


def _exact(kind: KeyKind, value: int | Decimal | bytes | str) -> KeyValue:
    match value:
        case bytes():
            return KeyValue(kind, value.hex())
        case Decimal():
            return KeyValue(kind, f"{value:f}")
        case _:
            return KeyValue(kind, str(value))
