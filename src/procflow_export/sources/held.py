"""What the holders of snapshots have in common; see ``sources.port.SnapshotHolder``.

Owns the name of the state and its age.  Must not know how a state is held.
"""

from __future__ import annotations

import time

import anyio

from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Snapshot


class HeldState:
    """One state of a database."""

    def __init__(self, snapshot: Snapshot, *, began_s: float | None = None) -> None:
        """Hold what readers know as ``snapshot``, since ``began_s`` of the monotonic clock, or since now."""
        self._snapshot = snapshot
        self._began_s = time.monotonic() if began_s is None else began_s

    @property
    def snapshot(self) -> Snapshot:
        """What readers are told to read."""
        return self._snapshot

    @property
    def held_s(self) -> float:
        """Age of the transactions that hold it."""
        return time.monotonic() - self._began_s

    def begin(self) -> None:
        """Let the age count from now."""
        self._began_s = time.monotonic()


class JoinedState(HeldState):
    """One that its readers hold themselves: each of them tells when it has lost it."""

    async def wait_lost(self) -> SourceError:
        """For ever."""
        await anyio.sleep_forever()
        raise AssertionError
