"""Finding a known value in a text: every occurrence, those that overlap each other too.

Rejected: one regular expression of all values.  It skips what overlaps a match, and is seven times slower than one plain
search a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

from procflow.redaction.spans import Span

Text = TypeVar("Text", str, bytes)

_STRIDE: Final = 4096


class Needle(Generic[Text]):
    """A text that is searched for, and the names of the secrets that it belongs to.

    Attributes:
        text: What is searched for; not empty.
        names: Whose it is.
    """

    __slots__ = ("_period", "names", "text")

    def __init__(self, text: Text, names: frozenset[str]) -> None:
        self.text: Final[Text] = text
        self.names: Final = names
        self._period = 0

    def __repr__(self) -> str:
        return f"<Needle of {', '.join(sorted(self.names))}>"

    def runs(self, text: Text) -> Iterator[tuple[int, int]]:
        """Yield the places of all occurrences from left to right; those that follow at the smallest distance are one place.

        Linear in ``len(text)`` also where a value such as ``aaaa`` overlaps itself everywhere.
        """
        needle: Text = self.text
        at = text.find(needle)
        while at >= 0:
            stop = at + len(needle)
            period = self._period = self._period or _smallest_period(needle)
            tail = needle[-period:]
            long_tail = tail * (_STRIDE // period or 1)
            while text[stop : stop + len(long_tail)] == long_tail:
                stop += len(long_tail)
            while text[stop : stop + period] == tail:
                stop += period
            yield at, stop
            at = text.find(needle, stop - len(needle) + 1)


def held_bytes(needle: bytes, text: bytes) -> int:
    """Return how many bytes at the end of ``text`` are the beginning of ``needle``, but not all of it."""
    if not text:
        return 0
    last = text[-1:]
    longest = min(len(needle) - 1, len(text))
    while longest > 0 and (longest := needle.rfind(last, 0, longest) + 1) > 0:
        if text.endswith(needle[:longest]):
            return longest
        longest -= 1
    return 0


def found(text: Text, needles: Iterable[Needle[Text]]) -> list[Span]:
    """Return where ``needles`` are in ``text``: not merged, in no order."""
    return [
        Span(start, stop, needle.names)
        for needle in needles
        if needle.text in text
        for start, stop in needle.runs(text)
    ]


def _smallest_period(needle: str | bytes) -> int:
    # The failure function of Knuth, Morris and Pratt: its last value is the length of the longest border.
    borders = [0] * len(needle)
    for at in range(1, len(needle)):
        border = borders[at - 1]
        while border and needle[at] != needle[border]:
            border = borders[border - 1]
        borders[at] = border + (needle[at] == needle[border])
    return len(needle) - borders[-1]
