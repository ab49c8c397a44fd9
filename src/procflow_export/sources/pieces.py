"""How much of a chunk one statement reads, so that none is long: decided from how long the last ones took.

Owns the arithmetic.  Pure; must not know what the widths are of: pages of a table, or values of a key.

A chunk that is read in one snapshot may be read in several statements, one after the other into one stream: the rows, and
where the order is the same the bytes, are those of a single one.  Short statements are kind to a server: its limits on
statements hold for any table, and whoever looks at it sees nothing that has run for minutes.

The pace is time as the server sees it, with whatever the reader lets it wait.  A piece is never so wide that it would take
longer than ``LONGEST_S`` at the dearest price that was paid so far; beyond that it grows fast, because empty stretches cost
nothing, and shrinks at once.
"""

from __future__ import annotations

from typing import Final

TARGET_S: Final = 0.7
LONGEST_S: Final = 1.4
MAX_GROWTH: Final = 4
"""How much wider the next piece may be than the last."""


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
        self._dearest_s = max(self._dearest_s, elapsed_s / self._width)
        wanted = self._width * MAX_GROWTH
        if elapsed_s * MAX_GROWTH > TARGET_S:
            wanted = int(self._width * TARGET_S / elapsed_s)
        if self._dearest_s * wanted > LONGEST_S:
            wanted = int(LONGEST_S / self._dearest_s)
        self._width = min(max(wanted, 1), self._most)
