"""Stand-ins behind the spawner port, for what no real child can be asked to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import procflow as pf
from procflow._containment.port import Containment, Member
from procflow._process.leader import ExitStatus, LeaderPort
from procflow._process.scope import SpawnScope
from procflow._process.spawn import SpawnRequest
from procflow._process.start import SpawnOptions
from procflow._process.stdio.plans import plan_stdio
from procflow.outcome import ResourceUsage
from procflow.policies import Target


class ImmortalLeader:
    """A process in uninterruptible sleep: it takes every signal and never ends."""

    name = "immortal"
    pid = 2**22 + 1  # above every real pid

    def __init__(self) -> None:
        self.exit_fd, self._send_end = os.pipe()
        self.status: ExitStatus | None = None
        self.usage: ResourceUsage | None = None
        self.exit_seen_mono_s: float | None = None
        self.session_begun_mono_s: float | None = None
        self.is_reaped = False
        self.was_lost = False

    def observe(self) -> bool:
        return False

    def held(self) -> AbstractContextManager[object]:
        return nullcontext()

    def signal(self, number: int) -> None: ...

    def reap(self) -> bool:
        raise AssertionError("a running leader must not be reaped")

    def close(self) -> None:
        fd, self.exit_fd = self.exit_fd, -1
        if fd >= 0:  # as a real one: closed twice
            os.close(fd)
            os.close(self._send_end)


class ImmortalSpawner:
    """Starts one ``ImmortalLeader``."""

    def __init__(self) -> None:
        self.leader = ImmortalLeader()

    def spawn(self, request: SpawnRequest) -> ImmortalLeader:
        return self.leader


class DeafContainer:
    """Signals go nowhere."""

    report = Containment(requested="group", level="group")

    def environment(self) -> Mapping[str, str]:
        return {}

    def bind(self, leader: LeaderPort) -> None: ...

    def signal(self, number: int, to: Target) -> None: ...

    def living(self, reach: Target = Target.TREE) -> tuple[Member, ...]:
        return ()

    def before_reap(self) -> None:
        raise AssertionError("a running leader must not be reaped")

    async def withdraw(self) -> None: ...

    def close(self) -> None: ...


def fake_spawn(spawner: ImmortalSpawner, *, shutdown: pf.Shutdown) -> SpawnScope:
    """Return a block over what ``spawner`` starts."""
    nowhere = plan_stdio(pf.NULL, pf.NULL, pf.NULL, merge_stderr=False, default=pf.StreamConfig())
    options = SpawnOptions(spawner=spawner, container=DeafContainer(), shutdown=shutdown, stdio=nowhere)
    return SpawnScope(pf.Command("immortal"), options)
