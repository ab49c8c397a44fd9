"""Processes of a crashed run that are still there.

Owns the comparison of what was recorded with what runs.  Ends nothing: that is the decision of whoever asked.

A number of a process is given again; together with the start in kernel ticks, and within one boot, it names one process for ever.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from procflow.record.errors import ForeignRecordError
from procflow.record.fold.rows import CallKey, CallRow, RunRow
from procflow.record.loading import load
from procflow.record.reading.liveness import boot_id, start_ticks
from procflow.record.reading.states import RecordState


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A process that a crashed run has started and that is still there.

    Attributes:
        pid: Its process id.
        pid_start: Its start, in kernel ticks since the boot.
        call: The call that started it.
        cmd: What the call ran, as it was recorded; ``None`` if that line is missing.
    """

    pid: int
    pid_start: int
    call: CallKey
    cmd: str | None


def orphans(path: str | os.PathLike[str]) -> list[Orphan]:
    """Return the processes of the calls of a crashed run that are still there, in the order of the record; none of one that did not crash.

    Only processes that calls have started are recorded, not what these have started in turn; nor is a process known of which the record does not
    tell the start.  A zombie is not there any more.  Nothing is killed: until somebody acts on the answer, a process may have ended and its
    number may be another's, so whoever signals one compares once more, or holds a pidfd first.

    Raises:
        ForeignRecordError: If the record crashed and is that of another machine, or does not say of which boot it is.
        UnreadableRecordError: As ``load()``.
    """
    view = load(path)
    spawned = [call for call in view.calls.values() if call.pid is not None]
    if view.state is not RecordState.CRASHED or not spawned:
        return []
    if _boot_of(view.run, os.fspath(path)) != boot_id():
        return []
    return [orphan for call in spawned if (orphan := _living(call)) is not None]


def _boot_of(run: RunRow, path: str) -> str:
    if run.host is None or run.boot_id is None:
        raise ForeignRecordError(path=path, reason="it does not say in which boot of which machine they ran")
    if run.host != platform.node():
        raise ForeignRecordError(path=path, reason=f"they ran on {run.host!r}, this is {platform.node()!r}")
    return run.boot_id


def _living(call: CallRow) -> Orphan | None:
    if call.pid is None or call.pid_start is None or start_ticks(call.pid) != call.pid_start:
        return None
    return Orphan(pid=call.pid, pid_start=call.pid_start, call=call.key, cmd=call.cmd)
