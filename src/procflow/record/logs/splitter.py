"""Lines of a log out of the bytes of one stream.

Problem: at 100 MB/s a Python step for every line is too much.  All lines that one read completes have one time, and so one
header: putting it behind every newline is one replacement.  Only lines longer than a fragment take steps of their own.
"""

from __future__ import annotations

from procflow.record.logs.format import MAX_FRAGMENT_BYTES, LogStream, header


class LineSplitter:
    """One stream on its way into a log; holds at most one unfinished fragment."""

    __slots__ = ("_begun_mono_ns", "_begun_ns", "_partial", "_stream")

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream
        self._partial = bytearray()
        self._begun_ns = self._begun_mono_ns = 0

    def __repr__(self) -> str:
        return f"<LineSplitter of {self._stream.value}, {len(self._partial)} bytes unfinished>"

    @property
    def held_bytes(self) -> int:
        """How many bytes of the last line are not written yet."""
        return len(self._partial)

    @property
    def waiting_since_ns(self) -> int | None:
        """The monotonic time at which the first byte of an unfinished line was read; ``None`` if there is no such line."""
        return self._begun_mono_ns if self._partial else None

    def feed(self, data: bytes, *, at_ns: int, mono_ns: int = 0) -> bytes:
        """Take ``data``, read at ``at_ns`` and ``mono_ns``, and return the lines of the log that it completes.

        A fragment has the time at which its first byte was read.  Linear in ``len(data)``.
        """
        if not data:
            return b""
        first_end = data.find(b"\n")
        if first_end < 0:
            return b"".join(self._hold(data, at_ns, mono_ns))
        last_end = data.rfind(b"\n")
        if len(self._partial) + first_end <= MAX_FRAGMENT_BYTES and _are_short(data, first_end + 1, last_end + 1):
            return self._short_lines(data, len(data) - last_end - 1, at_ns, mono_ns)
        lines = self._hold(data[:first_end], at_ns, mono_ns)
        begun_ns = self._begun_ns if self._partial else at_ns
        lines += (header(begun_ns, self._stream, is_whole=True), self._partial, b"\n")
        self._partial = bytearray()
        if first_end < last_end:
            self._add_lines(lines, data[first_end + 1 : last_end + 1], at_ns)
        lines += self._hold(data[last_end + 1 :], at_ns, mono_ns)
        return b"".join(lines)

    def _short_lines(self, data: bytes, rest_bytes: int, at_ns: int, mono_ns: int) -> bytes:
        """Return the lines that ``data`` completes, none too long; its last ``rest_bytes`` begin another."""
        head = header(at_ns, self._stream, is_whole=True)
        begun = header(self._begun_ns, self._stream, is_whole=True) if self._partial else head
        headed = data.replace(b"\n", b"\n" + head)
        lines = b"".join((begun, self._partial, memoryview(headed)[: len(headed) - len(head) - rest_bytes]))
        self._partial = bytearray()
        held = self._hold(data[len(data) - rest_bytes :], at_ns, mono_ns)
        return b"".join((lines, *held)) if held else lines

    def flush(self) -> bytes:
        """Return the unfinished line as a piece that goes on, or nothing."""
        if not self._partial:
            return b""
        line = header(self._begun_ns, self._stream, is_whole=False) + self._partial + b"\n"
        self._partial = bytearray()
        return line

    def _hold(self, data: bytes, at_ns: int, mono_ns: int) -> list[bytes | bytearray]:
        """Add ``data`` to the unfinished line; return the pieces for which it became too long."""
        if not self._partial:
            self._begun_ns, self._begun_mono_ns = at_ns, mono_ns
        partial = self._partial
        partial += data
        lines: list[bytes | bytearray] = []
        done = 0
        while len(partial) - done > MAX_FRAGMENT_BYTES:
            piece = partial[done : done + MAX_FRAGMENT_BYTES]
            lines += (header(self._begun_ns, self._stream, is_whole=False), piece, b"\n")
            done += MAX_FRAGMENT_BYTES
            # At most a fragment was held, so what is left of the line is of this read.
            self._begun_ns, self._begun_mono_ns = at_ns, mono_ns
        del partial[:done]
        return lines

    def _add_lines(self, lines: list[bytes | bytearray], block: bytes, at_ns: int) -> None:
        """Add the whole lines in ``block``, which ends with a newline, to ``lines``."""
        head = header(at_ns, self._stream, is_whole=True)
        begin = at = 0
        while len(block) - at > MAX_FRAGMENT_BYTES + 1:
            end = block.rfind(b"\n", at, at + MAX_FRAGMENT_BYTES + 1)
            if end >= 0:
                at = end + 1
                continue
            # A line that is too long begins at `at`.
            if begin < at:
                lines.append(_with_headers(block[begin:at], head))
            end = block.index(b"\n", at)
            lines += self._hold(block[at:end], at_ns, 0)
            lines += (header(self._begun_ns, self._stream, is_whole=True), self._partial, b"\n")
            self._partial = bytearray()
            begin = at = end + 1
        if begin < len(block):
            lines.append(_with_headers(block[begin:], head))


def _are_short(data: bytes, start: int, stop: int) -> bool:
    """Whether no line in ``data[start:stop]``, which ends with a newline, is longer than a fragment."""
    while stop - start > MAX_FRAGMENT_BYTES + 1:
        end = data.rfind(b"\n", start, start + MAX_FRAGMENT_BYTES + 1)
        if end < 0:
            return False
        start = end + 1
    return True


def _with_headers(block: bytes, head: bytes) -> bytes:
    return head + block[:-1].replace(b"\n", b"\n" + head) + b"\n"
