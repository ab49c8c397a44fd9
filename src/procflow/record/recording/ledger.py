"""Which jobs a run has, and what became of them.

Owns the rules: when a job may begin, which number an attempt and a call get, who is skipped, and how a run ends.  Must not know
events, clocks, loops or processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from procflow.errors import UsageError
from procflow.record.events import CANCELLED, FAILED, MAX_JOB_ID_BYTES, SKIPPED, SUCCEEDED
from procflow.record.fold.recovery import FAILURES, failed_before
from procflow.record.fold.rows import CallKey, JobKey

MAIN: Final = "main"
"""The job of calls that are made outside of any."""


def checked_job_id(job_id: str) -> str:
    """Return ``job_id`` if it can name a job.

    Raises:
        UsageError: If it is empty, longer than ``MAX_JOB_ID_BYTES`` or ``main``.
    """
    if not job_id or len(job_id.encode("utf-8", "surrogatepass")) > MAX_JOB_ID_BYTES:
        raise UsageError(f"a job id has 1 to {MAX_JOB_ID_BYTES} bytes")
    if job_id == MAIN:
        raise UsageError(f"{MAIN!r} is the job of calls that are made outside of any: name the job differently")
    return job_id


@dataclass(slots=True)
class _Job:
    """What is known of one job, over all of its attempts."""

    after: tuple[str, ...] = ()
    is_declared: bool = False
    attempt: int = 0
    call_counts: dict[int, int] = field(default_factory=dict)
    """By attempt: tasks of an earlier one may still make calls."""

    is_open: bool = False
    outcome: str | None = None
    """Of its last attempt, once no other one will follow."""


@dataclass(eq=False, slots=True)
class Ledger:
    """The jobs of one run, by their ids."""

    _jobs: dict[str, _Job] = field(default_factory=dict)

    def declare(self, job_id: str, after: Iterable[str]) -> bool:
        """Note that a job is going to run after others; return whether that is new.

        Raises:
            UsageError: If one of ``after`` is not known, or if the job was declared or begun with others.
        """
        waits_for = tuple(dict.fromkeys(after))
        unknown = [name for name in waits_for if name not in self._jobs]
        if unknown:
            names = ", ".join(map(repr, unknown))
            raise UsageError(f"the job {job_id!r} cannot wait for {names}: declare that first")
        job = self._jobs.setdefault(job_id, _Job())
        if job.is_declared and job.after == waits_for:
            return False
        if job.is_declared or job.attempt:
            raise UsageError(f"the job {job_id!r} was declared or begun before, with other jobs to wait for")
        job.is_declared, job.after = True, waits_for
        return True

    def unfinished_before(self, job_id: str) -> list[str]:
        """Return the jobs that ``job_id`` still has to wait for."""
        return (
            [name for name in self._jobs[job_id].after if self._jobs[name].outcome is None] if self.has(job_id) else []
        )

    def failures_before(self, job_id: str) -> tuple[str, ...]:
        """Return the jobs for whose failure ``job_id`` is not to be begun, the nearest first."""
        waits_for = {name: job.after for name, job in self._jobs.items()}
        return failed_before(job_id, waits_for, {name: job.outcome for name, job in self._jobs.items()})

    def has(self, job_id: str) -> bool:
        """Whether the job was declared or begun."""
        return job_id in self._jobs

    def begin(self, job_id: str) -> JobKey:
        """Note that the next attempt at a job begins, and return it.

        Raises:
            UsageError: If an attempt at it runs.
        """
        job = self._jobs.setdefault(job_id, _Job())
        if job.is_open:
            raise UsageError(f"the job {job_id!r} runs already; another attempt can begin when this one is over")
        job.attempt += 1
        job.is_open, job.outcome = True, None
        return JobKey(job_id, job.attempt)

    def next_call(self, key: JobKey) -> CallKey:
        """Return the next call of an attempt, whether or not that is over."""
        counts = self._jobs[key.job_id].call_counts
        counts[key.attempt] = sh = counts.get(key.attempt, 0) + 1
        return CallKey(key.job_id, key.attempt, sh)

    def end(self, key: JobKey, outcome: str, *, is_last: bool = True) -> None:
        """Note how an attempt ended; unless it ``is_last``, others go on waiting for the job."""
        job = self._jobs[key.job_id]
        job.is_open = False
        job.outcome = outcome if is_last else None

    def skip(self, job_id: str) -> bool:
        """Note that a declared job is not begun; return whether that is new, and it never was."""
        job = self._jobs[job_id]
        if job.attempt or job.outcome is not None:
            return False
        job.outcome = SKIPPED
        return True

    def never_begun(self) -> list[str]:
        """Return the declared jobs that were neither begun nor skipped, in the order of their declaration."""
        return [name for name, job in self._jobs.items() if not job.attempt and job.outcome is None]

    def open_jobs(self) -> list[JobKey]:
        """Return the attempts that run, in the order of their jobs."""
        return [JobKey(name, job.attempt) for name, job in self._jobs.items() if job.is_open]

    def outcome(self) -> str:
        """Return how a run has ended whose own code went through to its end."""
        return FAILED if any(job.outcome in FAILURES for job in self._jobs.values()) else SUCCEEDED

    def is_cut_short(self) -> bool:
        """Whether a job was cancelled or not begun."""
        return any(job.outcome in (CANCELLED, SKIPPED) for job in self._jobs.values())
