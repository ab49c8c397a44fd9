"""What a start opens for the three standard descriptors of a child.

Owns the ends, the rule who closes them, and the plan ports.  Must not know choices, nor processes.

A plan is made when the block is made, so that a wrong choice fails there; it opens its ends right before the fork.  What
the child gets is closed in the host once the child has it (``Opening.theirs``), what the host keeps is closed if the start
fails (``Opening.ours``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from procflow._process.stdio.feeder import Feeder
from procflow._process.stdio.stdin import InputPipe
from procflow._process.terminals.terminal import Terminal
from procflow._streams.stream import OutputStream
from procflow._streams.timeline.timeline import Timeline
from procflow.errors import SpawnError
from procflow.events import OutputName


class Opening:
    """One start in progress: who closes what.

    An ``OSError`` of a plan becomes the ``SpawnError`` of that start.
    """

    def __init__(
        self, process_name: str, program: str, *, theirs: list[int], on_failure: list[Callable[[], object]]
    ) -> None:
        self.process_name: Final = process_name
        self._program = program
        self._theirs = theirs
        self._on_failure = on_failure

    def theirs(self, fd: int) -> int:
        """Have ``fd`` closed once the child was started, or was not; returns it."""
        self._theirs.append(fd)
        return fd

    def ours(self, close: Callable[[], object]) -> None:
        """Have ``close()`` called if the start fails."""
        self._on_failure.append(close)

    def refusal(self, reason: str, error: OSError | ValueError) -> SpawnError:
        """Return the error of this start for what a plan ran into."""
        number = error.errno if isinstance(error, OSError) else None
        text = error.strerror if isinstance(error, OSError) else None
        return SpawnError(program=self._program, reason=f"{reason}: {text or error}", errno=number)


@dataclass(frozen=True, slots=True)
class StdinEnd:
    """Standard input of a child: the descriptor it is given (``None``: the host's), and our side of it."""

    fd: int | None
    pipe: InputPipe | None = None
    feeder: Feeder | None = None


@dataclass(frozen=True, slots=True)
class OutputEnd:
    """An output of a child: the descriptor it is given (``None``: the host's), and our side of it."""

    fd: int | None
    stream: OutputStream | None = None
    elsewhere: str = "goes elsewhere"
    """Where it leads if there is no stream, for the error that says so."""
    remedy: str = ""
    """What to do about it, where starting it with a ``StreamConfig`` for this output would not do."""


@dataclass(frozen=True, slots=True)
class Ends:
    """All three, and the terminal that they are, if they are one of its own."""

    stdin: StdinEnd
    stdout: OutputEnd
    stderr: OutputEnd
    terminal: Terminal | None = None
    repeat_end: Callable[[], Awaitable[None]] | None = None
    """What sees to it that the end of input arrives, where that takes more than closing; a task of the process."""

    @property
    def streams(self) -> tuple[OutputStream, ...]:
        """The outputs that are streams."""
        return tuple(end.stream for end in (self.stdout, self.stderr) if end.stream is not None)

    def timeline(self) -> Timeline:
        """Return the outputs that are streams as one; make it before they read anything."""
        streams: dict[OutputName, OutputStream] = {}
        if self.stdout.stream is not None:
            streams["stdout"] = self.stdout.stream
        if self.stderr.stream is not None:
            streams["stderr"] = self.stderr.stream
        return Timeline(streams)


class StdinPlan(Protocol):
    """Where standard input is to come from."""

    def open(self, opening: Opening) -> StdinEnd:
        """Open the ends; synchronous."""
        ...


class OutputPlan(Protocol):
    """Where an output is to go."""

    @property
    def is_streamed(self) -> bool:
        """Whether the end will have a stream."""
        ...

    def open(self, opening: Opening, what: str) -> OutputEnd:
        """Open the ends of ``what`` ("stdout" or "stderr"); synchronous."""
        ...


class StdioPlan(Protocol):
    """Where all three are to lead."""

    @property
    def is_streamed(self) -> bool:
        """Whether an output will be a stream."""
        ...

    def open(self, opening: Opening) -> Ends:
        """Open the ends; synchronous."""
        ...
