"""Endings that are made up for a stored run that is over, and taken back when more of its record appears.

Owns which rows recovery is shown; what it makes of them is its own (``fold.recovery``).  Must not know files, nor why a run is over.

Only what is open is read, and those jobs that an unbegun one waits for: a long run that went well costs nothing.
"""

from __future__ import annotations

from itertools import islice

from procflow.record.fold.recovery import lost, recovered_jobs, reopened
from procflow.record.fold.rows import JobRow
from procflow.record.store.rows import StoredRows

_MOST_HELD = 1000


def recover(rows: StoredRows) -> None:
    """Give an ending to what has none; call it with nothing held, in a transaction."""
    run = rows.run()
    if run is None:
        return
    open_jobs = rows.open_jobs()
    if open_jobs:
        for job in recovered_jobs(_with_those_before(open_jobs, rows), run):
            rows.put_job(job)
        rows.flush()
    # A page at a time: a call that has got its ending is not among the open ones any more.
    while some := list(islice(rows.open_calls(), _MOST_HELD)):
        for call in some:
            rows.put_call(lost(call, run))
        rows.flush()
    rows.put_run(lost(run, run))
    rows.flush()


def reopen(rows: StoredRows) -> None:
    """Take back every ending that was made up; call it with nothing held, in a transaction."""
    run = rows.run()
    if run is None:
        return
    rows.put_run(reopened(run))
    rows.flush()
    while some_jobs := list(islice(rows.synthesized_jobs(), _MOST_HELD)):
        for job in some_jobs:
            rows.put_job(reopened(job))
        rows.flush()
    while some_calls := list(islice(rows.synthesized_calls(), _MOST_HELD)):
        for call in some_calls:
            rows.put_call(reopened(call))
        rows.flush()


def _with_those_before(open_jobs: list[JobRow], rows: StoredRows) -> list[JobRow]:
    """Return the open attempts, and every attempt that says why one of them was never begun."""
    found = {job.key: job for job in open_jobs}
    wanted = {job.job_id for job in open_jobs if not job.has_begun}
    known: set[str] = set()
    while wanted:
        known |= wanted
        before: set[str] = set()
        for job in rows.attempts_at(sorted(wanted)):
            found[job.key] = job
            if job.declared_seq is not None:
                before.update(job.after)
        wanted = before - known
    return list(found.values())
