"""The life of one service: run after run, until it is stopped, has ended or has failed.

Owns the books of a service and the task that drives it.  Must not know when a restart is due (``restart``), how a process is
started and stopped, nor how its output travels.

The driver is the only one that starts and ends processes.  Whoever wants something of it leaves a wish and cancels the wait that
it is in, so that a stop is not delayed by a probe, a backoff or a slow reader.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar, assert_never

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._process.readiness import Probe, end_run, stop_unready
from procflow._process.scope import SpawnScope
from procflow._streams.waking import Bell, sleep_on
from procflow._supervision.restart import Again, GivenUp, Over, Restart, RestartMachine
from procflow._supervision.service_stream import ServiceStream
from procflow._supervision.values import Restarted, ServiceRun, ServiceState, forget_frames
from procflow.errors import NotReadyError, ProcflowError, ServiceFailed, TerminationError, UsageError
from procflow.outcome import EndedBy, Outcome

if TYPE_CHECKING:
    from procflow._process.core import ProcessCore
    from procflow._process.process import Process

T = TypeVar("T")

HISTORY_RUNS: Final = 32
"""How many runs a service remembers."""

LOOK_AGAIN_S: Final = 0.2
"""How long a wait for readers lasts before it looks by itself: one that is dropped does not say so."""


class _Wish(Enum):
    RESTART = "restart"
    STOP = "stop"


_OVER: Final = frozenset({ServiceState.STOPPED, ServiceState.ENDED, ServiceState.FAILED})


class Supervisor(Generic[T]):
    """The books of one service; ``Service`` is what users see of it."""

    def __init__(
        self,
        name: str,
        make_scope: Callable[[], SpawnScope],
        *,
        restart: Restart,
        probe: Probe[T] | None,
        ready_timeout_s: float | None,
    ) -> None:
        self.name: Final = name
        self._make_scope = make_scope
        self._probe = probe
        self._ready_timeout_s = ready_timeout_s
        self._machine = RestartMachine(restart)
        self.state = ServiceState.STARTING
        self.process: Process | None = None
        self.runs = 0
        self.found: T | None = None
        self.history: deque[ServiceRun] = deque(maxlen=HISTORY_RUNS)
        self.stdout: Final = ServiceStream(name, "stdout")
        self.stderr: Final = ServiceStream(name, "stderr")
        self.bell: Final = Bell()  # rings at every change
        self.failure: Exception | None = None  # a ``ProcflowError``, unless code of others has failed
        self.body: anyio.CancelScope | None = None
        self._last_outcome: Outcome | None = None
        self._has_begun = False  # whether the block was told of a process
        self._is_probe_broken = False  # whether the probe of this run has raised what says nothing of the process
        self._is_stuck = False  # whether something of the last run is alive, so that another one would make two of it
        self._wish: _Wish | None = None
        self._waiting: anyio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<service {self.name!r}, {self.state.value}, run {self.runs}>"

    @property
    def is_over(self) -> bool:
        """Whether no run is under way, and none will be."""
        return self.state in _OVER

    # --- what users ask for -----------------------------------------------------------------------------------------

    def ask_stop(self) -> None:
        """Let the service end, and stay so."""
        self._ask(_Wish.STOP)

    async def restart(self) -> None:
        """Let the run that is under way end and another begin, and wait for that."""
        await checkpoint()
        self._require_alive("restarted")
        before = self.runs
        if self._wish is None:
            self._ask(_Wish.RESTART)
        while self.runs == before:
            self._require_alive("restarted")
            await self.bell.sleep()

    async def wait_over(self) -> None:
        """Return once the service is over."""
        await checkpoint()
        while not self.is_over:
            await self.bell.sleep()

    async def wait_ready(self) -> None:
        """Return once the run that is under way is ready."""
        await checkpoint()
        while self.state is not ServiceState.READY:
            if self.failure is not None:
                raise self.failure
            if self.is_over:
                awaited = "it was asked for" if self._was_ready else "it was ready"
                if self._probe is not None and not self._was_ready:
                    awaited = self._probe.describe()
                raise NotReadyError(stream_name=self.name, awaited=awaited, outcome=self._last_outcome)
            await self.bell.sleep()

    @property
    def _was_ready(self) -> bool:
        return bool(self.history) and self.history[-1].was_ready

    def _require_alive(self, what: str) -> None:
        if isinstance(self.failure, ServiceFailed):
            raise self.failure
        if self.is_over or self._must_stop:
            raise UsageError(f"{self.name}: the service is over, and cannot be {what}")

    def _ask(self, wish: _Wish) -> None:
        if self._wish is not _Wish.STOP:
            self._wish = wish
        if self._waiting is not None:
            self._waiting.cancel()

    # --- the driver -------------------------------------------------------------------------------------------------

    async def drive(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """See the service through to its end.  Never raises: what it comes to is in the books.

        ``task_status`` is told once the first process runs, or could not be started: then ``failure`` says so.
        """
        state = ServiceState.STOPPED
        try:
            state = await self._run_all(task_status)
        except Exception as error:  # noqa: BLE001 (raised by the block)
            state = self._leave_body(error)
        finally:
            self.process = None
            self.stdout.end()
            self.stderr.end()
            self._set_state(state)
        if not self._has_begun:
            task_status.started()

    async def _run_all(self, task_status: anyio.abc.TaskStatus[None]) -> ServiceState:
        while True:
            began_s = anyio.current_time()  # the clock that the pauses go by, which may be a virtual one
            run = await self._run(task_status)
            lasted_s = anyio.current_time() - began_s
            if not self._has_begun:
                self.failure = run.error
                return ServiceState.FAILED
            if self._is_stuck:
                return self._stuck(run)
            if self._must_stop:
                return ServiceState.STOPPED
            if self._wish is _Wish.RESTART:
                self._machine.commanded(now_s=anyio.current_time())
            elif self._is_probe_broken:
                return self._fail("its readiness probe failed")  # wrong code, which another run would not cure
            else:
                over = await self._decide(run, lasted_s)
                if over is not None:
                    return over
            if not await self._wait_readers():
                return ServiceState.STOPPED

    async def _decide(self, run: ServiceRun, lasted_s: float) -> ServiceState | None:
        """Wait for the next run; return instead how the service ends, if it does."""
        decision = self._machine.after(
            has_failed=run.has_failed,
            lasted_s=lasted_s,
            now_s=anyio.current_time(),
            chance=random.random(),  # noqa: S311 (spreads load, hides nothing)
        )
        match decision:
            case Again(delay_s):
                self._set_state(ServiceState.BACKOFF)
                await self._unless_told(lambda: anyio.sleep(delay_s))
                if self._wish is _Wish.RESTART:
                    self._machine.commanded(now_s=anyio.current_time())
                return ServiceState.STOPPED if self._must_stop else None
            case Over():
                return ServiceState.ENDED
            case GivenUp(0):
                return self._fail(f"it is not started again: {run}")
            case GivenUp(restarts):
                return self._fail(f"it failed again after {restarts} restarts: {run}")
            case _:
                assert_never(decision)

    async def _run(self, task_status: anyio.abc.TaskStatus[None]) -> ServiceRun:
        """Start a process, see it through to its end, and book that."""
        number = self.runs + 1
        scope = self._make_scope()
        error: Exception | None = None
        was_ready = is_commanded = False
        self._is_probe_broken = False
        try:
            async with scope as child:
                core = scope.core
                assert core is not None, "an entered scope has a process"
                self._begin_run(child, core, number)
                if not self._has_begun:
                    self._has_begun = True
                    task_status.started()
                is_commanded = True  # also if this is cancelled
                try:
                    await self._unless_told(lambda: self._watch(child, core))
                except Exception as exc:  # noqa: BLE001 (booked)
                    error = exc
                was_ready = self.state is ServiceState.READY
                is_commanded = error is None and not core.exited.is_set()
                self._set_state(ServiceState.STOPPING)
                if isinstance(error, NotReadyError) and error.timeout_s is not None:
                    error = await stop_unready(core, error)
                await end_run(core, EndedBy.TERMINATE)
        except TerminationError as exc:
            self._is_stuck = True
            error = exc
        except ProcflowError as exc:  # it was not started, or a consumer of its output has failed
            error = error or exc
        finally:
            self.process = None
            self.runs = number  # also if it was not started
            if self._has_begun and not self._is_probe_broken:  # else it is told, once, with where it happened
                forget_frames(error)
            run = ServiceRun(
                number=number,
                outcome=scope.core.outcome if scope.core is not None else None,
                error=error,
                was_ready=was_ready,
                is_commanded=is_commanded,
            )
            self._book(run)
        return run

    def _begin_run(self, child: Process, core: ProcessCore, number: int) -> None:
        """Note that a process was started; synchronous, so that every reader is attached before anything was read."""
        restarted = Restarted(number=number, outcome=self._last_outcome) if self._last_outcome is not None else None
        if self._wish is _Wish.RESTART:  # this is what was wished for
            self._wish = None
        core.awaited_by = "its service"  # to which a detached one is no end: another would be started beside it
        self.process = child
        self.runs = number
        self.found = None
        self.stdout.begin_run(core.parts.last.ends.stdout, restarted)
        self.stderr.begin_run(core.parts.stderr_end, restarted)
        self._set_state(ServiceState.STARTING)
        if core.parts.stdin is not None and core.parts.feeder is None:
            _ = child.stdin  # whoever waits for the exit must not close it

    async def _watch(self, child: Process, core: ProcessCore) -> None:
        """Wait until the process is ready, then until it exits.

        Raises:
            NotReadyError: If it is not ready in time, or exits first.
            Exception: What the probe raises.
        """
        if self._probe is not None:
            try:
                self.found = await child.wait_ready(self._probe, timeout_s=self._ready_timeout_s)
            except NotReadyError:
                raise
            except Exception:
                self._is_probe_broken = True
                raise
        self._set_state(ServiceState.READY)
        await core.exited.wait()

    async def _wait_readers(self) -> bool:
        """Wait until every reader that shall miss nothing has room for another run; return false if a stop ended that."""
        self._set_state(ServiceState.STARTING)
        while not self._must_stop:
            self._wish = None  # a restart is what comes now
            if self.stdout.has_room and self.stderr.has_room:
                return True
            await self._unless_told(self._sleep_on_readers)
        return False

    async def _sleep_on_readers(self) -> None:
        with anyio.move_on_after(LOOK_AGAIN_S):
            await sleep_on([self.stdout.room_bell, self.stderr.room_bell])

    async def _unless_told(self, function: Callable[[], Awaitable[object]]) -> None:
        """Do something that a wish ends."""
        if self._wish is not None:
            return
        with anyio.CancelScope() as scope:
            self._waiting = scope
            try:
                await function()
            finally:
                self._waiting = None

    @property
    def _must_stop(self) -> bool:
        return self._wish is _Wish.STOP

    # --- the books --------------------------------------------------------------------------------------------------

    def _book(self, run: ServiceRun) -> None:
        self.history.append(run)
        if run.outcome is not None:
            self._last_outcome = run.outcome
        self.bell.ring()

    def _fail(self, text: str) -> ServiceState:
        failure = ServiceFailed(text, service_name=self.name, history=self.history)
        failure.__cause__ = self.history[-1].error
        return self._leave_body(failure)

    def _stuck(self, run: ServiceRun) -> ServiceState:
        """Give up a service of which something cannot be ended: another run would make two of it."""
        if self._wish is _Wish.STOP:
            assert isinstance(run.error, TerminationError)
            return self._leave_body(run.error)
        return self._fail("its last run cannot be ended")

    def _leave_body(self, failure: Exception) -> ServiceState:
        self.failure = failure
        if self.body is not None:
            self.body.cancel()
        return ServiceState.FAILED

    def _set_state(self, state: ServiceState) -> None:
        self.state = state
        self.bell.ring()
