"""What is made of the rows of a run that never ended.

Owns the endings that nobody wrote: ``lost`` for what was open when the writer died, ``skipped`` for declared jobs that were never begun.
Must not know files; the record itself is never changed.

An ending that was made up is marked, and ``reopened()`` takes it back to the row as it was: before more of a record is folded, when
it appears after all, everything is reopened, so that the result is that of the whole record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import msgspec

from procflow.record.events import CANCELLED, ERRORED, FAILED, LOST, SKIPPED
from procflow.record.fold.rows import DECLARED_ATTEMPT, JobRow, Row, RunRow

FAILURES = frozenset({FAILED, ERRORED, CANCELLED, LOST})
"""Outcomes of a job for which those after it are skipped."""

R = TypeVar("R", bound=Row)


def lost(row: R, run: RunRow) -> R:
    """Return an open row as lost at the last event of ``run``; any other as it is."""
    if not row.is_open:
        return row
    started = row.start_mono_ns
    return msgspec.structs.replace(
        row,
        outcome=LOST,
        finished_at_ms=_last_at_ms(run),
        duration_ns=max((run.last_mono_ns or 0) - started, 0) if started is not None else 0,
        synthesized=True,
    )


def reopened(row: R) -> R:
    """Return a row whose ending was made up as it was before; any other as it is."""
    if not row.synthesized:
        return row
    row = msgspec.structs.replace(row, outcome=None, finished_at_ms=None, duration_ns=None, synthesized=False)
    return msgspec.structs.replace(row, because=()) if isinstance(row, JobRow) else row


def recovered_jobs(jobs: Collection[JobRow], run: RunRow) -> list[JobRow]:
    """Return those of ``jobs``, which are all of a run, that get an ending, with it."""
    begun = [job for job in jobs if job.has_begun]
    retried = {job.job_id for job in begun if job.attempt != DECLARED_ATTEMPT}
    changed = {job.key: lost(job, run) for job in begun if job.is_open}
    after = [changed.get(job.key, job) for job in jobs]
    waits_for = {job.job_id: job.after for job in jobs if job.declared_seq is not None}
    outcomes = outcomes_by_job(after)
    for job in jobs:
        if not job.is_open or job.has_begun:
            continue
        if job.job_id in retried:
            changed[job.key] = lost(job, run)
        else:
            changed[job.key] = msgspec.structs.replace(
                job,
                outcome=SKIPPED,
                because=failed_before(job.job_id, waits_for, outcomes),
                finished_at_ms=_last_at_ms(run),
                duration_ns=0,
                synthesized=True,
            )
    return list(changed.values())


def outcomes_by_job(jobs: Iterable[JobRow]) -> dict[str, str | None]:
    """Return the outcome of the last attempt at each job."""
    return {job.job_id: job.outcome for job in sorted(jobs, key=lambda job: job.attempt)}


def failed_before(
    job_id: str, waits_for: Mapping[str, Iterable[str]], outcomes: Mapping[str, str | None]
) -> tuple[str, ...]:
    """Return the jobs that failed among all that ``job_id`` waits for, the nearest first.

    The search goes on behind a job that was skipped or succeeded, and ends at one that failed.  A circle ends it too.
    """
    found: list[str] = []
    visited = {job_id}
    line = list(waits_for.get(job_id, ()))
    for name in line:
        if name in visited:
            continue
        visited.add(name)
        if outcomes.get(name) in FAILURES:
            found.append(name)
        else:
            line += waits_for.get(name, ())
    return tuple(found)


def _last_at_ms(run: RunRow) -> int:
    return run.last_at_ms if run.last_at_ms is not None else 0
