"""Columns of text that fit a terminal.

Owns which columns give way when there is no room.  Must not know terminals: the caller says how wide it may be and how to paint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from procflow.record.views.looks import Look
from procflow.record.views.words import columns_of, fitted, printable

_BETWEEN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        head: What stands above it.
        is_right: Whether its cells end below each other, as numbers do.
        least: To how many columns of the terminal it may shrink; ``None`` if it may not.
        rank: What has the highest rank is left out first when nothing can shrink any more; 0 always stays.
    """

    head: str
    is_right: bool = False
    least: int | None = None
    rank: int = 0


def table_lines(
    columns: Sequence[Column],
    rows: Sequence[tuple[Look | None, Sequence[str]]],
    *,
    width: int | None,
    paint: Callable[[str, Look | None], str],
    painted: str = "",
    indent: str = "",
) -> list[str]:
    """Return a line of heads and a line for each row; ``width=None`` cuts nothing.

    The cell below the head ``painted`` has the colour of its row's look.
    """
    cells = [[printable(cell) for cell in row] for _, row in rows]
    natural = [
        max([columns_of(column.head), *(columns_of(row[index]) for row in cells)])
        for index, column in enumerate(columns)
    ]
    shown, widths = _fit(columns, natural, width - len(indent) if width is not None else None)
    heads = [column.head for column in columns]
    lines = []
    for look, row in [(None, heads), *zip([look for look, _ in rows], cells, strict=True)]:
        pieces = []
        for at in shown:
            column = columns[at]
            word = fitted(row[at], widths[at]).rstrip()
            fill = " " * (widths[at] - columns_of(word))
            if look is not None and column.head == painted:
                word = paint(word, look)
            pieces.append(fill + word if column.is_right else word + fill)
        lines.append((indent + (" " * _BETWEEN).join(pieces)).rstrip())
    return lines


def _fit(columns: Sequence[Column], natural: Sequence[int], width: int | None) -> tuple[list[int], list[int]]:
    """Return which columns are shown, and how wide each is."""
    shown, widths = list(range(len(columns))), list(natural)
    if width is None:
        return shown, widths
    while True:
        over = sum(widths[at] for at in shown) + _BETWEEN * (len(shown) - 1) - width
        for at in sorted(shown, key=lambda at: -widths[at]):
            least = columns[at].least
            if over > 0 and least is not None:
                given = min(over, max(widths[at] - max(least, columns_of(columns[at].head)), 0))
                widths[at] -= given
                over -= given
        dropped = max(shown, key=lambda at: columns[at].rank)
        if over <= 0 or columns[dropped].rank == 0:
            return shown, widths
        shown.remove(dropped)
        widths = list(natural)
