"""Carries out what the stop machine decides.

Owns the waiting between two decisions.  Must not decide anything.
"""

from __future__ import annotations

import contextlib
import logging
import signal as _signal
from collections.abc import Callable
from typing import Final

import anyio

from procflow._containment.port import Container, Member
from procflow._containment.scan import read_member
from procflow._observers import emit, observers
from procflow._process.backend import LooseTask
from procflow._process.leader import LeaderPort
from procflow._process.stopping.escaped import tell_escaped
from procflow._process.stopping.stop import Finished, Look, Reap, RunFirst, Seen, Send, StopMachine, Wait
from procflow._streams.waking import Flag
from procflow.observation import Escalated
from procflow.outcome import PhaseReport, signal_name
from procflow.policies import ProtocolShutdown, Shutdown

FIRST_TICK_S: Final = 0.001
LAST_TICK_S: Final = 0.02
"""While something is alive its group is looked at this often at least: a phase ends within 50 ms of the group's end."""

TICK_GROWTH: Final = 1.5

LEADER_TICK_S: Final = 0.05
"""The same while the leader runs, whose exit is told: this is for when nobody is left to tell it."""

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
        self._changed = Flag()
        self._members: tuple[Member, ...] = ()
        self._told_reports = 0
        self._is_cut_short = False
        self._first: _ProtocolCall | None = None
        self.finished = Flag()
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
        texts = [str(member) for member in self._living()]
        return texts or ([f"pid {self._leader.pid} ({self._name})"] if self._leader.status is None else [])

    def escalate(self, *, kill_wait_s: float) -> None:
        """Send SIGKILL now, whatever the phases still allow, and wait for its effect at most ``kill_wait_s``."""
        self._is_cut_short = True
        self._machine.escalate(anyio.current_time(), kill_wait_s=kill_wait_s)
        self.notice()

    def notice(self) -> None:
        """Look again at once: something changed."""
        self._changed.set()

    async def drive(self) -> None:
        """Run the machine to its end; may be called again after it was torn away."""
        self.is_driven = True
        if self.finished.is_set():
            self.finished = Flag()
        tick_s = FIRST_TICK_S
        try:
            while True:
                seen, now_s = self._look(), anyio.current_time()
                action = self._machine.next(now_s, seen)
                self._tell_escalations()
                match action:
                    case RunFirst(until_s):
                        await self._run_first(until_s)
                    case Send() as send:
                        self._send(send)
                        tick_s = FIRST_TICK_S
                    case Look():
                        pass
                    case Reap():
                        self._reap()
                        tick_s = FIRST_TICK_S
                    case Wait(until_s):
                        if seen.is_leader_running:
                            await self._pause(min(LEADER_TICK_S, until_s - now_s))
                        else:
                            await self._pause(min(tick_s, until_s - now_s))
                            tick_s = min(tick_s * TICK_GROWTH, LAST_TICK_S)
                    case Finished(is_complete):
                        self.is_complete = is_complete
                        if not is_complete and observers:
                            tell_escaped(self._leader, self._living(), has_survived=True)
                        return
        finally:
            self.is_driven = False
            if self._first is not None:
                self._first.cancel()
            self.finished.set()

    async def wait_first_ended(self) -> None:
        """Wait for the end of the protocol shutdown, which may refuse to end; the caller sets the bound."""
        if self._first is not None:
            await self._first.ended.wait()

    def _living(self) -> list[Member]:
        if self._leader.status is not None:
            return list(self._members)
        # In a pipeline the first stage may be gone, and others not.
        members = list(self._container.living() or ())
        leader = None
        with contextlib.suppress(OSError, ValueError, IndexError):
            leader = read_member(self._leader.pid)
        return [leader, *members] if leader is not None else members

    def _tell_escalations(self) -> None:
        reports = self._machine.reports
        for report in reports[self._told_reports :]:
            if not (report.ended or self._machine.is_finished):
                emit(Escalated, name=self._leader.name, pid=self._leader.pid, report=report)
        self._told_reports = len(reports)

    def _look(self) -> Seen:
        if not self._observe():
            # While the leader runs the answer cannot be "empty": no pass over /proc is needed.
            return Seen(is_leader_running=True, others=None)
        if not self._machine.asks_for_others:
            return Seen(is_leader_running=False, others=None)
        members = self._container.living(self._machine.reach)
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
        _log.debug("%s: %s to the %s: %s", self._name, signal_name(send.signal), send.to.value, error or "sent")
        self._machine.sent(anyio.current_time(), error)  # a signal to many takes its time

    async def _run_first(self, until_s: float) -> None:
        first = self._shutdown.first
        if first is None:
            self._machine.first_done(anyio.current_time(), error=None)
            return
        if self._first is None:
            self._first = _ProtocolCall(first, self.notice, name=self._name)
        call = self._first
        has_ended = False
        while not (has_ended or call.is_over or self._is_cut_short) and anyio.current_time() < until_s:
            await self._pause(min(LAST_TICK_S, until_s - anyio.current_time()))
            has_ended = self._observe() and not self._look().others
        call.cancel()
        error = call.error
        if not (call.is_done or has_ended or self._is_cut_short):
            error = f"had not returned after {self._shutdown.first_wait_s:g} s"
        self._machine.first_done(anyio.current_time(), error=None if has_ended else error)

    async def _pause(self, limit_s: float) -> None:
        self._changed = Flag()
        await self._changed.wait_within(max(limit_s, 0))


class _ProtocolCall:
    """One call of ``Shutdown.first``: asked to end when its time is over, never waited for without a bound."""

    def __init__(self, first: ProtocolShutdown, notice: Callable[[], None], *, name: str) -> None:
        self._first = first
        self._notice = notice
        self.is_done = False
        self.error: str | None = None
        self._task = LooseTask(self._run, f"procflow protocol shutdown of {name}")
        self.ended: Final = self._task.ended

    @property
    def is_over(self) -> bool:
        """Whether it returned, raised or was cancelled."""
        return self.is_done or self.ended.is_set()

    def cancel(self) -> None:
        """Ask it to end, unless it has."""
        if not self.is_done:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._first()
        except (Exception, SystemExit, KeyboardInterrupt) as exc:  # noqa: BLE001 (recorded as an attempt; the phases go on)
            self.error = f"raised {type(exc).__name__}"
        self.is_done = True
        self._notice()
