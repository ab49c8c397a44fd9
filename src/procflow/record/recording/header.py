"""The first event of a record: who writes it, and where.

Owns what is asked of this machine.  Must not know what follows.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from procflow.record.events import FORMAT, RedactionInfo, RunStarted, Trace
from procflow.record.reading.liveness import boot_id, start_ticks


def run_started(
    run_id: str, name: str, *, meta: Mapping[str, str], redaction: RedactionInfo, trace: Trace | None
) -> RunStarted:
    """Return the event with which a record of this process begins."""
    pid = os.getpid()
    return RunStarted(
        format=FORMAT,
        run_id=run_id,
        name=name,
        meta=dict(meta) or None,
        procflow=_release(),
        python=platform.python_version(),
        platform=platform.platform(),
        host=platform.node(),
        pid=pid,
        pid_start=start_ticks(pid),
        boot_id=boot_id(),
        redaction=redaction,
        trace=trace,
    )


def _release() -> str:
    from importlib.metadata import PackageNotFoundError, version  # dear, and of use here only

    try:
        return version("procflow")
    except PackageNotFoundError:  # run from its sources
        return "0"
