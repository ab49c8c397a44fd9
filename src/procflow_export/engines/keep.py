"""The first and the last lines of something that may be endless.

Pure.  The first error of a child is often the cause and its last line always the verdict, so both are kept and the middle is
counted.
"""

from __future__ import annotations

from collections import deque
from typing import Final

HEAD_LINES: Final = 50
TAIL_LINES: Final = 150
MAX_LINE_CHARS: Final = 2_000


class HeadAndTail:
    """Lines in bounded memory: at most ``(head_lines + tail_lines) * max_line_chars`` characters."""

    __slots__ = ("_head", "_head_lines", "_max_line_chars", "_tail", "left_out_lines")

    def __init__(
        self, *, head_lines: int = HEAD_LINES, tail_lines: int = TAIL_LINES, max_line_chars: int = MAX_LINE_CHARS
    ) -> None:
        self._head: list[str] = []
        self._head_lines = head_lines
        self._tail: deque[str] = deque(maxlen=tail_lines)
        self._max_line_chars = max_line_chars
        self.left_out_lines = 0
        """Lines between head and tail that are gone."""

    def __repr__(self) -> str:
        return f"<HeadAndTail {len(self._head)} + {self.left_out_lines} left out + {len(self._tail)}>"

    def feed(self, line: str) -> None:
        """Take one more line; what exceeds its bound is cut and marked."""
        if len(line) > self._max_line_chars:
            line = f"{line[: self._max_line_chars]}… ({len(line) - self._max_line_chars} more characters)"
        if len(self._head) < self._head_lines:
            self._head.append(line)
            return
        self.left_out_lines += len(self._tail) == self._tail.maxlen
        self._tail.append(line)

    def text(self) -> str:
        """Return all that is kept, with one line in place of what is not."""
        middle = [f"… {self.left_out_lines} lines left out …"] if self.left_out_lines else []
        return "\n".join((*self._head, *middle, *self._tail))
