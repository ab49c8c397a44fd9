"""Moments of a record on one time axis, in nanoseconds since 1970.

Owns the rule.  Must not know what is exported.

The wall clock may step, so it is read once: the run begins when its first event says so, and everything else lies as far from there
as the monotonic clock of the writer says.  So nothing begins before what it belongs to, and every duration is true; after a step
the times differ from those that other programs saw.
"""

from __future__ import annotations

from typing import Final

from procflow.record.fold.rows import CallRow, JobKey, JobRow, Row, RunRow
from procflow.record.fold.view import RunView

MAX_NS: Final = 2**63 - 1
"""The last moment that other systems can tell, in the year 2262."""

_NS_PER_MS: Final = 1_000_000


class TimeAxis:
    """The times of one run, whose ``run_started`` is known."""

    __slots__ = ("_zero_ns", "run_ns")

    def __init__(self, run: RunRow) -> None:
        """Take the beginning from ``run``."""
        self.run_ns: Final = _within((run.started_at_ms or 0) * _NS_PER_MS)
        """When the run began."""
        self._zero_ns = self.run_ns - (run.start_mono_ns or 0)

    def call_ns(self, call: CallRow, job: JobRow | None) -> int:
        """Return when ``call`` of ``job`` began."""
        known = job.start_mono_ns if job is not None else None
        return max(self._began(call), self._at(known) if known is not None else self.run_ns)

    def job_ns(self, job: JobRow, *, first_call_ns: int | None = None) -> int:
        """Return when ``job`` began: at the latest when the first of its calls did, if the event that began it is missing."""
        if job.start_mono_ns is None and first_call_ns is not None:
            return first_call_ns
        return self._began(job)

    def _began(self, row: Row) -> int:
        if row.start_mono_ns is not None:
            return self._at(row.start_mono_ns)
        # The wall clock tells roughly when it ended.
        return max(_within((row.finished_at_ms or 0) * _NS_PER_MS - (row.duration_ns or 0)), self.run_ns)

    def _at(self, mono_ns: int) -> int:
        return max(_within(self._zero_ns + mono_ns), self.run_ns)

    @staticmethod
    def end_ns(start_ns: int, row: Row) -> int:
        """Return when ``row``, which began at ``start_ns``, ended."""
        return _within(start_ns + (row.duration_ns or 0))


def first_calls(axis: TimeAxis, view: RunView) -> dict[JobKey, int]:
    """Return when the first call of each attempt began, of those of which that is known or can be told from their end."""
    found: dict[JobKey, int] = {}
    for call in view.calls.values():
        if call.started_seq is None and call.finished_seq is None:
            continue
        key = call.key.job
        start_ns = axis.call_ns(call, view.jobs.get(key))
        found[key] = min(found.get(key, start_ns), start_ns)
    return found


def _within(ns: int) -> int:
    return min(max(ns, 0), MAX_NS)
