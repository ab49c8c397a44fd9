"""The strict level: everything below a nanny.

Owns the reach over a whole tree.  Must not know stop policies, nor how a nanny starts anything.

Everything that is alive in the tree is below the nanny, and stays there: an orphan becomes the nanny's own child.  So the
tree is empty when the nanny has no children besides leaders that have exited, and that can be read from ``/proc``.
A zombie among them counts as alive: its children may have become the nanny's since the list was read.
Known holes: what others start on request (systemd, docker, cron); processes of another user, unless the host is root.
"""

from __future__ import annotations

import os
import signal as _signal
from collections.abc import Sequence
from dataclasses import replace

from procflow._containment.group.container import signal_member
from procflow._containment.layer import Layer
from procflow._containment.nanny.channel import Nanny, NannyLostError
from procflow._containment.port import Container, Containment, Member
from procflow._containment.scan import read_member
from procflow._observers import observers
from procflow._process.leader import LeaderPort
from procflow._process.stopping.escaped import tell_escaped
from procflow.errors import PlatformError
from procflow.policies import Target


class StrictContainer(Layer):
    """A ``Container`` that reaches everything below a nanny."""

    def __init__(self, inner: Container, nanny: Nanny, *, no_cgroup: str = "") -> None:
        super().__init__(inner)
        self._nanny = nanny
        self._no_cgroup = no_cgroup
        self._leader: LeaderPort | None = None

    @property
    def report(self) -> Containment:
        """What is in force."""
        inner, nanny = self._inner.report, self._nanny
        if nanny.has_let_go:
            return replace(inner, missing=(*inner.missing, "a nanny: it was let go"))
        is_there = nanny.look()
        if not (is_there or nanny.is_lost):  # the block was left
            return inner
        missing = inner.missing
        if nanny.origin is not None and nanny.origin.is_gone:
            missing += ("the template of its nanny is gone: nobody ends the tree when the nanny is killed",)
        if not is_there:
            return replace(inner, missing=(*missing, "its nanny is gone"))
        cgroup = ("cgroup",) if nanny.cgroup else ()
        if not cgroup:
            missing += (f"a cgroup: {self._no_cgroup}",)
        return replace(inner, level="strict", missing=missing, mechanisms=(*inner.mechanisms, "nanny", *cgroup))

    def bind(self, leader: LeaderPort) -> None:
        """Take charge of ``leader``."""
        super().bind(leader)
        self._leader = leader

    def signal(self, number: int, to: Target) -> None:
        """Send ``number`` to the leader, its group, or everybody below the nanny."""
        if to is not Target.TREE:
            self._inner.signal(number, to)
            return
        reached = self._signal_strays(number)
        try:
            self._inner.signal(number, to)
        except (ProcessLookupError, PermissionError):
            if not reached:
                raise

    def living(self, reach: Target = Target.TREE) -> tuple[Member, ...] | None:
        """Return the living members of the group, or everybody below the nanny, besides the leaders."""
        if reach is not Target.TREE:
            return self._inner.living(reach)
        below = self._below()
        if below is None:
            return self._inner.living(reach)
        return tuple(read_member(pid) or Member(pid=pid, name="?", state="Z") for pid in below)

    async def let_go(self) -> None:
        """Let the tree live on: the nanny stays its parent, and kills nobody."""
        try:
            await self._nanny.let_go()
        except NannyLostError as exc:
            raise PlatformError(f"the tree cannot be let go: {exc}") from exc
        await self._inner.let_go()

    def close(self) -> None:
        """Leave the nanny alone, which ends itself when nothing is left."""
        super().close()
        self._nanny.close()

    def _signal_strays(self, number: int) -> bool:
        """Signal whoever has left the group; return whether anybody was there."""
        below = self._below()
        if number == _signal.SIGKILL:  # also where nobody is seen: somebody may be leaving the group this moment
            if below and observers:
                self._tell_escaped(below)
            self._nanny.kill()
            return bool(below)
        leader = self._leader
        if not below or leader is None:
            return False
        return any([signal_member(pid, number, self._is_astray, of=leader) for pid in below])  # noqa: C419 (everybody)

    def _tell_escaped(self, below: Sequence[int]) -> None:
        """Tell of those that a signal to the group would not have reached."""
        members = [member for pid in below if self._is_astray(pid) and (member := read_member(pid)) is not None]
        if members and self._leader is not None:
            tell_escaped(self._leader, members, has_survived=False)

    def _is_astray(self, pid: int) -> bool:
        try:
            group = os.getpgid(pid)
        except ProcessLookupError:
            return False
        return group not in self._nanny.leaders and pid in (self._below() or ())

    def _below(self) -> list[int] | None:
        """Return everybody below the nanny but the leaders, and what is below these; ``None`` if the nanny cannot tell."""
        if not self._nanny.look():
            return None
        nearest = _children_of_thread(self._nanny.pid, self._nanny.pid)
        if nearest is None:
            return None
        found: list[int] = []
        has_exited = self._leader is not None and self._leader.status is not None
        rest = [pid for pid in nearest if not (has_exited and self._is_spent(pid))]
        while rest:
            pid = rest.pop()
            if pid not in self._nanny.leaders:
                found.append(pid)
            rest += _children(pid) or ()
        # Asked again: a nanny that has ended meanwhile may have given her number, and its children, to a stranger.
        return found if self._nanny.look() else None

    def _is_spent(self, pid: int) -> bool:
        """Whether it is a leader that has exited: a zombie, which has no children.

        One that was given up is hers until she has read that; after that a stranger may have its number.
        """
        return pid in self._nanny.leaders or (pid in self._nanny.given_up and read_member(pid) is None)


def _children(pid: int) -> list[int] | None:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return None
    return [child for thread in threads for child in _children_of_thread(pid, int(thread)) or ()]


def _children_of_thread(pid: int, thread: int) -> list[int] | None:
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return None
