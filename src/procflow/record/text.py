r"""Bytes of the operating system as text of a record.

Owns how an argument, a path or a message becomes a JSON string.  Must not know events, nor what is secret: redaction comes first.

POSIX arguments and paths are bytes.  Where they are UTF-8 the text is the whole truth.  Where they are not, the text shows each odd
byte as ``\xNN``, which cannot be read back, and the bytes stand beside it in base64.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """An argument vector as text; ``in_base64`` holds all its words as bytes if one of them is not UTF-8."""

    readable: tuple[str, ...]
    in_base64: tuple[str, ...] | None


def words(argv: Sequence[str | bytes]) -> Words:
    """Return ``argv``, which was redacted before, as text.  Nothing that exec would take is refused."""
    plain = [word for word in argv if isinstance(word, str) and word.isascii()]
    if len(plain) == len(argv):  # nearly always
        return Words(readable=tuple(plain), in_base64=None)
    raw = [as_bytes(word) for word in argv]
    if all(map(_is_utf8, raw)):
        return Words(readable=tuple(word.decode() for word in raw), in_base64=None)
    return Words(
        readable=tuple(readable(word) for word in raw), in_base64=tuple(base64.b64encode(word).decode() for word in raw)
    )


def path_text(path: str | bytes) -> tuple[str, str | None]:
    """Return ``path`` as text, and in base64 if it is not UTF-8."""
    if isinstance(path, str) and path.isascii():
        return path, None
    raw = as_bytes(path)
    return readable(raw), None if _is_utf8(raw) else base64.b64encode(raw).decode()


def readable(text: str | bytes) -> str:
    r"""Return ``text`` as Unicode, with ``\xNN`` for each byte that is not UTF-8."""
    return as_bytes(text).decode("utf-8", "backslashreplace")


def command_line(argv: Sequence[str]) -> str:
    """Return the words quoted for a shell: ``shlex.split()`` gives them back."""
    return shlex.join(argv)


def as_bytes(text: str | bytes) -> bytes:
    """Return what ``os.fsencode()`` would on a UTF-8 system, and something readable where that would fail."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Half a surrogate pair: no system call takes it, so no argument holds it, but a message may.
        return text.encode("utf-8", "surrogatepass")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
