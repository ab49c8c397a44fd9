"""What is said about records in a database.

Owns values only, so that whoever asks for them needs no database.  Must not know how they come about.
"""

from __future__ import annotations

from dataclasses import dataclass

from procflow.record.fold.rows import RunRow
from procflow.record.reading.reader import Health
from procflow.record.reading.states import RecordState


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest has done, and what is wrong with the record, which says nothing about how its run ended.

    Attributes:
        path: The record.
        run_id: What the run is called in the database; ``None`` if the record has no event yet, and nothing was written.
        event_count: Events that were new to the database.
        state: What the record is.
        health: What is wrong with it.
    """

    path: str
    run_id: str | None
    event_count: int
    state: RecordState
    health: Health


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run in a database.

    Attributes:
        run_id: What it is called there: its id, or, if the first line of its record was damaged, ``head-`` and a hash.
        path: Where its record was when it was ingested last; absolute.
        state: What the record was then; ``RUNNING`` also while it is being ingested.
        run: The run itself.
        health: What is wrong with the record.
    """

    run_id: str
    path: str
    state: RecordState
    run: RunRow
    health: Health
