"""Collectors: the first and the newest of a stream within a bound, with exact books of what is missing.

Pure: fed with items, asked for a value at any time.  Every byte costs the same on average, whatever the bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, cast

from procflow._streams.consumers.results import CapturedLines
from procflow.events import Chunk, Cut, CutLine, Gap
from procflow.outcome import Captured

PIECES: Final = 1024
"""How many stretches without a gap each end keeps at most, so that the books stay small too; further ones are dropped."""


class ByteCollector:
    """Keeps the first ``head_bytes`` and the newest ``tail_bytes`` of what follows them."""

    __slots__ = (
        "_head",
        "_head_bytes",
        "_head_gaps",
        "_head_stop",
        "_is_head_open",
        "_start",
        "_stop",
        "_tail",
        "_tail_bytes",
        "_tail_gaps",
        "_tail_start",
    )

    def __init__(self, start: int, *, head_bytes: int, tail_bytes: int) -> None:
        self._start = self._stop = self._head_stop = self._tail_start = start
        self._head_bytes = head_bytes
        self._tail_bytes = tail_bytes
        self._is_head_open = head_bytes > 0
        self._head = bytearray()
        self._head_gaps: list[Gap] = []
        self._tail = bytearray()
        self._tail_gaps: deque[Gap] = deque()  # between kept bytes, or after them

    def feed(self, item: Chunk | Gap) -> None:
        """Take the next item."""
        self._stop = item.stop
        if isinstance(item, Gap):
            self._note_gap(item)
            return
        data = item.data
        if self._is_head_open:
            room = self._head_bytes - len(self._head)
            head = data[:room]
            self._head += head
            self._head_stop = item.offset + len(head)
            if len(data) < room:
                return
            self._is_head_open = False
            data = data[room:]
        if self._tail_bytes and data:
            self._add_to_tail(data)

    def _note_gap(self, gap: Gap) -> None:
        if self._is_head_open:
            if len(self._head_gaps) < PIECES:
                self._head_gaps.append(gap)
                self._head_stop = gap.stop
            else:
                self._is_head_open = False
        elif self._tail:
            self._tail_gaps.append(gap)
            if len(self._tail_gaps) >= PIECES:
                self._drop(self._tail_gaps[0].start - self._tail_start)

    def _add_to_tail(self, data: bytes) -> None:
        bound = self._tail_bytes
        if len(data) >= bound:
            self._tail = bytearray(data[-bound:])
            self._tail_gaps.clear()
            self._tail_start = self._stop - bound
            return
        if not self._tail:
            self._tail_start = self._stop - len(data)
        self._tail += data
        if len(self._tail) > 2 * bound:  # seldom, so that what moves costs little per byte
            self._drop(len(self._tail) - bound)

    def _drop(self, count: int) -> None:
        """Drop the first ``count`` bytes of the tail, and the gaps before what is left."""
        del self._tail[:count]
        while self._tail_gaps and self._tail_start + count >= self._tail_gaps[0].start:
            count -= self._tail_gaps[0].start - self._tail_start
            self._tail_start = self._tail_gaps.popleft().stop
        self._tail_start += count

    def value(self, *, is_complete: bool) -> Captured:
        """Return what is kept now."""
        if len(self._tail) > self._tail_bytes:
            self._drop(len(self._tail) - self._tail_bytes)
        gaps = list(self._head_gaps)
        if not self._is_head_open:
            middle_stop = self._tail_start if self._tail else self._stop
            if middle_stop > self._head_stop:
                gaps.append(Gap(self._head_stop, middle_stop))
            gaps += self._tail_gaps
        gaps = joined(gaps)
        return Captured(
            bytes=bytes(self._head) + bytes(self._tail),
            lost_bytes=sum(gap.lost_bytes for gap in gaps),
            is_complete=is_complete,
            start=self._start,
            gaps=tuple(gaps),
        )


def joined(gaps: Iterable[Gap]) -> list[Gap]:
    """Return ``gaps``, which are in order, with neighbours made one."""
    result: list[Gap] = []
    for gap in gaps:
        if result and result[-1].stop == gap.start:
            result[-1] = Gap(result[-1].start, gap.stop)
        else:
            result.append(gap)
    return result


class LineCollector:
    """Keeps the first ``head_lines`` and the newest ``tail_lines`` of what follows them, ``max_bytes`` of text each."""

    __slots__ = (
        "_cut_lines",
        "_dropped_bytes",
        "_dropped_lines",
        "_head",
        "_head_left_bytes",
        "_head_lines",
        "_lost_bytes",
        "_max_bytes",
        "_tail",
        "_tail_lines",
        "_tail_text_bytes",
    )

    def __init__(self, *, head_lines: int, tail_lines: int, max_bytes: int) -> None:
        self._head_lines = head_lines  # 0 once the head has its last line
        self._tail_lines = tail_lines
        self._max_bytes = max_bytes
        self._head: list[str | Gap] = []
        self._head_left_bytes = max_bytes
        self._tail: deque[tuple[str | Gap, int, bool]] = deque()  # with its cost, and whether it was counted as dropped
        self._tail_text_bytes = 0
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._lost_bytes = 0
        self._cut_lines = 0

    def feed(self, items: Sequence[str | Gap]) -> None:
        """Take the next lines and gaps."""
        surplus = len(items) - self._tail_lines
        if surplus > 0 and not self._head_lines and set(map(type, items)) == {str}:
            # What cannot stay is counted together: it costs a tenth of being kept for a moment.
            for oldest, cost, is_dropped in self._tail:
                if not is_dropped:
                    self._count_dropped(oldest, cost)
            self._tail.clear()
            self._tail_text_bytes = 0
            self._dropped_lines += surplus
            self._dropped_bytes += text_bytes("".join(cast("Sequence[str]", items[:surplus])))
            items = items[surplus:]
        for item in items:
            if isinstance(item, Gap):
                cost = 0
                self._lost_bytes += item.lost_bytes
            else:
                cost = text_bytes(item)
                if isinstance(item, CutLine):
                    self._cut_lines += 1
                    self._lost_bytes += item.lost_bytes
            if self._head_lines:
                if len(self._head) < self._head_lines and cost <= self._head_left_bytes:
                    self._head.append(item)
                    self._head_left_bytes -= cost
                    continue
                self._head_lines = 0
            self._add_to_tail(item, cost)

    def _add_to_tail(self, item: str | Gap, cost: int) -> None:
        if not self._tail_lines:
            self._count_dropped(item, cost)
            return
        is_dropped = cost > self._max_bytes
        if is_dropped:
            self._count_dropped(item, cost)
            item, cost = CutLine("", cut=Cut.TRUNCATED, lost_bytes=cost), 0
        tail = self._tail
        tail.append((item, cost, is_dropped))
        self._tail_text_bytes += cost
        while len(tail) > self._tail_lines or self._tail_text_bytes > self._max_bytes:
            oldest, oldest_cost, is_dropped = tail.popleft()
            self._tail_text_bytes -= oldest_cost
            if not is_dropped:
                self._count_dropped(oldest, oldest_cost)

    def _count_dropped(self, item: str | Gap, cost: int) -> None:
        if not isinstance(item, Gap):
            self._dropped_lines += 1
            self._dropped_bytes += cost

    def value(self) -> CapturedLines:
        """Return what is kept now."""
        return CapturedLines(
            head=tuple(self._head),
            tail=tuple(item for item, _cost, _is_dropped in self._tail),
            dropped_lines=self._dropped_lines,
            dropped_bytes=self._dropped_bytes,
            lost_bytes=self._lost_bytes,
            cut_lines=self._cut_lines,
        )


def text_bytes(line: str) -> int:
    """Return the length of ``line`` in UTF-8."""
    return len(line) if line.isascii() else len(line.encode("utf-8", "surrogatepass"))
