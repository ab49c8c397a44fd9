"""What this process reads from its machine: clocks, ids, its own memory.

Owns every such call of the pipeline, so that everything else takes plain values.
"""

from __future__ import annotations

import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from procflow.record.clocks import StreamClock
from procflow.record.ids import new_run_id as next_run_id


def new_run_id() -> str:
    """Return a UUIDv7: those of one process sort in the order in which they were made."""
    return str(next_run_id())


def time_of_run(run_id: UUID) -> datetime:
    """Return when a run began, which its id says (RFC 9562, UUID version 7).

    Raises:
        ValueError: If it is an id of another kind.
    """
    if run_id.version != 7:
        raise ValueError(run_id)
    return datetime.fromtimestamp((run_id.int >> 80) / 1_000, UTC)


def utc_now() -> datetime:
    """Return the wall clock, aware, in UTC."""
    return datetime.now(UTC)


def peak_rss_bytes() -> int:
    """Return the largest resident size that this process has had.

    The kernel's own figure for this program; ``getrusage`` elsewhere, which on Linux would count the parent's size at the
    time of the fork.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int | None:
    """Return the resident size of this process; ``None`` where the system has no cheap answer."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()


class Clock(StreamClock):
    """The two clocks of one run."""

    __slots__ = ()

    def elapsed_s(self, since_ns: int = 0) -> float:
        """Return seconds since ``since_ns`` of ``mono_ns()``."""
        return (self.mono_ns() - since_ns) / 1e9
