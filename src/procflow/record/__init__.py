"""The record of a run: what every line of an event stream looks like, and what can be read out of it again.

Owns the envelope and the codec, the events of a run, the reader and the fold; the recorder and its sinks join them here.

``load()`` gives a whole record as a ``RunView``, ``read_events()`` its events one by one, ``ingest()`` puts it into a database.
"""

from __future__ import annotations

from procflow.record.codec import RecordCodec
from procflow.record.envelope import UNSTAMPED, Event, EventCodec, Head, MalformedEventError, Unknown, stamped
from procflow.record.errors import (
    ForeignRecordError,
    RecordBusyError,
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
from procflow.record.replaying import replay
from procflow.record.retention.choice import ListedRecord, Retention
from procflow.record.retention.listing import records_in
from procflow.record.retention.pruning import Pruned, prune
from procflow.record.scrubbing.scrub import Scrubbed, scrub
from procflow.record.sinks.port import Sink
from procflow.record.sinks.targets import Target, parse_target
from procflow.record.store.reports import IngestReport, StoredRun
from procflow.record.storing import forget, ingest, record_from, reproject, runs_in, view_from
from procflow.record.survivors import Orphan, orphans
from procflow.record.tailing import Tail, tail

__all__ = (
    "FORMAT",
    "UNSTAMPED",
    "CallKey",
    "CallRow",
    "CancelRequested",
    "ErrorInfo",
    "Event",
    "EventCodec",
    "EventsDropped",
    "ForeignRecordError",
    "Head",
    "Health",
    "IngestReport",
    "JobDeclared",
    "JobFinished",
    "JobKey",
    "JobRow",
    "JobSkipped",
    "JobStarted",
    "Line",
    "ListedRecord",
    "MalformedEventError",
    "Note",
    "NoteRow",
    "Orphan",
    "Position",
    "Pruned",
    "RecordBusyError",
    "RecordCodec",
    "RecordEvent",
    "RecordReader",
    "RecordState",
    "RedactionInfo",
    "ReplacedRecordError",
    "Retention",
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
    "Target",
    "Totals",
    "Trace",
    "Unknown",
    "UnknownRunError",
    "UnreadableRecordError",
    "UnrecordableError",
    "UnusableDatabaseError",
    "Usage",
    "forget",
    "ingest",
    "load",
    "orphans",
    "parse_target",
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
