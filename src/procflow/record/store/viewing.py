"""From stored rows to values.

Owns what is read of a database: a run as the same view that its file gives, and the list of all runs.  Must not know files of records.
"""

from __future__ import annotations

import sqlite3

from procflow.record.fold.fold import MemoryRows
from procflow.record.fold.rows import RunRow
from procflow.record.fold.view import RunFold, RunView
from procflow.record.reading.states import RecordState
from procflow.record.store.columns import CALLS, JOBS, NOTES, RUNS
from procflow.record.store.reports import StoredRun
from procflow.record.store.streams import Stream, all_streams, stream_of


def stored_view(connection: sqlite3.Connection, run_id: str) -> RunView | None:
    """Return the run as its record said when it was ingested last; ``None`` if there is no such run."""
    stream = stream_of(connection, run_id)
    run = RUNS.find(connection, run_id, ())
    if stream is None or run is None:
        return None
    rows = MemoryRows()
    rows.put_run(run)
    for job in JOBS.select(connection, run_id):
        rows.put_job(job)
    for call in CALLS.select(connection, run_id):
        rows.put_call(call)
    for note in NOTES.select(connection, run_id):
        rows.put_note(note)
    return RunFold(rows).view(state=_state(stream), health=stream.health)


def stored_runs(connection: sqlite3.Connection) -> list[StoredRun]:
    """Return all runs, that which began first being the first."""
    found = [
        StoredRun(run_id=run_id, path=stream.path, state=_state(stream), run=run, health=stream.health)
        for run_id, stream in all_streams(connection)
        if (run := RUNS.find(connection, run_id, ())) is not None
    ]
    return sorted(found, key=lambda stored: (_began_at_ms(stored.run), stored.run_id))


def _state(stream: Stream) -> RecordState:
    return stream.state if stream.state is not None else RecordState.RUNNING


def _began_at_ms(run: RunRow) -> int:
    at_ms = run.started_at_ms if run.started_at_ms is not None else run.last_at_ms
    return at_ms if at_ms is not None else 0
