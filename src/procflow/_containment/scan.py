"""One pass over ``/proc`` that tells which processes belong to which group or session.

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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from procflow._containment.port import Member

MAX_AGE_S: Final = 0.004
"""How old a shared pass may be: stops that tick within this time share one."""

_DEAD_STATES: Final = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class _Pass:
    begun_mono_s: float
    pids_by_number: dict[int, list[int]] | None


_NO_PASS: Final = _Pass(float("-inf"), None)


class _Shared:
    """The newest passes of this host; each is replaced as a whole, so threads need no lock."""

    groups = _NO_PASS
    sessions = _NO_PASS


def group_members(group: int, *, newer_than_mono_s: float) -> tuple[Member, ...] | None:
    """Return the living members of ``group`` except its leader, from a pass begun after ``newer_than_mono_s``.

    A younger pass that somebody else made is used again.  ``None`` if ``/proc`` cannot be read.
    """
    latest = _Shared.groups
    if not _is_young(latest, newer_than_mono_s):
        latest = _Shared.groups = _Pass(time.monotonic(), _read_numbers(os.getpgid))
    return _members(latest, group, lambda pid: read_member(pid, group=group))


def session_members(session: int, *, newer_than_mono_s: float) -> tuple[Member, ...] | None:
    """Return the same for a session: a shell with job control gives each of its jobs a group."""
    latest = _Shared.sessions
    if not _is_young(latest, newer_than_mono_s):
        latest = _Shared.sessions = _Pass(time.monotonic(), _read_numbers(os.getsid))
    return _members(latest, session, lambda pid: read_member(pid, session=session))


def _is_young(found: _Pass, newer_than_mono_s: float) -> bool:
    return found.begun_mono_s > newer_than_mono_s and time.monotonic() - found.begun_mono_s <= MAX_AGE_S


def _members(found: _Pass, number: int, read: Callable[[int], Member | None]) -> tuple[Member, ...] | None:
    if found.pids_by_number is None:
        return None
    members = (read(pid) for pid in found.pids_by_number.get(number, ()) if pid != number)
    return tuple(member for member in members if member is not None)


def read_member(pid: int, *, group: int | None = None, session: int | None = None) -> Member | None:
    """Return what is known of ``pid``; ``None`` if it is gone, dead, or not in ``group`` or ``session`` (any if ``None``)."""
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
    if state in _DEAD_STATES and int(fields[17]) <= 1:
        return None
    if group not in (None, int(fields[2])) or session not in (None, int(fields[3])):
        return None
    return Member(pid=pid, name=text[name_start:name_end].decode(errors="replace"), state=state)


def _read_numbers(number_of: Callable[[int], int]) -> dict[int, list[int]] | None:
    try:
        names = os.listdir("/proc")
    except OSError:
        return None
    numbers: dict[int, list[int]] = defaultdict(list)
    for name in names:
        if name.isdigit():
            pid = int(name)
            try:
                numbers[number_of(pid)].append(pid)
            except OSError:  # ended meanwhile
                continue
    return numbers or None
