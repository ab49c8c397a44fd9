"""What a record asks to be told of the processes that are started in a context: the port, and who is told.

Owns the context variable, the protocols, and the rule that a call that began is told its end once.  Must not know records.

A call begins before anything is opened for it, and is over when its tree is and its outputs were read, at the latest when its
scope was left.  Everything here is synchronous, so that no cancellation falls between what happens and the telling.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final, Protocol

from procflow._process.stdio.ends import Ends
from procflow.command import Command
from procflow.errors import UsageError
from procflow.events import OutputName
from procflow.outcome import Outcome

HOST_STDOUT: Final = 1


class RecordedCall(Protocol):
    """One command, from before its start to after its end.  Nothing that it is told may raise."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that the child gets besides its own."""
        ...

    def spawned(self, pid: int) -> None:
        """It runs."""
        ...

    def copy(self, output: OutputName, data: bytes) -> None:
        """These are the next bytes of an output; none: it has ended."""
        ...

    def failed(self, error: BaseException) -> None:
        """It was not started, or was ended at once because a neighbour in its pipeline was not."""
        ...

    def finished(self, outcome: Outcome | None, *, stdout_bytes: int, stderr_bytes: int) -> None:
        """It is over, or out of sight: then there is no outcome.  The counts are of what was read."""
        ...


class Recording(Protocol):
    """Whoever writes down the calls that are made in a context."""

    @property
    def needs_stdout(self) -> bool:
        """Whether nobody else may write to the host's standard output."""
        ...

    def new_pipe(self) -> str:
        """Return a name for a pipeline."""
        ...

    def begin(self, command: Command, *, pipe: str | None, timeout_s: float | None, is_streamed: bool) -> RecordedCall:
        """Note that ``command`` is about to be started.

        Args:
            command: What is called.
            pipe: Of a stage, the name of its pipeline.
            timeout_s: What the call may take, if that is known.
            is_streamed: Whether an output will be copied.
        """
        ...


ACTIVE: Final[ContextVar[Recording | None]] = ContextVar("procflow_recording", default=None)
"""Who records the calls of the running task; a context variable goes along into tasks and threads."""


class StartRecord:
    """The calls of one start, until each has a process that tells its end."""

    __slots__ = ("_calls", "_commands", "_is_streamed", "_pipe", "_recording", "_timeout_s")

    def __init__(
        self, recording: Recording, commands: tuple[Command, ...], *, timeout_s: float | None, is_streamed: bool
    ) -> None:
        """Begin the call of the first stage; whatever fails from now on fails it."""
        self._recording = recording
        self._commands = commands
        self._pipe = recording.new_pipe() if len(commands) > 1 else None
        self._timeout_s = timeout_s
        self._is_streamed = is_streamed
        self._calls: list[RecordedCall] = []
        self.call_of(0)

    def call_of(self, number: int) -> RecordedCall:
        """Return the call of a stage; it begins now, if it has not."""
        if number == len(self._calls):
            self._calls.append(
                self._recording.begin(
                    self._commands[number],
                    pipe=self._pipe,
                    timeout_s=self._timeout_s,
                    is_streamed=self._is_streamed,
                )
            )
        return self._calls[number]

    def failed(self, error: BaseException) -> None:
        """Tell every call that began that there is no process for it."""
        for call in reversed(self._calls):
            call.failed(error)

    def require_free_stdout(self, ends: Ends) -> None:
        """Raise if the child would write between the lines of a record.

        Raises:
            UsageError: If it would.
        """
        if self._recording.needs_stdout and (ends.stdout.fd in (None, HOST_STDOUT) or ends.stderr.fd == HOST_STDOUT):
            raise UsageError(
                "the events of the run go to standard output, so no child may write there: "
                "let it be a stream, or give stdout=sys.stderr"
            )
