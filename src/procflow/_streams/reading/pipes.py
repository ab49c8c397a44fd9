"""Kernel pipes that are larger than they were born.

Owns the bytes of kernel memory that the streams of this process may claim for them together.  Must not know who reads.

An ordinary user has 64 MiB for all pipes of all his programs (``/proc/sys/fs/pipe-user-pages-soft``); whoever exceeds that
gets pipes of 4 KiB from then on (pipe(7)).  So growing is for pipes that need it, and has a limit that all share.
"""

from __future__ import annotations

import fcntl
import threading
from typing import Final

BUDGET_BYTES: Final = 32 * 1024 * 1024

_GET: Final[int | None] = getattr(fcntl, "F_GETPIPE_SZ", None)  # Linux
_SET: Final[int | None] = getattr(fcntl, "F_SETPIPE_SZ", None)


class PipeBudget:
    """Bytes that may be claimed, from any thread."""

    __slots__ = ("_left", "_lock")

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._lock = threading.Lock()

    @property
    def left_bytes(self) -> int:
        """How many bytes nobody has claimed."""
        return self._left

    def claim(self, claimed_bytes: int) -> bool:
        """Claim all of ``claimed_bytes``, or nothing; return which."""
        with self._lock:
            if claimed_bytes > self._left:
                return False
            self._left -= claimed_bytes
            return True

    def give_back(self, claimed_bytes: int) -> None:
        """Return a claim."""
        with self._lock:
            self._left += claimed_bytes


BUDGET: Final = PipeBudget(BUDGET_BYTES)


def capacity(fd: int) -> int:
    """How many bytes the pipe ``fd`` holds; 0 if it is none, or the system cannot say."""
    if _GET is None:
        return 0
    try:
        return int(fcntl.fcntl(fd, _GET))
    except OSError:
        return 0


def grow(fd: int, to_bytes: int, budget: PipeBudget = BUDGET) -> int:
    """Make the pipe ``fd`` hold ``to_bytes`` if budget and system allow; return the claim to give back when it is closed."""
    held_bytes = capacity(fd)
    claim = to_bytes - held_bytes
    if _SET is None or not held_bytes or claim <= 0 or not budget.claim(claim):
        return 0
    try:
        grown_bytes = int(fcntl.fcntl(fd, _SET, to_bytes)) - held_bytes  # rounded up by the kernel
    except (OSError, OverflowError):  # EPERM: the user's pipes are too many, or too large
        grown_bytes = 0
    budget.give_back(claim - grown_bytes)
    return grown_bytes
