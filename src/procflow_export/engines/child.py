"""One worker process as its parent sees it.

Owns one child, the unit it does now, and what it said: events become calls of ``report``, standard error is kept head and tail.  Must
not know which unit comes next or what a failure means for the run.

Whatever happens to the child, its unit gets an answer: the child's own, or one made of its outcome and its last lines.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Final

import anyio

import procflow
from procflow.record import MalformedEventError, Unknown
from procflow.redaction import Secret
from procflow_export.engines.keep import HeadAndTail
from procflow_export.engines.protocol import (
    MAX_LINE_BYTES,
    PROTOCOL,
    Cancel,
    ParentMessage,
    Readers,
    ReadersAnswer,
    Stamp,
    Work,
    WorkerReady,
    parent_codec,
    worker_codec,
)
from procflow_export.engines.redaction import secrets_of, secrets_of_unit, text_cleaner
from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, Failure, WorkerError, error_from
from procflow_export.model.events import Heartbeat, UnitEvent, UnitFinished, UnitProgress, UnitStarted, UnitWarning
from procflow_export.model.plan import UnitResult, WorkUnit

SHUTDOWN: Final = procflow.Shutdown.sigterm(grace_s=3.0)
CANCEL_WAIT_S: Final = 3.0
"""How long a worker may take to give a unit up before the process is ended."""
LAST_LINES_S: Final = 1.0
"""How long the outputs of a worker that has exited are read on; only a process it left behind can hold them open."""
SHOWN_MALFORMED_CHARS: Final = 200
MAX_SEARCHED_CHARS: Final = 10_000
_STDOUT: Final = procflow.StreamConfig(replay=procflow.Replay.while_unsubscribed(1 << 20))
_STDERR: Final = procflow.StreamConfig(replay=procflow.Replay.while_unsubscribed(1 << 18))


class _Job:
    """A unit in the hands of a worker, and its answer."""

    __slots__ = ("answered", "error", "report", "result", "unit")

    def __init__(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> None:
        self.unit = unit
        self.report = report
        self.answered = anyio.Event()
        self.result: UnitResult | None = None
        self.error: ExportError | None = None

    def succeed(self, result: UnitResult) -> None:
        if not self.answered.is_set():
            self.result = result
            self.answered.set()

    def fail(self, error: ExportError) -> None:
        if not self.answered.is_set():
            self.error = error
            self.answered.set()


class _Question:
    """A step with readers that a worker was asked to take, and its answer."""

    __slots__ = ("answered", "error", "message")

    def __init__(self, message: Readers) -> None:
        self.message = message
        self.answered = anyio.Event()
        self.error: ExportError | None = None

    def answer(self, error: ExportError | None) -> None:
        if not self.answered.is_set():
            self.error = error
            self.answered.set()


class WorkerChild:
    """A worker process from its start to its end.  ``run()`` is its life; everything else may be called meanwhile."""

    def __init__(
        self,
        command: procflow.Command,
        *,
        shutdown: procflow.Shutdown = SHUTDOWN,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._environ = os.environ if environ is None else environ
        self._shutdown = shutdown
        self._scope = anyio.CancelScope()
        self._child: procflow.Process | None = None
        self._job: _Job | None = None
        self._question: _Question | None = None
        self._asking = anyio.Lock()
        self._sending = anyio.Lock()
        self.readers: dict[str, int] = {}
        """Connections it has that read joined snapshots, by the snapshot's name."""
        self._ready: WorkerReady | None = None
        self._started = anyio.Event()
        self._ended = anyio.Event()
        self._outputs_open = 2
        self._outputs_ended = anyio.Event()
        self._secrets: frozenset[Secret[str]] = frozenset()
        self._clean = text_cleaner(())
        self._stderr = HeadAndTail()
        self._codec = worker_codec()
        self._parent_codec = parent_codec()
        self._stamp = Stamp()
        self.malformed_lines = 0
        """Lines on its standard output that were no events."""
        self.outcome: procflow.Outcome | None = None
        """How it ended, once it has."""

    def __repr__(self) -> str:
        state = "ended" if self._ended.is_set() else "busy" if self._job is not None else "idle"
        return f"<WorkerChild {self._command.name!r}, pid {self.pid}, {state}>"

    @property
    def pid(self) -> int | None:
        """Its process id; ``None`` before it was started."""
        return self._child.pid if self._child is not None else None

    @property
    def is_alive(self) -> bool:
        """Whether it can be talked to."""
        return not self._ended.is_set() and not self._scope.cancel_called and self.outcome is None

    @property
    def is_usable(self) -> bool:
        """Whether it can take another unit."""
        return self.is_alive and self._job is None

    def stderr_text(self) -> str:
        """Return what it wrote to standard error, the middle left out where it was much, secrets masked."""
        return self._clean(self._stderr.text())

    async def run(self) -> None:
        """Start the child and serve it until it is gone.  Never raises for what the child does; see ``do()``."""
        error = WorkerError(Code.WORKER_DIED, "the worker was ended")
        try:
            with self._scope:
                error = await self._live()
        except procflow.SpawnError as exc:
            error = WorkerError(Code.WORKER_NOT_STARTED, str(exc))
        except procflow.TerminationError as exc:
            error = WorkerError(Code.ENVIRONMENT, str(exc))
            for note in exc.__notes__:
                error.add_note(note)
        except Exception as exc:
            error = WorkerError(Code.INTERNAL, f"unexpected {type(exc).__name__} while a worker was served")
            raise
        finally:
            self._started.set()
            if self._job is not None:
                error.stderr_tail = self.stderr_text()
                self._job.fail(error)
            if self._question is not None:
                self._question.answer(error)
            self._ended.set()

    async def do(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        """Have one unit done.  Cancelling gives it up; a worker that does not, is ended.

        Raises:
            ExportError: If the unit failed, or the worker did.
        """
        job = self._job = _Job(unit, report)
        self._learn(secrets_of_unit(unit, self._environ))
        try:
            await self._started.wait()
            if self._ended.is_set():
                job.fail(WorkerError(Code.WORKER_DIED, "the worker had ended", stderr_tail=self.stderr_text()))
            else:
                await self._send(Work(unit=unit))
            await job.answered.wait()
        finally:
            if not job.answered.is_set():
                await self._give_up(job)
            self._job = None
        if job.error is not None:
            raise job.error
        if job.result is None:
            raise WorkerError(Code.WORKER_PROTOCOL, "the worker answered with neither a result nor a failure")
        return job.result

    async def ask(self, message: Readers) -> None:
        """Have it take a step with the readers of a snapshot, whatever unit it does.

        Raises:
            ExportError: If the step failed, or the worker did.
        """
        async with self._asking:
            question = self._question = _Question(message)
            self._learn(secrets_of(message.source, self._environ))
            try:
                await self._started.wait()
                if self._ended.is_set():
                    raise WorkerError(Code.WORKER_DIED, "the worker had ended", stderr_tail=self.stderr_text())
                await self._send(message)
                await question.answered.wait()
            finally:
                self._question = None
        if question.error is not None:
            raise question.error

    async def close(self) -> None:
        """End an idle worker the gentle way, by the end of its standard input, and wait until it is gone."""
        if self._child is not None and not self._ended.is_set():
            await self._child.stdin.aclose()
        await self._ended.wait()

    # --- the child's life -------------------------------------------------------------------------------------------

    async def _live(self) -> WorkerError:
        async with procflow.spawn(
            self._command, stdin=procflow.PIPE, stdout=_STDOUT, stderr=_STDERR, shutdown=self._shutdown
        ) as child:
            self._child = child
            child.stdin  # noqa: B018 (from now on the pipe is ours to close)
            self._started.set()
            async with anyio.create_task_group() as readers:
                readers.start_soon(self._read_events, child, name=f"events of {child.name}")
                readers.start_soon(self._read_stderr, child, name=f"stderr of {child.name}")
                outcome = self.outcome = await child.wait()
                with anyio.move_on_after(LAST_LINES_S):
                    await self._outputs_ended.wait()
                readers.cancel_scope.cancel()
        outcome = self.outcome = child.outcome or outcome
        return self._death(outcome)

    async def _read_events(self, child: procflow.Process) -> None:
        lines = procflow.LineConfig(max_line_bytes=MAX_LINE_BYTES, overflow=procflow.Overflow.TRUNCATE)
        try:
            async for batch in child.stdout.line_batches(config=lines):
                for line in batch:
                    self._hear(line)
        except procflow.ChildError as exc:
            self._warn(Code.WORKER_PROTOCOL, str(exc))
        finally:
            self._output_ended()
        # A worker that closed its output can no longer answer.
        with anyio.move_on_after(LAST_LINES_S):
            await child.wait()
            return
        await child.terminate()

    async def _read_stderr(self, child: procflow.Process) -> None:
        try:
            # Best effort: whatever floods standard error is counted and dropped, and never makes the worker wait.
            async for batch in child.stderr.line_batches(procflow.BestEffort(), on_gap="yield"):
                for line in batch:
                    self._stderr.feed(f"… {line.lost_bytes} bytes lost …" if isinstance(line, procflow.Gap) else line)
        except procflow.ChildError as exc:
            self._stderr.feed(f"({exc})")
        finally:
            self._output_ended()

    def _output_ended(self) -> None:
        self._outputs_open -= 1
        if not self._outputs_open:
            self._outputs_ended.set()

    def _hear(self, line: str) -> None:
        try:
            message = self._codec.decode(line.encode(errors="replace"))
        except MalformedEventError:
            self.malformed_lines += 1
            # Cleaned before it is cut: half a secret would not be found.
            shown = self._clean(line[:MAX_SEARCHED_CHARS])[:SHOWN_MALFORMED_CHARS]
            self._warn(Code.WORKER_PROTOCOL, f"line {self.malformed_lines} of the worker that is no event: {shown}")
            return
        match message:
            case WorkerReady():
                self._ready = message
                if message.protocol != PROTOCOL:
                    self._refuse(message)
            case UnitFinished():
                self._finish(message)
            case ReadersAnswer():
                self._hear_answer(message)
            case UnitStarted() | UnitProgress() | UnitWarning():
                if self._is_current(message.export, message.chunk) and self._job is not None:
                    self._job.report(message)
            case Heartbeat():
                if self._job is not None:
                    self._job.report(message)
            case Unknown():
                pass  # a newer worker says more than this release understands

    def _refuse(self, ready: WorkerReady) -> None:
        reason = f"the worker speaks protocol {ready.protocol} (release {ready.release}), not {PROTOCOL}"
        error = WorkerError(Code.WORKER_NOT_STARTED, reason)
        if self._job is not None:
            self._job.fail(error)
        if self._question is not None:
            self._question.answer(error)
        self._scope.cancel()

    def _is_current(self, export: str, chunk: int) -> bool:
        return self._job is not None and (self._job.unit.export, self._job.unit.index) == (export, chunk)

    def _finish(self, message: UnitFinished) -> None:
        if self._job is None or not self._is_current(message.export, message.chunk):
            return
        if message.result is not None:
            self._job.succeed(message.result)
        elif message.failure is not None:
            self._job.fail(self._error(message.failure))

    def _hear_answer(self, message: ReadersAnswer) -> None:
        question = self._question
        # An answer to a question that was given up is nobody's.
        if question is None or question.message.step is not message.step:
            return
        if question.message.snapshot.name == message.snapshot:
            question.answer(None if message.failure is None else self._error(message.failure))

    def _error(self, failure: Failure) -> ExportError:
        error = error_from(failure)
        if failure.code is not Code.INTERNAL:
            return error
        bug = WorkerError(failure.code, failure.message, stderr_tail=self.stderr_text())
        for note in failure.notes:
            bug.add_note(note)
        return bug

    def _warn(self, code: Code, message: str) -> None:
        if self._job is not None:
            unit = self._job.unit
            self._job.report(UnitWarning(export=unit.export, chunk=unit.index, code=code, message=message))

    def _death(self, outcome: procflow.Outcome) -> WorkerError:
        if self._ready is None and outcome.signal is None:
            return WorkerError(Code.WORKER_NOT_STARTED, f"a worker process could not begin: it {outcome.described}")
        return WorkerError(Code.WORKER_DIED, f"the worker process {outcome.pid} {outcome.described}")

    def _learn(self, secrets: frozenset[Secret[str]]) -> None:
        known = self._secrets | secrets
        if known != self._secrets:
            self._secrets, self._clean = known, text_cleaner(known)

    # --- talking to it ----------------------------------------------------------------------------------------------

    async def _send(self, message: ParentMessage) -> None:
        if self._child is None:
            return
        # Where the pipe is broken the worker is dying, and its ending answers the unit.
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with self._sending:
                await self._child.stdin.send(self._parent_codec.encode(self._stamp(message)))

    async def _give_up(self, job: _Job) -> None:
        """Take the unit back: by the protocol, else by ending the worker.  Bounded, and nothing of the unit runs afterwards."""
        with anyio.move_on_after(CANCEL_WAIT_S, shield=True):
            await self._send(Cancel())
            await job.answered.wait()
        if not job.answered.is_set():
            self._scope.cancel()
            bound_s = self._shutdown.total_s + LAST_LINES_S
            with anyio.move_on_after(bound_s, shield=True):
                await self._ended.wait()
