"""How the lines of one stream are written: their delimiter in their encoding.

Owns finding delimiters and decoding many lines at once.  Must not know what was found or given out before.
"""

from __future__ import annotations

from typing import Final

from procflow._streams.lines.codec import FAITHFUL_ERRORS, TextCodec
from procflow.events import Gap
from procflow.policies import LineConfig

ESCAPE_CHARACTERS: Final = frozenset(rb"\xuU0123456789abcdef")
"""What ``errors="backslashreplace"`` writes instead of bytes."""
COPY_BYTES: Final = 4096
"""Up to here a copy costs less than a view."""


class LineFormat:
    """A delimiter, with what may be done to find it fast."""

    __slots__ = (
        "_is_faithful",
        "_strips_return",
        "_text_delimiter",
        "codec",
        "delimiter",
        "is_simple",
        "overlap",
        "size",
        "spare",
        "splits_blocks",
    )

    def __init__(self, codec: TextCodec, config: LineConfig) -> None:
        self.codec = codec
        self._strips_return = config.delimiter is None
        self.delimiter = delimiter = codec.newline if config.delimiter is None else config.delimiter
        self.size = size = len(delimiter)
        self.overlap = size + codec.width - 2
        """Bytes at the end of an unfinished line that may be the beginning of a delimiter."""
        self.spare = size + (len(codec.return_) if self._strips_return else 0) - 1
        """Bytes at the end of an unfinished line that may turn out not to belong to it."""
        # a delimiter that begins as it ends may lie elsewhere when it is looked for from behind
        can_overlap = any(delimiter.startswith(delimiter[index:]) for index in range(1, size))
        self.splits_blocks = codec.width == 1 and not can_overlap
        """Whether every place where the bytes of the delimiter are is one."""
        self.is_simple = self.splits_blocks and size == 1
        self._text_delimiter: str | None = None  # where a decoded block may be split
        self._is_faithful = False  # whether that holds for bytes that do not decode, too
        if codec.is_ascii_superset and delimiter.isascii():
            self._text_delimiter = delimiter.decode("ascii")
            self._is_faithful = codec.errors in FAITHFUL_ERRORS or (
                codec.errors == "backslashreplace" and ESCAPE_CHARACTERS.isdisjoint(delimiter)
            )

    def find(self, data: bytes, position: int, base: int) -> int:
        """Find a delimiter that begins at a whole code unit; ``base`` is the absolute offset of ``data[0]``."""
        found = data.find(self.delimiter, position)
        while found >= 0 and (base + found) % self.codec.width:
            found = data.find(self.delimiter, found + 1)
        return found

    def end_of_short(self, data: bytes, position: int, *, pending_bytes: int, max_bytes: int) -> int:
        """Return where in ``data`` the lines end that are certainly short enough, from ``position`` on.

        The first one has begun ``pending_bytes`` before.  Takes one search for each ``max_bytes``.
        """
        delimiter, size = self.delimiter, self.size
        reach = max_bytes + size
        end = data.rfind(delimiter, position, position + max(0, reach - pending_bytes)) + size
        if end < size:
            return position
        while len(data) - end > reach:
            found = data.rfind(delimiter, end, end + reach)
            if found < 0:
                return end
            end = found + size
        return max(end, data.rfind(delimiter, end) + size)

    def strip(self, content: bytes) -> bytes:
        """Return a line without the CR that belongs to its delimiter."""
        return content.removesuffix(self.codec.return_) if self._strips_return else content

    def decode(self, content: bytes) -> str:
        """Decode one line."""
        return self.codec.decode(self.strip(content))

    def decode_lines(self, data: bytes, start: int, stop: int) -> list[str | Gap]:
        """Decode the lines in ``data[start:stop]``, which begin and end with whole ones, the last without its delimiter.

        Raises:
            UnicodeDecodeError: If one of them does not decode.
        """
        delimiter, codec = self._text_delimiter, self.codec
        may_have_return = self._strips_return and b"\r" in data
        if delimiter is not None and (self._is_faithful or data.isascii()):
            block = data[start:stop] if len(data) < COPY_BYTES else memoryview(data)[start:stop]
            lines: list[str | Gap] = codec.decode(block).split(delimiter)  # type: ignore[assignment]  # a list of str is one
            if may_have_return:
                return [line.removesuffix("\r") for line in lines]  # type: ignore[union-attr]  # all are str
            return lines
        pieces = data[start:stop].split(self.delimiter)
        if may_have_return:
            pieces = [piece.removesuffix(b"\r") for piece in pieces]
        return [*codec.decode_all(pieces)]
