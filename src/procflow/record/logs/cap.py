"""What is kept of a log that becomes too long: its first and its last half.

The first half is the log's own file.  What follows goes into segment files, of which the oldest is removed when the later ones
hold the last half alone; so at most the cap and one segment are on disk, and nothing of it in memory.  A segment's name says
how much output came before it, so that a reader can put the files together at any moment, also in the middle of the merge at
the end.  Decides, and does nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from procflow.record.logs.format import HEADER_BYTES, LogStream

DEFAULT_CAP_BYTES: Final = 64 * 1024 * 1024

_SEGMENTS_OF_HALF: Final = 8
_STREAM_AT: Final = HEADER_BYTES - len("stdout F ")
_TAG_AT: Final = HEADER_BYTES - 2
_UNFINISHED: Final = ord("P")


@dataclass(slots=True, kw_only=True, eq=False)
class LogPart:
    """One file of a log.

    Attributes:
        number: 0 is the log's own file, segments count from 1.
        before: Bytes of output of each stream before this file.
        file_bytes: Its length.
        output: Bytes of output of each stream in it.
    """

    number: int
    before: dict[LogStream, int]
    file_bytes: int = 0
    output: dict[LogStream, int] = field(default_factory=lambda: dict.fromkeys(LogStream, 0))


@dataclass(frozen=True, slots=True)
class Append:
    """Write ``data``, whole lines of ``stream``, at the end of ``part``; it holds ``output_bytes`` of output."""

    part: LogPart
    data: bytes
    stream: LogStream
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Make the file of ``part``, to which everything goes from now on."""

    part: LogPart


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the file of ``part``: its output is dropped."""

    part: LogPart


Step: TypeAlias = Append | Begin | Remove


class CapPlan:
    """Where the lines of one log go.

    Attributes:
        head: The log's own file.
        segments: Those that are kept, the oldest first.
        dropped: Bytes of output of each stream that are in no file any more.
        output_bytes: Bytes of output that were written, dropped later or not.
    """

    def __init__(self, cap_bytes: int | None = DEFAULT_CAP_BYTES) -> None:
        """Keep about ``cap_bytes`` of lines, or everything if ``None``.

        Raises:
            ValueError: If ``cap_bytes`` is not positive.
        """
        if cap_bytes is not None and cap_bytes <= 0:
            raise ValueError(f"cap_bytes must be positive, not {cap_bytes}")
        self.head: Final = LogPart(number=0, before=dict.fromkeys(LogStream, 0))
        self.segments: Final[deque[LogPart]] = deque()
        self.dropped: Final = dict.fromkeys(LogStream, 0)
        self.output_bytes = 0
        self._half_bytes = None if cap_bytes is None else cap_bytes // 2
        self._segment_bytes = 0 if cap_bytes is None else max(1, cap_bytes // 2 // _SEGMENTS_OF_HALF)

    def place(self, lines: bytes, stream: LogStream, output_bytes: int) -> Iterator[Step]:
        """Yield what to do, in order, so that ``lines`` are kept; each step is taken as done when the next is asked for.

        Args:
            lines: Whole lines of a log, with their newlines.
            stream: Whose they are.
            output_bytes: How many bytes of output are in them.
        """
        while lines:
            part = self.segments[-1] if self.segments else self.head
            fitting = self._fitting(part, lines)
            if fitting == 0:
                part = self._next(part)
                yield Begin(part)
                continue
            data, lines = lines[:fitting], lines[fitting:]
            data_bytes = output_in(data) if lines else output_bytes
            output_bytes -= data_bytes
            yield from self._room_for(fitting)
            yield Append(part, data, stream, data_bytes)
            self.written(part, fitting, stream, data_bytes)

    def written(self, part: LogPart, file_bytes: int, stream: LogStream, output_bytes: int) -> None:
        """Know that so much is in the file of ``part`` now; ``place()`` knows it of what it placed."""
        part.file_bytes += file_bytes
        part.output[stream] += output_bytes
        self.output_bytes += output_bytes

    def excess_bytes(self) -> int:
        """Return how many bytes of lines the segments hold beyond the last half."""
        held = sum(part.file_bytes for part in self.segments)
        return 0 if self._half_bytes is None else max(0, held - self._half_bytes)

    def _fitting(self, part: LogPart, lines: bytes) -> int:
        """Return how many bytes of whole lines go to ``part``."""
        if self._half_bytes is None:
            return len(lines)
        room = (self._half_bytes if part is self.head else self._segment_bytes) - part.file_bytes
        if len(lines) <= room:
            return len(lines)
        fitting = lines.rfind(b"\n", 0, max(0, room)) + 1
        if fitting == 0 and part is not self.head and part.file_bytes == 0:
            return lines.index(b"\n") + 1  # a line longer than a segment has one of its own
        return fitting

    def _next(self, part: LogPart) -> LogPart:
        before = {stream: part.before[stream] + part.output[stream] for stream in LogStream}
        segment = LogPart(number=part.number + 1, before=before)
        self.segments.append(segment)
        return segment

    def _room_for(self, more_bytes: int) -> Iterator[Remove]:
        held = more_bytes + sum(part.file_bytes for part in self.segments)
        while len(self.segments) > 1 and held - self.segments[0].file_bytes >= (self._half_bytes or 0):
            oldest = self.segments.popleft()
            held -= oldest.file_bytes
            for stream in LogStream:
                self.dropped[stream] += oldest.output[stream]
            yield Remove(oldest)


def output_in(lines: bytes) -> int:
    """Return how many bytes of output are in ``lines``, which are whole lines of a log and no marker of a hole."""
    total = at = 0
    while at < len(lines):
        end = lines.index(b"\n", at)
        total += end - at - HEADER_BYTES + (lines[at + _TAG_AT] != _UNFINISHED)
        at = end + 1
    return total


def stream_of(line: bytes) -> LogStream:
    """Return whose output ``line`` holds; it is no marker of a hole."""
    return LogStream.STDOUT if line.startswith(b"stdout", _STREAM_AT) else LogStream.STDERR
