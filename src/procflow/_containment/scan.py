"""One pass over ``/proc`` that tells which processes belong to which group.

Problem: whether a group still has members besides its zombie leader has no system call of its own (``killpg(pgid, 0)``
succeeds for zombies).  Reading every ``/proc/<pid>/stat`` costs 15 us a process; listing ``/proc`` and asking
``getpgid(2)`` costs 1 us, and only the few members found are read.  One pass answers for all groups, so it is shared by
everything that stops at the same time.

Known hole: a process that forks and exits while the pass runs can hide its child.  So an empty answer never replaces
the sweep: SIGKILL goes to the group before its leader is reaped, whatever the pass said.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from procflow._containment.port import Member

MAX_AGE_S: Final = 0.004
"""How old a shared pass may be: stops that tick within this time share one."""

_DEAD_STATES: Final = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class _Pass:
    begun_mono_s: float
    pids_by_group: dict[int, list[int]] | None


class _Shared:
    """The newest pass of this host; replaced as a whole, so threads need no lock."""

    latest = _Pass(float("-inf"), None)


def group_members(group: int, *, newer_than_mono_s: float) -> tuple[Member, ...] | None:
    """Return the living members of ``group`` except its leader, from a pass begun after ``newer_than_mono_s``.

    A younger pass that somebody else made is used again.  ``None`` if ``/proc`` cannot be read.
    """
    latest, now = _Shared.latest, time.monotonic()
    if latest.begun_mono_s <= newer_than_mono_s or now - latest.begun_mono_s > MAX_AGE_S:
        latest = _Shared.latest = _Pass(now, _read_groups())
    if latest.pids_by_group is None:
        return None
    pids = latest.pids_by_group.get(group, ())
    members = (read_member(pid, group=group) for pid in pids if pid != group)
    return tuple(member for member in members if member is not None)


def read_member(pid: int, *, group: int | None = None) -> Member | None:
    """Return what is known of ``pid``; ``None`` if it is gone, dead, or not in ``group`` (any group if ``None``)."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(1024)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return Member(pid=pid, name="?", state="?")
    # pid (comm) state ppid pgrp session ... num_threads is field 20; comm may hold blanks and parentheses.
    name_start, name_end = text.find(b"(") + 1, text.rfind(b")")
    fields = text[name_end + 2 :].split()
    state = fields[0].decode()
    # A zombie with more than one thread is a process whose first thread ended before the others: it runs.
    if (state in _DEAD_STATES and int(fields[17]) <= 1) or (group is not None and int(fields[2]) != group):
        return None
    return Member(pid=pid, name=text[name_start:name_end].decode(errors="replace"), state=state)


def _read_groups() -> dict[int, list[int]] | None:
    try:
        names = os.listdir("/proc")
    except OSError:
        return None
    groups: dict[int, list[int]] = defaultdict(list)
    getpgid = os.getpgid
    for name in names:
        if name.isdigit():
            pid = int(name)
            try:
                groups[getpgid(pid)].append(pid)
            except OSError:  # ended meanwhile
                continue
    return groups or None
