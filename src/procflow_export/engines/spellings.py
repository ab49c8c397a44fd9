"""How a secret may be spelled in what a server, a driver or a program says, and what is left of it where that was cut.

Owns the spellings.  Pure.

A server repeats the part of a statement that it does not like, as it was sent (so in the literals of ``sources.parameters``), in
quotes, and often cut: MySQL after 80 characters.  Of a cut secret, the beginning stands at the end of such a quotation, or the
end at its beginning.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from procflow.redaction import Span
from procflow_export.sources.parameters import postgres_literal

MIN_CUT_CHARS: Final = 8
"""Fewer characters are found where they are no part of a secret, and say little of it."""
_QUOTES: Final = ("'", '"', "`")
_EDGES: Final = (*_QUOTES, "...", "…")
"""What stands at the edge of a quotation that was cut."""
_NOBODY: Final[frozenset[str]] = frozenset()


def spellings(secret: str) -> frozenset[str]:
    """Return the texts that a secret is searched as."""
    found = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        shlex.quote(secret),
        secret.replace("'", "''"),
        postgres_literal(secret)[2:-1],
    }
    if len(secret) >= MIN_CUT_CHARS:
        found.add(secret.encode(errors="surrogateescape").hex())  # MySQL's literals
    return frozenset(found)


def cuts(text: str, spelled: Iterable[str]) -> Iterator[Span]:
    """Yield where a beginning of a secret ends a quotation or the text, and where an end of one begins it."""
    for secret in spelled:
        if len(secret) <= MIN_CUT_CHARS:
            continue
        for start in _places(text, secret[:MIN_CUT_CHARS]):
            stop = start + _common(text[start:], secret)
            # The quotation's own quote may be taken for one of the secret.
            if text[stop - 1] in _QUOTES or text.startswith(_EDGES, stop) or stop == len(text):
                yield Span(start, stop, _NOBODY)
        for at in _places(text, secret[-MIN_CUT_CHARS:]):
            stop = at + MIN_CUT_CHARS
            start = stop - _common(text[:stop][::-1], secret[::-1])
            if text[start] in _QUOTES or text.endswith(_EDGES, 0, start) or start == 0:
                yield Span(start, stop, _NOBODY)


def _places(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _common(text: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    return next(
        (index for index, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]),
        min(len(text), len(other)),
    )
