"""The event stream of quire, a CI runner, as a record.

Owns what its lines mean.  Must not know files, nor what becomes of the events.

Its lines have a time and a type, but no header, no number and no name for a call; the last have three vocabularies.  So the number of a line
becomes ``seq``, a finish belongs to the call of its job that was started first and is open, and the monotonic clock is made of the
wall clock, standing still while that goes back.  What its values have lost stays lost: -1 is some signal, and a command is a text
that cannot be split into words again.

A damaged line costs that line.  The last line counts without its newline too, if it is whole.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias, assert_never

from procflow.record.envelope import Event, EventCodec, Head, MalformedEventError, Unknown, stamped
from procflow.record.events import (
    EXITED,
    FAILED,
    SIGNALED,
    SUCCEEDED,
    JobFinished,
    JobStarted,
    RunEvent,
    RunFinished,
    ShFinished,
    ShStarted,
    Totals,
)
from procflow.record.fold.view import RunFold, RunView
from procflow.record.reading.lines import LineCutter
from procflow.record.reading.reader import MAX_OFFSETS, Health
from procflow.record.reading.states import RecordState

OUTCOMES: Final = {
    "complete": SUCCEEDED,
    "success": SUCCEEDED,
    "succeeded": SUCCEEDED,
    "failed": FAILED,
    "pipeline_failure": FAILED,
    "pipeline-failure": FAILED,
}
"""Its words and ours; a word that is not here stays as it is."""

_BY_SIGNAL: Final = -1
_MAX_AT_MS: Final = 2**63 // 1_000_000 - 1
"""Nanoseconds up to there fit 64 bits."""
_MAX_EXIT_CODE: Final = 2**31


class _Line(Event, frozen=True, kw_only=True):
    """A line of quire; its envelope has ``at_ms`` alone, and in the first days not even that."""


class _JobStarted(_Line, tag="job_started", frozen=True, kw_only=True):
    job_id: str


class _JobFinished(_Line, tag="job_finished", frozen=True, kw_only=True):
    job_id: str
    outcome: str


class _JobCompleted(_Line, tag="job_completed", frozen=True, kw_only=True):
    job_id: str


class _JobFailed(_Line, tag="job_failed", frozen=True, kw_only=True):
    job_id: str


class _ShStarted(_Line, tag="sh_started", frozen=True, kw_only=True):
    job_id: str
    cmd: str


class _ShFinished(_Line, tag="sh_finished", frozen=True, kw_only=True):
    job_id: str
    exit_code: int


class _RunFinished(_Line, tag="run_finished", frozen=True, kw_only=True):
    outcome: str


_QuireEvent: TypeAlias = (
    _JobStarted | _JobFinished | _JobCompleted | _JobFailed | _ShStarted | _ShFinished | _RunFinished
)

_TYPES: Final = (_JobStarted, _JobFinished, _JobCompleted, _JobFailed, _ShStarted, _ShFinished, _RunFinished)


class QuireReader:
    """Reads one stream of quire, from its bytes as they come."""

    def __init__(self) -> None:
        self._codec: EventCodec[_QuireEvent] = EventCodec(_TYPES)
        self._lines = LineCutter()
        self._translator = _Translator()
        self._count = 0
        self._corrupt = 0
        self._corrupt_offsets: list[int] = []
        self._unknown = 0
        self._is_complete = False
        self._is_finished = False

    @property
    def is_finished(self) -> bool:
        """Whether the terminal event was read."""
        return self._is_finished

    @property
    def health(self) -> Health:
        """What was wrong with what was read so far; a damaged line leaves no gap that is told apart from it."""
        return Health(
            corrupt=self._corrupt,
            corrupt_offsets=tuple(self._corrupt_offsets),
            unknown=self._unknown,
            torn_bytes=0 if self._is_complete else self._lines.pending_bytes,
            clock_step_ms=self._translator.clock_step_ms,
        )

    def feed(self, data: bytes) -> Iterator[RunEvent | Unknown]:
        """Yield an event for each line that ends in ``data``.

        The iterator must be used up before the next call.
        """
        for offset, raw in self._lines.feed(data):
            event = self._event(raw)
            if event is not None:
                yield event
            elif raw is None or raw.strip():
                self._note_corrupt(offset)

    def finish(self) -> Iterator[RunEvent | Unknown]:
        """Yield the event of the last line, if it is whole and only its newline is missing; nothing may be fed after this."""
        rest = self._lines.rest()
        event = self._event(rest) if rest else None
        if event is not None:
            self._is_complete = True
            yield event

    def _event(self, raw: bytes | None) -> RunEvent | Unknown | None:
        seq, self._count = self._count, self._count + 1
        if raw is None:
            return None
        try:
            found = self._codec.decode(raw)
            event = self._translator.translate(found, seq)
        except MalformedEventError:
            return None
        self._unknown += isinstance(event, Unknown)
        self._is_finished = self._is_finished or isinstance(event, RunFinished)
        return event

    def _note_corrupt(self, offset: int) -> None:
        self._corrupt += 1
        if len(self._corrupt_offsets) < MAX_OFFSETS:
            self._corrupt_offsets.append(offset)


def view_of_quire(blocks: Iterable[bytes]) -> RunView:
    """Return what a whole stream says.  Without its last event it is that of a run that crashed."""
    reader, folding = QuireReader(), RunFold()
    for block in blocks:
        for event in reader.feed(block):
            folding.add(event)
    for event in reader.finish():
        folding.add(event)
    state = RecordState.FINISHED if reader.is_finished else RecordState.CRASHED
    return folding.view(state=state, health=reader.health)


class _Translator:
    """Says in our words what quire says, line by line."""

    def __init__(self) -> None:
        self._first_at_ms: int | None = None
        self._at_ms = 0
        self._mono_ns = 0
        self.clock_step_ms = 0
        self._attempts: dict[str, int] = {}
        self._jobs = 0
        self._job_began_ns: dict[str, int] = {}
        self._calls = 0
        self._calls_of: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._open: defaultdict[str, deque[tuple[int, int, int]]] = defaultdict(deque)  # attempt, sh, when it began

    def translate(self, event: _QuireEvent | Unknown, seq: int) -> RunEvent | Unknown:
        if isinstance(event, Unknown):
            self._note_time(event.head.at_ms)
            place = Head(type=event.head.type, seq=seq, at_ms=self._at_ms, mono_ns=self._mono_ns)
            return Unknown(head=place, raw=event.raw)
        if isinstance(event, _ShFinished) and abs(event.exit_code) > _MAX_EXIT_CODE:
            raise MalformedEventError(b"", "its exit code does not fit")
        self._note_time(event.at_ms)
        return stamped(self._said(event), seq=seq, at_ms=self._at_ms, mono_ns=self._mono_ns)

    def _said(self, event: _QuireEvent) -> RunEvent:
        match event:
            case _JobStarted():
                return self._job_started(event.job_id)
            case _JobFinished():
                return self._job_finished(event.job_id, OUTCOMES.get(event.outcome, event.outcome))
            case _JobCompleted():
                return self._job_finished(event.job_id, SUCCEEDED)
            case _JobFailed():
                return self._job_finished(event.job_id, FAILED)
            case _ShStarted():
                return self._sh_started(event)
            case _ShFinished():
                return self._sh_finished(event)
            case _RunFinished():
                outcome = OUTCOMES.get(event.outcome, event.outcome)
                totals = Totals(jobs=self._jobs, sh=self._calls, dropped=0, redacted=0)
                return RunFinished(outcome=outcome, duration_ns=self._mono_ns, totals=totals)
            case _:
                assert_never(event)

    def _note_time(self, at_ms: int) -> None:
        if at_ms > _MAX_AT_MS:
            raise MalformedEventError(b"", "its time does not fit")
        at_ms = at_ms if at_ms >= 0 else self._at_ms
        if self._first_at_ms is None:
            self._first_at_ms = self._at_ms = at_ms
        self.clock_step_ms = min(self.clock_step_ms, at_ms - self._at_ms)
        self._at_ms = at_ms
        self._mono_ns = max(self._mono_ns, (at_ms - self._first_at_ms) * 1_000_000)

    def _job_started(self, job_id: str) -> JobStarted:
        attempt = self._attempts[job_id] = self._attempts.get(job_id, 0) + 1
        self._jobs += 1
        self._job_began_ns[job_id] = self._mono_ns
        return JobStarted(job_id=job_id, attempt=attempt)

    def _job_finished(self, job_id: str, outcome: str) -> JobFinished:
        duration_ns = self._mono_ns - self._job_began_ns.get(job_id, self._mono_ns)
        attempt = self._attempts.get(job_id, 1)
        return JobFinished(job_id=job_id, attempt=attempt, outcome=outcome, duration_ns=duration_ns)

    def _sh_started(self, event: _ShStarted) -> ShStarted:
        attempt, sh = self._next_call(event.job_id)
        self._open[event.job_id].append((attempt, sh, self._mono_ns))
        return ShStarted(job_id=event.job_id, attempt=attempt, sh=sh, argv=(), cmd=event.cmd, cwd="")

    def _sh_finished(self, event: _ShFinished) -> ShFinished:
        line = self._open[event.job_id]
        attempt, sh, began_ns = line.popleft() if line else (*self._next_call(event.job_id), self._mono_ns)
        is_signaled = event.exit_code == _BY_SIGNAL
        return ShFinished(
            job_id=event.job_id,
            attempt=attempt,
            sh=sh,
            outcome=SIGNALED if is_signaled else EXITED,
            exit_code=None if is_signaled else event.exit_code,
            duration_ns=self._mono_ns - began_ns,
            stdout_bytes=0,
            stderr_bytes=0,
        )

    def _next_call(self, job_id: str) -> tuple[int, int]:
        attempt = self._attempts.get(job_id, 1)
        self._calls += 1
        self._calls_of[job_id, attempt] += 1
        return attempt, self._calls_of[job_id, attempt]
