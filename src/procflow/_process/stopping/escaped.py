"""What is told of processes that were found out of reach, or that nothing could end.

Owns the event.  Must not know how they were to be ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from procflow._containment.port import Member
from procflow._observers import emit
from procflow._process.leader import LeaderPort
from procflow.observation import Escaped


def tell_escaped(leader: LeaderPort, members: Sequence[Member], *, has_survived: bool) -> None:
    """Tell the observers which ``members`` of the tree of ``leader`` have escaped, or that the leader has if nobody is named."""
    emit(
        Escaped,
        name=leader.name,
        pid=leader.pid,
        escaped_pids=tuple(member.pid for member in members) or (leader.pid,),
        description=", ".join(str(member) for member in members) or f"pid {leader.pid}",
        has_survived=has_survived,
    )
