"""What a line splitter must know about a text encoding.

Owns byte order marks, the width of a code unit and where text may be cut.  Must not know lines.
"""

from __future__ import annotations

import codecs
import sys
from typing import Final

BLOCK_CODECS: Final = frozenset({"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"})
"""Codecs for which decoding many lines at once equals decoding each: ASCII bytes stand for themselves and nothing else."""
BLOCK_ERRORS: Final = frozenset({"strict", "replace", "ignore", "backslashreplace", "surrogateescape"})

_NATIVE: Final = "le" if sys.byteorder == "little" else "be"
_MARKS: Final[dict[str, tuple[tuple[bytes, str], ...]]] = {
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    "utf-8-sig": ((codecs.BOM_UTF8, "utf-8"),),
}
_UNMARKED: Final = {"utf-16": f"utf-16-{_NATIVE}", "utf-32": f"utf-32-{_NATIVE}", "utf-8-sig": "utf-8"}


def sniff(encoding: str, head: bytes, *, is_final: bool) -> tuple[str, int] | None:
    """Return the codec for a stream that begins with ``head`` and the length of its byte order mark.

    ``None`` means that ``head`` is too short to tell; never with ``is_final``.
    """
    name = codecs.lookup(encoding).name
    marks = _MARKS.get(name)
    if marks is None:
        return name, 0
    for mark, codec in marks:
        if head.startswith(mark):
            return codec, len(mark)
    if not is_final and any(mark.startswith(head) for mark, _ in marks):
        return None
    return _UNMARKED[name], 0


class TextCodec:
    """One encoding without a byte order mark, and an error handler."""

    __slots__ = ("can_decode_blocks", "errors", "name", "newline", "return_", "width")

    def __init__(self, name: str, errors: str) -> None:
        self.name = name
        self.errors = errors
        self.newline = "\n".encode(name)
        self.return_ = "\r".encode(name)
        self.width = 4 if name.startswith("utf-32") else 2 if name.startswith("utf-16") else 1
        self.can_decode_blocks = name in BLOCK_CODECS and errors in BLOCK_ERRORS

    def decode(self, data: bytes) -> str:
        """Decode bytes that begin and end at a character."""
        return str(data, self.name, self.errors)

    def cut_before(self, data: bytes, stop: int) -> int:
        """Return the last border of a character at or before ``stop``; ``stop`` if there is none after the start."""
        piece = data[:stop]
        decoder = codecs.getincrementaldecoder(self.name)("replace")
        if not decoder.decode(piece):
            return stop
        pending = decoder.getstate()[0]
        if pending and len(pending) < stop and piece.endswith(pending):
            return stop - len(pending)
        return stop
