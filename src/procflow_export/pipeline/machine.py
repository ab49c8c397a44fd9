"""What this process reads from its machine: clocks, ids, its own memory.

Owns every such call of the pipeline, so that everything else takes plain values.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID


def new_run_id() -> str:
    """Return a UUIDv7 (RFC 9562 section 5.7): milliseconds since 1970, then random bits."""
    stamp = (time.time_ns() // 1_000_000) & ((1 << 48) - 1)
    rest = int.from_bytes(os.urandom(10), "big")
    value = stamp << 80 | 0x7 << 76 | (rest >> 68) << 64 | 0b10 << 62 | rest & ((1 << 62) - 1)
    return str(UUID(int=value))


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


class Clock:
    """The two clocks of one run."""

    def __init__(self) -> None:
        self._began_ns = time.monotonic_ns()

    def at_ms(self) -> int:
        """Return the wall clock in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def mono_ns(self) -> int:
        """Return monotonic nanoseconds since the run began."""
        return time.monotonic_ns() - self._began_ns

    def elapsed_s(self, since_ns: int = 0) -> float:
        """Return seconds since ``since_ns`` of ``mono_ns()``."""
        return (self.mono_ns() - since_ns) / 1e9
