"""What one process is made of, and the outcome that these parts add up to.

Owns values only.  Must not know how anything is started, watched or stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from procflow._containment.port import Container
from procflow._process.feeder import Feeder
from procflow._process.leader import UNKNOWN_STATUS, LeaderPort
from procflow._process.stdin import ChildStdin
from procflow._streams.stream import OutputStream
from procflow.events import StreamEnding
from procflow.outcome import EndedBy, Outcome, PhaseReport

TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a start hands to its process."""

    name: str
    leader: LeaderPort
    container: Container
    stdin: ChildStdin | None
    feeder: Feeder | None
    stdout: OutputStream | None
    stderr: OutputStream | None
    started_at: datetime
    started_mono_s: float

    @property
    def streams(self) -> tuple[OutputStream, ...]:
        """The outputs that are streams."""
        return tuple(stream for stream in (self.stdout, self.stderr) if stream is not None)


def make_outcome(
    parts: Parts, *, ended_at: datetime, cause: EndedBy, phases: tuple[PhaseReport, ...], is_output_cut: bool
) -> Outcome:
    """Return what is known of the ending of an exited leader."""
    leader = parts.leader
    status = leader.status or UNKNOWN_STATUS
    return Outcome(
        name=parts.name,
        pid=leader.pid,
        exit_code=status.exit_code,
        signal=status.signal,
        core_dumped=status.core_dumped,
        ended_by=cause,
        started_at=parts.started_at,
        ended_at=ended_at,
        started_mono_s=parts.started_mono_s,
        ended_mono_s=leader.exit_seen_mono_s or time.monotonic(),
        usage=leader.usage,
        phases=phases,
        output_complete=not is_output_cut and all(stream.ending is StreamEnding.EOF for stream in parts.streams),
        stdin_broken=parts.stdin is not None and parts.stdin.is_broken,
        stdout_tail=parts.stdout.tail(TAIL_BYTES) if parts.stdout is not None else b"",
        stderr_tail=parts.stderr.tail(TAIL_BYTES) if parts.stderr is not None else b"",
    )
