"""Bytes of a record in, events out, and an account of what is wrong with them.

Owns what a reader makes of damage: it costs the damaged line and nothing else, and it is counted.  Must not know files, clocks, nor
what events mean.

The same events come out however the bytes were cut, and reading may stop after any line and go on from ``position``.
Memory is bounded by the longest line, the remembered hashes and the gaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from procflow.record.codec import RecordCodec
from procflow.record.envelope import Head, MalformedEventError, Unknown
from procflow.record.errors import UnreadableRecordError
from procflow.record.events import EventsDropped, RunEvent, RunFinished, RunStarted
from procflow.record.reading.lines import LineCutter
from procflow.record.reading.sequence import Earlier, SeqGap, Sequence, Span, Verdict
from procflow.record.reading.versions import is_header

CLOCK_TOLERANCE_MS: Final = 50
"""The two clocks of an event are read one after the other, so they may differ by a little without a step."""

MAX_OFFSETS: Final = 100
"""How many corrupt lines are told with their place; all are counted."""


class Line(NamedTuple):
    """An event, and where in the file it stands; ``raw`` is its line without the newline."""

    offset: int
    event: RunEvent | Unknown
    raw: bytes

    @property
    def head(self) -> RunEvent | Head:
        """What has the number and the times, of whatever type the event is."""
        return self.event.head if isinstance(self.event, Unknown) else self.event


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a record; everything is 0 or empty for a whole one.

    Attributes:
        corrupt: Lines that are no event.
        corrupt_offsets: Where the first ``MAX_OFFSETS`` of them begin.
        unknown: Events of types that this release does not know; they are no defect.
        duplicates: Lines that were there before.
        conflicts: Lines with a number that another line has; the first was taken.
        gaps: Numbers without an event.
        dropped: Events that the writer could not write, as it says itself.
        torn_bytes: What stands behind the last newline.
        clock_step_ms: The largest step of the wall clock against the monotonic one, from one line to the next; negative if back.
    """

    corrupt: int = 0
    corrupt_offsets: tuple[int, ...] = ()
    unknown: int = 0
    duplicates: int = 0
    conflicts: int = 0
    gaps: tuple[SeqGap, ...] = ()
    dropped: int = 0
    torn_bytes: int = 0
    clock_step_ms: int = 0

    @property
    def missing(self) -> int:
        """How many numbers have no event, whatever explains them."""
        return sum(gap.last - gap.first + 1 for gap in self.gaps)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is damaged or missing: unknown types and steps of the clock are no damage."""
        return not (self.corrupt or self.duplicates or self.conflicts or self.gaps or self.dropped or self.torn_bytes)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a reader is, between two lines: another one goes on from there as if it had read everything before.

    One thing is not kept: what earlier lines looked like.  Unless the other one can ask for them, a conflict with one of them then
    counts as a duplicate.
    """

    offset: int = 0
    next_seq: int = 0
    gaps: tuple[Span, ...] = ()
    dropped_spans: tuple[Span, ...] = ()
    health: Health = Health()
    clock_offset_ms: int | None = None
    has_header: bool = False
    is_finished: bool = False


class RecordReader:
    """Reads one record, from its bytes as they come."""

    def __init__(self, path: str = "", *, position: Position = Position(), earlier: Earlier | None = None) -> None:
        """Begin at ``position``; ``path`` is for messages only, ``earlier`` gives the last lines before ``position``."""
        self._path = path
        self._codec = RecordCodec()
        self._lines = LineCutter(offset=position.offset)
        self._sequence = Sequence(
            next_seq=position.next_seq, gaps=position.gaps, dropped=position.dropped_spans, earlier=earlier
        )
        health = position.health
        self._corrupt = health.corrupt
        self._corrupt_offsets = list(health.corrupt_offsets)
        self._unknown = health.unknown
        self._duplicates = health.duplicates
        self._conflicts = health.conflicts
        self._dropped = health.dropped
        self._clock_step_ms = health.clock_step_ms
        self._clock_offset_ms = position.clock_offset_ms
        self._has_header = position.has_header
        self._is_finished = position.is_finished

    @property
    def is_finished(self) -> bool:
        """Whether the terminal event was read."""
        return self._is_finished

    @property
    def has_events(self) -> bool:
        """Whether anything was read that is an event."""
        return self._sequence.next_seq > 0

    @property
    def health(self) -> Health:
        """What was wrong with what was read so far."""
        return Health(
            corrupt=self._corrupt,
            corrupt_offsets=tuple(self._corrupt_offsets),
            unknown=self._unknown,
            duplicates=self._duplicates,
            conflicts=self._conflicts,
            gaps=self._sequence.explained_gaps(),
            dropped=self._dropped,
            torn_bytes=self._lines.pending_bytes,
            clock_step_ms=self._clock_step_ms,
        )

    @property
    def position(self) -> Position:
        """Where this reader is: behind the last newline.  Bytes behind that are to be fed again."""
        return Position(
            offset=self._lines.offset,
            next_seq=self._sequence.next_seq,
            gaps=self._sequence.gaps,
            dropped_spans=self._sequence.dropped,
            health=msgspec.structs.replace(self.health, torn_bytes=0),
            clock_offset_ms=self._clock_offset_ms,
            has_header=self._has_header,
            is_finished=self._is_finished,
        )

    @property
    def next_offset(self) -> int:
        """Where the bytes begin that were not fed yet."""
        return self._lines.offset + self._lines.pending_bytes

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the events whose lines end in ``data``, in the order of the file; what was read before is left out.

        The iterator must be used up before the next call; if it is not, go on with another reader from ``position``.

        Raises:
            UnreadableRecordError: If the record needs another release to be read; nothing of it was yielded then.
        """
        for offset, raw in self._lines.feed(data):
            event = self._event(offset, raw)
            if event is not None and raw is not None:
                yield Line(offset, event, raw)

    def check_is_record(self) -> None:
        """Judge what was read to its end.

        Raises:
            UnreadableRecordError: If there are lines and none of them is an event: the file is something else.
        """
        if self._corrupt and not self.has_events:
            raise UnreadableRecordError(path=self._path, reason="no line of it is an event")

    def _event(self, offset: int, raw: bytes | None) -> RunEvent | Unknown | None:
        if raw is not None and not raw.strip():
            return None  # a writer that resynchronises writes a newline alone
        if raw is not None and not self._has_header:
            self._has_header = is_header(raw, self._path)
        try:
            event = self._codec.decode(raw) if raw is not None else None
        except MalformedEventError:
            event = None
        if event is None or raw is None:
            self._corrupt += 1
            if len(self._corrupt_offsets) < MAX_OFFSETS:
                self._corrupt_offsets.append(offset)
            return None
        return event if self._is_new(event, raw) else None

    def _is_new(self, event: RunEvent | Unknown, raw: bytes) -> bool:
        head = event.head if isinstance(event, Unknown) else event
        match self._sequence.judge(head.seq, raw):
            case Verdict.DUPLICATE:
                self._duplicates += 1
                return False
            case Verdict.CONFLICT:
                self._conflicts += 1
                return False
            case Verdict.NEW:
                self._note_clock(head.at_ms, head.mono_ns)
        match event:
            case Unknown():
                self._unknown += 1
            case EventsDropped():
                self._dropped += max(event.count, 0)
                self._sequence.note_dropped(event.first_seq, event.last_seq)
            case RunFinished():
                self._is_finished = True
            case _:
                pass
        return True

    def _note_clock(self, at_ms: int, mono_ns: int) -> None:
        offset = at_ms - mono_ns // 1_000_000
        step = offset - self._clock_offset_ms if self._clock_offset_ms is not None else 0
        if abs(step) > max(abs(self._clock_step_ms), CLOCK_TOLERANCE_MS):
            self._clock_step_ms = step
        self._clock_offset_ms = offset


def header_of(line: Line) -> RunStarted | None:
    """Return the header if ``line`` is one."""
    return line.event if isinstance(line.event, RunStarted) else None
