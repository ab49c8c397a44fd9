"""Whether a young session has members besides its leader, without a pass over ``/proc``.

Owns one exact but narrow answer: "nobody", or "ask somebody else".  Must not know who asks.

Problem: most children are alone and short-lived, and a pass costs a microsecond for every process of the machine, for each
of them.  All members of a session descend from its leader, so each of them got its number after the leader got its own.
The kernel gives numbers out in a circle and shows where it is (``/proc/sys/kernel/ns_last_pid``, for the pid namespace of
the reader).  If only a few were given out since the leader's, each of them is asked for its session with ``getsid(2)``.

Why the answer is exact: let the cursor be read, then the numbers between be asked, then the cursor be read again.

* A member that lives at the first reading has its number in between: its number is above the leader's, because there was no
  time for a whole circle.  Every allocation takes the kernel's one lock for numbers twice, so more than
  ``MOST_A_S`` a second cannot be, and a leader that is older than that allows is not answered for.
* It can be missed only if it ends before it is asked, and matters then only through a child of its own, whose number is
  above the first reading: so the second reading differs, and the answer is not "nobody".
* A number that is given out but not yet borne belongs to a fork in progress, whose parent is alive and is asked.

Sessions, not groups, are asked for although groups are stopped: a process can come to a group from elsewhere in the
session (``setpgid``) and bring an older number.  So "nobody in the session" is asked for, which is more.

Rejected: the last field of ``/proc/loadavg``, which says the same but which lxcfs replaces by stale or foreign numbers; the
counter of forks in ``/proc/stat``, which takes longer to read than the pass it would save; ``getpriority(PRIO_PGRP)`` with
the leader reniced, which cannot tell nobody from members that are as nice.
Known holes: a privileged process of the session that chooses numbers for its children (``clone3`` with ``set_tid``, or a write
to ``ns_last_pid``), and a machine whose ``pid_max`` is lowered while this runs.  What is missed is then ended by the sweep
that precedes every reaping, earlier than it had to be.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Final

MOST_NUMBERS: Final = 64
"""How many numbers are asked for at most: beyond that a pass over ``/proc`` is not much dearer."""

MOST_A_S: Final = 5_000_000
"""More numbers than a kernel can give out in a second."""

LOWEST_AFTER_WRAP: Final = 300
"""Where a circle begins again: numbers below are given out at boot only (``RESERVED_PIDS`` in kernel/pid.c)."""

_CURSOR_PATH: Final = "/proc/sys/kernel/ns_last_pid"
_LIMIT_PATH: Final = "/proc/sys/kernel/pid_max"


def is_alone(leader: int, *, begun_mono_s: float) -> bool:
    """Whether the session of ``leader``, a zombie that nobody has reaped, has no other process, alive or not.

    False means that this is not known.

    Args:
        leader: Its number.
        begun_mono_s: A moment before its fork.
    """
    if time.monotonic() - begun_mono_s >= _circle_s():
        return False
    try:
        cursor = os.open(_CURSOR_PATH, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # not Linux, or a kernel without checkpoints
        return False
    try:
        last = _read_number(cursor)
        if not leader <= last <= leader + MOST_NUMBERS:  # below: it has begun again
            return False
        if any(_is_in_session(pid, leader) for pid in range(leader + 1, last + 1)):
            return False
        has_moved = _read_number(cursor) != last
        # Last: a circle must not have been possible at any moment of all this.
        return not has_moved and time.monotonic() - begun_mono_s < _circle_s()
    except (OSError, ValueError):
        return False
    finally:
        os.close(cursor)


def _is_in_session(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:
        return False
    # Whatever else is raised ends the question: nothing is known then.


def _read_number(fd: int) -> int:
    return int(os.pread(fd, 32, 0))


@cache
def _circle_s() -> float:
    """In how many seconds numbers cannot come round again."""
    try:
        with open(_LIMIT_PATH, "rb") as file:
            return (int(file.read()) - LOWEST_AFTER_WRAP - MOST_NUMBERS) / MOST_A_S
    except (OSError, ValueError):
        return 0.0
