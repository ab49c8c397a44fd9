"""Named points at which a test may kill or stop the process: how the crash table of the commit protocol is proven.

Off unless ``PROCFLOW_EXPORT_CRASH_AT`` names a point, as ``part.stored`` or, for the third time it is reached,
``part.stored:3``.  The process then sends itself SIGKILL: no handler, no ``finally``, no buffered output survives.
``PROCFLOW_EXPORT_STOP_AT`` stops it there by SIGSTOP instead, so that somebody else can be killed at that moment.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Final

CRASH_ENV: Final = "PROCFLOW_EXPORT_CRASH_AT"
STOP_ENV: Final = "PROCFLOW_EXPORT_STOP_AT"

READ_POINTS: Final = ("unit.batch_read",)
"""Points on the way from the source, before anything is at the destination."""
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
"""Points on the way to the destination, in the order in which one export reaches them (``put.synced`` once per small object)."""

_reached: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Die or stop here if the environment says so."""
    for variable, number in ((CRASH_ENV, signal.SIGKILL), (STOP_ENV, signal.SIGSTOP)):
        wanted_name, _, wanted_count = os.environ.get(variable, "").partition(":")
        if wanted_name == name:
            _reached[name] += 1
            if _reached[name] == int(wanted_count or 1):
                signal.raise_signal(number)  # to this thread, which therefore goes no step further
