"""Parts of a text that are taken out, and the text without them.

Problem: replacing one secret after the other leaves the tail of a secret that overlaps another, and rewrites the mark of one
secret where it looks like another secret.  So everything is found on the original first, and each part that holds any of it
is replaced once.  Must not know why a part is taken out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import AnyStr, NamedTuple


class Span(NamedTuple):
    """A part of a text, from ``start`` to before ``stop``, and the names of what was found in it."""

    start: int
    stop: int
    names: frozenset[str]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return ``spans`` from left to right, those that overlap or touch joined into one with the names of all."""
    joined: list[Span] = []
    for span in sorted(spans, key=attrgetter("start")):
        if joined and span.start <= joined[-1].stop:
            last = joined[-1]
            joined[-1] = Span(last.start, max(last.stop, span.stop), last.names | span.names)
        else:
            joined.append(span)
    return joined


def without(spans: Iterable[Span], holes: Sequence[tuple[int, int]]) -> list[Span]:
    """Return what is left of ``spans`` outside of ``holes``, which are sorted and do not overlap."""
    left: list[Span] = []
    for span in spans:
        start = span.start
        for hole_start, hole_stop in holes[bisect_right(holes, start, key=itemgetter(1)) :]:
            if hole_start >= span.stop:
                break
            if hole_start > start:
                left.append(Span(start, hole_start, span.names))
            start = hole_stop
        if start < span.stop:
            left.append(Span(start, span.stop, span.names))
    return left


def replaced(text: AnyStr, spans: Iterable[Span], mark: Callable[[frozenset[str]], AnyStr]) -> AnyStr:
    """Return ``text`` with each of ``spans``, which are merged, replaced by what ``mark`` makes of its names."""
    pieces: list[AnyStr] = []
    done = 0
    for span in spans:
        pieces += (text[done : span.start], mark(span.names))
        done = span.stop
    pieces.append(text[done:])
    # pyright takes an element of the list for a text or bytes; it is what `text` is.
    return text[:0].join(pieces)  # pyright: ignore[reportArgumentType]
