"""The record of a run of exports: a run of its own, or one that the host records.

Owns the way from the exporter's events to ``procflow.record``: the block around the run, and its jobs.  What is said of an event is
``recording``'s choice.  Must not know what is secret: it is given that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from procflow.record import JobDeclared, JobFinished, JobStarted, Note, OpenJob, Run, open_run
from procflow.record.events import CANCELLED
from procflow.record.recording.ledger import MAIN
from procflow_export.model.errors import PlatformError
from procflow_export.pipeline.recording import Recording

if TYPE_CHECKING:
    from procflow.record.redaction.redactor import Json
    from procflow.redaction import Secret
    from procflow_export.model.events import RunEvent, UnitEvent
    from procflow_export.pipeline.recording import Recorded

NAME = "procflow-export"


class RunRecord:
    """Writes one run of exports down; ``run`` is where."""

    def __init__(self, run: Run, *, clean: Callable[[Json], Json] | None = None) -> None:
        """``clean`` takes secrets out of a JSON value."""
        self.run = run
        self._recording = Recording(self._write, clean=clean)
        self._jobs: dict[str, OpenJob] = {}

    @property
    def directory(self) -> Path | None:
        """Where the record is; ``None`` if the run of the host keeps none."""
        return self.run.directory if self.run.has_record else None

    def hear(self, event: RunEvent | UnitEvent) -> None:
        """Write what the record has for ``event``."""
        self._recording.hear(event)

    def cancel_requested(self, reason: str, signal: str | None) -> None:
        """Write that somebody wants the run to end."""
        self.run.announce_cancel(reason, signal=signal)

    def close(self) -> None:
        """End the jobs of exports that have no verdict: their run was left."""
        while self._jobs:
            self._jobs.popitem()[1].end(CANCELLED)

    def _write(self, event: Recorded) -> None:
        match event:
            case JobDeclared():
                self.run.declare(job_id_of(event.job_id))
            case JobStarted():
                self._jobs[event.job_id] = self.run.begin_job(job_id_of(event.job_id))
            case JobFinished():
                if (ended := self._jobs.pop(event.job_id, None)) is not None:
                    ended.end(event.outcome, error=event.error)
            case Note():
                job = self._jobs.get(event.job_id) if event.job_id is not None else None
                (self.run if job is None else job).note(event.key, event.value)
            case _:
                assert_never(event)


@asynccontextmanager
async def recorded(
    record: str | os.PathLike[str] | Run,
    *,
    run_id: str,
    secrets: Iterable[Secret[str]],
    clean: Callable[[Json], Json],
    meta: Mapping[str, str],
) -> AsyncIterator[RunRecord]:
    """Record a run of exports: in a run of its own below the directory ``record``, or in a run that is recorded already.

    The outputs of workers are not logged in a run of its own: what they say on standard output is in its notes, and the end
    of their standard error in the failures that it explains.

    Raises:
        PlatformError: If the record cannot be written there.
    """
    async with AsyncExitStack() as stack:
        if isinstance(record, Run):
            run = record
            for secret in secrets:
                run.add_secret(secret)
        else:
            try:
                run = await stack.enter_async_context(
                    open_run(NAME, record=record, secrets=secrets, meta=meta, logs=False, run_id=run_id)
                )
            except OSError as exc:
                where = os.fspath(record)
                raise PlatformError(f"no record can be written below {where}: {exc.strerror or exc}") from exc
        with contextlib.closing(RunRecord(run, clean=clean)) as made:
            yield made


def job_id_of(export: str) -> str:
    """Return the name of the job of an export: its own, unless no job may have that."""
    return f"export {export}" if export == MAIN else export
