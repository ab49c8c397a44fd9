"""A log without secrets.

Owns what becomes of its lines.  Must not know files.

Problem: a secret may be split by the lines of a log, between which there are those of the other stream, and taking it out must move nothing.
So a log is gone through twice.  First each stream is searched as the bytes that the child wrote, and the parts to be hidden are
noted; then the lines are written anew, each with its time and in its place, without these parts.  A line in which nothing is hidden stays byte for byte.

Known hole: a secret of which a part is in a hole of a capped log is not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from procflow.record.logs.format import (
    MAX_FRAGMENT_BYTES,
    Dropped,
    LogLine,
    LogStream,
    encode_dropped,
    encode_line,
)
from procflow.record.logs.reader import Damaged, LogItem
from procflow.record.redaction.redactor import Redactor
from procflow.record.redaction.stream import Piece


class HiddenPart(NamedTuple):
    """Bytes of a stream that are taken out, by their offsets among those that the log has of it; ``marker`` stands for them."""

    start: int
    stop: int
    marker: bytes


def hidden_parts(items: Iterable[LogItem], redactor: Redactor) -> dict[LogStream, list[HiddenPart]]:
    """Return the parts of each stream that must not be shown, in order."""
    searches = {stream: _Search(redactor) for stream in LogStream}
    for item in items:
        match item:
            case LogLine():
                searches[item.stream].feed(item.output)
            case Dropped():
                for stream in LogStream:
                    if item.dropped_bytes[stream]:
                        searches[stream].finish()
            case Damaged():
                pass
    for search in searches.values():
        search.finish()
    return {stream: search.parts for stream, search in searches.items()}


def scrubbed_lines(
    items: Iterable[LogItem], parts: dict[LogStream, list[HiddenPart]], redactor: Redactor
) -> Iterator[bytes]:
    """Yield the lines of ``items`` without ``parts``; what is no line is searched by itself."""
    blinds = {stream: _Blind(parts[stream]) for stream in LogStream}
    for item in items:
        match item:
            case LogLine():
                yield from map(encode_line, blinds[item.stream].covered(item))
            case _:
                yield encoded(Damaged(redactor.redact_bytes(item.data)) if isinstance(item, Damaged) else item)


def encoded(item: LogItem) -> bytes:
    """Return ``item`` as it stands in a log."""
    match item:
        case LogLine():
            return encode_line(item)
        case Dropped():
            return encode_dropped(item)
        case Damaged():
            return item.data if item.data.endswith(b"\n") else item.data + b"\n"


class _Search:
    """Finds the parts of one stream.  A hole ends what was before it: bytes on both sides of it were not beside each other."""

    def __init__(self, redactor: Redactor) -> None:
        self.parts: list[HiddenPart] = []
        self._redactor = redactor
        self._stream = redactor.stream()
        self._began = self._fed = 0
        self._open: Piece | None = None  # a marker; where the next piece begins the part ends

    def feed(self, data: bytes) -> None:
        self._fed += len(data)
        self._note(self._stream.feed_pieces(data))

    def finish(self) -> None:
        self._note(self._stream.finish_pieces())
        self._end_part(self._fed)
        self._stream, self._began = self._redactor.stream(), self._fed

    def _note(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self._end_part(self._began + piece.offset)
            self._open = piece if piece.is_marker else None

    def _end_part(self, stop: int) -> None:
        if self._open is not None:
            self.parts.append(HiddenPart(self._began + self._open.offset, stop, self._open.data))
        self._open = None


class _Blind:
    """Covers the hidden parts of one stream, line by line."""

    def __init__(self, parts: list[HiddenPart]) -> None:
        self._parts = parts
        self._next = 0
        self._position = 0

    def covered(self, line: LogLine) -> Iterator[LogLine]:
        """Yield what is left of ``line``: nothing if it is wholly inside of a part that began before it, else mostly one line."""
        output = line.output
        start, stop = self._position, self._position + len(output)
        self._position = stop
        shown: list[bytes] = []
        done = start
        while self._next < len(self._parts) and self._parts[self._next].start < stop:
            part = self._parts[self._next]
            if part.start >= start:
                shown += (output[done - start : part.start - start], part.marker)
            done = min(part.stop, stop)
            if part.stop > stop:
                break
            self._next += 1
        if done == start and not shown:
            yield line
            return
        shown.append(output[done - start :])
        yield from _in_fragments(line, b"".join(shown))


def _in_fragments(line: LogLine, output: bytes) -> Iterator[LogLine]:
    """Yield ``output``, which is in the place of ``line``, in as many lines as it needs."""
    data = output.removesuffix(b"\n")
    is_whole = len(data) < len(output)
    at = 0
    while len(data) - at > MAX_FRAGMENT_BYTES:
        piece = data[at : at + MAX_FRAGMENT_BYTES]
        yield LogLine(at_ns=line.at_ns, stream=line.stream, data=piece, is_whole=False)
        at += MAX_FRAGMENT_BYTES
    if at < len(data) or is_whole:
        yield LogLine(at_ns=line.at_ns, stream=line.stream, data=data[at:], is_whole=is_whole)
