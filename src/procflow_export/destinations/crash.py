"""Named points at which a test may kill the process: how the crash table of the commit protocol is proven.

Off unless ``PROCFLOW_EXPORT_CRASH_AT`` names a point, as ``part.stored`` or, for the third time it is reached,
``part.stored:3``.  The process then sends itself SIGKILL: no handler, no ``finally``, no buffered output survives.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Final

CRASH_ENV: Final = "PROCFLOW_EXPORT_CRASH_AT"

CRASH_POINTS: Final = (
    "state.export_begun",
    "state.planned",
    "part.writing",
    "part.written",
    "part.synced",
    "part.stored",
    "state.chunk_recorded",
    "publish.parts_verified",
    "publish.run_manifest_stored",
    "put.synced",
    "publish.manifest_stored",
    "publish.manifest_read_back",
    "publish.marker_stored",
    "state.published",
)
"""Every point, in the order in which one export reaches them (``put.synced`` once per small object)."""

_reached: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get(CRASH_ENV)
    if wanted is None:
        return
    wanted_name, _, wanted_count = wanted.partition(":")
    if wanted_name == name:
        _reached[name] += 1
        if _reached[name] == int(wanted_count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
