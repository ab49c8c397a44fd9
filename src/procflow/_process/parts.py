"""What one process is made of, and the outcome that these parts add up to.

Owns values only.  Must not know how anything is started, watched or stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from procflow._containment.port import Container
from procflow._process.ends import Ends
from procflow._process.feeder import Feeder
from procflow._process.leader import UNKNOWN_STATUS, LeaderPort
from procflow._process.stdin import InputPipe
from procflow._streams.stream import OutputStream
from procflow.errors import InputError
from procflow.events import StreamEnding
from procflow.outcome import Captured, EndedBy, Outcome, PhaseReport

TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a start hands to its process."""

    name: str
    leader: LeaderPort
    container: Container
    ends: Ends
    checks_stdin: bool
    started_at: datetime
    started_mono_s: float

    @property
    def stdin(self) -> InputPipe | None:
        """Our end of standard input, if it is a pipe."""
        return self.ends.stdin.pipe

    @property
    def feeder(self) -> Feeder | None:
        """What writes to it, unless the caller does."""
        return self.ends.stdin.feeder

    @property
    def stdout(self) -> OutputStream | None:
        """Standard output, if it is a stream."""
        return self.ends.stdout.stream

    @property
    def stderr(self) -> OutputStream | None:
        """Standard error, if it is a stream of its own."""
        return self.ends.stderr.stream

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


def make_input_error(
    parts: Parts, outcome: Outcome | None, *, stdout: Captured | None = None, stderr: Captured | None = None
) -> InputError | None:
    """Return the error for a source that failed or, where that counts, for a child that did not take all of its input."""
    pipe = parts.stdin
    if pipe is None or outcome is None:
        return None
    failure = parts.feeder.failure if parts.feeder is not None else None
    if failure is not None:
        stopped = ", so it was stopped" if outcome.ended_by is EndedBy.INPUT else ""
        text = f"what was given as its stdin failed after {pipe.written_bytes} bytes{stopped}: {failure_text(failure)}"
    elif parts.checks_stdin and pipe.is_broken:
        text = f"it took only {pipe.written_bytes} bytes of its stdin, not all of it, and {outcome.described}"
    else:
        return None
    message = f"{parts.name}: {text}"
    error = InputError(message, fed_bytes=pipe.written_bytes, outcome=outcome, stdout=stdout, stderr=stderr)
    error.__cause__ = failure
    return error


def failure_text(error: Exception) -> str:
    """Return the type of ``error`` and what it says."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
