"""A tap on everything that is done to processes by number.

Owns the list of listeners: ``procflow.testing`` and tests.  Nobody listens in normal work, and a call then costs one truth test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

TraceKind: TypeAlias = Literal["spawned", "signal_leader", "signal_group", "signal_pidfd", "reaped"]
Listener: TypeAlias = Callable[[TraceKind, int, int], None]
"""Called with what was done, to which pid (or group), and the signal number (0 where none belongs)."""

listeners: Final[list[Listener]] = []


def emit(kind: TraceKind, pid: int, number: int = 0) -> None:
    """Tell every listener."""
    if listeners:
        for listener in tuple(listeners):
            listener(kind, pid, number)
