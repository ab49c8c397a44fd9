"""What can go wrong, grouped by what the caller can do about it.

Owns every exception class of the package.  Must not know how anything is done: no I/O, no clock, no event loop.

``UsageError`` means the calling code must change, ``ChildError`` that the child (or the stream it feeds) failed and the
caller may retry or report, ``PlatformError`` that this machine lacks something and an operator must act.
``ConsumerError`` stands apart: what the caller gave to a stream failed, and its cause says which of these it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from procflow._streams.consumers.results import Consumed
    from procflow._supervision.values import ServiceRun
    from procflow.events import UndecodedLine
    from procflow.outcome import Captured, Completed, Outcome

TAIL_LINES_IN_MESSAGE: Final = 5


class Portable:
    """Mixed into errors: they cross process pools, although their constructors take keywords and make up messages.

    They are rebuilt from their arguments and attributes, notes among them, without running the constructor again.
    """

    args: tuple[object, ...]
    __notes__: list[str]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
        state = dict(self.__dict__)
        if "__notes__" in state:  # a note on the copy is none on the original
            state["__notes__"] = list(self.__notes__)
        return _rebuilt, (type(self), self.args), state


def _rebuilt(kind: type[BaseException], args: tuple[object, ...]) -> BaseException:
    return kind.__new__(kind, *args)


class ProcflowError(Portable, Exception):
    """Root of every error that this package raises on purpose.  All of them can be pickled and copied."""


class UsageError(ProcflowError):
    """The calling code is wrong: fix it, a retry cannot help."""


class ChildError(ProcflowError):
    """A child, or the source behind a stream, failed: retry or report."""


class PlatformError(ProcflowError):
    """This machine lacks something that was asked for: tell its operator."""


class ClosedError(UsageError):
    """A handle, stream or parser was used after it was closed."""


class HistoryLostError(UsageError):
    """A subscriber asked for bytes that the stream no longer holds.

    Attributes:
        lost_bytes: How many of the bytes asked for are gone.
        start: The offset that was asked for.
        stop: The first offset that the stream still holds.
    """

    def __init__(self, *, stream_name: str, start: int, stop: int) -> None:
        self.stream_name = stream_name
        self.start = start
        self.stop = stop
        self.lost_bytes = stop - start
        super().__init__(
            f"{stream_name}: {self.lost_bytes} bytes from offset {start} are no longer retained; "
            "attach earlier, retain more (replay=), or subscribe with BestEffort, which begins with a gap"
        )


class StallError(UsageError):
    """A reliable subscriber did not keep up within its ``stall_timeout_s`` and was detached, or failed the stream."""

    def __init__(self, *, stream_name: str, stall_timeout_s: float) -> None:
        self.stream_name = stream_name
        self.stall_timeout_s = stall_timeout_s
        super().__init__(f"{stream_name}: a reliable subscriber stalled the stream for {stall_timeout_s:g} s")


class LineTooLongError(ChildError):
    """A line exceeded ``max_line_bytes`` and the overflow policy is to raise.

    Attributes:
        max_line_bytes: The bound that was exceeded.
        offset: Absolute offset of the first byte of that line.
    """

    def __init__(self, *, stream_name: str, max_line_bytes: int, offset: int) -> None:
        self.stream_name = stream_name
        self.max_line_bytes = max_line_bytes
        self.offset = offset
        super().__init__(f"{stream_name}: the line at offset {offset} is longer than {max_line_bytes} bytes")


class LinesLostError(ChildError):
    """A line reader with ``on_gap="raise"`` met a gap.

    Attributes:
        lost_bytes: How many bytes the gap covers.
    """

    def __init__(self, *, stream_name: str, lost_bytes: int) -> None:
        self.stream_name = stream_name
        self.lost_bytes = lost_bytes
        super().__init__(f"{stream_name}: {lost_bytes} bytes were lost to a slow line reader")


class JsonLineError(ChildError):
    """A line was no JSON value of the type that was asked for, and the reader is to raise.

    Attributes:
        line: The line, its offset and the reason.
    """

    def __init__(self, *, stream_name: str, line: UndecodedLine) -> None:
        self.stream_name = stream_name
        self.line = line
        super().__init__(f"{stream_name}: the line at offset {line.offset} does not decode: {line.reason}")


class StreamReadError(ChildError):
    """Reading the source of a stream failed; every byte read before the failure was delivered first."""

    def __init__(self, *, stream_name: str, reason: str) -> None:
        self.stream_name = stream_name
        self.reason = reason
        super().__init__(f"{stream_name}: reading failed: {reason}")


class StreamClosedError(ClosedError):
    """The stream was closed by its owner before its source ended; what was read before that was delivered first."""

    def __init__(self, *, stream_name: str) -> None:
        self.stream_name = stream_name
        super().__init__(f"{stream_name}: the stream was closed before its source ended")


class SpillError(PlatformError):
    """The file that a stream's history is spilled to cannot be made, written or read.

    Attributes:
        path: The file, or the directory that was to hold it.
        errno: The OS error number, or ``None``.
    """

    def __init__(self, *, stream_name: str, path: str, reason: str, errno: int | None = None) -> None:
        self.stream_name = stream_name
        self.path = path
        self.reason = reason
        self.errno = errno
        super().__init__(f"{stream_name}: spilling to {path!r} failed: {reason}")


class ConsumerError(ProcflowError):
    """A consumer of a stream failed: its callback, its sink, or reading the stream.  ``__cause__`` is what failed.

    Without a cause it was cut: its scope was left, and it did not take what the stream still held in time.

    Attributes:
        consumer_name: The consumer.
        stream_name: What it consumed.
        result: What had come of it by then.
    """

    def __init__(self, *, consumer_name: str, stream_name: str, finish_s: float, result: Consumed[object]) -> None:
        self.consumer_name = consumer_name
        self.stream_name = stream_name
        self.result = result
        if result.error is not None:
            text = f"the consumer of {stream_name} failed at offset {result.stop}: {type(result.error).__name__}"
        else:
            text = (
                f"the consumer of {stream_name} was cut at offset {result.stop}: its scope waited {finish_s:g} s for it"
            )
        super().__init__(f"{consumer_name}: {text}")


class SpawnError(PlatformError):
    """The operating system refused to start a program.

    Attributes:
        program: What was to be run, without its arguments.
        cwd: The working directory that was asked for, or ``None``.
        suggestion: A program on PATH whose name is near, or ``None``.
        errno: The OS error number, or ``None``.
        stage: Which stage of a pipeline it is, counted from 1; ``None`` for a single command.
    """

    stage: int | None = None

    def __init__(
        self,
        *,
        program: str,
        reason: str,
        cwd: str | None = None,
        suggestion: str | None = None,
        errno: int | None = None,
    ) -> None:
        self.program = program
        self.cwd = cwd
        self.suggestion = suggestion
        self.errno = errno
        where = f" in {cwd!r}" if cwd is not None else ""
        hint = f"; did you mean {suggestion!r}?" if suggestion is not None else ""
        super().__init__(f"cannot start {program!r}{where}: {reason}{hint}")

    def note_stage(self, stage: int, count: int) -> None:
        """Say in the message too which of ``count`` stages of a pipeline could not be started."""
        self.stage = stage
        self.args = (f"stage {stage} of {count}: {self}",)


class EndedError(ChildError):
    """A child ended in a way that the caller did not accept.

    Attributes:
        outcome: Everything known about the ending.
        stages: What was collected of each stage of a pipeline, first to last, where something collects.
    """

    stages: tuple[Completed, ...] = ()

    def __init__(self, message: str, *, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(message)
        _note_tail(self, "last output", outcome.stderr_tail or outcome.stdout_tail)


def _note_tail(error: Exception, what: str, tail: bytes) -> None:
    lines = tail.decode(errors="replace").splitlines()[-TAIL_LINES_IN_MESSAGE:]
    if lines:
        error.add_note(f"{what}:\n" + "\n".join(f"  {line}" for line in lines))


class ExitError(EndedError):
    """The child exited with a status other than 0, or was ended by a signal (``check=True`` only).

    Attributes:
        stdout: What was collected of standard output.
        stderr: The same for standard error; in a pipeline that of the stage that decided how it ended.
    """

    def __init__(self, message: str, *, outcome: Outcome, stdout: Captured, stderr: Captured) -> None:
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(message, outcome=outcome)


class InputError(EndedError):
    """The child was not given all of its standard input.

    Either what was given as ``stdin`` has failed: then it is the ``__cause__``, and the process was stopped, because the end of
    the pipe would have looked to it like the end of its input.  Or the child stopped reading (``check_stdin=True`` only).

    Attributes:
        fed_bytes: How many bytes the pipe has taken.
        stdout: What was collected of standard output, or ``None`` where nothing collects, as in ``spawn()``.
        stderr: The same for standard error; in a pipeline that of the stage that decided how it ended.
    """

    def __init__(
        self,
        message: str,
        *,
        fed_bytes: int,
        outcome: Outcome,
        stdout: Captured | None = None,
        stderr: Captured | None = None,
    ) -> None:
        self.fed_bytes = fed_bytes
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(message, outcome=outcome)


class TimedOut(EndedError):  # noqa: N818 (the public name is fixed by the design)
    """A deadline of the call passed; the whole tree was ended first.

    Attributes:
        clock: Which deadline passed: ``"wall"``, ``"idle"`` or ``"readiness"``.
        timeout_s: Its length.
        stdout: What was collected of standard output until then.
        stderr: The same for standard error; in a pipeline that of the stage that decided how it ended.
    """

    def __init__(
        self, message: str, *, clock: str, timeout_s: float, outcome: Outcome, stdout: Captured, stderr: Captured
    ) -> None:
        self.clock = clock
        self.timeout_s = timeout_s
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(message, outcome=outcome)


class NotReadyError(ChildError):
    """The child, or its stream, ended before what was waited for appeared; or it did not appear in time.

    Attributes:
        stream_name: The stream that was read, or the process that was probed.
        awaited: What was waited for.
        outcome: How the child ended; ``None`` if it still runs, or if the stream belongs to no child.
        tail: The newest bytes of the stream; of a process that was probed, of its standard error or else its standard output.
        timeout_s: The deadline that has passed while the child went on running; ``None`` if none has.
        last_look: What the probe saw when it last looked before that deadline, in a few words: ``connection refused``.  Of several
            probes each, in their order, with ``;`` between them.  Empty if no deadline has passed.
    """

    def __init__(
        self,
        *,
        stream_name: str,
        awaited: str = "the line that was waited for",
        outcome: Outcome | None = None,
        tail: bytes = b"",
        timeout_s: float | None = None,
        last_look: str = "",
    ) -> None:
        self.stream_name = stream_name
        self.awaited = awaited
        self.last_look = last_look
        self.outcome = outcome
        self.tail = tail
        self.timeout_s = timeout_s
        what = "the stream ended" if outcome is None else str(outcome)
        text = f"{what} before {awaited}" if timeout_s is None else f"{timeout_s:g} s passed before {self.missed}"
        super().__init__(f"{stream_name}: {text}")
        _note_tail(self, "last output", tail)
        if outcome is not None and outcome.stderr_tail not in tail:
            _note_tail(self, "standard error", outcome.stderr_tail)

    @property
    def missed(self) -> str:
        """What was waited for, and what was there instead as far as anybody has looked."""
        return f"{self.awaited}; the last look saw: {self.last_look}" if self.last_look else self.awaited


class ServiceFailed(ChildError):  # noqa: N818 (the public name is fixed by the design)
    """A supervised service ended in failure and is not started again.  ``__cause__`` is what the last run failed with, if anything.

    Attributes:
        service_name: The service.
        history: Its last runs, oldest first; the newest one is why it failed.
    """

    def __init__(self, message: str, *, service_name: str, history: Sequence[ServiceRun]) -> None:
        self.service_name = service_name
        self.history = tuple(history)
        super().__init__(f"{service_name}: {message}")
        outcome = self.history[-1].outcome if self.history else None
        if outcome is not None:
            _note_tail(self, "last output", outcome.stderr_tail or outcome.stdout_tail)


class DescriptorLimitError(PlatformError):
    """Not even one child fits below the limit of open files, and none that would make room is running.

    Attributes:
        needed: How many descriptors the start may take, with what is kept free for the rest of the program.
        limit: The soft limit (``RLIMIT_NOFILE``).
        open_now: How many this process has open; ``None`` if that cannot be told.
    """

    def __init__(self, *, needed: int, limit: int, open_now: int | None) -> None:
        self.needed = needed
        self.limit = limit
        self.open_now = open_now
        there = f"{open_now} of {limit}" if open_now is not None else f"too many of {limit}"
        super().__init__(
            f"{there} descriptors are open, a start takes up to {needed}, and no running child will free any"
        )


class TerminationError(PlatformError):
    """Some process of a tree outlived every attempt to end it.

    Attributes:
        survivors: One text for each surviving process: pid, name and state.
        attempts: What was tried, in order.
        outcome: What is known of the leader's ending, or ``None`` if it still runs.
    """

    def __init__(
        self, *, process_name: str, survivors: Sequence[str], attempts: Sequence[str], outcome: Outcome | None = None
    ) -> None:
        self.process_name = process_name
        self.survivors = tuple(survivors)
        self.attempts = tuple(attempts)
        self.outcome = outcome
        super().__init__(f"{process_name}: {len(self.survivors)} processes outlived every attempt to end them")
        for survivor in self.survivors:
            self.add_note(f"survivor: {survivor}")
        for attempt in self.attempts:
            self.add_note(f"tried: {attempt}")
