"""The states of a process, as a table.

Owns which state may follow which.  Must not know what brings a change about.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class ProcessState(Enum):
    """Where a process is in its life."""

    RUNNING = "running"
    STOPPING = "stopping"
    """A stop has begun; something may still be alive."""

    EXITED = "exited"
    """The leader has exited; members of its group may be alive, and end with the scope."""

    ENDED = "ended"
    """Nothing is left, and the leader is reaped."""

    DETACHED = "detached"
    """It lives on, out of our hands."""

    SURVIVED = "survived"
    """Something outlived every attempt to end it."""


_S = ProcessState
NEXT_STATES: Final[Mapping[ProcessState, frozenset[ProcessState]]] = {
    _S.RUNNING: frozenset({_S.STOPPING, _S.EXITED, _S.ENDED, _S.DETACHED}),
    _S.STOPPING: frozenset({_S.ENDED, _S.SURVIVED}),
    _S.EXITED: frozenset({_S.STOPPING, _S.ENDED, _S.DETACHED}),
    _S.SURVIVED: frozenset({_S.STOPPING, _S.ENDED}),
    _S.DETACHED: frozenset(),
    _S.ENDED: frozenset(),
}
