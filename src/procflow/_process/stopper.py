"""Carries out what the stop machine decides.

Owns the waiting between two decisions.  Must not decide anything.
"""

from __future__ import annotations

import contextlib
import logging
import signal as _signal
import time
from collections.abc import Callable
from typing import Final

import anyio

from procflow._containment.port import Container, Member
from procflow._containment.scan import read_member
from procflow._process.leader import LeaderPort
from procflow._process.stop import Finished, Reap, RunFirst, Seen, Send, StopMachine, Wait
from procflow.outcome import PhaseReport
from procflow.policies import Shutdown

FIRST_TICK_S: Final = 0.001
LAST_TICK_S: Final = 0.02
"""While something is alive its group is looked at this often at least: a phase ends within 50 ms of the group's end."""

_log = logging.getLogger("procflow.termination")


class Stopper:
    """One stop of one tree.

    Args:
        observe: Looks whether the leader has exited, and keeps the process's own books.
        reap: Reaps the leader, and keeps the process's own books.
    """

    def __init__(
        self,
        shutdown: Shutdown,
        leader: LeaderPort,
        container: Container,
        *,
        name: str,
        observe: Callable[[], bool],
        reap: Callable[[], None],
    ) -> None:
        self._shutdown = shutdown
        self._leader = leader
        self._container = container
        self._name = name
        self._observe = observe
        self._reap = reap
        self._machine = StopMachine(shutdown)
        self._changed = anyio.Event()
        self._members: tuple[Member, ...] = ()
        self._is_cut_short = False
        self.finished = anyio.Event()
        """Set when the stop is over, and when its driver was torn away before that."""
        self.is_driven = False
        self.is_complete = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to be done."""
        return self._machine.is_finished

    @property
    def reports(self) -> tuple[PhaseReport, ...]:
        """What was done so far."""
        return tuple(self._machine.reports)

    def survivors(self) -> list[str]:
        """Return a text for each process that is still alive."""
        leader_text = [] if self._leader.status is not None else [_leader_text(self._leader.pid, self._name)]
        return leader_text + [str(member) for member in self._members]

    def escalate(self) -> None:
        """Send SIGKILL now, whatever the phases still allow."""
        self._is_cut_short = True
        self._machine.escalate(time.monotonic())
        self.notice()

    def notice(self) -> None:
        """Look again at once: something changed."""
        self._changed.set()

    async def drive(self) -> None:
        """Run the machine to its end; may be called again after it was torn away."""
        self.is_driven = True
        if self.finished.is_set():
            self.finished = anyio.Event()
        tick_s = FIRST_TICK_S
        try:
            while True:
                seen = self._look()
                match self._machine.next(time.monotonic(), seen):
                    case RunFirst(until_s):
                        await self._run_first(until_s)
                    case Send() as send:
                        self._send(send)
                        tick_s = FIRST_TICK_S
                    case Reap():
                        self._reap()
                        tick_s = FIRST_TICK_S
                    case Wait(until_s):
                        await self._pause(min(tick_s, until_s - time.monotonic()))
                        tick_s = min(tick_s * 2, LAST_TICK_S)
                    case Finished(is_complete):
                        self.is_complete = is_complete
                        return
        finally:
            self.is_driven = False
            self.finished.set()

    def _look(self) -> Seen:
        if not self._observe():
            # While the leader runs the answer cannot be "empty": no pass over /proc is needed.
            return Seen(is_leader_running=True, others=None)
        members = self._container.living()
        self._members = members or ()
        return Seen(is_leader_running=False, others=None if members is None else len(members))

    def _send(self, send: Send) -> None:
        error: OSError | None = None
        try:
            self._container.signal(send.signal, send.to)
            if send.resume:
                # A stopped process keeps the signal pending until it is continued.
                self._container.signal(_signal.SIGCONT, send.to)
        except OSError as exc:
            error = exc
        _log.debug("%s: %s to the %s: %s", self._name, send.signal.name, send.to.value, error or "sent")
        self._machine.sent(time.monotonic(), error)

    async def _run_first(self, until_s: float) -> None:
        first = self._shutdown.first
        if first is None:
            self._machine.first_done(time.monotonic(), error=None)
            return
        error: str | None = "did not return in time"
        is_done = False

        async def call() -> None:
            nonlocal error, is_done
            try:
                await first()
                error = None
            except Exception as exc:  # noqa: BLE001 (recorded as an attempt; the phases go on)
                error = f"raised {type(exc).__name__}"
            is_done = True
            self.notice()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, name=f"procflow protocol shutdown of {self._name}")
            while not is_done and not self._is_cut_short and time.monotonic() < until_s:
                if self._observe() and not self._look().others:
                    error = None
                    break
                await self._pause(min(LAST_TICK_S, until_s - time.monotonic()))
            tasks.cancel_scope.cancel()
        self._machine.first_done(time.monotonic(), error=error)

    async def _pause(self, limit_s: float) -> None:
        self._changed = anyio.Event()
        with anyio.move_on_after(max(limit_s, 0)):
            await self._changed.wait()


def _leader_text(pid: int, name: str) -> str:
    member = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        member = read_member(pid)
    return str(member) if member is not None else f"pid {pid} ({name})"
