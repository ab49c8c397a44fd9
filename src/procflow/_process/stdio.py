"""Where the three standard descriptors of a child lead.

Owns the choices, and the plans that they become: values that open their ends when a process is started.  Must not know
processes.

A plan is made when the block is made, so that a wrong choice fails there; it opens its ends right before the fork.  What
the child gets is closed in the host once the child has it (``Opening.theirs``), what the host keeps is closed if the start
fails (``Opening.ours``).  Whatever joins descriptors to something else (a terminal, a neighbour in a pipeline) is one more
plan.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias

from procflow._process.feeder import Feeder
from procflow._process.stdin import ChildStdin
from procflow._streams.source import FdSource
from procflow._streams.stream import OutputStream
from procflow.policies import StreamConfig


class Stdio(Enum):
    """Where a standard descriptor leads, if not to a stream."""

    NULL = "null"
    """``/dev/null``: reads give end of file, writes vanish."""

    INHERIT = "inherit"
    """Where the host's own descriptor leads."""

    PIPE = "pipe"
    """Standard input only: a pipe that ``child.stdin`` writes to."""


NULL: Final = Stdio.NULL
INHERIT: Final = Stdio.INHERIT
PIPE: Final = Stdio.PIPE

StdinChoice: TypeAlias = Stdio | bytes | bytearray | memoryview
"""Bytes are fed; what can change is copied when the block is made."""

OutputChoice: TypeAlias = Stdio | StreamConfig
"""``PIPE`` is refused.  Not said by the type, or ``NULL if quiet else StreamConfig()`` would need an annotation."""


# --- what a start opens -----------------------------------------------------------------------------------------------


class Opening:
    """One start in progress: who closes what.

    An ``OSError`` of a plan becomes the ``SpawnError`` of that start.
    """

    def __init__(self, process_name: str, *, always: ExitStack, on_failure: ExitStack) -> None:
        self.process_name: Final = process_name
        self._always = always
        self._on_failure = on_failure

    def theirs(self, fd: int) -> int:
        """Have ``fd`` closed once the child was started, or was not; returns it."""
        self._always.callback(os.close, fd)
        return fd

    def ours(self, close: Callable[[], object]) -> None:
        """Have ``close()`` called if the start fails."""
        self._on_failure.callback(close)


@dataclass(frozen=True, slots=True)
class StdinEnd:
    """Standard input of a child: the descriptor it is given (``None``: the host's), and our side of it."""

    fd: int | None
    writer: ChildStdin | None = None
    feeder: Feeder | None = None


@dataclass(frozen=True, slots=True)
class OutputEnd:
    """An output of a child: the descriptor it is given (``None``: the host's), and our side of it."""

    fd: int | None
    stream: OutputStream | None = None


@dataclass(frozen=True, slots=True)
class Ends:
    """All three."""

    stdin: StdinEnd
    stdout: OutputEnd
    stderr: OutputEnd


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


# --- the plans --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """A descriptor that is there already and stays its owner's; ``None``: the host's own."""

    fd: int | None
    is_streamed = False

    def open(self, opening: Opening, what: str) -> OutputEnd:  # noqa: ARG002 (nothing to open)
        """Pass the descriptor on."""
        return OutputEnd(self.fd)


@dataclass(frozen=True, slots=True)
class GivenStdin:
    """A descriptor to read from that is there already and stays its owner's; ``None``: the host's own."""

    fd: int | None

    def open(self, opening: Opening) -> StdinEnd:  # noqa: ARG002 (nothing to open)
        """Pass the descriptor on."""
        return StdinEnd(self.fd)


@dataclass(frozen=True, slots=True)
class Written:
    """A pipe that ``child.stdin`` writes to."""

    def open(self, opening: Opening) -> StdinEnd:
        """Open the pipe."""
        theirs, ours = os.pipe()
        opening.theirs(theirs)
        os.set_blocking(ours, False)
        writer = ChildStdin(ours, process_name=opening.process_name)
        opening.ours(writer.close)
        return StdinEnd(theirs, writer)


@dataclass(frozen=True, slots=True)
class Fed:
    """A pipe that is fed with ``data``."""

    data: bytes

    def open(self, opening: Opening) -> StdinEnd:
        """Open the pipe."""
        end = Written().open(opening)
        assert end.writer is not None, "a pipe has a writer"
        return StdinEnd(end.fd, end.writer, Feeder(end.writer, self.data))


@dataclass(frozen=True, slots=True)
class Streamed:
    """A pipe that a stream reads."""

    config: StreamConfig
    is_streamed = True

    def open(self, opening: Opening, what: str) -> OutputEnd:
        """Open the pipe and the stream that will read it."""
        ours, theirs = os.pipe()
        opening.theirs(theirs)
        name = f"{opening.process_name} {what}"
        stream = OutputStream(FdSource(ours, read_bytes=self.config.read_bytes), self.config, name=name)
        opening.ours(stream.close)
        return OutputEnd(theirs, stream)


@dataclass(frozen=True, slots=True)
class Separate:
    """Three descriptors, each with a plan of its own."""

    stdin: StdinPlan
    stdout: OutputPlan
    stderr: OutputPlan

    @property
    def is_streamed(self) -> bool:
        """Whether an output will be a stream."""
        return self.stdout.is_streamed or self.stderr.is_streamed

    def open(self, opening: Opening) -> Ends:
        """Open the ends of all three."""
        stdin = self.stdin.open(opening)
        return Ends(stdin, self.stdout.open(opening, "stdout"), self.stderr.open(opening, "stderr"))


def plan_stdin(choice: StdinChoice) -> StdinPlan:
    """Return the plan for ``choice``.

    Raises:
        TypeError: If it is none.
    """
    match choice:
        case Stdio.NULL:
            return GivenStdin(subprocess.DEVNULL)
        case Stdio.INHERIT:
            return GivenStdin(None)
        case Stdio.PIPE:
            return Written()
        case bytes() | bytearray() | memoryview():
            return Fed(bytes(choice))
    raise TypeError(f"stdin must be NULL, INHERIT, PIPE or bytes, not {type(choice).__name__}")


def plan_output(what: str, choice: OutputChoice) -> OutputPlan:
    """Return the plan for ``choice``; ``what`` it is for ("stdout") is named in errors.

    Raises:
        TypeError: If it is none.
    """
    match choice:
        case StreamConfig():
            return Streamed(choice)
        case Stdio.NULL:
            return Given(subprocess.DEVNULL)
        case Stdio.INHERIT:
            return Given(None)
    raise TypeError(f"{what} must be a StreamConfig, NULL or INHERIT, not {choice!r}")
