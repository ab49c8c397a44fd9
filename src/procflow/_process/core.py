"""The books of one process, and the work that serves it.

Owns what is known of one process, its pumps, exit watch and feeder, at most one stop at a time, and the closing of it all.
Must not know how it was started, nor what a stop decides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal as _signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._containment.port import Container
from procflow._observers import emit
from procflow._process.backend import defers_interrupts
from procflow._process.leader import LeaderPort
from procflow._process.parts import Parts
from procflow._process.pipelines.stages import StageBook, observe_all, whole_outcome
from procflow._process.service import ServiceTasks
from procflow._process.state import NEXT_STATES, ProcessState
from procflow._process.stopping.last_resort import LastResort, kill_now
from procflow._process.stopping.stopper import Stopper
from procflow._process.terminals.borrower import keep_running, return_terminal
from procflow._streams.consumers.crew import Crew
from procflow._streams.stream import OutputStream
from procflow._streams.waking import Flag, LoopDoor
from procflow.errors import TerminationError, UsageError
from procflow.observation import Detached
from procflow.outcome import EndedBy, Outcome, PhaseReport
from procflow.policies import Shutdown, Target

LAST_READ_S: Final = 0.1
"""How long the pumps may read what an ended tree left in the pipes."""

SECOND_TRY_S: Final = 0.1
"""How long a closing scope waits for what has survived a stop already."""

FIRST_END_S: Final = 0.05
"""How long a closing scope waits for a cancelled protocol shutdown."""

_log = logging.getLogger("procflow.process")


class ProcessCore:
    """The books of one process; ``Process`` is what users see of it."""

    def __init__(
        self, parts: Parts, *, shutdown: Shutdown, tasks: anyio.abc.TaskGroup, keeps_leader: bool = False
    ) -> None:
        self.parts: Final = parts
        self.name: Final = parts.name
        self.streams: Final[tuple[OutputStream, ...]] = parts.streams
        """The outputs that are streams."""
        self._leader = parts.leader
        self._container = parts.container
        self.shutdown: Final = shutdown
        self._tasks = ServiceTasks(tasks)
        self.crew: Final = Crew(self._tasks.start)
        self.timeline: Final = parts.last.ends.timeline()
        self._keeps_leader = keeps_leader
        self.state = ProcessState.RUNNING
        self.stages: Final = tuple(StageBook(stage) for stage in parts.stages)
        self._is_exit_booked = False
        self.exited: Final = Flag()
        self._is_output_cut = False
        self._stopper: Stopper | None = None
        self._phases: tuple[PhaseReport, ...] = ()
        self._home = LoopDoor()
        # On the clock of the event loop, which may be a virtual one.
        self.started_s: Final = anyio.current_time() - (time.monotonic() - parts.first.started_mono_s)
        self.was_ready = False
        self.awaited_by = ""  # what sees it through to its end, if anything does: then it cannot be detached
        self._is_closing = False  # no stop can begin any more
        self._is_over = False  # nothing of ours is left open
        self._has_read_rest = False
        self._host_pid = os.getpid()

    def __repr__(self) -> str:
        return f"<process {self.name!r}, pid {self._leader.pid}, {self.state.value}>"

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; ``None`` while its leader runs."""
        return whole_outcome(self.parts, self.stages, phases=self._phases, is_output_cut=self._is_output_cut)

    @property
    def has_exited(self) -> bool:
        """Whether its leader has exited: all of its stages."""
        return all(stage.has_exited for stage in self.stages)

    def outcome_of(self, stage: StageBook) -> Outcome | None:
        """How one stage ended: for the only one, everything that is known of the whole."""
        return self.outcome if len(self.stages) == 1 else stage.outcome

    def ending(self) -> Outcome:
        """Return the outcome once ``exited`` is set.

        Raises:
            UsageError: If there is none, because the process was detached.
            TerminationError: If there is none, because it outlived every attempt to end it.
        """
        outcome = self.outcome
        if outcome is not None:
            return outcome
        if self.state is ProcessState.DETACHED:
            raise UsageError(f"{self.name}: its ending is unknown, because it was detached")
        raise self._termination_error([f"pid {self._leader.pid} ({self.name})"], self._phases)

    @property
    def leader(self) -> LeaderPort:
        """The leader."""
        return self._leader

    @property
    def container(self) -> Container:
        """How far signals reach."""
        return self._container

    @defers_interrupts
    def mark_detached(self) -> None:
        """Let it live on, unless it has ended."""
        if self.state in (ProcessState.RUNNING, ProcessState.EXITED):
            self._set_state(ProcessState.DETACHED)
            for stage in self.parts.stages:
                emit(Detached, name=stage.name, pid=stage.leader.pid)
            _log.debug("%s: pid %d was detached", self.name, self._leader.pid)

    def start_tasks(self) -> None:
        """Start the tasks that serve the process; synchronous, so that it follows the fork without an await."""
        for stage in self.stages:
            services = stage.services(
                self.crew,
                partial(self.outcome_of, stage),
                on_exit=self._observe,
                on_end=self._tell_record_if_over,
                door=self._home,
            )
            for work, name in services:
                self._tasks.start(work, name)
        if self.parts.loan is not None:
            self._tasks.start(partial(keep_running, self.parts, self._observe), f"terminal watch of {self.name}")
        feeder = self.parts.feeder
        if feeder is not None and not feeder.start_nowait():
            feeder.on_failure = self._stop_for_input
            self._tasks.start(feeder.run, f"feeder of {self.name}")
        _log.debug("%s: started as pid %d", self.name, self._leader.pid)

    @defers_interrupts
    def sweep(self) -> None:
        """Kill what is left of the group of an exited leader, then reap it; synchronous.

        What is still dying after that is waited for by ``close()``.
        """
        if not self._leader.is_reaped:
            with contextlib.suppress(OSError):
                self._container.signal(_signal.SIGKILL, Target.TREE)
            self._reap()
        self._set_state(ProcessState.ENDED if self._container.living() == () else ProcessState.EXITED)

    @defers_interrupts
    async def let_go(self) -> None:
        """Reap the exited leader and leave the rest of its group alone."""
        await self._container.let_go()
        if not self._leader.is_reaped:
            self._reap()
        self._set_state(ProcessState.ENDED)
        _log.debug("%s: whatever is left of its group was let go", self.name)

    def note_cut_output(self) -> None:
        """Remember that some output was still open when nobody would wait for it any longer."""
        self._is_output_cut = True

    def is_anybody_alive(self, who: Target) -> bool:
        """Look whether the leader, or for another target anybody of the tree, is alive, as far as can be told."""
        return not self._leader.observe() or (who is not Target.LEADER and self._container.living() != ())

    def has_living_members(self) -> bool:
        """Look whether somebody besides the leader is alive in the group."""
        return bool(self._container.living())

    @property
    def is_at_rest(self) -> bool:
        """Whether ``close()`` has nothing to wait for."""
        has_read = all(stream.ending is not None for stream in self.streams)
        return self.state is ProcessState.ENDED and has_read and self.crew.is_idle and self._tasks.is_idle

    @defers_interrupts
    async def close(self, cause: EndedBy) -> TerminationError | None:
        """Stop what is alive and close everything; what could not be ended is returned, not raised.

        Must be called shielded, unless ``is_at_rest``.  Bounded by ``Shutdown.total_s`` + 200 ms + the longest ``finish_s`` of a consumer that runs.
        """
        error: TerminationError | None = None
        self._is_closing = True
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
                    older.escalate(kill_wait_s=self.shutdown.kill_wait_s)
            await self._finish(stopper)
            error = self._stop_error(stopper)
            with anyio.move_on_after(FIRST_END_S):
                await stopper.wait_first_ended()
        self.close_stdin()
        await self._read_rest()
        if self.state is not ProcessState.DETACHED:
            await self.crew.let_read(self.streams)
        self._close_pipes()
        await self.crew.finish()
        await self._tasks.cancel_all()
        return_terminal(self.parts)
        self.stop_watching()
        self._leader.close()
        self._container.close()
        self._is_over = True
        self._tell_record()
        self._wake_waiters()
        return error

    @property
    def is_out_of_reach(self) -> bool:
        """Whether nothing is left that an escape of the handle could leak."""
        return self._is_over or self.state is ProcessState.DETACHED or os.getpid() != self._host_pid

    @defers_interrupts
    def abandon(self, cause: EndedBy = EndedBy.SCOPE, *, from_outside: bool = False) -> None:
        """Kill the group, then book its end and close everything without waiting for tasks: the last resort.

        Blocks the thread up to 100 ms.  Does nothing after ``close()`` and in forked copies of the host.

        Args:
            cause: Who ended what still ran.
            from_outside: Called by the garbage collector or at the interpreter's end, in whatever thread: then the loop
                closes the books itself, if it still runs.
        """
        if self._is_over or os.getpid() != self._host_pid:
            return
        self._is_closing = self._is_over = True
        report: LastResort | None = None
        if self.state not in (ProcessState.DETACHED, ProcessState.ENDED):
            self._note_cause(cause)
            report = kill_now(self._leader, self._container)
        close_books = partial(self._close_books, report)
        if not (from_outside and self._home.is_running and self._home.run_soon(close_books)):
            close_books()

    @defers_interrupts
    def _close_books(self, report: LastResort | None) -> None:
        observe_all(self.stages)
        if report is not None and self.state not in (ProcessState.DETACHED, ProcessState.ENDED):
            if self._stopper is not None and self.state is ProcessState.STOPPING:
                self._phases += self._stopper.reports
            self._phases += report.phases
            self._set_state(ProcessState.STOPPING)
            self._set_state(ProcessState.ENDED if report.has_ended else ProcessState.SURVIVED)
        # What cannot be told to tasks because their loop is gone has nobody waiting for it either.
        steps = (self.crew.abort, self._tasks.cancel_soon, self._close_pipes, partial(return_terminal, self.parts))
        last_steps = (
            self.stop_watching,
            self._leader.close,
            self._container.close,
            self._tell_record,
            self._wake_waiters,
        )
        for step in (*steps, *last_steps):
            with contextlib.suppress(RuntimeError):
                step()
        if self._stopper is not None:  # its task may never take its first step: then whoever waits for it drives it
            with contextlib.suppress(RuntimeError):
                self._stopper.finished.set()

    @defers_interrupts
    def close_stdin(self) -> None:
        """Close our end of standard input, if there is one."""
        if self.parts.stdin is not None:
            self.parts.stdin.close()

    def stop_watching(self) -> None:
        """Look for its exit no more: its exit descriptors are about to be closed."""
        for stage in self.stages:
            stage.stop_watching()

    def _close_pipes(self) -> None:
        for stream in self.streams:
            stream.close()
        self.close_stdin()

    # --- the stop ---------------------------------------------------------------------------------------------------

    @defers_interrupts
    async def stop(self, shutdown: Shutdown, cause: EndedBy, *, hurries: bool = False) -> Outcome:
        """End the tree, or wait for the stop that is under way; see ``Process.terminate()``.

        With ``hurries`` a stop that is under way sends SIGKILL now.
        """
        await checkpoint()
        self._observe()
        if self.state is ProcessState.DETACHED:
            raise UsageError(f"{self.name}: it was detached")
        if self.state is not ProcessState.ENDED:
            is_new = self._stopper is None or self._stopper.is_finished
            if is_new and self._is_closing:
                raise UsageError(f"{self.name}: its scope was left")
            stopper = self._ensure_stopper(shutdown, cause)
            if hurries and not is_new:
                self._note_cause(cause)
                stopper.escalate(kill_wait_s=shutdown.kill_wait_s)
            if is_new and shutdown.first is not None:
                # In a task of its own: a protocol shutdown is not cut by the cancellation of this caller.
                self._tasks.start(partial(self._finish, stopper), f"stop of {self.name}")
                await stopper.finished.wait()
            try:
                await self._finish(stopper)
            finally:
                if is_new and not (stopper.is_finished or stopper.is_driven or self._is_over):
                    # This caller was cancelled; the stop goes on.
                    self._tasks.start(partial(self._finish, stopper), f"stop of {self.name}")
            error = self._stop_error(stopper)
            if error is not None:
                raise error
            self.close_stdin()
            await self._read_rest()
        outcome = self.outcome
        assert outcome is not None, "an ended process has an outcome"
        return outcome

    @defers_interrupts
    def _stop_for_input(self) -> None:
        """Begin to end it, because what feeds it has failed; nobody waits for that, unless somebody asks for a stop."""
        self._observe()
        if self.state in (ProcessState.RUNNING, ProcessState.EXITED) and not self._is_closing:
            stopper = self._ensure_stopper(self.shutdown, EndedBy.INPUT)
            self._tasks.start(partial(self._finish_and_book, stopper), f"stop of {self.name}")

    async def _finish_and_book(self, stopper: Stopper) -> None:
        await self._finish(stopper)
        self._book_stop(stopper)

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
            if all(stream.ending is not None for stream in self.streams):
                return
            with anyio.move_on_after(LAST_READ_S):
                for stream in self.streams:
                    await stream.wait_ended()

    def _stop_error(self, stopper: Stopper) -> TerminationError | None:
        self._book_stop(stopper)
        if stopper.is_complete:
            return None
        return self._termination_error(stopper.survivors(), stopper.reports)

    def _termination_error(self, survivors: Sequence[str], reports: Sequence[PhaseReport]) -> TerminationError:
        attempts = [str(report) for report in reports]
        return TerminationError(process_name=self.name, survivors=survivors, attempts=attempts, outcome=self.outcome)

    def _book_stop(self, stopper: Stopper) -> None:
        if self.state is ProcessState.STOPPING and stopper.is_finished:
            self._phases += stopper.reports
            self._set_state(ProcessState.ENDED if stopper.is_complete else ProcessState.SURVIVED)

    def _note_cause(self, cause: EndedBy) -> None:
        for stage in self.stages:
            stage.note_cause(cause)

    # --- the exit ---------------------------------------------------------------------------------------------------

    @defers_interrupts
    def _observe(self) -> bool:
        """Look whether the leader has exited; synchronous, and the only place where something follows from it."""
        if not observe_all(self.stages):
            return False
        if not self._is_exit_booked:
            self._is_exit_booked = True
            return_terminal(self.parts)
            if self.state is ProcessState.RUNNING:
                self._settle()
            if self._stopper is not None:
                self._stopper.notice()
            self.exited.set()
        return True

    def _wake_waiters(self) -> None:
        for stage in self.stages:
            stage.close()
        self.exited.set()

    def _settle(self) -> None:
        """The leader exited by itself: if its group is empty, sweep and reap; otherwise the scope ends the others."""
        if self._keeps_leader or self._container.living() != ():
            self._set_state(ProcessState.EXITED)
        else:
            self.sweep()

    def _reap(self) -> None:
        self._container.before_reap()
        self._leader.reap()

    # --- small things -----------------------------------------------------------------------------------------------

    def _set_state(self, state: ProcessState) -> None:
        if state is not self.state:
            assert state in NEXT_STATES[self.state], f"{self.state} -> {state}"
            self.state = state
            self._tell_record_if_over()

    def _tell_record_if_over(self) -> None:
        if self.state is ProcessState.ENDED and all(stage.has_ended for stage in self.stages):
            self._tell_record()

    def _tell_record(self) -> None:
        for stage in self.stages:
            # A stage that was gone before the stop has nothing to do with its steps.
            has_part = len(self.stages) == 1 or stage.was_stopped
            stage.tell_record(stage.outcome_with(phases=self._phases if has_part else ()))
