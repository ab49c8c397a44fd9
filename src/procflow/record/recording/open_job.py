"""A job of a run without a block around it.

Owns what its holder may tell.  Must not know how anything is written.

Why: a program with a scheduler of its own has no one place where a job begins and ends; it learns of both, and has judged the
end already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from procflow.record.events import JOB_OUTCOMES, LOST, SKIPPED, SUCCEEDED, ErrorInfo
from procflow.record.fold.rows import JobKey

if TYPE_CHECKING:
    from procflow.record.recording.core import RunCore

ENDINGS: Final = frozenset(JOB_OUTCOMES) - {SKIPPED, LOST}
"""What may become of an attempt that was begun."""


class OpenJob:
    """An attempt at a job that was begun by ``Run.begin_job()``; what runs meanwhile is not recorded as its calls.

    Attributes:
        job_id: What names the job, as it is recorded: without secrets.
        attempt: 1, 2, ...
    """

    def __init__(self, core: RunCore, key: JobKey) -> None:
        self._core = core
        self.job_id: Final = key.job_id
        self.attempt: Final = key.attempt

    def __repr__(self) -> str:
        return f"<OpenJob {self.job_id!r}, attempt {self.attempt}>"

    def note(self, key: str, value: object) -> None:
        """Write a note about this attempt, also after its end; as ``Run.note()``.

        Raises:
            UsageError: If ``key`` has no dot, or the run is over.
            UnrecordableError: If ``value`` is no JSON or longer than 8 KiB.
        """
        self._core.note(key, value, JobKey(self.job_id, self.attempt))

    def end(self, outcome: str = SUCCEEDED, *, error: ErrorInfo | None = None) -> None:
        """Write how the attempt ended; does nothing after the first time, nor after the end of the run.

        Args:
            outcome: ``succeeded``, ``failed``, ``errored`` or ``cancelled``.
            error: Why, if there is something to say.

        Raises:
            ValueError: If ``outcome`` is another word.
        """
        if outcome not in ENDINGS:
            raise ValueError(f"a job ends as one of {', '.join(sorted(ENDINGS))}, not {outcome!r}")
        self._core.settle_job(JobKey(self.job_id, self.attempt), outcome, error)
