"""Where the known secrets are in a text: a table of everything that is searched for, and the search.

Everything is found on the original and merged before anything is replaced.  Markers cut the text: what is found never
reaches into one.  Owns the table, which is a value: adding a secret makes a new one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Final, Self

from procflow.record.redaction.markers import longest_marker_bytes
from procflow.record.redaction.needles import forms_of, stripped
from procflow.redaction.matching import Needle, Text, found
from procflow.redaction.secret import SEARCHED_BYTES, Secret
from procflow.redaction.spans import Span

_FIRST_SURROGATE: Final = "\ud800"
_LAST_SURROGATE: Final = "\udfff"
_WORTH_A_LOOK_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NeedleTable:
    """Everything that is searched for.

    Attributes:
        in_bytes: The needles for bytes, the longest first.
        in_text: The same for texts.
        whole: Short secrets, which are replaced only where they are the whole of something, with their names.
        known: The names that a marker may have.
        hold_bytes: How many bytes at the end of a stream may be the beginning of something that matters.
        letters: The bytes of each needle of ``in_bytes``, and last those of all.
    """

    in_bytes: tuple[Needle[bytes], ...]
    in_text: tuple[Needle[str], ...]
    whole: Mapping[str, frozenset[str]]
    known: frozenset[str]
    hold_bytes: int
    letters: tuple[frozenset[int], ...]

    def likely_in(self, data: bytes) -> Sequence[Needle[bytes]]:
        """Return the needles that can be in ``data``: those of which no byte is missing there.

        A byte that is there is found at once, and one missing byte rules most needles out: text that lacks a few letters is
        searched several times as fast, and other text hardly slower.
        """
        if len(data) < _WORTH_A_LOOK_BYTES:
            return self.in_bytes
        missing = {letter for letter in self.letters[-1] if letter not in data}
        if not missing:
            return self.in_bytes
        return [needle for needle, own in zip(self.in_bytes, self.letters, strict=False) if missing.isdisjoint(own)]

    @classmethod
    def of(cls, secrets: Iterable[Secret[str] | Secret[bytes]], *, other_names: Iterable[str]) -> Self:
        """Return the table of ``secrets``; ``other_names`` may be in markers besides theirs."""
        forms: dict[bytes, frozenset[str]] = {}
        whole: dict[str, frozenset[str]] = {}
        known = set(other_names)
        for secret in secrets:
            known.add(secret.name)
            value = stripped(secret.reveal_bytes())
            own = frozenset((secret.name,))
            if len(value) < SEARCHED_BYTES:
                text = _as_text(value)
                whole[text] = whole.get(text, own) | own
                continue
            for form in forms_of(value):
                forms[form] = forms.get(form, own) | own
        ordered = sorted(forms, key=len, reverse=True)
        longest = len(ordered[0]) if ordered else 0
        own_letters = [frozenset(form) for form in ordered]
        return cls(
            in_bytes=tuple(Needle(form, forms[form]) for form in ordered),
            in_text=tuple(Needle(_as_text(form), forms[form]) for form in ordered),
            whole=MappingProxyType(whole),
            known=frozenset(known),
            letters=(*own_letters, frozenset[int]().union(*own_letters)),
            # A marker may begin inside of what looks like a secret, and then it is none.
            hold_bytes=longest - 1 + longest_marker_bytes(known) - 1 if longest else 0,
        )


def found_between(text: Text, needles: Sequence[Needle[Text]], holes: Sequence[tuple[int, int]]) -> list[Span]:
    """Return where ``needles`` are in the parts of ``text`` between ``holes``: not merged, in no order."""
    if not holes:
        return found(text, needles)
    spans: list[Span] = []
    start = 0
    for hole_start, hole_stop in (*holes, (len(text), len(text))):
        if hole_start > start:
            part = text[start:hole_start]
            spans += [Span(at + start, stop + start, names) for at, stop, names in found(part, needles)]
        start = hole_stop
    return spans


def found_in_text(text: str, table: NeedleTable, holes: Sequence[tuple[int, int]]) -> list[Span]:
    """Return where the secrets of ``table`` are in ``text`` outside of ``holes``: not merged, in no order.

    Where ``text`` holds bytes that are no UTF-8, as arguments of commands may, its bytes are searched: a secret may begin in
    the middle of what was read as one character.
    """
    if text.isascii() or not any(_FIRST_SURROGATE <= character <= _LAST_SURROGATE for character in text):
        return found_between(text, table.in_text, holes)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character of UTF-16, which no bytes stand for
        return found_between(text, table.in_text, holes)
    widths = (len(character.encode("utf-8", "surrogateescape")) for character in text)
    offsets = list(accumulate(widths, initial=0))
    holes_in_data = [(offsets[start], offsets[stop]) for start, stop in holes]
    return [
        Span(bisect_right(offsets, start) - 1, bisect_left(offsets, stop), names)
        for start, stop, names in found_between(data, table.in_bytes, holes_in_data)
    ]


def _as_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
