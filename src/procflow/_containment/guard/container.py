"""The guarded level: what the layers below reach, and the guard that reaches it when the host is gone.

Owns what is told to the guard about one process, and what is said of it.  Must not know how the guard is run.

While the host lives this level signals nobody: an agent that a command has started to stay must not be ended by every
command.  The guard ends it with the host, because what a finished process has left behind still carries its variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from procflow._containment.guard.host import current_host
from procflow._containment.guard.watch import GuardWatch
from procflow._containment.layer import Layer
from procflow._containment.port import Container, Containment, Mechanism
from procflow._containment.requests import Guarded
from procflow._process.leader import LeaderPort


class GuardedContainer(Layer):
    """A ``Container`` whose processes are also ended when the host is gone."""

    def __init__(self, inner: Container, request: Guarded) -> None:
        super().__init__(inner)
        self._marks_environment = request.marks_environment
        self._host = current_host()
        self._value = self._host.admit()
        self._groups: set[int] = set()
        self._watch: GuardWatch | None = None
        self._was_let_go = False

    @property
    def report(self) -> Containment:
        """What is in force now: the guard counts once it watches."""
        below = self._inner.report
        if self._was_let_go:
            return replace(below, missing=(*below.missing, "a guard: it was let go"))
        missing = self._host.why_unguarded(self._groups)
        if missing is not None:
            return replace(below, missing=(*below.missing, missing))
        added: tuple[Mechanism, ...] = ("guard", "token") if self._marks_environment else ("guard",)
        return replace(below, level="guarded", mechanisms=(*below.mechanisms, *added))

    def environment(self) -> Mapping[str, str]:
        """The variable of this host."""
        below = self._inner.environment()
        if not self._marks_environment:
            return below
        return {**below, self._host.variable: self._value}

    def bind(self, leader: LeaderPort) -> None:
        """Have the group of ``leader`` guarded; a pipeline may come again, when it leads another group."""
        self._inner.bind(leader)
        if self._watch is None:
            self._watch = self._host.watch()
            if self._watch is not None:
                self._watch.hold()
        if leader.pid not in self._groups:
            self._groups.add(leader.pid)
            self._host.register(leader.pid)

    def before_reap(self) -> None:
        """Give up the group: its number is no longer ours."""
        self._give_up()
        self._inner.before_reap()

    async def let_go(self) -> None:
        """Let the tree live on: the guard has noted it when this returns."""
        await self._host.let_go(self._value, self._groups)
        self._was_let_go = True
        await self._inner.let_go()

    def close(self) -> None:
        """Give up the group, and the watch for the guard."""
        self._give_up()
        if self._watch is not None and self._host.is_here:
            watch, self._watch = self._watch, None
            watch.release()
        self._inner.close()

    def _give_up(self) -> None:
        for group in self._groups:
            self._host.unregister(group)
