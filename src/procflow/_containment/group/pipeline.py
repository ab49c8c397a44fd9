"""The reach of a pipeline: its group, and stages that left it.

Owns signals to stages outside of the group.  Must not know stop policies.

A stage is a child of ours wherever it goes: one that made a session of its own (``a | setsid b``) is signalled by itself.
Known hole: what such a stage has started there.
"""

from __future__ import annotations

from collections.abc import Sequence

from procflow._containment.group.container import GroupContainer
from procflow._containment.requests import ContainmentName
from procflow._process.leader import LeaderPort
from procflow._process.pipelines.pipeline import PipelineLeader
from procflow.policies import Target


class PipelineContainer(GroupContainer):
    """A ``Container`` that reaches the group of the first stage, and every stage."""

    def __init__(self, requested: ContainmentName, *, missing: Sequence[str] = ()) -> None:
        super().__init__(requested, missing=missing)
        self._stages: PipelineLeader | None = None

    def bind(self, leader: LeaderPort) -> None:
        """Take charge of the stages, which may still become more."""
        super().bind(leader)
        self._stages = leader if isinstance(leader, PipelineLeader) else None

    def signal(self, number: int, to: Target) -> None:
        """Send ``number`` to the stages, or to the group and to every stage outside of it."""
        refusal: OSError | None = None
        try:
            super().signal(number, to)
        except OSError as exc:
            refusal = exc
        reached = to is not Target.LEADER and self._stages is not None and self._stages.signal_strays(number)
        if refusal is not None and not reached:
            raise refusal
