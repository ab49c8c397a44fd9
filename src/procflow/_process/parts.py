"""What one process is made of, and the outcome that these parts add up to.

Owns values only.  Must not know how anything is started, watched or stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from procflow._containment.port import Container
from procflow._process.leader import UNKNOWN_STATUS, LeaderPort
from procflow._process.recording import RecordedCall
from procflow._process.stdio.ends import Ends, OutputEnd
from procflow._process.stdio.feeder import Feeder
from procflow._process.stdio.stdin import InputPipe
from procflow._process.terminals.lending import LentTerminal
from procflow._streams.stream import OutputStream
from procflow.errors import InputError
from procflow.events import Gap, StreamEnding
from procflow.outcome import Captured, EndedBy, Outcome, PhaseReport

TAIL_BYTES: Final = 4096

_STDERR_OF_STAGES: Final = OutputEnd(
    None, elsewhere="is that of each stage of a pipeline", remedy="read child.stages[0].stderr, and so on"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParts:
    """One started command: the whole process, or a stage of a pipeline; ``call`` is what a record is told of it."""

    name: str
    leader: LeaderPort
    ends: Ends
    started_at: datetime
    started_mono_s: float
    call: RecordedCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a start hands to its process.  A single command is a pipeline of one stage.

    Attributes:
        leader: That of the only stage, or of a pipeline all of them seen as one.
        loan: The host's terminal, if it was lent.
    """

    name: str
    leader: LeaderPort
    stages: tuple[StageParts, ...]
    container: Container
    checks_stdin: bool
    loan: LentTerminal | None = None

    @property
    def first(self) -> StageParts:
        """The stage that reads the input."""
        return self.stages[0]

    @property
    def last(self) -> StageParts:
        """The stage that writes the output."""
        return self.stages[-1]

    @property
    def stdin(self) -> InputPipe | None:
        """Our end of standard input, if it is a pipe."""
        return self.first.ends.stdin.pipe

    @property
    def feeder(self) -> Feeder | None:
        """What writes to it, unless the caller does."""
        return self.first.ends.stdin.feeder

    @property
    def stdout(self) -> OutputStream | None:
        """Standard output, if it is a stream."""
        return self.last.ends.stdout.stream

    @property
    def stderr(self) -> OutputStream | None:
        """Standard error, if it is one stream of its own."""
        return self.stderr_end.stream

    @property
    def stderr_end(self) -> OutputEnd:
        """Standard error of the whole; in a pipeline each stage has its own."""
        end = self.last.ends.stderr
        return end if len(self.stages) == 1 or end.stream is None else _STDERR_OF_STAGES

    @property
    def streams(self) -> tuple[OutputStream, ...]:
        """The outputs that are streams, of all stages."""
        return tuple(stream for stage in self.stages for stream in stage.ends.streams)


def stage_outcome(
    stage: StageParts,
    *,
    ended_at: datetime,
    cause: EndedBy,
    phases: tuple[PhaseReport, ...] = (),
    is_output_cut: bool = False,
) -> Outcome:
    """Return what is known of the ending of an exited leader, and of what was done with the whole process."""
    leader, ends = stage.leader, stage.ends
    status = leader.status or UNKNOWN_STATUS
    stdout, stderr = ends.stdout.stream, ends.stderr.stream
    return Outcome(
        name=stage.name,
        pid=leader.pid,
        exit_code=status.exit_code,
        signal=status.signal,
        core_dumped=status.core_dumped,
        ended_by=cause,
        started_at=stage.started_at,
        ended_at=ended_at,
        started_mono_s=stage.started_mono_s,
        ended_mono_s=leader.exit_seen_mono_s or time.monotonic(),
        usage=leader.usage,
        phases=phases,
        output_complete=not is_output_cut and all(stream.ending is StreamEnding.EOF for stream in ends.streams),
        stdin_broken=ends.stdin.pipe is not None and ends.stdin.pipe.is_broken,
        stdout_tail=stdout.tail(TAIL_BYTES) if stdout is not None else b"",
        stderr_tail=stderr.tail(TAIL_BYTES) if stderr is not None else b"",
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


def captured(stream: OutputStream | None) -> Captured:
    """Return what a stream still holds in memory; an output that is no stream gives an empty one."""
    if stream is None:
        return Captured(bytes=b"", is_streamed=False)
    kept, lost_bytes = stream.retained()
    return Captured(
        bytes=kept,
        lost_bytes=lost_bytes,
        is_complete=stream.ending is StreamEnding.EOF,
        gaps=(Gap(0, lost_bytes),) if lost_bytes else (),
    )
