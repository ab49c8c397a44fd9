"""The stop algorithm, as a machine without clock, loop or operating system.

Problem: a tree must be gone within a stated time, whatever its processes do: ignore signals, exit before their children,
refuse a signal for lack of permission, hang in the kernel.  The machine is asked for its next action and told what was
seen; the stopper carries the action out.

Order at the end: SIGKILL to everything that containment reaches, even if it looks empty, because no number may be
signalled after the reaping; then the leader is reaped; then the group is probed until it is empty.

Rejected: one timer a phase (cannot be tested exhaustively), ending with the leader's exit (leaves its children behind).
"""

from __future__ import annotations

import signal as _signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from procflow.outcome import PhaseReport
from procflow.policies import Phase, Shutdown, Target

UNCATCHABLE: Final[frozenset[int]] = frozenset({_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCONT})


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known when the machine is asked.

    Attributes:
        is_leader_running: Whether the leader has not exited yet.
        others: How many other processes are alive within the machine's ``reach``; ``None`` if that cannot be told.
    """

    is_leader_running: bool
    others: int | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is alive for sure."""
        return not self.is_leader_running and self.others == 0


@dataclass(frozen=True, slots=True)
class RunFirst:
    """Run the protocol shutdown, at most until ``until_s``; then call ``first_done()``."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``signal``, and SIGCONT after it if ``resume``, so that a stopped process sees it; then call ``sent()``."""

    signal: _signal.Signals
    to: Target
    resume: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again when something changed, and at ``until_s`` at the latest."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Look:
    """Look again with the new ``reach``, then ask again."""


@dataclass(frozen=True, slots=True)
class Reap:
    """Reap the leader; then ask again."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The stop is over; ``is_complete`` if nothing is left."""

    is_complete: bool


Action: TypeAlias = RunFirst | Send | Wait | Look | Reap | Finished


class _State(Enum):
    BEGIN = auto()
    FIRST = auto()
    FIRST_WAIT = auto()
    SEND = auto()
    WAIT = auto()
    SWEEP = auto()
    KILL_WAIT = auto()
    PROBE = auto()
    COMPLETE = auto()
    SURVIVED = auto()


class StopMachine:
    """Decides each step of one stop.

    ``next()`` gives the action; the answers are ``first_done()`` after ``RunFirst`` and ``sent()`` after ``Send``.
    """

    def __init__(self, shutdown: Shutdown) -> None:
        self._shutdown = shutdown
        self._state = _State.BEGIN
        self._phase = 0
        self._step_begun_s = 0.0
        self._deadline_s = 0.0
        self._error: str | None = None
        self._kill_wait_s = shutdown.kill_wait_s
        self._is_plain_sweep = False
        self.reports: list[PhaseReport] = []
        self._steps: Mapping[_State, Callable[[float, Seen], Action | None]] = {
            _State.BEGIN: self._begin,
            _State.FIRST: self._first,
            _State.FIRST_WAIT: self._first_wait,
            _State.SEND: self._send,
            _State.WAIT: self._wait,
            _State.SWEEP: self._sweep,
            _State.KILL_WAIT: self._kill_wait,
            _State.PROBE: self._probe,
            _State.COMPLETE: lambda _now, _seen: Finished(is_complete=True),
            _State.SURVIVED: lambda _now, _seen: Finished(is_complete=False),
        }

    def __repr__(self) -> str:
        return f"<StopMachine {self._state.name.lower()}, {len(self.reports)} steps done>"

    @property
    def is_finished(self) -> bool:
        """Whether ``next()`` can only say ``Finished``."""
        return self._state in (_State.COMPLETE, _State.SURVIVED)

    @property
    def asks_for_others(self) -> bool:
        """Whether it matters now who is alive besides the leader: once SIGKILL is sent nothing does before the reaping."""
        return self._state is not _State.KILL_WAIT

    @property
    def reach(self) -> Target:
        """Whose ending is waited for now: those that the phase has signalled or, around the phases, everybody.

        A process that left the group got no signal of a phase to the group: to wait for it would only cost time.
        """
        if self._state in (_State.SEND, _State.WAIT) and self._phase < len(self._shutdown.phases):
            return Target.TREE if self._shutdown.phases[self._phase].to is Target.TREE else Target.GROUP
        return Target.TREE

    def next(self, now_s: float, seen: Seen) -> Action:
        """Return what to do now; ``seen`` is what was seen with the ``reach`` of this moment."""
        reach = self.reach
        while True:
            action = self._steps[self._state](now_s, seen)
            if action is not None:
                return action
            if self.reach is not reach:
                return Look()

    def first_done(self, now_s: float, *, error: str | None) -> None:
        """Tell that the protocol shutdown returned, raised or ran out of time."""
        if self._state is _State.FIRST:
            self._error = error
            if error is not None:
                self._deadline_s = now_s
            self._state = _State.FIRST_WAIT

    def sent(self, now_s: float, error: OSError | None) -> None:
        """Tell how the last ``Send`` went."""
        self._error = describe_error(error)
        if self._state is _State.SEND:
            phase = self._shutdown.phases[self._phase]
            # Nobody could be reached: waiting out the clock would change nothing.
            self._deadline_s = now_s if error is not None else now_s + phase.wait_s
            self._state = _State.WAIT
        elif self._state is _State.SWEEP:
            self._deadline_s = now_s + self._kill_wait_s
            self._state = _State.KILL_WAIT

    def escalate(self, now_s: float, *, kill_wait_s: float | None = None) -> None:
        """Give up all patience: the next action is SIGKILL, unless that was sent already; ``kill_wait_s`` can only shorten its wait."""
        if kill_wait_s is not None:
            self._kill_wait_s = min(self._kill_wait_s, kill_wait_s)
            if self._state in (_State.KILL_WAIT, _State.PROBE):
                self._deadline_s = min(self._deadline_s, now_s + kill_wait_s)
        if self._state in (_State.FIRST, _State.FIRST_WAIT):
            self._report(now_s, signal=None, to=Target.GROUP, ended=False, error=self._error)
        elif self._state is _State.WAIT:
            phase = self._shutdown.phases[self._phase]
            self._report(now_s, signal=phase.signal, to=phase.to, ended=False, error=self._error)
        if self._state in (_State.BEGIN, _State.FIRST, _State.FIRST_WAIT, _State.SEND, _State.WAIT):
            self._state = _State.SWEEP

    # --- one method a state; None: the state changed, ask again -----------------------------------------------------

    def _begin(self, now_s: float, seen: Seen) -> Action | None:
        if seen.is_empty or (not self._shutdown.phases and self._shutdown.first is None):
            self._state = _State.SWEEP
            return None
        if self._shutdown.first is None:
            self._state = _State.SEND
            return None
        self._state = _State.FIRST
        self._step_begun_s = now_s
        self._deadline_s = now_s + self._shutdown.first_wait_s
        return RunFirst(self._deadline_s)

    def _first(self, _now_s: float, _seen: Seen) -> Action:
        return RunFirst(self._deadline_s)

    def _first_wait(self, now_s: float, seen: Seen) -> Action | None:
        if not self._cannot_wait(seen) and now_s < self._deadline_s:
            return Wait(self._deadline_s)
        self._report(now_s, signal=None, to=Target.GROUP, ended=seen.is_empty, error=self._error)
        self._error = None
        if self._cannot_wait(seen):
            self._state = _State.SWEEP
            return None
        self._state = _State.SEND
        return None

    def _send(self, now_s: float, seen: Seen) -> Action | None:
        if self._phase == len(self._shutdown.phases):
            self._state = _State.SWEEP
            return None
        phase = self._shutdown.phases[self._phase]
        if self._cannot_wait(seen):
            self._go_beyond(phase)
            return None
        self._step_begun_s = now_s
        return Send(phase.signal, phase.to, resume=phase.signal not in UNCATCHABLE)

    def _wait(self, now_s: float, seen: Seen) -> Action | None:
        is_over = self._cannot_wait(seen)
        if not is_over and now_s < self._deadline_s:
            return Wait(self._deadline_s)
        phase = self._shutdown.phases[self._phase]
        self._report(now_s, signal=phase.signal, to=phase.to, ended=seen.is_empty, error=self._error)
        if is_over:
            self._go_beyond(phase)
            return None
        self._phase += 1
        self._state = _State.SEND
        return None

    def _sweep(self, now_s: float, seen: Seen) -> Action:
        # C-65: sent to an empty group too, since nothing may be signalled after the reaping.
        self._step_begun_s = now_s
        self._is_plain_sweep = seen.is_empty
        return Send(_signal.SIGKILL, Target.TREE, resume=False)

    def _kill_wait(self, now_s: float, seen: Seen) -> Action | None:
        if not seen.is_leader_running:
            self._state = _State.PROBE
            return Reap()
        if now_s >= self._deadline_s:
            self._finish(now_s, _State.SURVIVED)
            return None
        return Wait(self._deadline_s)

    def _probe(self, now_s: float, seen: Seen) -> Action | None:
        if seen.others == 0:
            self._finish(now_s, _State.COMPLETE)
            return None
        if now_s >= self._deadline_s:
            # A platform that cannot look besides the probe: something still bears the number, so say so.
            self._finish(now_s, _State.SURVIVED)
            return None
        return Wait(self._deadline_s)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _go_beyond(self, phase: Phase) -> None:
        """Go on, because nobody is left whom ``phase`` reaches: with the next phase that reaches further, or to the end."""
        later = range(self._phase + 1, len(self._shutdown.phases))
        wider = (index for index in later if self._shutdown.phases[index].to is Target.TREE)
        found = None if phase.to is Target.TREE else next(wider, None)
        if found is None:
            self._state = _State.SWEEP
        else:
            self._phase, self._state = found, _State.SEND

    @staticmethod
    def _cannot_wait(seen: Seen) -> bool:
        """Nothing is left to wait for, or nobody can tell and the leader is gone."""
        return not seen.is_leader_running and not seen.others

    def _finish(self, now_s: float, state: _State) -> None:
        has_failed = state is _State.SURVIVED
        if has_failed or not self._is_plain_sweep:
            self._report(now_s, signal=_signal.SIGKILL, to=Target.TREE, ended=not has_failed, error=self._error)
        self._state = state

    def _report(
        self, now_s: float, *, signal: _signal.Signals | None, to: Target, ended: bool, error: str | None
    ) -> None:
        took_s = now_s - self._step_begun_s
        self.reports.append(PhaseReport(signal=signal, to=to, took_s=took_s, ended=ended, error=error))


def describe_error(error: OSError | None) -> str | None:
    """Return why a signal could not be sent, in words; ``None`` if it was."""
    match error:
        case None:
            return None
        case PermissionError():
            return "not permitted"
        case ProcessLookupError():
            return "nobody was there"
        case _:
            return error.strerror or type(error).__name__
