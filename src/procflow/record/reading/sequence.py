"""Which numbers of a record were seen, which are missing, and why.

Owns the bookkeeping of ``seq``.  Must not know lines, nor what events mean beside ``EventsDropped``.

What was seen is everything below the next number but the gaps, so the memory is that of the gaps, however long the record is.  A line
that comes late fills its place in a gap.  Of what was seen only the last lines are remembered, as hashes: enough to tell a line that
was written twice from two lines that took one number.  A number that is far too high, by a flipped bit, makes a large gap, which the
lines after it fill from its beginning.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, TypeAlias

import msgspec

MAX_GAPS: Final = 4096
"""How many gaps are kept apart; of more the oldest are only counted, and lines that come late for them count as repeated."""

REMEMBERED: Final = 1 << 15
"""How many lines are remembered to compare with."""

Span: TypeAlias = tuple[int, int]
"""First and last number."""

Earlier: TypeAlias = Callable[[], Iterable[tuple[int, bytes]]]
"""Gives the last ``REMEMBERED`` lines that were read before, oldest first, with their numbers."""


class Verdict(Enum):
    """What a number says about its line."""

    NEW = "new"
    DUPLICATE = "duplicate"
    """The line was there before; it is also this if the earlier one is too long ago to compare."""
    CONFLICT = "conflict"
    """Another line has the number."""


class SeqGap(msgspec.Struct, frozen=True, kw_only=True):
    """Events that are not in the record.

    Attributes:
        first: Number of the first.
        last: Number of the last.
        is_explained: Whether an ``EventsDropped`` speaks of them.
    """

    first: int
    last: int
    is_explained: bool


class Sequence:
    """The numbers of one record."""

    def __init__(
        self,
        *,
        next_seq: int = 0,
        gaps: tuple[Span, ...] = (),
        dropped: tuple[Span, ...] = (),
        earlier: Earlier | None = None,
    ) -> None:
        """Go on where another one was: with what it had of these three, and its lines if ``earlier`` can give them.

        ``earlier`` is asked once, when a line is there that may have been there before.
        """
        self.next_seq = next_seq
        self._earlier = earlier
        self._gaps: list[Span] = list(gaps)
        self._dropped: list[Span] = list(dropped)
        self._hashes: dict[int, int] = {}
        self._remembered: deque[int] = deque()  # their numbers, oldest first

    @property
    def gaps(self) -> tuple[Span, ...]:
        """The numbers that are missing, explained or not, in order."""
        return tuple(self._gaps)

    @property
    def dropped(self) -> tuple[Span, ...]:
        """The numbers that ``EventsDropped`` spoke of, in order and merged."""
        return tuple(self._dropped)

    def judge(self, seq: int, raw: bytes) -> Verdict:
        """Note a line with its number, which is 0 or more."""
        if seq >= self.next_seq:
            if seq > self.next_seq:
                self._add_gap((self.next_seq, seq - 1))
            self.next_seq = seq + 1
        elif not self._fill(seq):
            self._recall()
            known = self._hashes.get(seq)
            return Verdict.DUPLICATE if known is None or known == hash(raw) else Verdict.CONFLICT
        self._remember(seq, hash(raw))
        return Verdict.NEW

    def note_dropped(self, first: int, last: int) -> None:
        """Note that these numbers were given to events that could not be written."""
        if first > last:
            return
        merged: list[Span] = []
        for span in sorted([*self._dropped, (first, last)]):
            if merged and span[0] <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(span[1], merged[-1][1]))
            else:
                merged.append(span)
        self._dropped = merged[-MAX_GAPS:]

    def explained_gaps(self) -> tuple[SeqGap, ...]:
        """Return the gaps, cut where what explains them begins or ends."""
        found: list[SeqGap] = []
        for first, last in self._gaps:
            at = first
            index = max(bisect_right(self._dropped, (first, last)) - 1, 0)
            for start, stop in self._dropped[index:]:
                if start > last:
                    break
                if stop < at:
                    continue
                if start > at:
                    found.append(SeqGap(first=at, last=start - 1, is_explained=False))
                found.append(SeqGap(first=max(start, at), last=min(stop, last), is_explained=True))
                at = stop + 1
            if at <= last:
                found.append(SeqGap(first=at, last=last, is_explained=False))
        return tuple(found)

    def _recall(self) -> None:
        """Remember the lines from before this one went on, as if it had judged them."""
        if self._earlier is None:
            return
        since = [(seq, self._hashes[seq]) for seq in self._remembered]
        self._hashes.clear()
        self._remembered.clear()
        for seq, known in [*((seq, hash(raw)) for seq, raw in self._earlier()), *since]:
            self._remember(seq, known)
        self._earlier = None

    def _remember(self, seq: int, known: int) -> None:
        self._hashes[seq] = known
        self._remembered.append(seq)
        if len(self._remembered) > REMEMBERED:
            del self._hashes[self._remembered.popleft()]

    def _fill(self, seq: int) -> bool:
        """Take a number out of its gap; return whether it was in one."""
        index = bisect_right(self._gaps, seq, key=lambda span: span[0]) - 1
        if index < 0 or self._gaps[index][1] < seq:
            return False
        first, last = self._gaps[index]
        self._gaps[index : index + 1] = [span for span in ((first, seq - 1), (seq + 1, last)) if span[0] <= span[1]]
        return True

    def _add_gap(self, span: Span) -> None:
        self._gaps.append(span)
        if len(self._gaps) > MAX_GAPS:
            del self._gaps[0]
