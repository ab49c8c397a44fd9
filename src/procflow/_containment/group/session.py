"""The reach of a process on a terminal of its own: its whole session.

Owns signals to the session and the question who is left in it.  Must not know stop policies.

Problem: an interactive shell gives each of its jobs a group, so the group of the leader is the shell alone.  The kernel
has no call for a session, so its members are found in ``/proc`` and signalled one by one, each pinned by a pidfd and
checked after that.  Somebody may fork meanwhile: a signal that nobody can refuse is repeated until nobody new is found.
Known holes: what leaves the session (``setsid``), and everything but the leader's group on systems without ``/proc``
or pidfds.
"""

from __future__ import annotations

import os
import signal as _signal
import time
from typing import Final

from procflow._containment.group.container import GroupContainer, is_used, signal_member
from procflow._containment.port import Member
from procflow._containment.requests import ContainmentName
from procflow._containment.scan import read_member, session_members
from procflow._process.leader import LeaderPort
from procflow.policies import Target

MAX_PASSES: Final = 20
"""How often it is looked for new members that SIGKILL has not reached yet."""


class SessionContainer(GroupContainer):
    """A ``Container`` that reaches the leader's session; for a leader that was started in a session of its own."""

    def __init__(self, requested: ContainmentName) -> None:
        super().__init__(requested)
        self._session: LeaderPort | None = None

    def bind(self, leader: LeaderPort) -> None:
        """Take charge of ``leader``, whose session number is its pid."""
        super().bind(leader)
        self._session = leader

    def signal(self, number: int, to: Target) -> None:
        """Send ``number`` to the leader, or to its group and every other member of its session."""
        if to is Target.LEADER or self._session is None:
            super().signal(number, to)
            return
        # Others first: they lose their shell's care, and their number of session, with the leader.
        reached = self._signal_others(self._session, number)
        try:
            super().signal(number, to)
        except ProcessLookupError:
            if not reached:
                raise
        if number == _signal.SIGKILL:
            for _ in range(MAX_PASSES):
                new = self._signal_others(self._session, number) - reached
                if not new:
                    break
                reached |= new

    def living(self, reach: Target = Target.TREE) -> tuple[Member, ...] | None:  # noqa: ARG002 (signals go to the session)
        """Return the living members of the session besides the leader."""
        leader = self._session
        if leader is None or self._was_empty:
            return ()
        if leader.is_reaped and is_used(leader.pid):  # given out again, which the kernel does only for an empty session
            self._was_empty = True
            return ()
        members = session_members(leader.pid, newer_than_mono_s=leader.exit_seen_mono_s or time.monotonic())
        self._was_empty = leader.is_reaped and members == ()  # from now on whoever bears the number is a stranger
        return members

    def _signal_others(self, leader: LeaderPort, number: int) -> set[int]:
        """Signal the members of other groups than the leader's; return who was reached."""
        with leader.held():
            if self._was_empty or (leader.is_reaped and is_used(leader.pid)):
                return set()
            members = session_members(leader.pid, newer_than_mono_s=time.monotonic()) or ()
            return {
                member.pid
                for member in members
                if signal_member(member.pid, number, self._is_in_other_group, of=leader)
            }

    def _is_in_other_group(self, pid: int) -> bool:
        assert self._session is not None, "asked only for a bound leader"
        session = self._session.pid
        return read_member(pid, session=session) is not None and os.getpgid(pid) != session
