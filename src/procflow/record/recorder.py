"""The recorder: from something that happened to a line in every sink.

Owns numbers, times, the order of redaction, cutting and writing, and the end of the record.  Must not know runs, jobs or
processes, nor where lines go.

``emit()`` is synchronous: what it was told is written when it returns, so no cancellation can come between.  Any thread may
call it.  Each event is stamped, cleaned, cut and encoded once, whatever the number of sinks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from procflow.record.cleaning import clean
from procflow.record.clocks import Clock, StreamClock
from procflow.record.codec import RecordCodec
from procflow.record.cutting import fit
from procflow.record.events import EventsDropped, JobStarted, RecordEvent, RunFinished, ShStarted, Totals
from procflow.record.redaction.redactor import Redactor
from procflow.record.sinks.port import Dropped, Sink

_log = logging.getLogger("procflow.record")


class Recorder:
    """Writes the events of one run; made when the run begins, which is moment 0 of its monotonic clock.

    Args:
        sinks: Where every line goes; they are closed by ``aclose()``.
        redactor: What takes secrets out; ``None`` leaves every text as it is.
        clock: What tells the time.
    """

    def __init__(self, sinks: Sequence[Sink], *, redactor: Redactor | None = None, clock: Clock | None = None) -> None:
        self._sinks: Final = tuple(sinks)
        self.redactor: Final = redactor
        self._clock: Final = StreamClock(clock)
        self._codec: Final = RecordCodec()
        self.lock: Final = threading.RLock()
        """Held while an event is written: whoever holds it decides what comes next, and has one lock less to take in order."""
        self._pid: Final = os.getpid()
        self._seq = 0
        self._is_emitting = False
        self._later: deque[RecordEvent] = deque()  # what a finalizer or a sink said in the middle of an emit()
        self._is_over = False
        self._jobs = self._calls = 0
        self._failed: set[int] = set()
        self.refused_count = 0
        """Events that came after the end of the record."""

    def __repr__(self) -> str:
        return f"<Recorder, {self._seq} events, {len(self._sinks)} sinks{', over' if self._is_over else ''}>"

    @property
    def is_over(self) -> bool:
        """Whether the last line is written."""
        return self._is_over

    @property
    def is_here(self) -> bool:
        """Whether this is the process that records, and not a forked copy of it, which must not."""
        return os.getpid() == self._pid

    def mono_ns(self) -> int:
        """Nanoseconds since the record began."""
        return self._clock.mono_ns()

    def totals(self) -> Totals:
        """What was counted so far; lost events are those of the sink that has lost most."""
        redacted = self.redactor.statistics().replaced_count if self.redactor is not None else 0
        dropped = max((sink.lost_count for sink in self._sinks), default=0)
        return Totals(jobs=self._jobs, sh=self._calls, dropped=dropped, redacted=redacted)

    def emit(self, event: RecordEvent) -> None:
        """Write ``event``; when this returns it is in every sink that could take it.

        Does nothing in a forked copy of the host, and after ``RunFinished`` nothing but count.  An event that is emitted in the
        middle of another one, by a finalizer, follows it.

        Raises:
            UnrecordableError: If a number or a value of it cannot stand on a line; then no number was used up.
        """
        if not self.is_here:
            return
        with self.lock:
            if self._is_emitting:
                self._later.append(event)
                return
            self._is_emitting = True
            try:
                self._emit(event)
                while self._later:
                    self._emit(self._later.popleft())
            finally:
                self._is_emitting = False

    async def aclose(self) -> list[str]:
        """Close every sink, also if it is interrupted; return what was wrong with them, for people.  Idempotent."""
        interruption: BaseException | None = None
        for sink in self._sinks:
            try:
                await sink.aclose()
            except Exception as exc:  # noqa: BLE001 (the others are closed all the same)
                self._tell_failure(sink, exc)
            except BaseException as exc:  # noqa: BLE001 (as above, then it goes on)
                interruption = exc
        if interruption is not None:
            raise interruption
        return [sink.failure for sink in self._sinks if sink.failure]

    def _emit(self, event: RecordEvent) -> None:
        if self._is_over:
            self.refused_count += 1
            return
        for sink in self._sinks:
            dropped = self._recover(sink)
            if dropped is not None:
                self._write(_notice(dropped))
        self._write(event)
        match event:
            case JobStarted():
                self._jobs += 1
            case ShStarted():
                self._calls += 1
            case RunFinished():
                self._is_over = True

    def _write(self, event: RecordEvent) -> None:
        event = self._clock.stamped(event, seq=self._seq)
        if self.redactor is not None:
            event = clean(event, self.redactor)
        line, event = fit(event, self._codec)
        self._seq += 1
        for sink in self._sinks:
            try:
                sink.emit(line, event)
            except Exception as exc:  # noqa: BLE001 (neither the run nor the other sinks suffer from one)
                self._tell_failure(sink, exc)

    def _recover(self, sink: Sink) -> Dropped | None:
        try:
            return sink.recover()
        except Exception as exc:  # noqa: BLE001 (as above)
            self._tell_failure(sink, exc)
            return None

    def _tell_failure(self, sink: Sink, exc: Exception) -> None:
        if id(sink) not in self._failed:
            self._failed.add(id(sink))
            with contextlib.suppress(Exception):  # a handler of the host's logging may fail too
                _log.warning("%r failed; its next failures are not told", sink, exc_info=exc)


def _notice(dropped: Dropped) -> EventsDropped:
    return EventsDropped(
        count=dropped.count, first_seq=dropped.first_seq, last_seq=dropped.last_seq, reason=dropped.reason
    )
