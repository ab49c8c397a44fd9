"""The record of a run: what every line of an event stream looks like, and what can be read out of it again.

Owns the envelope and the codec, the events of a run, the reader and the fold; the recorder and its sinks join them here.

``load()`` gives a whole record as a ``RunView``, ``read_events()`` its events one by one.

A name is imported when it is first used: whoever needs the envelope alone, such as a worker that talks to its parent in it, pays for
neither readers nor views.  ``from procflow.record import load`` pays at once, which is what a program with an event loop wants.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from procflow.record.codec import RecordCodec
    from procflow.record.envelope import UNSTAMPED, Event, EventCodec, Head, MalformedEventError, Unknown, stamped
    from procflow.record.errors import (
        JobsFailedError,
        JobSkippedError,
        RecordLostError,
        UnreadableRecordError,
        UnrecordableError,
    )
    from procflow.record.events import (
        FORMAT,
        CancelRequested,
        ErrorInfo,
        EventsDropped,
        JobDeclared,
        JobFinished,
        JobSkipped,
        JobStarted,
        Note,
        RecordEvent,
        RedactionInfo,
        RunEvent,
        RunFinished,
        RunStarted,
        ShFinished,
        ShSpawned,
        ShStarted,
        Totals,
        Trace,
        Usage,
    )
    from procflow.record.fold.rows import CallKey, CallRow, JobKey, JobRow, NoteRow, RunRow
    from procflow.record.fold.view import RunFold, RunView
    from procflow.record.loading import load, read_events, state_of
    from procflow.record.reading.reader import Health, Line, Position, RecordReader
    from procflow.record.reading.sequence import SeqGap
    from procflow.record.reading.states import RecordState
    from procflow.record.recording.described import ArgvChoice
    from procflow.record.recording.jobs import Job
    from procflow.record.recording.open_job import OpenJob
    from procflow.record.recording.run import LateSecretWarning, Run, open_run
    from procflow.record.recording.runner import JobSpec
    from procflow.record.recording.settings import EventTarget
    from procflow.record.sinks.files import Durability
    from procflow.record.sinks.pipes import WhenFull

__all__ = (
    "FORMAT",
    "UNSTAMPED",
    "ArgvChoice",
    "CallKey",
    "CallRow",
    "CancelRequested",
    "Durability",
    "ErrorInfo",
    "Event",
    "EventCodec",
    "EventTarget",
    "EventsDropped",
    "Head",
    "Health",
    "Job",
    "JobDeclared",
    "JobFinished",
    "JobKey",
    "JobRow",
    "JobSkipped",
    "JobSkippedError",
    "JobSpec",
    "JobStarted",
    "JobsFailedError",
    "LateSecretWarning",
    "Line",
    "MalformedEventError",
    "Note",
    "NoteRow",
    "OpenJob",
    "Position",
    "RecordCodec",
    "RecordEvent",
    "RecordLostError",
    "RecordReader",
    "RecordState",
    "RedactionInfo",
    "Run",
    "RunEvent",
    "RunFinished",
    "RunFold",
    "RunRow",
    "RunStarted",
    "RunView",
    "SeqGap",
    "ShFinished",
    "ShSpawned",
    "ShStarted",
    "Totals",
    "Trace",
    "Unknown",
    "UnreadableRecordError",
    "UnrecordableError",
    "Usage",
    "WhenFull",
    "load",
    "open_run",
    "read_events",
    "stamped",
    "state_of",
)

_HOMES: Final = {
    "procflow.record.codec": ("RecordCodec",),
    "procflow.record.envelope": (
        "Event",
        "EventCodec",
        "Head",
        "MalformedEventError",
        "UNSTAMPED",
        "Unknown",
        "stamped",
    ),
    "procflow.record.errors": (
        "JobSkippedError",
        "JobsFailedError",
        "RecordLostError",
        "UnreadableRecordError",
        "UnrecordableError",
    ),
    "procflow.record.events": (
        "CancelRequested",
        "ErrorInfo",
        "EventsDropped",
        "FORMAT",
        "JobDeclared",
        "JobFinished",
        "JobSkipped",
        "JobStarted",
        "Note",
        "RecordEvent",
        "RedactionInfo",
        "RunEvent",
        "RunFinished",
        "RunStarted",
        "ShFinished",
        "ShSpawned",
        "ShStarted",
        "Totals",
        "Trace",
        "Usage",
    ),
    "procflow.record.fold.rows": (
        "CallKey",
        "CallRow",
        "JobKey",
        "JobRow",
        "NoteRow",
        "RunRow",
    ),
    "procflow.record.fold.view": (
        "RunFold",
        "RunView",
    ),
    "procflow.record.loading": (
        "load",
        "read_events",
        "state_of",
    ),
    "procflow.record.reading.reader": (
        "Health",
        "Line",
        "Position",
        "RecordReader",
    ),
    "procflow.record.reading.sequence": ("SeqGap",),
    "procflow.record.reading.states": ("RecordState",),
    "procflow.record.recording.described": ("ArgvChoice",),
    "procflow.record.recording.jobs": ("Job",),
    "procflow.record.recording.open_job": ("OpenJob",),
    "procflow.record.recording.run": (
        "LateSecretWarning",
        "Run",
        "open_run",
    ),
    "procflow.record.recording.runner": ("JobSpec",),
    "procflow.record.recording.settings": ("EventTarget",),
    "procflow.record.sinks.files": ("Durability",),
    "procflow.record.sinks.pipes": ("WhenFull",),
}
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take every word for a name of this module

    def __getattr__(name: str) -> object:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(home), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
