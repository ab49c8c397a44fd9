"""How much of a chunk one statement reads, so that none is long: decided from how long the last ones took.

Owns the arithmetic, which does not know what the widths are of, and what is left of a chunk that is read by a key.  Pure:
whoever reads says how long it took.

A chunk that is read in one snapshot may be read in several statements, one after the other into one stream: the rows, and
where the order is the same the bytes, are those of a single one.  Short statements are kind to a server: its limits on
statements hold for any table, and whoever looks at it sees nothing that has run for minutes.

The pace is time as the server sees it, with whatever the reader lets it wait.  A piece is never so wide that it would take
longer than ``LONGEST_S`` at the dearest price that was paid so far, which fades: one stall must not leave a large table in
small pieces for hours.  Below that it grows fast, because empty stretches cost nothing, and shrinks at once.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import Bound, Key, KeyValues
from procflow_export.model.plan import Everything, KeyRange, NullKeys, Query, Selection, TableChunk
from procflow_export.sources.port import ChunkRequest, KeySearch

TARGET_S: Final = 0.7
LONGEST_S: Final = 1.4
MAX_GROWTH: Final = 4
"""How much wider the next piece may be than the last."""
FADING: Final = 0.98
"""What is left of a price after each piece: half of it after 34 pieces, that is after half a minute."""
MOST_ROWS: Final = 1_000_000
"""Rows of any piece by a key: of the rows that follow nobody knows how long they are."""


class Pacer:
    """Says how wide the next piece is.

    Args:
        first: Width of the first piece: what surely does not take long.
        most: No piece is wider.
    """

    def __init__(self, *, first: int, most: int) -> None:
        if not 0 < first <= most:
            raise ValueError("the first piece is at least 1 wide and no wider than the widest")
        self._most = most
        self._width = first
        self._dearest_s = 0.0

    @property
    def width(self) -> int:
        """How wide the next piece is; at least 1."""
        return self._width

    def note(self, elapsed_s: float) -> None:
        """Take note of how long a piece of ``width`` took."""
        self._dearest_s = max(FADING * self._dearest_s, elapsed_s / self._width)
        wanted = self._width * MAX_GROWTH
        if elapsed_s * MAX_GROWTH > TARGET_S:
            wanted = int(self._width * TARGET_S / elapsed_s)
        if self._dearest_s * wanted > LONGEST_S:
            wanted = int(LONGEST_S / self._dearest_s)
        self._width = min(max(wanted, 1), self._most)


def key_pieces(request: ChunkRequest, first_rows: int) -> KeyPieces | None:
    """Return the pieces of a chunk by the key of its request, the first of so many rows; ``None`` where no key orders its rows."""
    if not request.order or isinstance(request.selection, Query) or isinstance(request.chunk, NullKeys):
        return None
    return KeyPieces(request.selection, request.chunk, request.order, first_rows=first_rows)


class KeyPieces:
    """What is left of a chunk that is read in the order of a key: the piece that ends with a key, and what lies behind it.

    A piece and the rest exclude each other by the same value of the same key, so every row is in one of them, whatever the
    database takes for larger.

    Args:
        selection: What the chunk is of.
        chunk: The chunk.
        order: The key; see ``ChunkRequest.order``.
        first_rows: Rows of the first piece.
    """

    def __init__(self, selection: Selection, chunk: TableChunk, order: Key, *, first_rows: int) -> None:
        self._selection = selection
        self._among: tuple[TableChunk, ...] = ()
        match chunk:
            case KeyRange(key=key, low=low, high=high) if order[: len(key)] == key:
                self._left = KeyRange(key=order, low=low, high=high)
            case Everything():
                self._left = KeyRange(key=order)
            case _:
                self._left, self._among = KeyRange(key=order), (chunk,)
        self._pacer = Pacer(first=min(max(first_rows, 1), MOST_ROWS), most=MOST_ROWS)

    @property
    def row_count(self) -> int:
        """How many rows the next piece has, if there are as many."""
        return self._pacer.width

    @property
    def rest(self) -> tuple[TableChunk, ...]:
        """All that is left: the rows that are in every one of these."""
        return (self._left, *self._among)

    @property
    def search(self) -> KeySearch:
        """What finds the last key of the next piece."""
        return KeySearch(selection=self._selection, within=self._left, among=self._among, nth=self.row_count)

    def until(self, last: KeyValues) -> tuple[TableChunk, ...]:
        """Return the piece that ends with a key, like ``rest``."""
        return (replace(self._left, high=Bound(last, is_inclusive=True)), *self._among)

    def go_on_behind(self, last: KeyValues, elapsed_s: float) -> None:
        """Take note that everything up to a key was read, and how long it took.

        Raises:
            SourceError: If the key is where this piece began: no order to go on in.
        """
        low = Bound(last, is_inclusive=False)
        if low == self._left.low:
            raise SourceError(
                Code.PLAN_KEY_NOT_USABLE, f"{last[0]} is not above itself in the order of {self._left.column!r}"
            )
        self._left = replace(self._left, low=low)
        self._pacer.note(elapsed_s)
