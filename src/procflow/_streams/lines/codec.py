"""What a line splitter must know about a text encoding.

Owns byte order marks, the width of a code unit and where text may be cut.  Must not know lines.
"""

from __future__ import annotations

import codecs
import sys
from typing import Final

_PAGES: Final = (
    "437 720 737 775 850 852 855 857 858 860 861 862 863 865 866 869 874 1250 1251 1252 1253 1254 1255 1256 1257 1258"
)
_PARTS: Final = "1 2 3 4 5 6 7 8 9 10 11 13 14 15 16"
ASCII_SUPERSETS: Final = frozenset(
    [
        "utf-8",
        "ascii",
        "koi8-r",
        "koi8-u",
        "mac-roman",
        "mac-cyrillic",
        "mac-greek",
        "mac-latin2",
        "mac-turkish",
        "ptcp154",
        "tis-620",
    ]
    + [f"cp{page}" for page in _PAGES.split()]
    + [f"iso8859-{part}" for part in _PARTS.split()]
)
"""Codecs in which an ASCII byte stands for itself, wherever it is, and for nothing else: many lines can be decoded at once."""
FAITHFUL_ERRORS: Final = frozenset({"strict", "replace", "surrogateescape"})
"""Handlers that put no ASCII character for bytes that do not decode, and do not bring their neighbours together."""

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

    __slots__ = ("_decode", "errors", "is_ascii_superset", "name", "newline", "return_", "width")

    def __init__(self, name: str, errors: str) -> None:
        self.name = name
        self.errors = errors
        self.newline = "\n".encode(name)
        self.return_ = "\r".encode(name)
        self.width = 4 if name.startswith("utf-32") else 2 if name.startswith("utf-16") else 1
        # looking a codec up costs more than decoding a line; these are not looked up
        self._decode = None if name in ("utf-8", "ascii", "iso8859-1") else codecs.lookup(name).decode
        self.is_ascii_superset = name in ASCII_SUPERSETS

    def decode(self, data: bytes | memoryview) -> str:
        """Decode bytes that begin and end at a character."""
        decode = self._decode
        return str(data, self.name, self.errors) if decode is None else decode(data, self.errors)[0]

    def decode_all(self, pieces: list[bytes]) -> list[str]:
        """Decode each of ``pieces``."""
        decode, errors = self._decode, self.errors
        if decode is None:
            name = self.name
            return [str(piece, name, errors) for piece in pieces]
        return [decode(piece, errors)[0] for piece in pieces]

    def cut_before(self, data: bytes, stop: int) -> int:
        """Return the last border of a character at or before ``stop``; ``stop`` if there is none after the start."""
        piece = data[:stop]
        if self.is_ascii_superset and piece.isascii():
            return stop
        decoder = codecs.getincrementaldecoder(self.name)("replace")
        if not decoder.decode(piece):
            return stop
        pending = decoder.getstate()[0]
        if pending and len(pending) < stop and piece.endswith(pending):
            return stop - len(pending)
        return stop
