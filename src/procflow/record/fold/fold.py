"""Events in, rows out.

Owns which rows an event touches.  Must not know where they are kept, nor what is done to them: ``steps`` does.

The fold is total and deterministic: any events, in any order, with any left out or repeated, give rows, and every order gives the same
ones.  (Two events that share a number are no record; a reader lets only the first through, and so the first holds here.)
It remembers nothing beside the rows, so it may go on in another process from rows that were stored.
"""

from __future__ import annotations

from typing import Protocol, assert_never

from procflow.record.envelope import Unknown
from procflow.record.events import (
    CancelRequested,
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
from procflow.record.fold.rows import CallKey, CallRow, JobKey, JobRow, NoteRow, RunRow
from procflow.record.fold.steps import attempt_of, job_with_call, seen, step_call, step_job, step_note, step_run


class Rows(Protocol):
    """Where the rows of one run are kept: ``None`` for one that is not there yet."""

    def run(self) -> RunRow | None:
        """Return the run."""
        ...

    def put_run(self, row: RunRow) -> None:
        """Keep the run, in place of what was there."""
        ...

    def job(self, key: JobKey) -> JobRow | None:
        """Return an attempt at a job."""
        ...

    def put_job(self, row: JobRow) -> None:
        """Keep an attempt."""
        ...

    def call(self, key: CallKey) -> CallRow | None:
        """Return a call."""
        ...

    def put_call(self, row: CallRow) -> None:
        """Keep a call; its attempt is kept first."""
        ...

    def note(self, seq: int) -> NoteRow | None:
        """Return a note."""
        ...

    def put_note(self, row: NoteRow) -> None:
        """Keep a note."""
        ...


class MemoryRows:
    """Rows in dictionaries, in the order in which they came to be."""

    __slots__ = ("_run", "calls", "jobs", "notes")

    def __init__(self) -> None:
        self._run: RunRow | None = None
        self.jobs: dict[JobKey, JobRow] = {}
        self.calls: dict[CallKey, CallRow] = {}
        self.notes: dict[int, NoteRow] = {}

    def run(self) -> RunRow | None:
        """Return the run."""
        return self._run

    def put_run(self, row: RunRow) -> None:
        """Keep the run."""
        self._run = row

    def job(self, key: JobKey) -> JobRow | None:
        """Return an attempt at a job."""
        return self.jobs.get(key)

    def put_job(self, row: JobRow) -> None:
        """Keep an attempt."""
        self.jobs[row.key] = row

    def call(self, key: CallKey) -> CallRow | None:
        """Return a call."""
        return self.calls.get(key)

    def put_call(self, row: CallRow) -> None:
        """Keep a call."""
        self.calls[row.key] = row

    def note(self, seq: int) -> NoteRow | None:
        """Return a note."""
        return self.notes.get(seq)

    def put_note(self, row: NoteRow) -> None:
        """Keep a note."""
        self.notes[row.seq] = row


def fold(rows: Rows, event: RunEvent | Unknown) -> None:
    """Let ``event`` do to ``rows`` what it does."""
    if isinstance(event, Unknown):
        head = event.head
        row = rows.run() or RunRow(first_seq=head.seq)
        rows.put_run(seen(row, head.seq, head.at_ms, head.mono_ns))
        return
    rows.put_run(step_run(rows.run(), event))
    match event:
        case JobDeclared() | JobStarted() | JobFinished() | JobSkipped():
            rows.put_job(step_job(rows.job(JobKey(event.job_id, attempt_of(event))), event))
        case ShStarted() | ShSpawned() | ShFinished():
            key = CallKey(event.job_id, event.attempt, event.sh)
            known = rows.job(key.job)
            job = job_with_call(known, event)
            if job is not known:
                rows.put_job(job)
            rows.put_call(step_call(rows.call(key), event))
        case Note():
            rows.put_note(step_note(rows.note(event.seq), event))
        case RunStarted() | RunFinished() | CancelRequested() | EventsDropped():
            pass
        case _:
            assert_never(event)
