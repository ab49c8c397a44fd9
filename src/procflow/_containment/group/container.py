"""The group level: everything that stays in the process group that the leader was started in.

Owns signals to the group and the question who is left in it.  Must not know stop policies.
Known holes: what leaves the group (``setpgid``, ``setsid``, a double-forking daemon) is out of reach, and nothing
happens when the host itself is killed.
"""

from __future__ import annotations

import os
import signal as _signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from procflow._containment.group.newborn import is_alone
from procflow._containment.port import Containment, Member
from procflow._containment.requests import ContainmentName
from procflow._containment.scan import group_members, read_member
from procflow._process.leader import LeaderPort
from procflow._process.signalling import send
from procflow.policies import Target


class GroupContainer:
    """A ``Container`` that reaches the leader's process group."""

    def __init__(self, requested: ContainmentName, *, missing: Sequence[str] = ()) -> None:
        self._report = Containment(requested=requested, level="group", missing=tuple(missing))
        self._leader: LeaderPort | None = None
        self._was_empty = False

    @property
    def report(self) -> Containment:
        """What is in force."""
        return self._report

    def environment(self) -> Mapping[str, str]:
        """Nothing: this level finds its members by group only."""
        return {}

    def bind(self, leader: LeaderPort) -> None:
        """Take charge of ``leader``, whose group number is its pid."""
        self._leader = leader

    def signal(self, number: int, to: Target) -> None:
        """Send ``number`` to the leader or to its group.

        If the leader was reaped by somebody else (SIGCHLD ignored), its number is no longer held for us: then members
        are signalled one by one through pidfds, each checked after it was opened.
        """
        leader = self._leader
        if leader is None:
            raise ProcessLookupError("not started")
        if to is Target.LEADER:
            leader.signal(number)
        else:
            with leader.held():
                leader.observe()  # C-66: somebody else may have reaped it since we looked
                if not leader.is_reaped:
                    send(os.killpg, leader.pid, number, of=leader, to="group", receiver=leader.pid)
                elif leader.was_lost:
                    self._signal_members(leader, number)
                else:
                    raise ProcessLookupError(f"the leader {leader.pid} was reaped")

    def living(self, reach: Target = Target.TREE) -> tuple[Member, ...] | None:  # noqa: ARG002 (the group is all there is)
        """Return the living members besides the leader.

        While the leader is held as a zombie this is a pass over ``/proc``, unless it is young and alone.  After the reaping a
        probe comes first: no such group means empty.  If a process now bears the leader's number, the number was given out
        again, which the kernel does only for an empty group.  What was empty once stays so.
        """
        leader = self._leader
        if leader is None or self._was_empty:
            return ()
        if leader.is_reaped:
            if self._is_number_free(leader.pid):
                self._was_empty = True  # from now on whoever bears the number is a stranger
                return ()
        elif (
            leader.status is not None
            and leader.session_begun_mono_s is not None
            and is_alone(leader.pid, begun_mono_s=leader.session_begun_mono_s)
        ):
            return ()
        return group_members(leader.pid, newer_than_mono_s=leader.exit_seen_mono_s or time.monotonic())

    @staticmethod
    def _is_number_free(group: int) -> bool:
        """Whether a reaped leader's group is empty for sure: there is no such group, or its number was given out again."""
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return is_used(group)

    def before_reap(self) -> None:
        """Nothing to give up: no claim of this level outlives the call that made it."""

    async def let_go(self) -> None:
        """Nothing to give up: nothing of this level acts when the host ends."""

    def close(self) -> None:
        """Nothing to give back."""

    def _signal_members(self, leader: LeaderPort, number: int) -> None:
        found, group = False, leader.pid
        if not (self._was_empty or is_used(group)):
            for member in group_members(group, newer_than_mono_s=time.monotonic()) or ():
                found |= signal_member(
                    member.pid, number, lambda pid: read_member(pid, group=group) is not None, of=leader
                )
        if not found:
            raise ProcessLookupError(f"group {group} has no members")


def signal_member(pid: int, number: int, is_member: Callable[[int], bool], *, of: LeaderPort) -> bool:
    """Signal a process of the tree ``of`` a leader that is no child of ours, if ``is_member`` still holds once its number is pinned.

    Returns whether it was.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not is_member(pid):
            return False
        send(_signal.pidfd_send_signal, pidfd, number, of=of, to="member", receiver=pid)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def is_used(pid: int) -> bool:
    """Whether a process, alive or not, bears the number."""
    try:
        os.getpgid(pid)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
