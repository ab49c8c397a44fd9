"""The rows of a chunk, from one statement or from several short ones that follow each other.

Owns which statement comes next.  Must not know how rows become batches.

**In the order of the primary key** rows lie as they are stored, so a piece is ``… ORDER BY key LIMIT n``, costs what a scan costs,
and its last row says where the next one begins.  That row must say it exactly: where two values could be one literal, a row
would be there twice or not at all.  So this is for numbers, bytes, and texts of character sets that lose nothing on the way.

**In the order of another key** the index is asked with which key a piece ends, and the piece is read up to that.
However texts compare, the piece and the rest divide the rows.  Price: the index is read once more.

Several statements read one state: that of the request's snapshot, or that of a transaction of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from procflow_export.model.choices import OnInvalid
from procflow_export.model.keys import Key, KeyKind, KeyValues
from procflow_export.model.plan import Everything, Query, Relation, TableChunk
from procflow_export.model.types import Column
from procflow_export.sources import sql
from procflow_export.sources.literals import key_values
from procflow_export.sources.mysql.catalog import character_sets, plan_of, primary_key, rows_of
from procflow_export.sources.mysql.snapshot import has_snapshots, one_state
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.pieces import KeyPieces, key_pieces
from procflow_export.sources.port import ChunkRequest, ReadStatistics

FIRST_BATCHES: Final = 4
"""Rows of the first piece, in batches, which are so many MiB as far as types tell."""
_PRIMARY: Final = " FORCE INDEX (PRIMARY)"
"""Whatever else would serve, only this one's order costs nothing."""
_EXACT: Final = frozenset({KeyKind.INTEGER, KeyKind.DECIMAL, KeyKind.BYTES, KeyKind.TEXT})
_EXACT_CHARACTER_SETS: Final = frozenset({"utf8mb4", "utf8mb3", "utf8", "latin1", "ascii"})
"""Whose texts lead back to themselves through Unicode; others have characters that become one and the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one statement reads.

    Attributes:
        chunks: The rows that are in every one of them.
        hint: What follows the table.
        suffix: What follows the conditions.
        row_limit: The most rows; ``None`` for all.
    """

    chunks: tuple[TableChunk, ...]
    hint: str = ""
    suffix: str = ""
    row_limit: int | None = None


class Pieces(Protocol):
    """The pieces of a chunk, each asked for when the one before was read."""

    async def next_piece(self) -> Piece:
        """Return what is read next."""
        ...

    def go_on(self, row: KeyValues | None, elapsed_s: float) -> bool:
        """Take note that the piece was read, and return whether something is left.

        Args:
            row: The key of its row number ``row_limit``, if there were as many.
            elapsed_s: How long it took.
        """
        ...


class Whole:
    """The whole chunk is one piece."""

    def __init__(self, chunk: TableChunk) -> None:
        self._chunk = chunk

    async def next_piece(self) -> Piece:
        """Return the chunk."""
        return Piece(chunks=(self._chunk,))

    def go_on(self, row: KeyValues | None, elapsed_s: float) -> bool:  # noqa: ARG002 (there is nothing to go on with)
        """Return False."""
        return False


class RowsInOrder:
    """So many rows, in the order of the primary key; then as many behind the last of them."""

    def __init__(self, left: KeyPieces, order: Key) -> None:
        self._left = left
        self._order = sql.MYSQL.ordered(order)

    async def next_piece(self) -> Piece:
        """Return the next rows."""
        count = self._left.row_count
        suffix = f"{self._order} LIMIT {count}"
        return Piece(chunks=self._left.rest, hint=_PRIMARY, suffix=suffix, row_limit=count)

    def go_on(self, row: KeyValues | None, elapsed_s: float) -> bool:
        """Go on behind the last row, unless there were fewer than asked for."""
        if row is not None:
            self._left.go_on_behind(row, elapsed_s)
        return row is not None


class RowsUpToKeys:
    """The rows up to a key that the index was asked for; then those up to another one behind it."""

    def __init__(self, left: KeyPieces, connection: WireConnection, request: ChunkRequest, statistics: ReadStatistics):
        self._left = left
        self._connection = connection
        self._selection = request.selection
        self._statistics = statistics
        self._last: KeyValues | None = None

    async def next_piece(self) -> Piece:
        """Return the rows up to the next key; all that are left where there are few, or no index would be used."""
        self._last = await self._find_last()
        return Piece(chunks=self._left.rest if self._last is None else self._left.until(self._last))

    def go_on(self, row: KeyValues | None, elapsed_s: float) -> bool:  # noqa: ARG002 (the key is known before)
        """Go on behind that key."""
        if self._last is not None:
            self._left.go_on_behind(self._last, elapsed_s)
        return self._last is not None

    async def _find_last(self) -> KeyValues | None:
        search = self._left.search
        statement = sql.MYSQL.nth_key(search)
        if not is_by_index(await plan_of(self._connection, statement)):
            return None
        with self._statistics.statement():
            rows = await rows_of(self._connection, statement)
        if not rows:
            return None
        last = key_values(search.within.key, [text for text in rows[0] if text is not None])
        piece = sql.MYSQL.select(self._selection, ["*"], *self._left.until(last))
        return last if is_by_range(await plan_of(self._connection, piece)) else None


def is_by_index(steps: Sequence[dict[str, str | None]]) -> bool:
    """Return whether a plan reads tables by an index only, and sorts nothing."""
    return all(
        (step["table"] or "").startswith("<derived")
        or (step["key"] is not None and "filesort" not in (step["extra"] or ""))
        for step in steps
    )


def is_by_range(steps: Sequence[dict[str, str | None]]) -> bool:
    """Return whether a plan reads a part of an index, not all of it."""
    return is_by_index(steps) and all(step["type"] != "index" for step in steps)


@asynccontextmanager
async def chosen_pieces(
    connection: WireConnection, request: ChunkRequest, statistics: ReadStatistics
) -> AsyncIterator[Pieces]:
    """Give the pieces of a chunk, for statements that all see one state."""
    left = key_pieces(request, FIRST_BATCHES * request.batch_rows)
    if left is None or isinstance(request.selection, Query):
        yield Whole(request.chunk)
        return
    is_in_order = await _lies_in_order(connection, request.selection, request)
    if not is_in_order and not await _pays_to_divide(connection, request.selection, request.chunk, left.row_count):
        yield Whole(request.chunk)
        return
    async with AsyncExitStack() as stack:
        if request.snapshot is None:
            if not await has_snapshots(connection, request.selection):
                yield Whole(request.chunk)
                return
            await stack.enter_async_context(one_state(connection))
        if is_in_order:
            yield RowsInOrder(left, request.order)
        else:
            yield RowsUpToKeys(left, connection, request, statistics)


async def _pays_to_divide(connection: WireConnection, relation: Relation, chunk: TableChunk, first_rows: int) -> bool:
    """Return whether a chunk is read by an index and has more rows than a first piece, as the server expects it.

    Where the whole chunk costs a scan of the table, pieces by another index would cost more.
    """
    if isinstance(chunk, Everything):
        return True  # its order is that of the first key, in which rows lie
    steps = await plan_of(connection, sql.MYSQL.select(relation, ["*"], chunk))
    return is_by_range(steps) and any(int(step["rows"] or 0) > first_rows for step in steps)


async def _lies_in_order(connection: WireConnection, relation: Relation, request: ChunkRequest) -> bool:
    """Return whether a table is stored in the order of a request, and the rows that come say exactly where in it they are."""
    order = {part.column: part.kind for part in request.order}
    plain = {column.name for column in request.columns if _travels_as_it_is(column)}
    if not (order.keys() <= plain and _EXACT.issuperset(order.values())):
        return False
    if await primary_key(connection, relation) != tuple(order):
        return False
    texts = [name for name, kind in order.items() if kind is KeyKind.TEXT]
    return not texts or all(
        character_set in _EXACT_CHARACTER_SETS
        for name, character_set in (await character_sets(connection, relation)).items()
        if name in texts
    )


def _travels_as_it_is(column: Column) -> bool:
    return column.carrier is None and column.chosen_from is None and column.on_invalid is OnInvalid.ERROR
