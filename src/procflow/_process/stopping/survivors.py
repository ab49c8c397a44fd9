"""What is told of processes that nothing could end.

Owns the event.  Must not know how they were to be ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from procflow._containment.port import Member
from procflow._observers import emit
from procflow._process.leader import LeaderPort
from procflow.observation import Escaped


def tell_survivors(leader: LeaderPort, members: Sequence[Member]) -> None:
    """Tell the observers that ``members`` of the tree of ``leader`` are still alive, or the leader if nobody is named."""
    emit(
        Escaped,
        name=leader.name,
        pid=leader.pid,
        escaped_pids=tuple(member.pid for member in members) or (leader.pid,),
        description=", ".join(str(member) for member in members) or f"pid {leader.pid}",
        has_survived=True,
    )
