"""``open_run()``: the block in which everything that procflow runs is recorded.

Owns the public face of a run and the block around it.  Must not know how anything is recorded.

A run is opened and left by one task; its jobs belong to tasks of the same event loop.  Calls may come from any thread.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Final

import anyio
import anyio.to_thread

from procflow._process.backend import defers_interrupts, mark_for_trio
from procflow._process.recording import ACTIVE, Recording
from procflow.errors import UsageError
from procflow.record.clocks import Clock
from procflow.record.errors import RecordLostError
from procflow.record.events import (
    Trace,
)
from procflow.record.logs.cap import DEFAULT_CAP_BYTES
from procflow.record.recording.core import RunCore
from procflow.record.recording.described import ArgvChoice
from procflow.record.recording.header import this_writer
from procflow.record.recording.jobs import Calling, Job, JobBlock, JobRecording, restore
from procflow.record.recording.open_job import OpenJob
from procflow.record.recording.runner import MAX_RUNNING, JobRunner, JobSpec
from procflow.record.recording.settings import EventTarget, RecordSettings, as_events, as_texts
from procflow.record.redaction.redactor import AnySecret
from procflow.record.redaction.rules import RedactionRules
from procflow.record.sinks.files import Durability
from procflow.record.sinks.pipes import WhenFull


class LateSecretWarning(UserWarning):
    """A secret was added after a call had been recorded: what was written before may hold it."""


class Run(Calling):
    """A run that is being recorded.

    Attributes:
        name: What it is called.
        run_id: UUIDv7 of it.
    """

    def __init__(self, core: RunCore) -> None:
        super().__init__(JobRecording(core, None))
        self._core = core
        self.name: Final = core.name
        self.run_id: Final = core.run_id

    def __repr__(self) -> str:
        return f"<Run {self.name!r}, {self.run_id}, {self.outcome or 'open'}>"

    @property
    def has_record(self) -> bool:
        """Whether a record is kept: it was opened with ``record=``."""
        return self._core.directory is not None

    @property
    def directory(self) -> Path:
        """Where its record and its logs are.

        Raises:
            UsageError: Unless it ``has_record``.
        """
        if self._core.directory is None:
            raise UsageError(f"the run {self.name!r} has no directory: it was opened without record=")
        return self._core.directory

    @property
    def outcome(self) -> str | None:
        """How it ended: one of ``RUN_OUTCOMES``; ``None`` while it runs."""
        return self._core.outcome

    def job(self, job_id: str, *, after: Sequence[str] = ()) -> AbstractAsyncContextManager[Job]:
        """Return a block that is an attempt at a job: what its tasks run is recorded as its calls.

        On entry it waits for the ends of the jobs ``after``; if one of them, or one before it, has failed, the job is recorded as
        skipped.  The same id again makes another attempt.  Left with an exception, the attempt has failed if that is about
        a child (``ChildError``), was cancelled if it is a cancellation, and is ``errored`` otherwise; the exception goes on.

        Args:
            job_id: What names the job, 1 to 1,024 bytes.
            after: Jobs that were declared or begun before.

        Raises:
            JobSkippedError: On entry, if the job is skipped.
            UsageError: If ``job_id`` can name no job; on entry, if an attempt at the job runs already, if one of ``after`` is not
                known, or if the run is over.
        """
        if isinstance(after, str):
            raise TypeError("after must be a sequence of job ids, not one text")
        return JobBlock(self._core, job_id, tuple(after))

    def declare(self, job_id: str, *, after: Sequence[str] = ()) -> None:
        """Say that a job is going to run, after others: if it is never begun, the record says that it was skipped.

        Raises:
            UsageError: As ``job()``.
        """
        self._core.declare(job_id, after)

    def begin_job(self, job_id: str) -> OpenJob:
        """Begin an attempt at a job that no block surrounds: for a scheduler that is told when jobs begin and end.

        The run's outcome is ``failed`` if one of its jobs has failed.  A job that is still open when the run is left was cancelled.

        Raises:
            UsageError: If ``job_id`` can name no job, if an attempt at it runs already, or if the run is over.
        """
        return OpenJob(self._core, self._core.begin_job(self._core.recorded_id(job_id)))

    async def run_jobs(
        self, jobs: Iterable[JobSpec], *, max_running: int = MAX_RUNNING, check: bool = True
    ) -> dict[str, str]:
        """Run ``jobs``, each once those that it waits for have succeeded, and return the outcome of each by its id.

        All of them are declared first.  A job that fails takes nothing with it but the jobs behind it, which are skipped.
        A cancellation ends all of them.

        Args:
            jobs: The jobs, in any order.
            max_running: How many run at a time.
            check: Whether a job that did not succeed raises, once all are over.

        Raises:
            ValueError: Before anything begins, if two have one id, one waits for a job that nobody knows, or some for each other.
            JobsFailedError: With ``check=True``, if a job has not succeeded.
        """
        return await JobRunner(self._core, max_running=max_running).run(jobs, check=check)

    def note(self, key: str, value: object) -> None:
        """Write what is to be known of the run; what is to be known of a job goes through ``Job.note()``.

        Args:
            key: What is said; holds a dot, such as ``build.version``.
            value: Any JSON, at most 8 KiB.

        Raises:
            UsageError: If ``key`` has no dot, or the run is over.
            UnrecordableError: If ``value`` is no JSON or too long.
        """
        self._core.note(key, value, None)

    def add_secret(self, secret: AnySecret) -> None:
        """Take ``secret`` out of everything that is recorded from now on.

        Warns with ``LateSecretWarning`` if a call was recorded before: ``python -m procflow record scrub`` cleans that.

        Raises:
            ValueError: If its value holds a marker of a redaction.
        """
        self._core.redactor.add(secret)
        if self._core.has_called:
            warnings.warn(
                f"the secret {secret.name!r} was added after a call had been recorded, which may hold it: "
                "scrub the record when the run is over",
                LateSecretWarning,
                stacklevel=2,
            )

    def cancel(self, reason: str, *, signal: str | None = None) -> None:
        """Record that the run is to end, and cancel its block; the run's outcome is then ``cancelled``.

        Call it in the event loop of the run.

        Args:
            reason: Why, for people.
            signal: Name of the signal that said it, if one did.
        """
        self._core.cancel(reason, signal)

    def announce_cancel(self, reason: str, *, signal: str | None = None) -> None:
        """Record that the run is to end, for a program that ends what runs itself.

        The run's outcome is ``cancelled`` if a job of it was cancelled or never begun.

        Args:
            reason: Why, for people.
            signal: Name of the signal that said it, if one did.

        Raises:
            UsageError: If the run is over.
        """
        self._core.announce_cancel(reason, signal)


class RunBlock(AbstractAsyncContextManager[Run]):
    """The block around a run; may be entered once."""

    def __init__(self, name: str, settings: RecordSettings, *, clock: Clock | None = None) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        self._core: RunCore | None = None
        self._before: Token[Recording | None] | None = None
        mark_for_trio()

    @defers_interrupts
    async def __aenter__(self) -> Run:
        if self._core is not None:
            raise RuntimeError("an open_run() block can be entered once")
        writer = await anyio.to_thread.run_sync(this_writer)
        self._core = core = RunCore(self._name, self._settings, writer, clock=self._clock)
        core.scope.__enter__()
        self._before = ACTIVE.set(JobRecording(core, None))
        return Run(core)

    @defers_interrupts
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        core = self._core
        if core is None:
            raise RuntimeError("the open_run() block was not entered")
        restore(self._before)
        try:
            core.finish(exc)
        finally:
            is_swallowed = bool(core.scope.__exit__(exc_type, exc, traceback))
            with anyio.CancelScope(shield=True):
                lost = await core.aclose()
        if lost and self._settings.strict:
            error = RecordLostError(lost)
            if exc is None or is_swallowed:
                raise error
            exc.add_note(str(error))
        return is_swallowed


def open_run(
    name: str,
    *,
    record: str | os.PathLike[str] | None = None,
    database: str | os.PathLike[str] | None = None,
    events: EventTarget | Iterable[EventTarget] | None = None,
    secrets: Iterable[AnySecret | str] = (),
    rules: RedactionRules | None = None,
    meta: Mapping[str, str] | None = None,
    argv: ArgvChoice = "redacted",
    env_values: Collection[str] = (),
    logs: bool = True,
    log_cap_bytes: int | None = DEFAULT_CAP_BYTES,
    durability: Durability = "process",
    when_full: WhenFull = "drop",
    strict: bool = False,
    trace: Trace | None = None,
    propagate_trace: bool = False,
    run_id: str | None = None,
) -> AbstractAsyncContextManager[Run]:
    """Return a block in which everything that procflow runs is recorded.

    ``async with open_run("nightly", record="runs/") as run:`` writes ``runs/<run_id>/events.jsonl`` and the output of each
    call below ``runs/<run_id>/jobs/``.  When a line is written it survives a SIGKILL of this process.  Tasks and threads that are
    started inside the block are inside too.  However it is left, everything that was begun has an end in the record, and the last
    line is that of the run; an exception goes on as it is.

    A disk that is full, or a reader that is gone, does not disturb the run: what could not be written is counted, told once (logger
    ``procflow.record``) and noted in the record as soon as that can be written again.

    Args:
        name: What the run is called, for people.
        record: The directory of all runs; it is made if it is missing.  ``None``: nothing is kept.
        database: A SQLite database that a thread keeps up to the record; see ``ingest()``.  One that fails is told about by the
            logger, and can be brought up to the record later.
        events: Where else the events go: ``"stdout"``, ``"stderr"``, ``"fd:N"``, a path that does not exist, a function that is
            called with each, or several of these.  With ``"stdout"`` a child that would write there too is refused.
        secrets: What is never to be written; a text is called ``secret`` in the markers that replace it.
        rules: What is taken for a secret by its place; by default everything that ``RedactionRules`` knows.
        meta: What to say about the run.
        argv: How much of each command is recorded.
        env_values: Environment variables whose values are recorded; of all others only the names of those that a command sets.
        logs: Whether the outputs that are streams are logged.
        log_cap_bytes: About how much of one call's output is kept, one half from its beginning and one from its end.
        durability: When the record is synced to the disk: see ``Durability``.
        when_full: What becomes of events for a pipe whose reader stalls: see ``WhenFull``.
        strict: Whether leaving the block raises if an event was lost.
        trace: The span outside that the run belongs to, such as ``exports.parse_traceparent(os.environ["TRACEPARENT"])``.
        propagate_trace: Whether a child gets ``TRACEPARENT`` of its own call, unless its command sets that.
        run_id: A UUIDv7 of the caller's own, as text; by default a new one.

    Raises:
        ValueError: If ``events`` names no target, or another argument cannot be used.
        OSError: On entry, if the record or a target cannot be opened.
        RecordLostError: On leaving, with ``strict=True``, if an event was lost; as a note if another exception propagates.
    """
    return RunBlock(
        name,
        RecordSettings(
            run_id=run_id,
            record=record,
            database=database,
            events=as_events(events),
            secrets=tuple(secrets),
            rules=rules if rules is not None else RedactionRules(),
            meta=dict(meta or {}),
            argv=argv,
            env_values=as_texts(env_values, "env_values"),
            logs=logs,
            log_cap_bytes=log_cap_bytes,
            durability=durability,
            when_full=when_full,
            strict=strict,
            trace=trace,
            propagate_trace=propagate_trace,
        ),
    )
