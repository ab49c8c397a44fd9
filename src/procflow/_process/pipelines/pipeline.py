"""The leaders of a pipeline, seen as one.

Owns the order in which they are observed, signalled and reaped.  Must not know how they are connected.

Problem: one stop for several processes that are all children of ours.  They share the group of the first stage, and the
rest of the package knows one leader whose pid is the number of the group.  So this is that leader: it has exited when
all stages have, and it is reaped in an order that keeps the number taken until nothing is left to be signalled.
A group lies within one session, and a process can only join a session by being forced into it at birth: so the stages
stay in the session of the host.  Rejected: a session for each stage (then a stop is several, and a stage that is being
started is out of its reach), a shell in between (then the stages are not our children, and their statuses are lost).
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Final

from procflow._process.leader import ExitStatus, LeaderPort
from procflow.outcome import ResourceUsage

SHARED_SESSION: Final = (
    "a session of its own: the stages of a pipeline share a group, so they stay in the host's session"
)


class PipelineLeader:
    """A ``LeaderPort`` over the stages of one pipeline; made of the first, the others join as they are started."""

    def __init__(self, first: LeaderPort) -> None:
        self._stages = [first]
        self._leading = first

    def __repr__(self) -> str:
        return f"<PipelineLeader {self.pid}, {len(self._stages)} stages>"

    def join(self, stage: LeaderPort) -> None:
        """Add the next stage."""
        self._stages.append(stage)

    def lead_on(self, stage: LeaderPort) -> None:
        """Add the next stage, which leads a new group, because there is nobody left in the old one.

        That happens only where somebody else takes the stages that have exited (SIGCHLD ignored), so that no zombie holds
        the number of the group; or if every stage so far has left it.
        """
        self._stages.append(stage)
        self._leading = stage

    @property
    def name(self) -> str:
        """That of the stage whose pid is the number of the group."""
        return self._leading.name

    @property
    def pid(self) -> int:
        """The number of the group."""
        return self._leading.pid

    @property
    def exit_fd(self) -> int:
        """Readable once the first stage that still ran has exited: then look again."""
        running = (stage for stage in self._stages if stage.status is None)
        return next(running, self._leading).exit_fd

    @property
    def status(self) -> ExitStatus | None:
        """That of the last stage; ``None`` while any of them runs."""
        return None if any(stage.status is None for stage in self._stages) else self._stages[-1].status

    @property
    def usage(self) -> ResourceUsage | None:
        """Nothing: each stage knows its own."""
        return None

    @property
    def exit_seen_mono_s(self) -> float | None:
        """When the last of them was seen to have exited."""
        seen = [stage.exit_seen_mono_s for stage in self._stages]
        known = [moment for moment in seen if moment is not None]
        return max(known) if len(known) == len(seen) else None

    @property
    def session_begun_mono_s(self) -> float | None:
        """None: the stages stay in the session of the host."""
        return None

    @property
    def is_reaped(self) -> bool:
        """Whether the number of the group no longer belongs to us."""
        return self._leading.is_reaped

    @property
    def was_lost(self) -> bool:
        """Whether somebody else reaped the stage that leads the group."""
        return self._leading.was_lost

    def held(self) -> AbstractContextManager[object]:
        """Return a block in which no other thread gives up the number of the group."""
        return self._leading.held()

    def observe(self) -> bool:
        """Look whether all of them have exited."""
        # Every one of them is looked at: each notes its own exit.
        return all([stage.observe() for stage in self._stages])  # noqa: C419 (see above)

    def signal(self, number: int) -> None:
        """Signal every stage that runs.

        Raises:
            ProcessLookupError: If none does.
            PermissionError: If not one of them may be signalled.
        """
        refusal: PermissionError | None = None
        was_sent = False
        for stage in self._stages:
            try:
                stage.signal(number)
                was_sent = True
            except ProcessLookupError:
                continue
            except PermissionError as exc:
                refusal = exc
        if not was_sent:
            raise refusal or ProcessLookupError(f"all stages of {self.pid} have exited")

    def signal_strays(self, number: int) -> bool:
        """Signal every running stage that has left the group; return whether there was one that could be."""
        was_sent = False
        for stage in self._stages:
            with stage.held(), contextlib.suppress(OSError):
                if not stage.observe() and os.getpgid(stage.pid) != self.pid:
                    stage.signal(number)
                    was_sent = True
        return was_sent

    def reap(self) -> bool:
        """Reap all of them, the one that leads the group last, if all have exited."""
        if not self.observe():
            return False
        # C-66: the zombie of the leading stage holds the number of the group.
        others = [stage.reap() for stage in self._stages if stage is not self._leading]
        return all(others) and self._leading.reap()

    def close(self) -> None:
        """Close every exit descriptor; what is not yet reaped is reaped later."""
        with contextlib.ExitStack() as steps:
            for stage in self._stages:
                steps.callback(stage.close)
