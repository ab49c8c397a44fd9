"""What of a run is still open, and since when.

Owns how long something open has taken.  Must not know clocks: the caller says what time it is.

The time since the last event is that of the wall clock, because the monotonic clock of the writer is not ours; everything before it is
of the writer's monotonic clock.  So a step of the wall clock changes the result only if it came after the last event.
"""

from __future__ import annotations

from dataclasses import dataclass

from procflow.record.fold.rows import CallRow, JobRow, RunRow
from procflow.record.fold.view import RunView
from procflow.record.reading.states import RecordState


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWork:
    """An attempt that is open, with its open calls.

    Attributes:
        job: The attempt; it may itself have ended, if only a call of it is open.
        elapsed_ns: How long it has taken; of a run that is over, up to its last event.
        calls: Its open calls with the same figure, by their numbers.
    """

    job: JobRow
    elapsed_ns: int
    calls: tuple[tuple[CallRow, int], ...]


def open_work(view: RunView, *, now_ms: int) -> list[OpenWork]:
    """Return what is open, in the order in which it began; ``now_ms`` is the wall clock, and counts only while the run goes on."""
    run = view.run
    calls = sorted(view.open_calls, key=lambda call: call.sh)
    by_job = {job.key: job for job in view.open_jobs}
    by_job |= {call.key.job: view.jobs[call.key.job] for call in calls if call.key.job in view.jobs}
    return [
        OpenWork(
            job=job,
            elapsed_ns=elapsed_ns(job, run, view.state, now_ms),
            calls=tuple((call, elapsed_ns(call, run, view.state, now_ms)) for call in calls if call.key.job == job.key),
        )
        for job in sorted(by_job.values(), key=lambda job: job.first_seq)
    ]


def elapsed_ns(row: RunRow | JobRow | CallRow, run: RunRow, state: RecordState, now_ms: int) -> int:
    """Return how long ``row`` of ``run`` took, or has taken."""
    if row.duration_ns is not None and not row.synthesized:
        return row.duration_ns
    until_last_ns = max((run.last_mono_ns or 0) - (row.start_mono_ns or 0), 0)
    if state is not RecordState.RUNNING or run.last_at_ms is None:
        return until_last_ns
    return until_last_ns + max(now_ms - run.last_at_ms, 0) * 1_000_000
