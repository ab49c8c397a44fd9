"""A job of a run: the block around it, and what it can do.

Owns when the block waits, when it is entered and how it ends.  Must not know how anything is written.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Final, Unpack

import anyio
from anyio.lowlevel import checkpoint

from procflow._process.recording import ACTIVE, RecordedCall, Recording
from procflow._process.run import run as run_command
from procflow.command import Argument, Command, PathArgument, Pipeline, Variable
from procflow.outcome import Completed
from procflow.record.errors import JobSkippedError
from procflow.record.events import ERRORED, FAILED
from procflow.record.fold.rows import JobKey
from procflow.record.recording.verdicts import verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procflow._supervision.map_run import RunOptions
    from procflow.record.recording.core import RunCore


class JobRecording:
    """Records the calls of one attempt at a job: what stands in the context of its tasks."""

    def __init__(self, core: RunCore, key: JobKey | None) -> None:
        """Record calls of ``key``, or of the job ``main``, which begins with the first of them."""
        self._core = core
        self._key = key

    @property
    def needs_stdout(self) -> bool:
        """Whether the events of the run, or of one around it, go to standard output."""
        outer = self._core.outer
        return self._core.needs_stdout or (outer is not None and outer.needs_stdout)

    def new_pipe(self) -> str:
        """Return a name for a pipeline, unique in the run."""
        return self._core.new_pipe() if self._heir is None else self._heir.new_pipe()

    def begin(self, command: Command, *, pipe: str | None, timeout_s: float | None, is_streamed: bool) -> RecordedCall:
        """Begin a call."""
        if self._heir is not None:
            return self._heir.begin(command, pipe=pipe, timeout_s=timeout_s, is_streamed=is_streamed)
        return self._core.begin_call(self._key, command, pipe=pipe, timeout_s=timeout_s, is_streamed=is_streamed)

    @property
    def _heir(self) -> Recording | None:
        """Whoever records what goes on after the end of the run: the run around it, if there is one."""
        return None if self._core.takes_calls else self._core.outer


class Calling:
    """Whoever makes calls that are recorded: a job, or a run for its job ``main``."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def sh(
        self,
        command: Command | Pipeline | PathArgument,
        *arguments: Argument,
        cwd: PathArgument | None = None,
        env: Mapping[str, Variable] | None = None,
        **options: Unpack[RunOptions],
    ) -> Completed:
        """Run a command to its end and return its outcome and output, as ``procflow.run()`` does.

        No shell is involved: ``sh("make", "-j4")`` runs ``Command("make", "-j4")``; for a shell give ``procflow.shell(script)``.

        Args:
            command: The program, or a whole command or pipeline; then no ``arguments``, ``cwd`` and ``env``.
            arguments: What follows the program.
            cwd: As for ``Command``.
            env: As for ``Command``.
            options: As for ``procflow.run()``.

        Raises:
            TypeError: If a whole command is given with ``arguments``, ``cwd`` or ``env``.
            SpawnError: As ``procflow.run()``, and so are the others.
            ExitError: With ``check=True``, which is the default, if it did not exit with 0.
            TimedOut: If a deadline passed; the tree was ended first.
        """
        if not isinstance(command, (Command, Pipeline)):
            command = Command(command, *arguments, cwd=cwd, env=env)
        elif arguments or cwd is not None or env is not None:
            raise TypeError("a whole command has its arguments, cwd and env already: change them with Command.with_()")
        before = ACTIVE.set(self._recording)
        try:
            return await run_command(command, **options)
        finally:
            ACTIVE.reset(before)


class Job(Calling):
    """An attempt at a job that runs.

    Attributes:
        job_id: What names the job, as it is recorded: without secrets.
        attempt: 1, 2, ...
    """

    def __init__(self, core: RunCore, key: JobKey) -> None:
        super().__init__(JobRecording(core, key))
        self._core = core
        self.job_id: Final = key.job_id
        self.attempt: Final = key.attempt

    def __repr__(self) -> str:
        return f"<Job {self.job_id!r}, attempt {self.attempt}>"

    def note(self, key: str, value: object) -> None:
        """Write a note about this attempt; as ``Run.note()``.

        Raises:
            UsageError: If ``key`` has no dot.
            UnrecordableError: If ``value`` is no JSON or longer than 8 KiB.
        """
        self._core.note(key, value, JobKey(self.job_id, self.attempt))


class JobBlock(AbstractAsyncContextManager[Job]):
    """The block around one attempt at a job; may be entered once."""

    def __init__(
        self,
        core: RunCore,
        job_id: str,
        after: tuple[str, ...],
        *,
        slots: anyio.Semaphore | None = None,
        may_retry: bool = False,
    ) -> None:
        self._core = core
        self._job_id = core.recorded_id(job_id)
        self._after = after
        self._slots = slots
        self._may_retry = may_retry
        self._job: Job | None = None
        self._before: Token[Recording | None] | None = None

    async def __aenter__(self) -> Job:
        if self._job is not None:
            raise RuntimeError("the block of a job can be entered once")
        core = self._core
        await checkpoint()
        if self._after:
            core.declare(self._job_id, self._after)
        because = await core.wait_before(self._job_id)
        if because:
            core.skip(self._job_id, because)
            raise JobSkippedError(job_id=self._job_id, because=because)
        if self._slots is not None:
            await self._slots.acquire()
        try:
            self._job = Job(core, core.begin_job(self._job_id))
        except BaseException:
            self._release()
            raise
        self._before = ACTIVE.set(self._job._recording)  # noqa: SLF001 (its own block)
        return self._job

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._job is None:
            raise RuntimeError("the block of the job was not entered")
        restore(self._before, self._job._recording)  # noqa: SLF001 (its own block)
        is_last = not (self._may_retry and verdict(exc) in (FAILED, ERRORED))
        self._core.end_job(JobKey(self._job.job_id, self._job.attempt), exc, is_last=is_last)
        self._release()
        await checkpoint_if(exc is None)

    def _release(self) -> None:
        if self._slots is not None:
            self._slots.release()


def restore(before: Token[Recording | None] | None, own: Recording) -> None:
    """Let whoever recorded before record again, in place of ``own``."""
    if before is None:
        return
    try:
        ACTIVE.reset(before)
    except ValueError:  # the block is left in another context than it was entered in, which may be somebody else's
        if ACTIVE.get() is own:
            ACTIVE.set(None if before.old_value is Token.MISSING else before.old_value)


async def checkpoint_if(is_wanted: bool) -> None:  # noqa: FBT001 (the condition in its name)
    """Pass a checkpoint, except on the way of an exception."""
    if is_wanted:
        await checkpoint()
