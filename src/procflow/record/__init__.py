"""The record of a run: what every line of an event stream looks like, and what can be read out of it again.

Owns the envelope and the codec, the events of a run, the reader and the fold; the recorder and its sinks join them here.

``load()`` gives a whole record as a ``RunView``, ``read_events()`` its events one by one, and ``tail()`` while they are written.
``records_in()`` and ``prune()`` are about many records, ``replay()``, ``orphans()`` and ``scrub()`` about one, and ``ingest()`` puts it
into a database.

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
        ForeignRecordError,
        JobsFailedError,
        JobSkippedError,
        RecordBusyError,
        RecordLostError,
        ReplacedRecordError,
        UnknownRunError,
        UnreadableRecordError,
        UnrecordableError,
        UnusableDatabaseError,
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
    from procflow.record.replaying import replay
    from procflow.record.retention.choice import ListedRecord, Retention
    from procflow.record.retention.listing import records_in
    from procflow.record.retention.pruning import Pruned, prune
    from procflow.record.scrubbing.scrub import Scrubbed, scrub
    from procflow.record.sinks.files import Durability
    from procflow.record.sinks.pipes import WhenFull
    from procflow.record.sinks.port import Sink
    from procflow.record.store.reports import IngestReport, StoredRun
    from procflow.record.storing import forget, ingest, record_from, reproject, runs_in, view_from
    from procflow.record.survivors import Orphan, orphans
    from procflow.record.tailing import Tail, tail

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
    "ForeignRecordError",
    "Head",
    "Health",
    "IngestReport",
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
    "ListedRecord",
    "MalformedEventError",
    "Note",
    "NoteRow",
    "OpenJob",
    "Orphan",
    "Position",
    "Pruned",
    "RecordBusyError",
    "RecordCodec",
    "RecordEvent",
    "RecordLostError",
    "RecordReader",
    "RecordState",
    "RedactionInfo",
    "ReplacedRecordError",
    "Retention",
    "Run",
    "RunEvent",
    "RunFinished",
    "RunFold",
    "RunRow",
    "RunStarted",
    "RunView",
    "Scrubbed",
    "SeqGap",
    "ShFinished",
    "ShSpawned",
    "ShStarted",
    "Sink",
    "StoredRun",
    "Tail",
    "Totals",
    "Trace",
    "Unknown",
    "UnknownRunError",
    "UnreadableRecordError",
    "UnrecordableError",
    "UnusableDatabaseError",
    "Usage",
    "WhenFull",
    "forget",
    "ingest",
    "load",
    "open_run",
    "orphans",
    "prune",
    "read_events",
    "record_from",
    "records_in",
    "replay",
    "reproject",
    "runs_in",
    "scrub",
    "stamped",
    "state_of",
    "tail",
    "view_from",
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
        "ForeignRecordError",
        "JobSkippedError",
        "JobsFailedError",
        "RecordBusyError",
        "RecordLostError",
        "ReplacedRecordError",
        "UnknownRunError",
        "UnreadableRecordError",
        "UnrecordableError",
        "UnusableDatabaseError",
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
    "procflow.record.replaying": ("replay",),
    "procflow.record.retention.choice": (
        "ListedRecord",
        "Retention",
    ),
    "procflow.record.retention.listing": ("records_in",),
    "procflow.record.retention.pruning": (
        "Pruned",
        "prune",
    ),
    "procflow.record.scrubbing.scrub": (
        "Scrubbed",
        "scrub",
    ),
    "procflow.record.sinks.files": ("Durability",),
    "procflow.record.sinks.pipes": ("WhenFull",),
    "procflow.record.sinks.port": ("Sink",),
    "procflow.record.store.reports": (
        "IngestReport",
        "StoredRun",
    ),
    "procflow.record.storing": (
        "forget",
        "ingest",
        "record_from",
        "reproject",
        "runs_in",
        "view_from",
    ),
    "procflow.record.survivors": (
        "Orphan",
        "orphans",
    ),
    "procflow.record.tailing": (
        "Tail",
        "tail",
    ),
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
