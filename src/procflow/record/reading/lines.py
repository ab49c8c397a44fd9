"""Bytes of a file in, lines with their offsets out.

Owns where lines begin and end.  Must not know what is on them, nor files.

A line is there once its newline is: what stands behind the last newline may be torn, or not yet whole, and is given out only when it
is.  A line without end takes no more memory than the bound; what it held is thrown away, and it comes out as ``None``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from procflow.record.cutting import MAX_LINE_BYTES

MAX_READ_LINE_BYTES: Final = 4 * MAX_LINE_BYTES
"""The longest line that is read; a later release may write longer ones than this does."""


class LineCutter:
    """Cuts the bytes of one file, from an offset on."""

    def __init__(self, *, offset: int = 0, max_line_bytes: int = MAX_READ_LINE_BYTES) -> None:
        """Begin at ``offset``, where a line begins."""
        self._max = max_line_bytes
        self._parts: list[bytes] = []
        self._held = 0
        self._is_overlong = False
        self.offset = offset
        """Where the line begins that is not given out yet."""
        self.pending_bytes = 0
        """How much of it is there."""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Yield the offset and the bytes of each line that ends in ``data``, without its newline.

        The iterator must be used up before the next call.
        """
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._add(data[start:end])
            offset, line = self.offset, None if self._is_overlong else b"".join(self._parts)
            self.offset += self.pending_bytes + 1
            self._clear()
            yield offset, line
            start = end + 1
        self._add(data[start:])

    def rest(self) -> bytes | None:
        """Return what stands behind the last newline, ``None`` if it is longer than any line."""
        return None if self._is_overlong else b"".join(self._parts)

    def _add(self, data: bytes) -> None:
        self.pending_bytes += len(data)
        if self.pending_bytes > self._max:
            self._is_overlong = True
            self._parts.clear()
        elif data:
            self._parts.append(data)

    def _clear(self) -> None:
        self._parts.clear()
        self.pending_bytes = 0
        self._is_overlong = False
