"""The end of a tree where nothing may be awaited any more.

Owns one synchronous kill with a bound.  Must not know books, loops or policies: any thread may need it.
"""

from __future__ import annotations

import select
import signal as _signal
import time
from dataclasses import dataclass
from typing import Final

from procflow._containment.port import Container
from procflow._observers import observers
from procflow._process.leader import LeaderPort
from procflow._process.stopping.stop import describe_error
from procflow._process.stopping.survivors import tell_survivors
from procflow.outcome import PhaseReport
from procflow.policies import Target

KILL_WAIT_S: Final = 0.1
"""How long the thread is blocked at most for the end of what was killed."""

TICK_S: Final = 0.0005


@dataclass(frozen=True, slots=True)
class LastResort:
    """What came of it: the phases to report (none if nothing was alive), and whether nothing is left."""

    phases: tuple[PhaseReport, ...]
    has_ended: bool


def kill_now(leader: LeaderPort, container: Container) -> LastResort:
    """Kill everything that ``container`` reaches, reap the leader, and say what came of it; blocks up to 100 ms."""
    begun_s = time.monotonic()
    was_alive = _is_alive(leader, container)
    error: str | None = None
    if not leader.is_reaped:
        try:
            container.signal(_signal.SIGKILL, Target.TREE)
        except OSError as exc:
            error = describe_error(exc)
        while not leader.observe() and (left_s := begun_s + KILL_WAIT_S - time.monotonic()) > 0:
            _wait_for_exit(leader, left_s)
        if leader.observe():
            container.before_reap()
            leader.reap()
    while _is_alive(leader, container) and time.monotonic() - begun_s < KILL_WAIT_S:
        time.sleep(TICK_S)
    has_ended = not _is_alive(leader, container)
    if not has_ended and observers:
        tell_survivors(leader, container.living() or ())
    took_s = time.monotonic() - begun_s
    report = PhaseReport(signal=_signal.SIGKILL, to=Target.TREE, took_s=took_s, ended=has_ended, error=error)
    return LastResort((report,) if was_alive else (), has_ended)


def _wait_for_exit(leader: LeaderPort, limit_s: float) -> None:
    try:
        poller = select.poll()
        poller.register(leader.exit_fd, select.POLLIN)
        is_announced = bool(poller.poll(limit_s * 1000))
    except (OSError, ValueError):
        is_announced = True
    if is_announced and not leader.observe():  # a tracer sees it first
        time.sleep(TICK_S)


def _is_alive(leader: LeaderPort, container: Container) -> bool:
    """Whether anything of the tree is alive, as far as can be told."""
    return not leader.observe() or container.living() != ()
