"""What a level of containment must do, and what it says about itself.

Owns the port and its values.  Must not know how a level finds or signals processes, nor who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from procflow._containment.requests import ContainmentName
from procflow.policies import Target

if TYPE_CHECKING:
    from procflow._process.leader import LeaderPort

ContainmentLevel: TypeAlias = Literal["group", "guarded", "strict"]
"""What can be in force."""

Mechanism: TypeAlias = Literal["group", "session", "guard", "token", "nanny", "cgroup"]
"""What can hold a tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    """How far the termination of one process really reaches.

    Attributes:
        requested: What was asked for.
        level: What is in force.
        missing: One sentence for each thing that was asked for and is not in force.
        mechanisms: What holds the tree now, from the nearest to the furthest reach.
    """

    requested: ContainmentName
    level: ContainmentLevel
    missing: tuple[str, ...] = ()
    mechanisms: tuple[Mechanism, ...] = ("group",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A living process of a tree.

    Attributes:
        pid: Its process id.
        name: The kernel's short name for it.
        state: The letter of ``/proc/<pid>/stat``: R, S, D, T, ...; ``?`` if it cannot be read.
    """

    pid: int
    name: str
    state: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name}), state {self.state}"


class Container(Protocol):
    """The reach of one process: made before the spawn, bound to the leader right after the fork."""

    @property
    def report(self) -> Containment:
        """What is in force now."""
        ...

    def environment(self) -> Mapping[str, str]:
        """Variables that the child must carry, so that its descendants can be found."""
        ...

    def bind(self, leader: LeaderPort) -> None:
        """Take charge of ``leader``; called synchronously after the fork."""
        ...

    def signal(self, number: int, to: Target) -> None:
        """Send a signal.

        Raises:
            ProcessLookupError: If nobody is there, which includes: the leader was reaped, so its number may be reused.
            PermissionError: If not one process may be signalled.
        """
        ...

    def living(self, reach: Target = Target.TREE) -> tuple[Member, ...] | None:
        """Return the living processes besides the leader; ``None`` if this platform cannot tell.  Zombies are not alive.

        With ``Target.GROUP`` only those that a signal to the group can reach.
        """
        ...

    def before_reap(self) -> None:
        """Give up every claim that rests on the leader's number; called synchronously before it is reaped."""
        ...

    async def let_go(self) -> None:
        """Let the tree live on: when this returns nothing will end it when the host ends."""
        ...

    def close(self) -> None:
        """Give back what this holds, because nothing more will be asked of it; synchronous, and may be called again."""
        ...
