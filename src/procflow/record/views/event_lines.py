"""One event as one line for people.

Owns the words.  Must not know terminals, colours, nor where events come from.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

import msgspec

from procflow.record.envelope import Unknown
from procflow.record.events import (
    EXITED,
    SUCCEEDED,
    CancelRequested,
    ErrorInfo,
    EventsDropped,
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    Note,
    RunEvent,
    RunFinished,
    RunStarted,
    ShFinished,
    ShSpawned,
    ShStarted,
)
from procflow.record.fold.rows import JobKey
from procflow.record.views.looks import Look
from procflow.record.views.spans import job_label
from procflow.record.views.words import bytes_text, counted, duration_text, printable


class EventLine(NamedTuple):
    """A line in three parts; nothing in them moves the cursor.  ``look`` is ``None`` for what neither begins nor ends anything."""

    time: str
    who: str
    what: str
    look: Look | None


def event_line(event: RunEvent | Unknown) -> EventLine:
    """Return what ``event`` says: when, since the run began; which job, or ``run``; what."""
    if isinstance(event, Unknown):
        return _line(event.head.mono_ns, "run", f"an event of the unknown type {event.head.type}", None)
    at_ns = event.mono_ns
    match event:
        case RunStarted():
            words = f"{event.name} begins: {event.run_id}, on {event.host}, pid {event.pid}"
            return _line(at_ns, "run", words, Look.OPEN)
        case JobDeclared():
            words = f"declared, after {', '.join(event.after)}" if event.after else "declared"
            return _line(at_ns, event.job_id, words, Look.WAITING)
        case JobStarted():
            return _line(at_ns, job_label(JobKey(event.job_id, event.attempt)), "started", Look.OPEN)
        case ShStarted() | ShSpawned() | ShFinished():
            words, look = _call_words(event)
            who = job_label(JobKey(event.job_id, event.attempt))
            return _line(at_ns, who, f"[{event.sh}] {words}", look)
        case JobFinished():
            words = f"{event.outcome} after {duration_text(event.duration_ns)}{_error(event.error)}"
            who = job_label(JobKey(event.job_id, event.attempt))
            return _line(at_ns, who, words, Look.FINE if event.outcome == SUCCEEDED else Look.BAD)
        case JobSkipped():
            because = f" because of {', '.join(event.because)}" if event.because else ""
            return _line(at_ns, event.job_id, f"skipped{because}", Look.SKIPPED)
        case Note():
            value = msgspec.json.encode(event.value).decode()
            return _line(at_ns, event.job_id or "run", f"note {event.key} = {value}", None)
        case CancelRequested():
            by = f" ({event.signal})" if event.signal else ""
            return _line(at_ns, "run", f"asked to end: {event.reason}{by}", Look.STOPPED)
        case EventsDropped():
            words = f"{counted(event.count, 'event')} lost, {event.first_seq} to {event.last_seq}: {event.reason}"
            return _line(at_ns, "run", words, Look.LOST)
        case RunFinished():
            words = f"{event.outcome} after {duration_text(event.duration_ns)}"
            return _line(at_ns, "run", words, Look.FINE if event.outcome == SUCCEEDED else Look.BAD)
        case _:
            assert_never(event)


def _call_words(event: ShStarted | ShSpawned | ShFinished) -> tuple[str, Look | None]:
    match event:
        case ShStarted():
            return f"$ {event.cmd}", Look.OPEN
        case ShSpawned():
            return f"pid {event.pid}", None
        case ShFinished():
            ending = event.signal or event.outcome
            if event.outcome == EXITED and event.exit_code is not None:
                ending = f"exit {event.exit_code}"
            elif event.signal and event.outcome != "signaled":
                ending = f"{event.outcome} by {event.signal}"
            output = f"{bytes_text(event.stdout_bytes)} out, {bytes_text(event.stderr_bytes)} err"
            is_fine = event.outcome == EXITED and event.exit_code == 0
            words = f"{ending} after {duration_text(event.duration_ns)}, {output}{_error(event.error)}"
            return words, Look.FINE if is_fine else Look.BAD
        case _:
            assert_never(event)


def _error(error: ErrorInfo | None) -> str:
    return f": {error.type}: {error.message}" if error is not None else ""


def _line(at_ns: int, who: str, what: str, look: Look | None) -> EventLine:
    return EventLine(duration_text(at_ns), printable(who), printable(what), look)
