"""What stands in the place of what was taken out: ``<redacted:name[,name]>``.

A marker is recognised by its names, which must be known, in order, and each there once: so a text that only looks like one,
and may hold a secret, is no marker, and no marker is longer than one with all names.  Owns how it is written and found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from procflow.redaction.matching import Text

_BEGIN: Final = "<redacted"
_BEGIN_BYTES: Final = _BEGIN.encode()
_LIKE: Final = re.compile(rf"{_BEGIN}(?::([A-Za-z0-9._,-]+))?>")
_LIKE_BYTES: Final = re.compile(_LIKE.pattern.encode())


def marker(names: Iterable[str]) -> str:
    """Return the marker for what belongs to ``names``."""
    return f"{_BEGIN}:{','.join(sorted(names))}>"


def longest_marker_bytes(known: Iterable[str]) -> int:
    """Return the length of the marker with all names; none is longer."""
    return len(marker(known))


def markers_in(text: Text, known: Collection[str]) -> list[tuple[int, int]]:
    """Return the places of the markers in ``text`` whose names are all in ``known``; ``<redacted>`` is one, too."""
    if isinstance(text, bytes):
        if _BEGIN_BYTES not in text:
            return []
        return [
            match.span()
            for match in _LIKE_BYTES.finditer(text)
            if match[1] is None or _is_genuine(match[1].decode(), known)
        ]
    if _BEGIN not in text:
        return []
    return [match.span() for match in _LIKE.finditer(text) if match[1] is None or _is_genuine(match[1], known)]


def holds_marker(text: str | bytes) -> bool:
    """Whether ``text`` has a part that could be taken for a marker, of whatever names."""
    return _LIKE_BYTES.search(text) is not None if isinstance(text, bytes) else _LIKE.search(text) is not None


def _is_genuine(listed: str, known: Collection[str]) -> bool:
    names = listed.split(",")
    return names == sorted(set(names)) and all(name in known for name in names)
