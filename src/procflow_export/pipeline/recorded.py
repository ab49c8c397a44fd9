"""What a record has to say of a run of exports: its events, from which cards and summaries are made as if it ran now.

Owns the way from a file to events.  Must not know what is made of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from procflow.record import Note, Unknown, read_events
from procflow.record import RunEvent as RecordedEvent
from procflow_export.model.events import RUN_EVENT_TYPES, RunEvent
from procflow_export.model.notes import ExportEvent, event_of, note_codec


def export_events(events: Iterable[RecordedEvent | Unknown]) -> Iterator[ExportEvent]:
    """Yield what ``events``, those of a record, say of exports; what another release said is left out."""
    codec = note_codec()
    for event in events:
        said = event_of(event, codec) if isinstance(event, Note) else None
        if said is not None and not isinstance(said, Unknown):
            yield said


def read_run(record: str | os.PathLike[str]) -> Iterator[RunEvent]:
    """Yield the events of the run in ``record``, a file or the directory of a run, up to its end as it is now.

    They are those that the run itself has told, with numbers and times of the record; ``Progress`` less often, and secrets taken
    out.  Of a run that crashed or still goes on there is no ``RunFinished``.  This blocks on the disk.

    Raises:
        UnreadableRecordError: If there is no record, if it is none, or if it needs another release of procflow.
    """
    for event in export_events(line.event for line in read_events(record)):
        if isinstance(event, RUN_EVENT_TYPES):
            yield event
