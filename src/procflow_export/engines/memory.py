"""How much memory this process has needed so far."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """Return the largest resident size of this process.

    Linux tells it for the program alone (``VmHWM``); ``getrusage(2)`` would also count what the parent had resident when it
    started this process, because the value outlives ``execve(2)``.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
