"""A process that was lent the host's terminal, while it has it and when it gives it back.

Owns the two things that follow from the loan.  Must not know how a terminal is lent.
"""

from __future__ import annotations

import contextlib
import signal as _signal
from collections.abc import Callable
from typing import Final

import anyio

from procflow._process.parts import Parts
from procflow._process.terminals.lending import was_stopped_by_terminal
from procflow.policies import Target

LOOK_S: Final = 0.1
"""How often it is looked whether it was stopped from the keyboard: nothing tells of that but SIGCHLD, which is the host's."""


async def keep_running(parts: Parts, has_exited: Callable[[], bool]) -> None:
    """Continue what a key has stopped: nobody else could, since the host's shell takes the host for running."""
    while not has_exited():
        if any(was_stopped_by_terminal(stage.leader) for stage in parts.stages):
            with contextlib.suppress(OSError):
                parts.container.signal(_signal.SIGCONT, Target.TREE)
        await anyio.sleep(LOOK_S)


def return_terminal(parts: Parts) -> None:
    """Take the terminal back, if it was lent; idempotent."""
    if parts.loan is not None:
        # What exits by itself may mean to leave the terminal as it is.
        statuses = [stage.leader.status for stage in parts.stages]
        was_killed = any(status is None or status.signal is not None for status in statuses)
        parts.loan.take_back(restores_modes=was_killed)
