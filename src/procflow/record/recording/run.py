"""``open_run()``: the block in which everything that procflow runs is recorded.

Owns the order of a run's events from its header to its end.  Must not know how a line is written, nor how a process is started.

A run is opened and left by one task; its jobs belong to tasks of the same event loop.  Calls may come from any thread.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Final

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from procflow._process.backend import defers_interrupts, mark_for_trio
from procflow._process.recording import ACTIVE, RecordedCall, Recording
from procflow._streams.waking import Bell
from procflow.command import Command, secrets_of
from procflow.errors import UsageError
from procflow.record.clocks import Clock
from procflow.record.codec import note_value
from procflow.record.errors import RecordLostError
from procflow.record.events import (
    CANCELLED,
    SUCCEEDED,
    CancelRequested,
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    Note,
    RecordEvent,
    RunFinished,
    Trace,
)
from procflow.record.fold.rows import JobKey
from procflow.record.ids import new_run_id
from procflow.record.logs.cap import DEFAULT_CAP_BYTES
from procflow.record.logs.paths import log_path
from procflow.record.logs.writer import CallLog
from procflow.record.recorder import Recorder
from procflow.record.recording.calls import UNRECORDED, OpenCall
from procflow.record.recording.described import ArgvChoice, call_started
from procflow.record.recording.header import run_started
from procflow.record.recording.idle_flush import IdleFlusher
from procflow.record.recording.jobs import Calling, Job, JobBlock, JobRecording, restore
from procflow.record.recording.ledger import MAIN, Ledger, checked_job_id
from procflow.record.recording.runner import MAX_RUNNING, JobRunner, JobSpec
from procflow.record.recording.settings import EventTarget, RecordSettings, as_events, as_texts
from procflow.record.recording.verdicts import error_info, verdict
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
        directory: Where its record and its logs are; ``None`` if they are nowhere.
    """

    def __init__(self, name: str, settings: RecordSettings, *, clock: Clock | None = None) -> None:
        """Write the header.

        Raises:
            OSError: If the record, or another target of events, cannot be opened.
        """
        super().__init__(JobRecording(self, None))
        self.name: Final = name
        self.run_id: Final = str(new_run_id())
        self._settings = settings
        self._redactor: Final = settings.redactor()
        root = settings.record
        self.directory: Final = Path(root, self.run_id) if root is not None else None
        # Made before the record begins: some of it takes milliseconds, the first time.
        header = run_started(
            self.run_id, name, meta=settings.meta, redaction=settings.redaction_info(), trace=settings.trace
        )
        sinks = settings.open_sinks(str(self.directory) if self.directory is not None else None)
        self._recorder: Final = Recorder(sinks, redactor=self._redactor, clock=clock)
        self._lock: Final = threading.RLock()
        self._ledger = Ledger()
        self._began_ns: dict[JobKey, int] = {}
        self._main: JobKey | None = None
        self._pipe_count = 0
        self._open_calls: dict[OpenCall, None] = {}
        self._flusher = IdleFlusher()
        self._job_ended: Final = Bell()
        self._blamed: BaseException | None = None
        self._scope = anyio.CancelScope()
        self._has_called = False
        self.outcome: str | None = None
        """How it ended: one of ``RUN_OUTCOMES``; ``None`` while it runs."""
        self._emit(header)

    def __repr__(self) -> str:
        return f"<Run {self.name!r}, {self.run_id}, {self.outcome or 'open'}>"

    # --- for whoever runs something ---------------------------------------------------------------------------------

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
        return JobBlock(self, self._recorded_id(job_id), tuple(map(self._recorded_id, after)))

    def declare(self, job_id: str, *, after: Sequence[str] = ()) -> None:
        """Say that a job is going to run, after others: if it is never begun, the record says that it was skipped.

        Raises:
            UsageError: As ``job()``.
        """
        job_id, after = self._recorded_id(job_id), tuple(map(self._recorded_id, after))
        with self._lock:
            self._require_open()
            if self._ledger.declare(job_id, after):
                self._emit(JobDeclared(job_id=job_id, after=after))

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
        return await JobRunner(self, max_running=max_running).run(jobs, check=check)

    def note(self, key: str, value: object, *, job: Job | None = None) -> None:
        """Write what is to be known of the run, or of a job.

        Args:
            key: What is said; holds a dot, such as ``build.version``.
            value: Any JSON, at most 8 KiB.
            job: What it is about, if not the run.

        Raises:
            UsageError: If ``key`` has no dot, or the run is over.
            UnrecordableError: If ``value`` is no JSON or too long.
        """
        if "." not in key:
            raise UsageError(f"the key of a note holds a dot, such as 'build.{key}'")
        self._require_open()
        event = Note(key=key, value=note_value(value))
        if job is not None:
            event = msgspec.structs.replace(event, job_id=job.job_id, attempt=job.attempt)
        self._emit(event)

    def add_secret(self, secret: AnySecret) -> None:
        """Take ``secret`` out of everything that is recorded from now on.

        Warns with ``LateSecretWarning`` if a call was recorded before: ``python -m procflow record scrub`` cleans that.

        Raises:
            ValueError: If its value holds a marker of a redaction.
        """
        self._redactor.add(secret)
        if self._has_called:
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
        self._require_open()
        self._emit(CancelRequested(reason=reason, signal=signal))
        self._scope.cancel()

    # --- for its jobs and calls -------------------------------------------------------------------------------------

    @property
    def needs_stdout(self) -> bool:
        """Whether its events go to standard output, where nobody else may write then."""
        return self._settings.writes_stdout and not self._recorder.is_over

    def knows(self, job_id: str) -> bool:
        """Whether a job was declared or begun."""
        return self._ledger.has(job_id)

    async def wait_before(self, job_id: str) -> tuple[str, ...]:
        """Wait for the jobs before ``job_id``; return those for whose failure it is not to be begun."""
        while self._ledger.unfinished_before(job_id):
            await self._job_ended.sleep()
        return self._ledger.failures_before(job_id)

    def begin_job(self, job_id: str) -> JobKey:
        """Record that the next attempt at a job begins."""
        with self._lock:
            self._require_open()
            key = self._ledger.begin(job_id)
            self._began_ns[key] = self._recorder.mono_ns()
            self._emit(JobStarted(job_id=key.job_id, attempt=key.attempt))
            return key

    def end_job(self, key: JobKey, error: BaseException | None, *, is_last: bool = True) -> None:
        """Record how an attempt ended."""
        if error is not None:
            self._blamed = error
        self._end_job(key, verdict(error), error, is_last=is_last)

    def skip(self, job_id: str, because: tuple[str, ...]) -> None:
        """Record that a job is not begun."""
        with self._lock:
            self._ledger.skip(job_id)
            self._emit(JobSkipped(job_id=job_id, because=because))
        self._job_ended.ring()

    def new_pipe(self) -> str:
        """Return a name for a pipeline."""
        with self._lock:
            self._pipe_count += 1
            return f"pipe-{self._pipe_count}"

    def begin_call(
        self, job: JobKey | None, command: Command, *, pipe: str | None, timeout_s: float | None, is_streamed: bool
    ) -> RecordedCall:
        """Record that a command is about to be started, by a job or by ``main``."""
        settings, recorder = self._settings, self._recorder
        for secret in secrets_of(command):
            self._redactor.add(secret)
        with self._lock:
            if recorder.is_over or not recorder.is_here:
                return UNRECORDED
            key = self._ledger.next_call(job if job is not None else self._main_job())
            directory = self.directory if settings.logs and is_streamed else None
            log = log_path(key.job_id, attempt=key.attempt, sh=key.sh) if directory is not None else None
            self._has_called = True
            event = call_started(
                key,
                command,
                argv=settings.argv,
                env_values=settings.env_values,
                additions=(),
                host=os.environ,
                cwd=_working_directory(),
                timeout_s=timeout_s,
                log=log,
                pipe=pipe,
            )
            call = OpenCall(
                key,
                emit=self._emit,
                mono_ns=recorder.mono_ns,
                on_end=self._forget_call,
                flusher=self._flusher,
                environment={},
            )
            self._emit(event)
            self._open_calls[call] = None
        if directory is not None and log is not None:
            call.log_to(CallLog(str(directory), log, cap_bytes=settings.log_cap_bytes, redactor=self._redactor))
        return call

    # --- for its block ----------------------------------------------------------------------------------------------

    @property
    def scope(self) -> anyio.CancelScope:
        """What ``cancel()`` cancels."""
        return self._scope

    def finish(self, error: BaseException | None) -> None:
        """Write the ends of everything that has none, and that of the run; synchronous."""
        with self._lock:
            for call in tuple(self._open_calls):
                call.left_open()
            self._flusher.close()
            for key in self._ledger.open_jobs():
                if key == self._main:
                    own = error if error is not self._blamed else None
                    self._end_job(key, verdict(own), own)
                else:
                    self._end_job(key, CANCELLED, None)
            for job_id in self._ledger.never_begun():
                self.skip(job_id, self._ledger.failures_before(job_id))
            self.outcome = self._verdict(error)
            self._emit(
                RunFinished(outcome=self.outcome, duration_ns=self._recorder.mono_ns(), totals=self._recorder.totals())
            )

    async def aclose(self) -> list[str]:
        """Close everything that takes events; return what was lost, for people."""
        return await self._recorder.aclose()

    def _verdict(self, error: BaseException | None) -> str:
        if self._scope.cancel_called and verdict(error) in (SUCCEEDED, CANCELLED):
            return CANCELLED
        return self._ledger.outcome() if error is None else verdict(error)

    def _end_job(self, key: JobKey, outcome: str, error: BaseException | None, *, is_last: bool = True) -> None:
        with self._lock:
            began_ns = self._began_ns.pop(key, None)
            if began_ns is None:
                return
            self._ledger.end(key, outcome, is_last=is_last)
            duration_ns = self._recorder.mono_ns() - began_ns
            self._emit(JobFinished(**key._asdict(), outcome=outcome, duration_ns=duration_ns, error=error_info(error)))
        self._job_ended.ring()

    def _main_job(self) -> JobKey:
        if self._main is None:
            self._main = self.begin_job(MAIN)
        return self._main

    def _forget_call(self, call: OpenCall) -> None:
        with self._lock:
            self._open_calls.pop(call, None)

    def _recorded_id(self, job_id: str) -> str:
        return self._redactor.redact_text(checked_job_id(job_id))

    def _emit(self, event: RecordEvent) -> None:
        self._recorder.emit(event)

    def _require_open(self) -> None:
        if self._recorder.is_over:
            raise UsageError(f"the run {self.name!r} is over")


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "."


class RunBlock(AbstractAsyncContextManager[Run]):
    """The block around a run; may be entered once."""

    def __init__(self, name: str, settings: RecordSettings, *, clock: Clock | None = None) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        self._run: Run | None = None
        self._before: Token[Recording | None] | None = None
        mark_for_trio()

    @defers_interrupts
    async def __aenter__(self) -> Run:
        if self._run is not None:
            raise RuntimeError("an open_run() block can be entered once")
        await checkpoint()
        self._run = run = Run(self._name, self._settings, clock=self._clock)
        run.scope.__enter__()
        self._before = ACTIVE.set(JobRecording(run, None))
        return run

    @defers_interrupts
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        run = self._run
        if run is None:
            raise RuntimeError("the open_run() block was not entered")
        restore(self._before)
        try:
            run.finish(exc)
        finally:
            is_swallowed = bool(run.scope.__exit__(exc_type, exc, traceback))
            with anyio.CancelScope(shield=True):
                lost = await run.aclose()
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
        trace: The span outside that the run belongs to.

    Raises:
        ValueError: If ``events`` names no target, or another argument cannot be used.
        OSError: On entry, if the record or a target cannot be opened.
        RecordLostError: On leaving, with ``strict=True``, if an event was lost; as a note if another exception propagates.
    """
    return RunBlock(
        name,
        RecordSettings(
            record=record,
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
        ),
    )
