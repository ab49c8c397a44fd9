"""The rows of one run, kept in a database.

Owns what the fold reads and writes in one transaction: it is held until ``flush()``, so a row that many events touch is written once.
Must not know which events there were, nor when a transaction begins.

Memory is that of the rows which one batch of events touches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from procflow.record.envelope import Unknown
from procflow.record.events import JobFinished, JobStarted, RunEvent, ShFinished, ShSpawned, ShStarted
from procflow.record.fold.rows import CallKey, CallRow, JobKey, JobRow, NoteRow, RunRow
from procflow.record.store.columns import CALLS, JOBS, NOTES, RUNS, Table, Value

R = TypeVar("R", bound=msgspec.Struct)

_MOST_PARAMETERS: Final = 500


class StoredRows:
    """The ``Rows`` of the run ``run_id``, for use inside one transaction of ``connection``."""

    def __init__(self, connection: sqlite3.Connection, run_id: str) -> None:
        self._connection: Final = connection
        self._run_id: Final = run_id
        self._runs: Final = _Held(connection, run_id, RUNS)
        self._jobs: Final = _Held(connection, run_id, JOBS)
        self._calls: Final = _Held(connection, run_id, CALLS)
        self._notes: Final = _Held(connection, run_id, NOTES)

    def run(self) -> RunRow | None:
        """Return the run."""
        return self._runs.get(())

    def put_run(self, row: RunRow) -> None:
        """Keep the run."""
        self._runs.put((), row)

    def job(self, key: JobKey) -> JobRow | None:
        """Return an attempt at a job."""
        return self._jobs.get(key)

    def put_job(self, row: JobRow) -> None:
        """Keep an attempt."""
        self._jobs.put(row.key, row)

    def call(self, key: CallKey) -> CallRow | None:
        """Return a call."""
        return self._calls.get(key)

    def put_call(self, row: CallRow) -> None:
        """Keep a call."""
        self._calls.put(row.key, row)

    def note(self, seq: int) -> NoteRow | None:
        """Return a note."""
        return self._notes.get((seq,))

    def put_note(self, row: NoteRow) -> None:
        """Keep a note."""
        self._notes.put((row.seq,), row)

    def expect(self, events: Iterable[RunEvent | Unknown]) -> None:
        """Hold the rows of the jobs and calls that ``events`` speak of: asked for at once they cost a tenth.

        What is left out is asked for when it is needed.
        """
        jobs: dict[tuple[str, int], None] = {}  # plain tuples are equal to the keys that have names
        calls: dict[tuple[str, int, int], None] = {}
        for event in events:
            if isinstance(event, ShStarted | ShSpawned | ShFinished):
                calls[event.job_id, event.attempt, event.sh] = None
                jobs[event.job_id, event.attempt] = None
            elif isinstance(event, JobStarted | JobFinished):
                jobs[event.job_id, event.attempt] = None
        self._jobs.expect(list(jobs))
        self._calls.expect(list(calls))

    def flush(self) -> None:
        """Write what was kept, parents before their children, and hold nothing any more."""
        for held in (self._runs, self._jobs, self._calls, self._notes):
            held.flush()

    # --- what the database knows and a single batch does not; nothing may be held then --------------------------------

    def open_jobs(self) -> list[JobRow]:
        """Return the attempts without an ending."""
        return list(JOBS.select(self._connection, self._run_id, "outcome IS NULL"))

    def open_calls(self) -> Iterator[CallRow]:
        """Yield the calls without an ending."""
        return CALLS.select(self._connection, self._run_id, "outcome IS NULL")

    def attempts_at(self, job_ids: Iterable[str]) -> list[JobRow]:
        """Return every attempt at the named jobs."""
        found: list[JobRow] = []
        ids = list(job_ids)
        for start in range(0, len(ids), _MOST_PARAMETERS):
            some = ids[start : start + _MOST_PARAMETERS]
            where = f"job_id IN ({', '.join('?' * len(some))})"
            found += JOBS.select(self._connection, self._run_id, where, some)
        return found

    def synthesized_jobs(self) -> Iterator[JobRow]:
        """Yield the attempts whose endings were made up."""
        return JOBS.select(self._connection, self._run_id, "synthesized = 1")

    def synthesized_calls(self) -> Iterator[CallRow]:
        """Yield the calls whose endings were made up."""
        return CALLS.select(self._connection, self._run_id, "synthesized = 1")


class _Held(Generic[R]):
    """The rows of one table that were asked for or changed since the last ``flush()``."""

    def __init__(self, connection: sqlite3.Connection, run_id: str, table: Table[R]) -> None:
        self._connection = connection
        self._run_id = run_id
        self._table = table
        self._rows: dict[tuple[Value, ...], R | None] = {}
        self._changed: dict[tuple[Value, ...], R] = {}

    def get(self, key: tuple[Value, ...]) -> R | None:
        try:
            return self._rows[key]
        except KeyError:
            row = self._rows[key] = self._table.find(self._connection, self._run_id, key)
            return row

    def expect(self, keys: Sequence[tuple[Value, ...]]) -> None:
        self._rows.update(dict.fromkeys(keys))
        for row in self._table.find_all(self._connection, self._run_id, keys):
            self._rows[self._table.key_of(row)] = row

    def put(self, key: tuple[Value, ...], row: R) -> None:
        self._rows[key] = self._changed[key] = row

    def flush(self) -> None:
        if self._changed:
            self._table.upsert(self._connection, self._run_id, self._changed.values())
        self._rows.clear()
        self._changed.clear()
