"""Several jobs in the order of what they wait for, some at a time.

Owns the order of attempts and what their failure means for the others.  Must not know how a job is recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

import anyio

from procflow.record.errors import JobsFailedError, JobSkippedError
from procflow.record.events import SKIPPED, SUCCEEDED
from procflow.record.recording.jobs import Job, JobBlock
from procflow.record.recording.ledger import checked_job_id
from procflow.record.recording.verdicts import verdict

if TYPE_CHECKING:
    from procflow.record.recording.core import RunCore

MAX_RUNNING: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job that is to be run.

    Attributes:
        job_id: What names it.
        work: Called with the job once everything before it has succeeded, and again for each further attempt.
        after: The jobs that must have succeeded before.
        attempts: How often it is tried at most.
    """

    job_id: str
    work: Callable[[Job], Awaitable[object]]
    after: Sequence[str] = ()
    attempts: int = 1

    def __post_init__(self) -> None:
        checked_job_id(self.job_id)
        if isinstance(self.after, str):
            raise TypeError("after must be a sequence of job ids, not one text")
        if self.attempts < 1:
            raise ValueError(f"a job is tried at least once, not {self.attempts} times")


def in_order(jobs: Iterable[JobSpec], *, known: Callable[[str], bool]) -> list[JobSpec]:
    """Return ``jobs`` with every one behind those that it waits for, otherwise in the order given.

    Args:
        jobs: The jobs.
        known: Whether the run has a job of that id already, which may be waited for too.

    Raises:
        ValueError: If two have one id, if one waits for a job that nobody knows, or if some wait for each other.
    """
    specs: dict[str, JobSpec] = {}
    for spec in jobs:
        if specs.setdefault(spec.job_id, spec) is not spec:
            raise ValueError(f"two jobs are called {spec.job_id!r}")
    for spec in specs.values():
        for name in spec.after:
            if name not in specs and not known(name):
                raise ValueError(f"the job {spec.job_id!r} waits for {name!r}, which is no job")
    sorter = TopologicalSorter({spec.job_id: [name for name in spec.after if name in specs] for spec in specs.values()})
    try:
        return [specs[name] for name in sorter.static_order()]
    except CycleError as exc:
        circle: list[str] = exc.args[1]
        raise ValueError(f"jobs wait for each other: {' -> '.join(map(repr, circle))}") from None


class JobRunner:
    """One call of ``Run.run_jobs()``."""

    def __init__(self, core: RunCore, *, max_running: int) -> None:
        if max_running < 1:
            raise ValueError(f"max_running must be at least 1, not {max_running}")
        self._core = core
        self._slots = anyio.Semaphore(max_running)
        self._outcomes: dict[str, str] = {}
        self._errors: dict[str, Exception] = {}

    async def run(self, jobs: Iterable[JobSpec], *, check: bool) -> dict[str, str]:
        """Declare ``jobs``, run them, and return how each has ended."""
        specs = in_order(jobs, known=self._core.knows)
        for spec in specs:
            self._core.declare(spec.job_id, spec.after)
        async with anyio.create_task_group() as tasks:
            for spec in specs:
                tasks.start_soon(partial(self._perform, spec), name=f"procflow job {spec.job_id}")
        outcomes = {spec.job_id: self._outcomes[spec.job_id] for spec in specs}
        if check and any(word != SUCCEEDED for word in outcomes.values()):
            raise JobsFailedError(outcomes=outcomes, errors=self._errors) from next(iter(self._errors.values()), None)
        return outcomes

    async def _perform(self, spec: JobSpec) -> None:
        for left in reversed(range(spec.attempts)):
            try:
                async with JobBlock(self._core, spec.job_id, (), slots=self._slots, may_retry=left > 0) as job:
                    await spec.work(job)
            except JobSkippedError:
                self._outcomes[spec.job_id] = SKIPPED
                return
            except Exception as exc:  # noqa: BLE001 (kept, and raised by whoever waits for all)
                self._outcomes[spec.job_id] = verdict(exc)
                self._errors[spec.job_id] = exc
            else:
                self._outcomes[spec.job_id] = SUCCEEDED
                self._errors.pop(spec.job_id, None)
                return
