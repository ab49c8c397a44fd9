"""One line of a log: ``2026-11-29T13:28:15.123456789Z stdout F text``.

The shape of the container runtime interface of Kubernetes: an instant in UTC with nanoseconds, the stream, ``F`` for the end
of a line or ``P`` for a piece of one that goes on, and the bytes as they were.  A third stream name, ``dropped``, marks the
place where a capped log has a hole.  Owns both directions; must not know where lines are kept.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

MAX_FRAGMENT_BYTES: Final = 16 * 1024
"""Bytes of one fragment; a longer line is written in several."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS: Final = 1_000_000_000
_LAST_SECOND: Final = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds())
_LINE: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z (?:(stdout|stderr) ([FP])|dropped F) (.*)", re.DOTALL
)
_DROPPED: Final = re.compile(rb"(\d+) bytes \(stdout (\d+), stderr (\d+)\)")


class LogStream(enum.Enum):
    """One of the two streams in a log; the value is the word on the line."""

    STDOUT = "stdout"
    STDERR = "stderr"


HEADER_BYTES: Final = len("2026-11-29T13:28:15.123456789Z stdout F ")
"""Bytes before the content of a line, the same for both streams."""

MAX_LINE_BYTES: Final = HEADER_BYTES + MAX_FRAGMENT_BYTES + 1
"""The longest line, with its newline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of output, or a piece of one.

    Attributes:
        at_ns: When its first byte was read, in nanoseconds since 1970, UTC.
        stream: Where it came from.
        data: Its bytes, without the newline.
        is_whole: Whether a newline follows; otherwise the next line of this stream goes on, or the stream ended.
    """

    at_ns: int
    stream: LogStream
    data: bytes
    is_whole: bool

    @property
    def output(self) -> bytes:
        """The bytes that the child wrote, with the newline if there was one."""
        return self.data + b"\n" if self.is_whole else self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A hole: output that is not in the log, because there was too much.

    Attributes:
        at_ns: When the log was closed, in nanoseconds since 1970, UTC; 0 where the writer could not say.
        dropped_bytes: Bytes of each stream that are missing here.
    """

    at_ns: int
    dropped_bytes: Mapping[LogStream, int]


class MalformedLineError(ValueError):
    """A line is none of a log.

    Attributes:
        line: The line as it was read.
    """

    def __init__(self, line: bytes) -> None:
        self.line = line
        super().__init__(f"a line of {len(line)} bytes is none of a log")


def header(at_ns: int, stream: LogStream, *, is_whole: bool) -> bytes:
    """Return what stands before the content of a line, with the space at its end.

    An instant before 1970 or after 9999 is written as the nearest that can be.
    """
    return b"%b %b " % (_instant(at_ns), b"%b F" % _WORDS[stream] if is_whole else b"%b P" % _WORDS[stream])


def encode_line(line: LogLine) -> bytes:
    """Return ``line`` as bytes with its newline; its data must hold none, and at most ``MAX_FRAGMENT_BYTES``."""
    return header(line.at_ns, line.stream, is_whole=line.is_whole) + line.data + b"\n"


def encode_dropped(dropped: Dropped) -> bytes:
    """Return the line that marks a hole."""
    stdout, stderr = (dropped.dropped_bytes.get(stream, 0) for stream in (LogStream.STDOUT, LogStream.STDERR))
    counts = f"{stdout + stderr} bytes (stdout {stdout}, stderr {stderr})"
    return b"%b dropped F %b\n" % (_instant(dropped.at_ns), counts.encode())


def decode_line(line: bytes) -> LogLine | Dropped:
    """Return what ``line``, without its newline, says.

    Raises:
        MalformedLineError: If it is none of a log.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise MalformedLineError(line)
    second, fraction, stream, tag, data = match.groups()
    try:
        at_ns = _seconds_of(second) * _NS + int(fraction)
    except ValueError:
        raise MalformedLineError(line) from None
    if stream is not None:
        return LogLine(at_ns=at_ns, stream=LogStream(stream.decode()), data=data, is_whole=tag == b"F")
    counts = _DROPPED.fullmatch(data)
    if counts is None:
        raise MalformedLineError(line)
    return Dropped(at_ns=at_ns, dropped_bytes={LogStream.STDOUT: int(counts[2]), LogStream.STDERR: int(counts[3])})


_WORDS: Final = {stream: stream.value.encode() for stream in LogStream}


def _instant(at_ns: int) -> bytes:
    second, fraction = divmod(at_ns, _NS)
    if not 0 <= second <= _LAST_SECOND:
        second, fraction = (0, 0) if second < 0 else (_LAST_SECOND, _NS - 1)
    return b"%b.%09dZ" % (_text_of(second), fraction)


@lru_cache(maxsize=8)
def _text_of(second: int) -> bytes:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S").encode()


@lru_cache(maxsize=8)
def _seconds_of(second: bytes) -> int:
    instant = datetime.strptime(second.decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return (instant - _EPOCH) // timedelta(seconds=1)
