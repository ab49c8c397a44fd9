"""What a log says: its lines, with every hole, and the bytes of a stream.

Reads a log at any moment: while it is written, after a crash with its segments beside it, and after a crash in the middle of
their merge.  Opens read-only and holds one line at a time.  Known hole: if the writer closes a capped log between two looks
of the reader, the last half may be missed; read again, it is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeAlias

from procflow.record.logs.format import (
    HEADER_BYTES,
    MAX_LINE_BYTES,
    Dropped,
    LogLine,
    LogStream,
    MalformedLineError,
    decode_line,
)
from procflow.record.logs.storage import segments_of


@dataclass(frozen=True, slots=True)
class Damaged:
    """A part of a file that is no line of a log, such as a line that something else wrote.

    Attributes:
        data: The bytes, with their newline if there was one; of a longer part, as much as a line may have.
    """

    data: bytes


LogItem: TypeAlias = LogLine | Dropped | Damaged


def read_log(path: str) -> Iterator[LogItem]:
    """Yield what is in the log at ``path``, in the order in which it was written.

    Streams are in the order in which they were read, as far as both of them can be: an unfinished line is written when it
    ends or has waited for 200 ms.  A line that a crash cut off is there as far as it goes, as an unfinished one.

    Raises:
        OSError: If a file cannot be read.
    """
    position = dict.fromkeys(LogStream, 0)
    yield from _counted(path, position)
    for segment, before in segments_of(path):
        missing = {stream: max(0, before[stream] - position[stream]) for stream in LogStream}
        if any(missing.values()):
            yield Dropped(at_ns=0, dropped_bytes=missing)
            position = dict(before)
        # After a crash in the merge the beginning of a segment is in the log already.
        repeated_bytes = sum(position.values()) - sum(before.values())
        with contextlib.suppress(FileNotFoundError):  # merged since it was listed
            yield from _counted(segment, position, repeated_bytes)


def read_output(path: str, stream: LogStream) -> Iterator[bytes | Dropped]:
    """Yield the bytes of ``stream`` in the log at ``path``: joined, they are what the child wrote, less its secrets.

    A hole in this stream is a ``Dropped`` between them.

    Raises:
        OSError: If a file cannot be read.
    """
    for item in read_log(path):
        if isinstance(item, LogLine):
            if item.stream is stream:
                yield item.output
        elif isinstance(item, Dropped) and item.dropped_bytes[stream]:
            yield item


def _counted(path: str, position: dict[LogStream, int], repeated_bytes: int = 0) -> Iterator[LogItem]:
    """Yield what is in one file after the first ``repeated_bytes`` of output, and move ``position``."""
    with open(path, "rb") as file:
        for item in _items(file):
            if isinstance(item, LogLine):
                output_bytes = len(item.output)
                if repeated_bytes >= output_bytes:
                    repeated_bytes -= output_bytes
                    continue
                position[item.stream] += output_bytes - repeated_bytes
                yield replace(item, data=item.data[repeated_bytes:]) if repeated_bytes else item
                repeated_bytes = 0
            else:
                if isinstance(item, Dropped):
                    for stream in LogStream:
                        position[stream] += item.dropped_bytes[stream]
                yield item


def _items(file: BinaryIO) -> Iterator[LogItem]:
    while line := file.readline(MAX_LINE_BYTES):
        is_torn = not line.endswith(b"\n")
        if is_torn and len(line) == MAX_LINE_BYTES:
            yield Damaged(line)
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            continue
        try:
            item = decode_line(line.removesuffix(b"\n"))
        except MalformedLineError:
            if not is_torn:
                yield Damaged(line)
            continue
        if not is_torn:
            yield item
        elif isinstance(item, LogLine) and len(line) > HEADER_BYTES:
            # Whether its newline was written before the crash is not known, so none is claimed.
            yield replace(item, is_whole=False)
