"""How a process ended, and what was collected from it.

Owns frozen values only.  Must not know how they came about.
"""

from __future__ import annotations

import builtins
import signal as _signal
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from procflow.events import Chunk, Gap
from procflow.policies import Target


class EndedBy(Enum):
    """Who, or what, ended a process."""

    ITSELF = "itself"
    """It exited, or something outside this program ended it."""

    TERMINATE = "terminate"
    KILL = "kill"
    TIMEOUT = "timeout"
    IDLE_TIMEOUT = "idle_timeout"
    CANCEL = "cancel"
    """Its scope was left by a cancellation."""

    SCOPE = "scope"
    """Its scope was left, normally or by an exception, while it still ran."""

    INPUT = "input"
    """What was given as its standard input has failed."""

    PARENT_DEATH = "parent_death"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """What one step of a stop did.

    Attributes:
        signal: What was sent; ``None`` for the protocol shutdown (``Shutdown.first``).
        to: Whom it was sent to.
        took_s: How long the step lasted.
        ended: Whether nothing was left alive when the step was over.
        error: Why it could not be carried out, or ``None``.
    """

    signal: _signal.Signals | None
    to: Target
    took_s: float
    ended: bool
    error: str | None = None

    def __str__(self) -> str:
        what = (
            f"{signal_name(self.signal)} to the {self.to.value}" if self.signal is not None else "the protocol shutdown"
        )
        effect = self.error or ("everything ended" if self.ended else "not everything ended")
        return f"{what}: {effect} after {self.took_s:.3f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUsage:
    """What the leader, and those of its children that it waited for, used (``getrusage(2)``, by ``wait4``)."""

    user_s: float
    system_s: float
    max_rss_bytes: int
    """The largest resident size that any one of these processes reached.

    A child that is started by ``vfork(2)`` shares the host's memory until it executes its program, and the kernel counts that: small
    programs show the host's size here.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything known about how a process ended; present on results and on errors.

    Attributes:
        name: Name of the process.
        pid: Its process id, which may by now belong to somebody else.
        exit_code: What it exited with; ``None`` if a signal ended it or if the status is unknown.
        signal: Number of the signal that ended it; ``None`` otherwise.
        core_dumped: Whether it left a core.
        ended_by: Who ended it.
        started_at: When it was started (aware, UTC).
        ended_at: When its exit was seen (aware, UTC).
        started_mono_s: The same moment on ``time.monotonic()``.
        ended_mono_s: The same moment on ``time.monotonic()``.
        usage: What it used; ``None`` while members of its group keep it from being reaped, or if somebody else reaped it.
        phases: What a stop did, in order; empty if nobody stopped it.
        output_complete: Whether every streamed output was read up to its end.
        stdin_broken: Whether the child closed its standard input, or ended, before all of it was written.
        stdout_tail: The newest bytes of standard output, for error messages.
        stderr_tail: The same for standard error; in a pipeline that of the stage that decided.
        stages: How each stage of a pipeline ended, first to last; empty for a single command.
        decided_by: Index of the stage whose exit code or signal is that of the pipeline; ``None`` for a single command.
    """

    name: str
    pid: int
    exit_code: int | None
    signal: int | None
    core_dumped: bool
    ended_by: EndedBy
    started_at: datetime
    ended_at: datetime
    started_mono_s: float
    ended_mono_s: float
    usage: ResourceUsage | None = None
    phases: tuple[PhaseReport, ...] = ()
    output_complete: bool = True
    stdin_broken: bool = False
    stdout_tail: bytes = b""
    stderr_tail: bytes = b""
    stages: tuple[Outcome, ...] = ()
    decided_by: int | None = None

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.exit_code == 0

    @property
    def failed_stage(self) -> Outcome | None:
        """The stage that made a pipeline fail: the last one that did, where SIGPIPE is forgiven to all but the last stage."""
        return self.stages[self.decided_by] if self.decided_by is not None and not self.ok else None

    @property
    def is_unknown(self) -> bool:
        """Whether nobody can say how it ended: its status was thrown away (SIGCHLD ignored) or taken by somebody else."""
        return self.exit_code is None and self.signal is None

    @property
    def duration_s(self) -> float:
        """From the start to the moment its exit was seen."""
        return self.ended_mono_s - self.started_mono_s

    def __str__(self) -> str:
        return f"{self.name} {self.described}"

    @property
    def described(self) -> str:
        """The ending in words, such as ``exited with 3`` or ``was ended by SIGKILL (timeout)``."""
        failed = self.failed_stage
        if failed is not None:
            return f"failed in stage {(self.decided_by or 0) + 1} of {len(self.stages)}: {failed}"
        if self.is_unknown:
            return "ended with an unknown status"
        how = f"exited with {self.exit_code}" if self.signal is None else f"was ended by {signal_name(self.signal)}"
        return how if self.ended_by is EndedBy.ITSELF else f"{how} ({self.ended_by.value.replace('_', ' ')})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What was kept of one output.

    ``run()`` keeps the newest bytes, a ``Collect`` consumer also the first ones; ``gaps`` says what is missing where.

    Attributes:
        bytes: What was kept, in order.
        lost_bytes: How many bytes are missing, whatever the reason: dropped because of the bound, or lost by best-effort delivery.
        is_complete: Whether the output was read up to its end.
        start: Offset at which the keeping began.
        gaps: The stretches of the output that ``bytes`` leaves out, in order; their sum is ``lost_bytes``.
        is_streamed: Whether the output was a stream at all; one that went to a file, to the null device or to the host's own
            place is empty here.
    """

    bytes: builtins.bytes
    lost_bytes: int = 0
    is_complete: bool = True
    start: int = 0
    gaps: tuple[Gap, ...] = ()
    is_streamed: bool = True

    @property
    def truncated(self) -> bool:
        """Whether anything is missing."""
        return self.lost_bytes > 0

    @property
    def pieces(self) -> tuple[Chunk, ...]:
        """The stretches without a gap, with their offsets."""
        pieces, offset, position = [], self.start, 0
        for gap in (*self.gaps, None):
            size = gap.start - offset if gap is not None else len(self.bytes) - position
            if size:
                pieces.append(Chunk(self.bytes[position : position + size], offset))
            position += size
            offset = gap.stop if gap is not None else offset
        return tuple(pieces)

    @property
    def text(self) -> str:
        """The bytes as UTF-8; what is not UTF-8 is replaced.  A gap between bytes is a line ``[123 bytes are missing]``."""
        pieces = self.pieces
        if len(pieces) < 2:
            return self.bytes.decode("utf-8", errors="replace")
        text = ""
        for before, piece in zip((None, *pieces), pieces, strict=False):
            if before is not None:
                line_end = "" if text.endswith("\n") else "\n"
                text += f"{line_end}[{piece.offset - before.stop} bytes are missing]\n"
            text += piece.data.decode("utf-8", errors="replace")
        return text

    @property
    def lines(self) -> list[str]:
        """The text in lines without their line ends (LF, or CR LF).

        Next to a gap stand fragments of lines; the two sides of a gap never meet in one line.
        """
        lines: list[str] = []
        for piece in self.pieces:
            lines += piece.data.decode("utf-8", errors="replace").split("\n")
            if lines[-1] == "":
                lines.pop()
        return [line.removesuffix("\r") for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What ``run()`` returns.

    Attributes:
        outcome: How the process ended.
        stdout: What was kept of standard output; empty, with ``is_streamed`` false, if it went elsewhere.
        stderr: The same for standard error; in a pipeline that of the stage that decided how it ended.
        stages: The same for each stage of a pipeline, first to last; empty for a single command.
    """

    outcome: Outcome
    stdout: Captured
    stderr: Captured
    stages: tuple[Completed, ...] = ()


def signal_name(number: int) -> str:
    """Return the name of a signal, or ``signal 35`` for one without a name (real-time signals)."""
    try:
        return _signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
