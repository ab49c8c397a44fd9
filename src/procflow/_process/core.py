"""The books of one process, and the work that serves it.

Owns what is known of one process, its pumps, exit watch and feeder, at most one stop at a time, and the closing of it all.
Must not know how it was started, nor what a stop decides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal as _signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._containment.port import Container
from procflow._process.leader import UNKNOWN_STATUS, LeaderPort
from procflow._process.service import ServiceTasks
from procflow._process.state import NEXT_STATES, ProcessState
from procflow._process.stdin import ChildStdin
from procflow._process.stopper import Stopper
from procflow._streams.stream import OutputStream
from procflow.errors import TerminationError, UsageError
from procflow.events import StreamEnding
from procflow.outcome import EndedBy, Outcome, PhaseReport
from procflow.policies import Shutdown, Target

TAIL_BYTES: Final = 4096
LAST_READ_S: Final = 0.1
"""How long the pumps may read what an ended tree left in the pipes."""

SECOND_TRY_S: Final = 0.1
"""How long a closing scope waits for what has survived a stop already."""

ABANDON_WAIT_S: Final = 0.1
"""How long an escaped handle blocks its thread for the killed leader's exit."""

_log = logging.getLogger("procflow.process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a start hands to its process."""

    name: str
    leader: LeaderPort
    container: Container
    stdin: ChildStdin | None
    stdin_data: bytes | None
    stdout: OutputStream | None
    stderr: OutputStream | None
    started_at: datetime
    started_mono_s: float


class ProcessCore:
    """The books of one process; ``Process`` is what users see of it."""

    def __init__(
        self, parts: Parts, *, shutdown: Shutdown, tasks: anyio.abc.TaskGroup, keeps_leader: bool = False
    ) -> None:
        self.parts: Final = parts
        self.name: Final = parts.name
        self._leader = parts.leader
        self._container = parts.container
        self.shutdown: Final = shutdown
        self._tasks = ServiceTasks(tasks)
        self._keeps_leader = keeps_leader
        self.state = ProcessState.RUNNING
        self._cause = EndedBy.ITSELF
        self._ended_at: datetime | None = None
        self.exited: Final = anyio.Event()
        self._is_output_cut = False
        self._stopper: Stopper | None = None
        self._phases: tuple[PhaseReport, ...] = ()
        self._is_closed = False  # no stop can begin any more
        self._is_over = False  # nothing of ours is left open
        self._has_read_rest = False
        self._host_pid = os.getpid()

    def __repr__(self) -> str:
        return f"<process {self.name!r}, pid {self._leader.pid}, {self.state.value}>"

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; ``None`` while its leader runs."""
        if self._leader.status is None or self._ended_at is None:
            return None
        return self._make_outcome(self._ended_at)

    @property
    def leader(self) -> LeaderPort:
        """The leader."""
        return self._leader

    @property
    def container(self) -> Container:
        """How far signals reach."""
        return self._container

    def mark_detached(self) -> None:
        """Let it live on, unless it has ended."""
        if self.state in (ProcessState.RUNNING, ProcessState.EXITED):
            self._set_state(ProcessState.DETACHED)
            _log.debug("%s: pid %d was detached", self.name, self._leader.pid)

    def start_tasks(self) -> None:
        """Start the tasks that serve the process; synchronous, so that it follows the fork without an await."""
        for stream in self.streams:
            stream.describe_ending = self._ending_of_stream
            self._tasks.start(stream.pump, f"pump of {stream.name}")
        self._tasks.start(self._watch_exit, f"exit watch of {self.name}")
        stdin, data = self.parts.stdin, self.parts.stdin_data
        if stdin is not None and data is not None:
            rest = stdin.feed_nowait(data)
            if rest:
                self._tasks.start(partial(stdin.feed, rest), f"feeder of {self.name}")
        _log.debug("%s: started as pid %d", self.name, self._leader.pid)

    @property
    def streams(self) -> tuple[OutputStream, ...]:
        """The outputs that are streams."""
        return tuple(stream for stream in (self.parts.stdout, self.parts.stderr) if stream is not None)

    def sweep(self) -> None:
        """Kill what is left of the group of an exited leader, then reap it; synchronous.

        What is still dying after that is waited for by ``close()``.
        """
        if not self._leader.is_reaped:
            with contextlib.suppress(OSError):
                self._container.signal(_signal.SIGKILL, Target.TREE)
            self._reap()
        self._set_state(ProcessState.ENDED if self._container.living() == () else ProcessState.EXITED)

    async def let_go(self) -> None:
        """Reap the exited leader and leave the rest of its group alone."""
        await self._container.withdraw()
        if not self._leader.is_reaped:
            self._reap()
        self._set_state(ProcessState.ENDED)
        _log.debug("%s: whatever is left of its group was let go", self.name)

    def note_cut_output(self) -> None:
        """Remember that some output was still open when nobody would wait for it any longer."""
        self._is_output_cut = True

    def has_living_members(self) -> bool:
        """Look whether somebody besides the leader is alive in the group."""
        return bool(self._container.living())

    async def close(self, cause: EndedBy) -> TerminationError | None:
        """Stop what is alive and close everything; what could not be ended is returned, not raised.

        Must be called shielded.  Bounded by ``Shutdown.total_s`` + 200 ms.
        """
        error: TerminationError | None = None
        self._observe()
        if self.shutdown.first is None:  # a protocol shutdown may want to say goodbye
            self.close_stdin()
        if self.state is ProcessState.DETACHED:
            self._leader.reap()
        elif self.state is not ProcessState.ENDED:
            older = self._stopper if self._stopper is not None and not self._stopper.is_finished else None
            # What survived a whole stop is given one more signal, not one more stop.
            last_try = Shutdown.now(kill_wait_s=SECOND_TRY_S)
            stopper = self._ensure_stopper(last_try if self.state is ProcessState.SURVIVED else self.shutdown, cause)
            if older is not None:  # it may be more patient than the policy of this scope allows
                with anyio.move_on_after(self.shutdown.total_s - self.shutdown.kill_wait_s):
                    await self._finish(older)
                if not older.is_finished:
                    older.escalate()
            await self._finish(stopper)
            error = self._stop_error(stopper)
        self.close_stdin()
        await self._read_rest()
        self._is_closed = True
        self._close_pipes()
        await self._tasks.cancel_all()
        self._leader.close()
        self._is_over = True
        self.exited.set()
        return error

    @property
    def is_out_of_reach(self) -> bool:
        """Whether nothing is left that an escape of the handle could leak."""
        return self._is_over or self.state is ProcessState.DETACHED or os.getpid() != self._host_pid

    def abandon(self) -> None:
        """Kill the group and close everything without waiting for tasks: the last resort for what escaped its scope.

        Blocks the thread up to 100 ms for the exit.  Does nothing after ``close()`` and in forked copies of the host.
        """
        if self._is_over or os.getpid() != self._host_pid:
            return
        self._is_closed = self._is_over = True
        if self.state is not ProcessState.DETACHED and not self._leader.is_reaped:
            with contextlib.suppress(OSError):
                self._container.signal(_signal.SIGKILL, Target.TREE)
            with contextlib.suppress(OSError, ValueError):
                poller = select.poll()
                poller.register(self._leader.exit_fd, select.POLLIN)
                poller.poll(ABANDON_WAIT_S * 1000)
            if self._leader.observe():
                self._reap()
        with contextlib.suppress(RuntimeError):  # the loop is gone, or another one
            self._tasks.cancel_soon()
            self._close_pipes()
        self._leader.close()

    def close_stdin(self) -> None:
        """Close our end of standard input, if there is one."""
        if self.parts.stdin is not None:
            self.parts.stdin.close()

    def _close_pipes(self) -> None:
        for stream in self.streams:
            stream.close()
        self.close_stdin()

    # --- the stop ---------------------------------------------------------------------------------------------------

    async def stop(self, shutdown: Shutdown, cause: EndedBy, *, hurries: bool = False) -> Outcome:
        """End the tree, or wait for the stop that is under way; see ``Process.terminate()``.

        With ``hurries`` a stop that is under way sends SIGKILL now.
        """
        await checkpoint()
        self._observe()
        if self.state is ProcessState.DETACHED:
            raise UsageError(f"{self.name}: it was detached")
        if self.state is not ProcessState.ENDED:
            if self._is_closed:
                raise UsageError(f"{self.name}: its scope was left")
            is_new = self._stopper is None or self._stopper.is_finished
            stopper = self._ensure_stopper(shutdown, cause)
            if is_new:
                # A task of its own, so that it goes on when this caller is cancelled.
                self._tasks.start(partial(self._finish, stopper), f"stop of {self.name}")
                await stopper.finished.wait()
            elif hurries:
                self._note_cause(cause)
                stopper.escalate()
            await self._finish(stopper)
            error = self._stop_error(stopper)
            if error is not None:
                raise error
            await self._read_rest()
        outcome = self.outcome
        assert outcome is not None, "an ended process has an outcome"
        return outcome

    def _ensure_stopper(self, shutdown: Shutdown, cause: EndedBy) -> Stopper:
        if self._stopper is None or self._stopper.is_finished:
            self._note_cause(cause)
            self._stopper = Stopper(
                shutdown, self._leader, self._container, name=self.name, observe=self._observe, reap=self._reap
            )
            self._set_state(ProcessState.STOPPING)
        return self._stopper

    async def _finish(self, stopper: Stopper) -> None:
        # The driver's task may have been torn away (asyncio cancels every task at its end): then drive it here.
        while not stopper.is_finished:
            if stopper.is_driven:
                await stopper.finished.wait()
            else:
                await stopper.drive()

    async def _read_rest(self) -> None:
        """Let the pumps read what the ended tree left in the pipes, so that tails are whole."""
        if self.state is ProcessState.ENDED and not self._has_read_rest:
            self._has_read_rest = True
            with anyio.move_on_after(LAST_READ_S):
                for stream in self.streams:
                    await stream.wait_ended()

    def _stop_error(self, stopper: Stopper) -> TerminationError | None:
        self._book_stop(stopper)
        if stopper.is_complete:
            return None
        return TerminationError(
            process_name=self.name,
            survivors=stopper.survivors(),
            attempts=[str(report) for report in stopper.reports],
            outcome=self.outcome,
        )

    def _book_stop(self, stopper: Stopper) -> None:
        if self.state is ProcessState.STOPPING and stopper.is_finished:
            self._phases += stopper.reports
            self._set_state(ProcessState.ENDED if stopper.is_complete else ProcessState.SURVIVED)

    def _note_cause(self, cause: EndedBy) -> None:
        # Looks at the leader alone: the books would settle a process whose stop is just beginning.
        if not self._leader.observe():
            self._cause = cause

    # --- the exit ---------------------------------------------------------------------------------------------------

    async def _watch_exit(self) -> None:
        while not self._observe():
            await anyio.wait_readable(self._leader.exit_fd)

    def _observe(self) -> bool:
        """Look whether the leader has exited; synchronous, and the only place where the exit enters the books."""
        if not self._leader.observe():
            return False
        if self._ended_at is None:
            self._ended_at = datetime.now(UTC)
            _log.debug("%s: pid %d exited", self.name, self._leader.pid)
            if self.state is ProcessState.RUNNING:
                self._settle()
            if self._stopper is not None:
                self._stopper.notice()
            self.exited.set()
        return True

    def _settle(self) -> None:
        """The leader exited by itself: if its group is empty, sweep and reap; otherwise the scope ends the others."""
        if self._keeps_leader or self._container.living() != ():
            self._set_state(ProcessState.EXITED)
        else:
            self.sweep()

    def _reap(self) -> None:
        self._container.before_reap()
        self._leader.reap()

    def _make_outcome(self, ended_at: datetime) -> Outcome:
        parts, leader = self.parts, self._leader
        status = leader.status or UNKNOWN_STATUS
        return Outcome(
            name=parts.name,
            pid=leader.pid,
            exit_code=status.exit_code,
            signal=status.signal,
            core_dumped=status.core_dumped,
            ended_by=self._cause,
            started_at=parts.started_at,
            ended_at=ended_at,
            started_mono_s=parts.started_mono_s,
            ended_mono_s=leader.exit_seen_mono_s or time.monotonic(),
            usage=leader.usage,
            phases=self._phases,
            output_complete=not self._is_output_cut
            and all(stream.ending is StreamEnding.EOF for stream in self.streams),
            stdin_broken=parts.stdin is not None and parts.stdin.is_broken,
            stdout_tail=parts.stdout.tail(TAIL_BYTES) if parts.stdout is not None else b"",
            stderr_tail=parts.stderr.tail(TAIL_BYTES) if parts.stderr is not None else b"",
        )

    async def _ending_of_stream(self) -> Outcome:
        await self.exited.wait()
        outcome = self.outcome
        if outcome is None:  # detached, and out of sight: there will be none
            await anyio.sleep_forever()
            raise AssertionError("sleep_forever() returned")
        return outcome

    # --- small things -----------------------------------------------------------------------------------------------

    def _set_state(self, state: ProcessState) -> None:
        if state is not self.state:
            assert state in NEXT_STATES[self.state], f"{self.state} -> {state}"
            self.state = state
