"""One stream from the read to the lines of its log: secrets out, cut into lines, not kept waiting.

Owns the rule that output is in the log 200 ms after it was read, finished line or not.  Two times are given with every read:
the wall clock's, which is written, and the monotonic one, by which waiting is measured.  Owns no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from procflow.record.logs.format import LogStream
from procflow.record.logs.splitter import LineSplitter
from procflow.record.redaction.stream import Piece, StreamRedactor

IDLE_NS: Final = 200_000_000
"""How long a byte may wait for the end of its line, or for what shows that it is no part of a secret."""


class _Read(NamedTuple):
    """Where in the stream a read begins, and when it was made."""

    offset: int
    at_ns: int
    mono_ns: int


class LogLane:
    """One stream of a call.

    Attributes:
        stream: Which one.
        read_bytes: Bytes that were fed, as the child wrote them.
    """

    def __init__(self, stream: LogStream, redactor: StreamRedactor | None = None) -> None:
        self.stream: Final = stream
        self.read_bytes = 0
        self._splitter = LineSplitter(stream)
        self._redactor = redactor
        # Those of which the redactor may hold bytes.
        self._reads: deque[_Read] = deque()
        self._waiting_since_ns: int | None = None
        self._split_bytes = self._taken_bytes = 0

    def __repr__(self) -> str:
        return f"<LogLane of {self.stream.value}, {self.read_bytes} bytes>"

    @property
    def due_ns(self) -> int | None:
        """The monotonic time at which ``flush_idle()`` has something to do; ``None`` if it has not."""
        return None if self._waiting_since_ns is None else self._waiting_since_ns + IDLE_NS

    def feed(self, data: bytes, *, at_ns: int, mono_ns: int) -> bytes:
        """Take ``data``, read at ``at_ns`` and ``mono_ns``, and return the lines of the log that are complete by it."""
        if not data:
            return b""
        if self._redactor is None:
            self._split_bytes += len(data)
            lines = self._splitter.feed(data, at_ns=at_ns, mono_ns=mono_ns)
        else:
            self._reads.append(_Read(self.read_bytes, at_ns, mono_ns))
            lines = self._split(self._redactor.feed_pieces(data))
        self.read_bytes += len(data)
        self._waiting_since_ns = self._oldest_ns()
        return lines

    def flush_idle(self, mono_ns: int) -> bytes:
        """Return the lines that have waited long enough at ``mono_ns``, the last perhaps unfinished.

        Held after it are only bytes that are the beginning of a secret; they wait for what follows.
        """
        if self.due_ns is None or mono_ns < self.due_ns:
            return b""
        return self._flush(() if self._redactor is None else self._redactor.flush_idle_pieces())

    def finish(self) -> bytes:
        """Return what is left: the stream has ended."""
        return self._flush(() if self._redactor is None else self._redactor.finish_pieces())

    def take_output_bytes(self) -> int:
        """Return how many bytes of output are in the lines that were returned since the last call."""
        output_bytes = self._split_bytes - self._splitter.held_bytes - self._taken_bytes
        self._taken_bytes += output_bytes
        return output_bytes

    def _flush(self, pieces: Iterable[Piece]) -> bytes:
        lines = self._split(pieces)
        self._waiting_since_ns = None
        return lines + self._splitter.flush()

    def _oldest_ns(self) -> int | None:
        """Return when the oldest byte was read that is not written yet."""
        since_ns = self._splitter.waiting_since_ns
        if since_ns is None and self._redactor is not None and self._redactor.is_holding:
            since_ns = self._reads[0].mono_ns
        return since_ns

    def _split(self, pieces: Iterable[Piece]) -> bytes:
        """Return the lines of ``pieces``, each byte with the time of the read that it came from."""
        reads = self._reads
        lines: list[bytes] = []
        for data, offset, is_marker in pieces:
            self._split_bytes += len(data)
            self._forget_reads_before(offset)
            rest = data
            while not is_marker and len(reads) > 1 and reads[1].offset < offset + len(data):
                head = reads[1].offset - offset - (len(data) - len(rest))
                lines.append(self._splitter.feed(rest[:head], at_ns=reads[0].at_ns, mono_ns=reads[0].mono_ns))
                rest = rest[head:]
                reads.popleft()
            lines.append(self._splitter.feed(rest, at_ns=reads[0].at_ns, mono_ns=reads[0].mono_ns))
        if self._redactor is not None:
            self._forget_reads_before(self._redactor.pending_offset)
            # Between the beginning of a part that is taken out and the bytes that are held no time is asked for.
            while len(reads) > 2 and reads[2].offset <= self._redactor.held_offset:
                del reads[1]
        return b"".join(lines)

    def _forget_reads_before(self, offset: int) -> None:
        reads = self._reads
        while len(reads) > 1 and reads[1].offset <= offset:
            reads.popleft()
