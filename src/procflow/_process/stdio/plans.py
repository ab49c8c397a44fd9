"""Where the three standard descriptors of a child lead.

Owns the choices and the plan that each of them becomes.  Must not know processes.

Whatever joins descriptors to something else (a terminal, a neighbour in a pipeline) is one more plan.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeAlias

from procflow._process.stdio.ends import Ends, Opening, OutputEnd, OutputPlan, StdinEnd, StdinPlan, StdioPlan
from procflow._process.stdio.feeder import Feeder
from procflow._process.stdio.files import (
    AnyPath,
    HasFileno,
    descriptor_behind,
    open_to_read,
    open_to_write,
    refuses,
    settle_before_reading,
    settle_before_writing,
)
from procflow._process.stdio.pieces import AsyncIterablePieces, FilePieces, IterablePieces, Pieces, SupportsReadBytes
from procflow._process.stdio.stdin import InputPipe
from procflow._streams.reading.source import FdSource
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

STDOUT_FD: Final = 1

StdinChoice: TypeAlias = (
    Stdio
    | bytes
    | bytearray
    | memoryview
    | str
    | AnyPath
    | HasFileno
    | SupportsReadBytes
    | int
    | Iterable[bytes]
    | AsyncIterable[bytes]
)
"""What a child can read: a place, bytes or a text to feed, a path or a file, or what yields bytes."""

OutputChoice: TypeAlias = Stdio | StreamConfig | AnyPath | HasFileno | int
"""Where an output can go: to a stream, a place, a path or a file.

``PIPE`` is refused.  Not said by the type, or ``NULL if quiet else StreamConfig()`` would need an annotation.
"""


# --- plans for standard input -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GivenStdin:
    """A descriptor that is there already and stays its owner's; ``None``: the host's own."""

    fd: int | None

    def open(self, opening: Opening) -> StdinEnd:  # noqa: ARG002 (nothing to open)
        """Pass the descriptor on."""
        return StdinEnd(self.fd)


@dataclass(frozen=True, slots=True)
class FromPath:
    """A file that is opened for the child."""

    path: AnyPath

    def open(self, opening: Opening) -> StdinEnd:
        """Open the file."""
        try:
            return StdinEnd(opening.theirs(open_to_read(self.path)))
        except OSError as exc:
            raise opening.refusal(f"its stdin cannot come from {os.fsdecode(self.path)!r}", exc) from exc


@dataclass(frozen=True, slots=True)
class FromFile:
    """A file, or what else has a descriptor, that the child reads itself."""

    file: HasFileno

    def open(self, opening: Opening) -> StdinEnd:
        """Move the descriptor to where the file is, and pass it on."""
        try:
            settle_before_reading(self.file)
            return StdinEnd(descriptor_behind(self.file))
        except (OSError, ValueError) as exc:
            raise opening.refusal("its stdin cannot come from the file", exc) from exc


@dataclass(frozen=True, slots=True)
class Written:
    """A pipe that ``child.stdin`` writes to."""

    def open(self, opening: Opening) -> StdinEnd:
        """Open the pipe."""
        fd, pipe = _open_input_pipe(opening)
        return StdinEnd(fd, pipe)


@dataclass(frozen=True, slots=True, repr=False)
class Fed:
    """A pipe that a task of the process writes to."""

    data: bytes | Pieces

    def open(self, opening: Opening) -> StdinEnd:
        """Open the pipe."""
        fd, pipe = _open_input_pipe(opening)
        return StdinEnd(fd, pipe, Feeder(pipe, self.data))


def _open_input_pipe(opening: Opening) -> tuple[int, InputPipe]:
    theirs, ours = os.pipe()
    opening.theirs(theirs)
    os.set_blocking(ours, False)
    pipe = InputPipe(ours)
    opening.ours(pipe.close)
    return theirs, pipe


def plan_stdin(choice: StdinChoice) -> StdinPlan:
    """Return the plan for ``choice``.

    Raises:
        TypeError: If it is none, or only text can be read from it.
        ValueError: If it is a closed file, a number that is no descriptor, or text that UTF-8 cannot express.
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
        case str():
            return Fed(_encoded(choice))
        case int():
            return GivenStdin(_required_fd("stdin", choice))
        case os.PathLike():
            return FromPath(choice)
    plan = _plan_objects(choice)
    if plan is None:
        raise TypeError(
            "stdin must be NULL, INHERIT, PIPE, bytes, a str (text, not a path), a path (as a pathlib.Path), a file, "
            f"a descriptor, or an iterable of bytes, not {type(choice).__name__}"
        )
    return plan


def _plan_objects(choice: object) -> StdinPlan | None:
    """The plan for what is known by its methods; files are iterables too, so they come first."""
    if isinstance(choice, HasFileno) and descriptor_behind(choice) is not None:
        if refuses(choice, "readable"):
            raise ValueError("stdin cannot come from a file that is open for writing only")
        return FromFile(choice)
    if isinstance(choice, io.TextIOBase):
        raise TypeError("stdin cannot be read from a text file without a descriptor: give its text as a str")
    if isinstance(choice, AsyncIterable):
        return Fed(AsyncIterablePieces(choice))
    if isinstance(choice, SupportsReadBytes):
        return Fed(FilePieces(choice))
    if isinstance(choice, Iterable):
        return Fed(IterablePieces(choice))
    return None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        reason = f"{exc.reason} at position {exc.start}"
    # Outside of the handler: the codec's own error shows the text.
    raise ValueError(f"stdin cannot be encoded as UTF-8: {reason}")


# --- plans for outputs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """A descriptor that is there already and stays its owner's; ``None``: the host's own."""

    fd: int | None
    elsewhere: str = "goes to a descriptor of the host"
    is_streamed = False

    def open(self, opening: Opening, what: str) -> OutputEnd:  # noqa: ARG002 (nothing to open)
        """Pass the descriptor on."""
        return OutputEnd(self.fd, elsewhere=self.elsewhere)


@dataclass(frozen=True, slots=True)
class ToPath:
    """A file that is created or truncated for the child."""

    path: AnyPath
    is_streamed = False

    def open(self, opening: Opening, what: str) -> OutputEnd:
        """Open the file."""
        try:
            return OutputEnd(opening.theirs(open_to_write(self.path)), elsewhere="goes to a file")
        except OSError as exc:
            raise opening.refusal(f"its {what} cannot go to {os.fsdecode(self.path)!r}", exc) from exc


@dataclass(frozen=True, slots=True)
class ToFile:
    """A file, or what else has a descriptor, that the child writes to itself."""

    file: HasFileno
    is_streamed = False

    def open(self, opening: Opening, what: str) -> OutputEnd:
        """Flush the file and pass its descriptor on."""
        try:
            settle_before_writing(self.file)
            return OutputEnd(descriptor_behind(self.file), elsewhere="goes to a file")
        except (OSError, ValueError) as exc:
            raise opening.refusal(f"its {what} cannot go to the file", exc) from exc


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
        source = FdSource(ours, read_bytes=self.config.read_bytes, pipe_bytes=self.config.pipe_bytes)
        stream = OutputStream(source, self.config, name=name)
        opening.ours(stream.close)
        return OutputEnd(theirs, stream)


def plan_output(what: str, choice: OutputChoice) -> OutputPlan:
    """Return the plan for ``choice``; ``what`` it is for ("stdout") is named in errors.

    Raises:
        TypeError: If it is none, or its bytes would have to pass through Python.
        ValueError: If it is a closed file, or a number that is no descriptor.
    """
    match choice:
        case StreamConfig():
            return Streamed(choice)
        case Stdio.NULL:
            return Given(subprocess.DEVNULL, "goes to the null device")
        case Stdio.INHERIT:
            return Given(None, "is the host's own")
        case int():
            return Given(_required_fd(what, choice))
        case os.PathLike():
            return ToPath(choice)
    if isinstance(choice, HasFileno) and descriptor_behind(choice) is not None:
        if refuses(choice, "writable"):
            raise ValueError(f"{what} cannot go to a file that is open for reading only")
        return ToFile(choice)
    if callable(getattr(choice, "write", None)):
        raise TypeError(
            f"{what} cannot go to this {type(choice).__name__}, whose bytes pass through Python; "
            "let it be a stream and copy that"
        )
    raise TypeError(
        f"{what} must be a StreamConfig, NULL, INHERIT, a path (as a pathlib.Path), a file or a descriptor, "
        f"not {type(choice).__name__ if not isinstance(choice, Stdio) else choice}"
    )


def _required_fd(what: str, number: int) -> int:
    if isinstance(number, bool):
        raise TypeError(f"{what} must not be a bool")
    if number < 0:
        raise ValueError(f"{what}={number} is no descriptor; procflow has constants of its own: NULL, INHERIT and PIPE")
    return number


# --- plans for all three ----------------------------------------------------------------------------------------------


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
        stdin, stdout = self.stdin.open(opening), self.stdout.open(opening, "stdout")
        return Ends(stdin, stdout, self.open_stderr(opening, stdout))

    def open_stderr(self, opening: Opening, stdout: OutputEnd) -> OutputEnd:
        """Open standard error.  One file for both has one position, or each output would overwrite the other."""
        end = self.stderr.open(opening, "stderr")
        are_paths = isinstance(self.stdout, ToPath) and isinstance(self.stderr, ToPath)
        if are_paths and stdout.fd is not None and end.fd is not None and os.path.sameopenfile(stdout.fd, end.fd):
            return replace(end, fd=stdout.fd)
        return end


@dataclass(frozen=True, slots=True)
class Merged:
    """Both outputs on one descriptor, so in the order in which the kernel got them."""

    stdin: StdinPlan
    stdout: OutputPlan

    @property
    def is_streamed(self) -> bool:
        """Whether the outputs will be a stream."""
        return self.stdout.is_streamed

    def open(self, opening: Opening) -> Ends:
        """Open standard input and output, and give the latter twice."""
        stdin, stdout = self.stdin.open(opening), self.stdout.open(opening, "stdout")
        return Ends(stdin, stdout, self.merged_end(stdout))

    @staticmethod
    def merged_end(stdout: OutputEnd) -> OutputEnd:
        """Return the end that leads where ``stdout`` leads."""
        fd = STDOUT_FD if stdout.fd is None else stdout.fd
        return OutputEnd(
            fd,
            elsewhere="goes where stdout goes, because of merge_stderr=True",
            remedy="read stdout, or start it without merge_stderr=True",
        )


def plan_stdio(
    stdin: StdinChoice,
    stdout: OutputChoice | None,
    stderr: OutputChoice | None,
    *,
    merge_stderr: bool,
    default: StreamConfig,
) -> StdioPlan:
    """Return the plan for what ``spawn()`` and ``run()`` are asked for; ``None`` means ``default``.

    Raises:
        TypeError: If a choice is none.
        ValueError: If a choice cannot be used, or contradicts another.
    """
    input_plan = plan_stdin(stdin)
    output_plan = plan_output("stdout", default if stdout is None else stdout)
    if not merge_stderr:
        return Separate(input_plan, output_plan, plan_output("stderr", default if stderr is None else stderr))
    if stderr is not None:
        raise ValueError("merge_stderr=True sends stderr where stdout goes: leave out stderr=")
    return Merged(input_plan, output_plan)
