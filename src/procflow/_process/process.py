"""The handle of one running process.

Owns the public face of a process.  Must not know how anything is done: ``ProcessCore`` does it.
"""

from __future__ import annotations

import signal as _signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from procflow._containment.port import Containment
from procflow._process.core import ProcessCore
from procflow._process.pipelines.stage import Stage, require_stream
from procflow._process.readiness import Probe, wait_ready
from procflow._process.state import ProcessState
from procflow._process.stdio.stdin import ChildStdin
from procflow._process.terminals.terminal import Terminal
from procflow._streams.stream import OutputStream
from procflow._streams.timeline.timeline import Timeline
from procflow.errors import UsageError
from procflow.outcome import EndedBy, Outcome
from procflow.policies import Shutdown, Target

T = TypeVar("T")


class Process:
    """A child process; made by ``spawn()``.

    All methods belong to the event loop that started it.  Any number of tasks may wait for it and stop it at the same
    time: there is one stop, and everybody waits for its end.
    """

    def __init__(self, core: ProcessCore) -> None:
        self._core = core
        self._stdin: ChildStdin | None = None  # made when somebody asks for it

    def __repr__(self) -> str:
        return f"<Process {self.name!r}, pid {self.pid}, {self.state.value}>"

    # --- facts ------------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Its process id, which is also the number of its group; in a pipeline that of the first stage."""
        return self._core.leader.pid

    @property
    def name(self) -> str:
        """What errors and logs call it."""
        return self._core.name

    @property
    def state(self) -> ProcessState:
        """Where it is in its life, as far as the event loop has noticed."""
        return self._core.state

    @property
    def containment(self) -> Containment:
        """How far its termination really reaches."""
        return self._core.container.report

    @property
    def stdin(self) -> ChildStdin:
        """Its standard input.

        Raises:
            UsageError: Unless it was started with ``stdin=PIPE``.
        """
        pipe = self._core.parts.stdin
        if pipe is None or self._core.parts.feeder is not None:
            raise UsageError(f"{self.name}: standard input is no pipe of ours; start it with stdin=procflow.PIPE")
        if self._stdin is None:
            self._stdin = ChildStdin(pipe, process_name=self.name)
        return self._stdin

    @property
    def stdout(self) -> OutputStream:
        """Its standard output.

        Raises:
            UsageError: If it is no stream, because it was started with ``stdout=NULL``, ``INHERIT``, or a file.
        """
        return require_stream(self.name, self._core.parts.last.ends.stdout, "stdout")

    @property
    def stderr(self) -> OutputStream:
        """Its standard error.

        Raises:
            UsageError: If it is no stream of its own: see ``stdout``; or because of ``merge_stderr=True`` or ``pty=``; or
                because each stage of a pipeline has one.
        """
        return require_stream(self.name, self._core.parts.stderr_end, "stderr")

    @property
    def output(self) -> Timeline:
        """Its standard output and error as one timeline, in the order they were read; of a pipeline, those of the last stage.

        What is no stream is left out.  With ``merge_stderr=True`` everything comes from ``stdout``.

        Raises:
            UsageError: If neither is a stream.
        """
        if not self._core.timeline.sources:
            raise UsageError(f"{self.name}: neither output is a stream; start it with stdout=procflow.StreamConfig()")
        return self._core.timeline

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of a pipeline, first to last; a single command is its own only stage."""
        return tuple(Stage(self._core, book) for book in self._core.stages)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; ``None`` while its leader runs.  Tails, usage and phases grow until the scope is left."""
        return self._core.outcome

    # --- its terminal -----------------------------------------------------------------------------------------------

    def resize(self, rows: int, cols: int) -> None:
        """Change the window of its terminal, which tells it so by SIGWINCH; does nothing once its output has ended.

        Raises:
            UsageError: If it was not started with ``pty=``.
        """
        self._terminal().resize(rows, cols)

    def set_echo(self, *, on: bool) -> None:
        """Let its terminal repeat what is written to ``stdin``, or not; does nothing once its output has ended.

        Raises:
            UsageError: If it was not started with ``pty=``.
        """
        self._terminal().set_echo(on=on)

    # --- waiting and stopping ---------------------------------------------------------------------------------------

    async def wait(self) -> Outcome:
        """Return the outcome once the leader has exited, whoever still holds its pipes.

        Any number of tasks may wait, again and again; cancelling one changes nothing.  Standard input is closed first
        if it is a pipe that nobody ever asked for.

        The exit is all that was waited for: on the object that is returned ``output_complete`` may still be false and the
        tails may be short or empty, because output may still be in the pipes.  ``child.outcome`` has it all once the block
        was left; ``run()`` waits for the outputs.

        Raises:
            UsageError: If the process was detached and its scope was left.
            TerminationError: If its leader outlived every attempt to end it and its scope was left.
        """
        if self._stdin is None and self._core.parts.feeder is None:
            self._core.close_stdin()
        await self._core.exited.wait()
        return self._core.ending()

    def wait_ready(self, probe: Probe[T], *, timeout_s: float | None = None) -> Coroutine[Any, Any, T]:
        """Wait until ``probe`` says that the process can do its work, and return what it found: see ``procflow.ready``.

        Nothing is stopped, whatever comes of it.  A probe that reads lines is attached from this call on, sees the history that is
        still held, and takes no line from anybody.  Cancelling the wait changes nothing.

        Args:
            probe: How to tell.
            timeout_s: The most that it may take from this call on; ``None``: as long as the process runs.

        Raises:
            NotReadyError: At most 100 ms after the process has exited, if it did so first: with the outcome and the newest output.
                Or once ``timeout_s`` has passed: then ``outcome`` is ``None``, and the process goes on.
            UsageError: If the probe reads an output that is no stream.
            Exception: Whatever the predicate of ``ready.call()`` raises.
        """
        return wait_ready(self._core, probe, timeout_s)

    async def terminate(self, shutdown: Shutdown | None = None) -> Outcome:
        """End the whole tree and return the outcome; ``None`` means the policy that ``spawn()`` was given.

        If a stop is under way already, this waits for that one: its policy holds.  A stop goes on when the task that
        asked for it is cancelled.  A process that has ended gives its outcome again.

        Raises:
            TerminationError: If something outlived every attempt.
            UsageError: If the process was detached.
        """
        return await self._core.stop(shutdown or self._core.shutdown, EndedBy.TERMINATE)

    async def kill(self) -> Outcome:
        """End the whole tree by SIGKILL now; a stop that is under way loses its patience.

        Raises:
            TerminationError: If something outlived it.
            UsageError: If the process was detached.
        """
        now = Shutdown.now(kill_wait_s=self._core.shutdown.kill_wait_s)
        return await self._core.stop(now, EndedBy.KILL, hurries=True)

    def send_signal(self, number: _signal.Signals | int, *, to: Target = Target.LEADER) -> bool:
        """Send a signal now, without waiting; returns whether anybody was there to receive it.

        Nothing is sent once the leader was reaped, because its number may then belong to somebody else.  The number 0
        sends nothing and only asks whether anybody is alive; zombies are not.

        Raises:
            ValueError: If this system has no such signal.
            PermissionError: If the receivers changed their user.
        """
        if number == 0:
            return self.state is not ProcessState.ENDED and self._core.is_anybody_alive(to)
        # Real-time signals have numbers between SIGRTMIN and SIGRTMAX, and no names.
        if number not in _signal.valid_signals():
            raise ValueError(f"{self.name}: there is no signal {int(number)}")
        if self.state is ProcessState.ENDED:  # nothing is left, and every number may be a stranger's by now
            return False
        try:
            self._core.container.signal(number, to)
        except ProcessLookupError:
            return False
        return True

    async def detach(self) -> None:
        """Let the process, and everything it started, live on after the scope.

        Our ends of its pipes are still closed with the scope: its standard input ends, and writing to an output that
        nobody reads any more gives it SIGPIPE.  The detachment is logged at DEBUG by ``procflow.process``.

        A cancellation has to wait until guard and nanny have answered, two seconds at most: half a detachment would be none.

        Raises:
            UsageError: If a stop has begun, also while this waits; or if it belongs to ``run()`` or to a service, which are there to
                see it end.
            PlatformError: If its nanny is gone, or does not answer: then it is still ours.
        """
        self._require_detachable()
        with anyio.CancelScope(shield=True):
            await self._core.container.let_go()
        self._require_detachable()
        self._core.mark_detached()
        await checkpoint()

    # --- small things -----------------------------------------------------------------------------------------------

    def _require_detachable(self) -> None:
        if self._core.awaited_by:
            raise UsageError(
                f"{self.name}: cannot be detached: {self._core.awaited_by} waits for its end; start it with spawn() to let it live on"
            )
        if self.state in (ProcessState.STOPPING, ProcessState.SURVIVED):
            raise UsageError(f"{self.name}: cannot be detached while it is being stopped")

    def _terminal(self) -> Terminal:
        terminal = self._core.parts.first.ends.terminal
        if terminal is None:
            raise UsageError(f"{self.name}: it has no terminal of its own; start it with pty=procflow.Pty()")
        return terminal
