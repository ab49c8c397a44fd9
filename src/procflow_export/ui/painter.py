"""Rows of text that stay in place on a terminal, and lines that scroll away above them.

Owns the escape codes.  Must not know what the rows mean.

Why not ``rich.live.Live``: it remembers how many rows it wrote, not how many rows they take *now*.  When a terminal is made
narrower it wraps what is already there, the cursor climbs too little, and a ghost of the old picture stays behind with every
resize.  Here the climb is computed from the cells that were written and the width of this moment.  Known hole: a terminal that
cuts instead of wrapping (plain xterm) loses as many rows of earlier output as its picture would have wrapped to.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

_BEGIN: Final = "\x1b[?2026h\x1b[?25l\x1b[?7l"
"""Synchronised update, hidden cursor, no automatic wrap: a row that a terminal finds wider than we do is cut, not wrapped."""
_END: Final = "\x1b[?7h\x1b[?2026l"
_SHOW_CURSOR: Final = "\x1b[?25h"
_CLEAR_LINE: Final = "\x1b[2K"
_CLEAR_REST: Final = "\x1b[J"
FALLBACK_SIZE: Final = os.terminal_size((80, 24))


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Return the size of the terminal behind ``stream`` at this moment; 80 × 24 where it is unknown."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, io.UnsupportedOperation):
        return FALLBACK_SIZE
    return found if found.columns > 0 and found.lines > 0 else FALLBACK_SIZE


class Painter:
    """Draws on one terminal.  After ``close()``, or once the terminal is gone, every call does nothing."""

    __slots__ = ("_cells", "_closed", "_console", "_stream", "_width")

    def __init__(self, stream: TextIO, *, has_color: bool = True) -> None:
        self._stream = stream
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system="auto" if has_color else None,
            no_color=not has_color,
            width=10_000,
            highlight=False,
            legacy_windows=False,
        )
        self._cells: list[int] = []
        """Cells of each row of the picture that is on the terminal now."""
        self._width = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<Painter {'closed' if self._closed else f'{len(self._cells)} rows'}>"

    @property
    def size(self) -> os.terminal_size:
        """The terminal's size at this moment."""
        return terminal_size(self._stream)

    def paint(self, rows: Sequence[Text], *, above: Sequence[Text] = ()) -> None:
        """Replace the picture by ``rows``; first let ``above`` scroll away over it.

        ``rows`` must be no wider and fewer than the terminal's: ``layout.render_board`` sees to that.  Blocks as long as the
        terminal does (Ctrl-S): call it from a thread.
        """
        width = self.size.columns
        out = [_BEGIN, self._climb(width)]
        resized = width != self._width
        if resized or above:
            out.append(_CLEAR_REST)
        out.extend(f"\x1b[?7h{_CLEAR_LINE}{self._ansi(line)}\r\n\x1b[?7l" for line in above)
        # Cleared before, not after: behind a full row the cursor stands on the last cell and would clear that.
        out.append("\r\n".join(f"{_CLEAR_LINE}{self._ansi(row)}" for row in rows))
        if len(rows) < len(self._cells):
            out.append(f"\r\n{_CLEAR_REST}\x1b[A" if rows else _CLEAR_REST)
        out.append(_END)
        self._write("".join(out))
        self._cells = [row.cell_len for row in rows]
        self._width = width

    def close(self, last: Sequence[Text] = ()) -> None:
        """Take the picture away, leave ``last`` in its place, give the cursor back; idempotent."""
        if self._closed:
            return
        out = [self._climb(self.size.columns), _CLEAR_REST] if self._cells else []
        out.extend(f"{self._ansi(line)}\r\n" for line in last)
        out.append(_SHOW_CURSOR)
        self._write("".join(out))
        self._cells = []
        self._closed = True

    def _climb(self, width: int) -> str:
        taken = sum(max(1, -(-cells // width)) for cells in self._cells)
        return f"\r\x1b[{taken - 1}A" if taken > 1 else "\r"

    def _ansi(self, line: Text) -> str:
        with self._console.capture() as capture:
            self._console.print(line, end="", soft_wrap=True)
        return capture.get()

    def _write(self, text: str) -> None:
        if self._closed:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._closed = True  # the terminal was closed: the export goes on without a picture
