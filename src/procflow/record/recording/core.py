"""The books of one run, and the order of its events from the header to the end.

Owns what is open: jobs, calls, the thread that flushes their logs.  Must not know how a line is written, nor how a process is
started, nor what users of the run see.

Its jobs belong to tasks of one event loop.  Calls may come from any thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec

from procflow._process.recording import RecordedCall
from procflow._streams.waking import Bell
from procflow.command import Command, secrets_of
from procflow.errors import UsageError
from procflow.record.clocks import Clock
from procflow.record.codec import note_value
from procflow.record.events import (
    CANCELLED,
    SUCCEEDED,
    CancelRequested,
    ErrorInfo,
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    Note,
    RecordEvent,
    RunFinished,
)
from procflow.record.exports.ids import traceparent
from procflow.record.fold.rows import CallKey, JobKey
from procflow.record.ids import new_run_id
from procflow.record.logs.paths import log_path
from procflow.record.logs.writer import CallLog
from procflow.record.recorder import Recorder
from procflow.record.recording.calls import UNRECORDED, OpenCall
from procflow.record.recording.described import call_started
from procflow.record.recording.header import Writer, run_started
from procflow.record.recording.idle_flush import IdleFlusher
from procflow.record.recording.ledger import MAIN, Ledger, checked_job_id
from procflow.record.recording.settings import RecordSettings
from procflow.record.recording.verdicts import error_info, verdict

TRACEPARENT: Final = "TRACEPARENT"
"""The variable of W3C Trace Context; TRACESTATE is inherited as it is."""


class RunCore:
    """What is known of one run while it is recorded; ``Run`` is what users see of it."""

    def __init__(self, name: str, settings: RecordSettings, writer: Writer, *, clock: Clock | None = None) -> None:
        """Write the header.

        Raises:
            OSError: If the record, or another target of events, cannot be opened.
        """
        self.name: Final = name
        self.run_id: Final = settings.run_id or str(new_run_id())
        self.redactor: Final = settings.redactor()
        self._settings = settings
        root = settings.record
        self.directory: Final = Path(root, self.run_id) if root is not None else None
        sinks = settings.open_sinks(str(self.directory) if self.directory is not None else None)
        self._recorder: Final = Recorder(sinks, redactor=self.redactor, clock=clock)
        self._lock: Final = threading.RLock()
        self._ledger = Ledger()
        self._began_ns: dict[JobKey, int] = {}
        self._main: JobKey | None = None
        self._pipe_count = 0
        self._open_calls: dict[OpenCall, None] = {}
        self._flusher = IdleFlusher()
        self._job_ended: Final = Bell()
        self._blamed: BaseException | None = None
        self._is_cancel_announced = False
        self.scope: Final = anyio.CancelScope()
        """What ``cancel()`` cancels."""
        self.has_called = False
        """Whether a call was recorded."""
        self.outcome: str | None = None
        """How it ended; ``None`` while it runs."""
        self._emit(
            run_started(
                self.run_id,
                name,
                writer,
                meta=settings.meta,
                redaction=settings.redaction_info(),
                trace=settings.trace,
            )
        )

    # --- for whoever says something about it --------------------------------------------------------------------------

    def declare(self, job_id: str, after: Sequence[str]) -> None:
        """Record that a job is going to run, unless that is known."""
        job_id, waits_for = self.recorded_id(job_id), tuple(map(self.recorded_id, after))
        with self._lock:
            self._require_open()
            if self._ledger.declare(job_id, waits_for):
                self._emit(JobDeclared(job_id=job_id, after=waits_for))

    def note(self, key: str, value: object, job: JobKey | None) -> None:
        """Record a note."""
        if "." not in key:
            raise UsageError(f"the key of a note holds a dot, such as 'build.{key}'")
        self._require_open()
        event = Note(key=key, value=note_value(value))
        self._emit(event if job is None else msgspec.structs.replace(event, **job._asdict()))

    def cancel(self, reason: str, signal: str | None) -> None:
        """Record that it is to end, and cancel its block."""
        self.announce_cancel(reason, signal)
        self.scope.cancel()

    def announce_cancel(self, reason: str, signal: str | None) -> None:
        """Record that it is to end; whoever works ends it."""
        self._require_open()
        self._is_cancel_announced = True
        self._emit(CancelRequested(reason=reason, signal=signal))

    def recorded_id(self, job_id: str) -> str:
        """Return how a job is called in the record."""
        return self.redactor.redact_text(checked_job_id(job_id))

    # --- for its jobs and calls -------------------------------------------------------------------------------------

    @property
    def needs_stdout(self) -> bool:
        """Whether its events go to standard output, where nobody else may write then."""
        return self._settings.writes_stdout and not self._recorder.is_over

    def knows(self, job_id: str) -> bool:
        """Whether a job was declared or begun."""
        return self._ledger.has(self.recorded_id(job_id))

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
        self._end_job(key, verdict(error), error_info(error), is_last=is_last)

    def settle_job(self, key: JobKey, outcome: str, error: ErrorInfo | None) -> None:
        """Record how an attempt ended that somebody else has judged."""
        self._end_job(key, outcome, error)

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
            self.redactor.add(secret)
        with self._lock:
            if recorder.is_over or not recorder.is_here:
                return UNRECORDED
            key = self._ledger.next_call(job if job is not None else self._main_job())
            directory = self.directory if settings.logs and is_streamed else None
            trace = self._trace_variables(key, command)
            log = log_path(key.job_id, attempt=key.attempt, sh=key.sh) if directory is not None else None
            self.has_called = True
            event = call_started(
                key,
                command,
                argv=settings.argv,
                env_values=settings.env_values,
                additions=trace,
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
                environment=trace,
            )
            self._emit(event)
            self._open_calls[call] = None
        if directory is not None and log is not None:
            call.log_to(partial(CallLog, str(directory), log, cap_bytes=settings.log_cap_bytes, redactor=self.redactor))
        return call

    # --- for its block ----------------------------------------------------------------------------------------------

    def finish(self, error: BaseException | None) -> None:
        """Write the ends of everything that has none, and that of the run; synchronous."""
        with self._lock:
            for call in tuple(self._open_calls):
                call.left_open()
            self._flusher.close()
            for key in self._ledger.open_jobs():
                if key == self._main:
                    own = error if error is not self._blamed else None
                    self._end_job(key, verdict(own), error_info(own))
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
        if self.scope.cancel_called and verdict(error) in (SUCCEEDED, CANCELLED):
            return CANCELLED
        if error is not None:
            return verdict(error)
        return CANCELLED if self._is_cancel_announced and self._ledger.is_cut_short() else self._ledger.outcome()

    def _end_job(self, key: JobKey, outcome: str, error: ErrorInfo | None, *, is_last: bool = True) -> None:
        with self._lock:
            began_ns = self._began_ns.pop(key, None)
            if began_ns is None:
                return
            self._ledger.end(key, outcome, is_last=is_last)
            duration_ns = self._recorder.mono_ns() - began_ns
            self._emit(JobFinished(**key._asdict(), outcome=outcome, duration_ns=duration_ns, error=error))
        self._job_ended.ring()

    def _trace_variables(self, key: CallKey, command: Command) -> dict[str, str]:
        """Return the variables by which a child makes its spans children of its call's."""
        if not self._settings.propagate_trace or TRACEPARENT in command.env:
            return {}
        return {TRACEPARENT: traceparent(self.run_id, key, trace=self._settings.trace)}

    def _main_job(self) -> JobKey:
        if self._main is None:
            self._main = self.begin_job(MAIN)
        return self._main

    def _forget_call(self, call: OpenCall) -> None:
        with self._lock:
            self._open_calls.pop(call, None)

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
