"""What the levels have in common: a layer around a container that reaches less far.

Owns the passing on of every call.  Must not know any level.

A level adds something to the reach that is there already: the guard to the group, the nanny to both.  So each is a layer
that does its part and passes the call on; which layers a process has is decided where it is started.
"""

from __future__ import annotations

from collections.abc import Mapping

from procflow._containment.port import Container, Containment, Member
from procflow._process.leader import LeaderPort
from procflow.policies import Target


class Layer:
    """A ``Container`` that passes everything on to ``inner``; a level overrides what it adds to."""

    def __init__(self, inner: Container) -> None:
        self._inner = inner

    @property
    def report(self) -> Containment:
        """What is in force."""
        return self._inner.report

    def environment(self) -> Mapping[str, str]:
        """Variables that the child must carry."""
        return self._inner.environment()

    def bind(self, leader: LeaderPort) -> None:
        """Take charge of ``leader``."""
        self._inner.bind(leader)

    def signal(self, number: int, to: Target) -> None:
        """Send a signal."""
        self._inner.signal(number, to)

    def living(self, reach: Target = Target.TREE) -> tuple[Member, ...] | None:
        """Return the living processes besides the leader."""
        return self._inner.living(reach)

    def before_reap(self) -> None:
        """Give up every claim that rests on the leader's number."""
        self._inner.before_reap()

    async def let_go(self) -> None:
        """Let the tree live on."""
        await self._inner.let_go()

    def close(self) -> None:
        """Give back what this holds."""
        self._inner.close()
