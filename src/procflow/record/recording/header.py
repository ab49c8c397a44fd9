"""The first event of a record: who writes it, and where.

Owns what is asked of this machine.  Must not know what follows.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass

from procflow.record.events import FORMAT, RedactionInfo, RunStarted, Trace
from procflow.record.reading.liveness import boot_id, start_ticks
from procflow.record.release import release


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """This process, its release and its machine."""

    release: str
    python: str
    platform: str
    host: str
    pid: int
    pid_start: int | None
    boot_id: str | None


def this_writer() -> Writer:
    """Look who writes; takes milliseconds the first time, and blocks on files."""
    system = os.uname()
    pid = os.getpid()
    return Writer(
        release=release() or "0",
        python=platform.python_version(),
        platform=f"{system.sysname}-{system.release}-{system.machine}",
        host=platform.node(),
        pid=pid,
        pid_start=start_ticks(pid),
        boot_id=boot_id(),
    )


def run_started(
    run_id: str, name: str, writer: Writer, *, meta: Mapping[str, str], redaction: RedactionInfo, trace: Trace | None
) -> RunStarted:
    """Return the event with which a record begins."""
    return RunStarted(
        format=FORMAT,
        run_id=run_id,
        name=name,
        meta=dict(meta) or None,
        procflow=writer.release,
        python=writer.python,
        platform=writer.platform,
        host=writer.host,
        pid=writer.pid,
        pid_start=writer.pid_start,
        boot_id=writer.boot_id,
        redaction=redaction,
        trace=trace,
    )
