"""The files of one log: made, written, rotated and put together.

Files are 0600 in directories of 0700, made exclusively.  A file ends with a whole line whenever a write failed.  Every method
may raise ``OSError``; the writer decides what that means.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Final, assert_never

from procflow.record.logs.cap import Append, Begin, CapPlan, LogPart, Remove, Step, output_in, stream_of
from procflow.record.logs.format import Dropped, LogStream, encode_dropped

_BLOCK_BYTES: Final = 256 * 1024
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
_CREATE: Final = _APPEND | os.O_CREAT | os.O_EXCL
_SEGMENT: Final = re.compile(r"\.(\d{6,})\.(\d+)\.(\d+)\.part")


def segment_path(path: str, part: LogPart) -> str:
    """Return the path of the file of ``part`` of the log at ``path``."""
    if part.number == 0:
        return path
    return f"{path}.{part.number:06d}.{part.before[LogStream.STDOUT]}.{part.before[LogStream.STDERR]}.part"


def segments_of(path: str) -> list[tuple[str, dict[LogStream, int]]]:
    """Return the paths of the segments of the log at ``path``, the oldest first, with the output before each."""
    directory, name = os.path.split(path)
    found: list[tuple[int, str, dict[LogStream, int]]] = []
    for entry in os.listdir(directory or "."):
        match = _SEGMENT.fullmatch(entry, len(name)) if entry.startswith(name) else None
        if match is not None:
            before = {LogStream.STDOUT: int(match[2]), LogStream.STDERR: int(match[3])}
            found.append((int(match[1]), os.path.join(directory, entry), before))
    return [(segment, before) for _, segment, before in sorted(found, key=lambda segment: segment[0])]


def make_private_directories(root: str, directory: str) -> None:
    """Make what is missing of ``directory``, relative to ``root``, each 0700."""
    made = root
    for name in directory.split("/"):
        made = os.path.join(made, name)
        try:
            os.mkdir(made, 0o700)
        except FileExistsError:
            if not os.path.isdir(made):
                raise


class LogFiles:
    """The files of the log at ``path``, of which one is open.

    Attributes:
        plan: What is in which file.
        failure: Why the last write did not write everything.
    """

    def __init__(self, path: str, *, cap_bytes: int | None) -> None:
        self._path: Final = path
        self.plan: Final = CapPlan(cap_bytes)
        self.failure: OSError | None = None
        self._descriptor = os.open(path, _CREATE, 0o600)

    def write(self, lines: bytes, stream: LogStream, output_bytes: int) -> None:
        """Keep ``lines``, of which ``output_bytes`` are output of ``stream``."""
        for step in self.plan.place(lines, stream, output_bytes):
            self._do(step)

    def merge(self, at_ns: int) -> None:
        """Put all segments behind the first half, with one line that says what is missing between them.

        A reader finds the same before, after, and if this ends in the middle.
        """
        segments = self.plan.segments
        if not segments:
            return
        self._reopen(self._path, _APPEND)
        skipped_bytes = self._skip_excess(segments[0])
        if any(self.plan.dropped.values()):
            self._append(encode_dropped(Dropped(at_ns=at_ns, dropped_bytes=self.plan.dropped)))
            if self.failure is not None:
                raise self.failure
        while segments:
            segment = segment_path(self._path, segments[0])
            self._append_file(segment, skipped_bytes)
            skipped_bytes = 0
            os.unlink(segment)
            segments.popleft()

    def close(self) -> None:
        """Close the open file; safe to call twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _do(self, step: Step) -> None:
        match step:
            case Append(part, data, stream):
                kept = self._append(data)
                if self.failure is not None:
                    self.plan.written(part, kept, stream, output_in(data[:kept]))
                    raise self.failure
            case Begin(part):
                self._reopen(segment_path(self._path, part), _CREATE)
            case Remove(part):
                os.unlink(segment_path(self._path, part))
            case _:
                assert_never(step)

    def _append(self, data: bytes | memoryview) -> int:
        """Write ``data``; return how much of it is in the file: all, or whole lines if ``failure`` says why."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
        except OSError as exc:
            self.failure = exc
            kept = bytes(data[:written]).rfind(b"\n") + 1
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - (written - kept))
            return kept
        return written

    def _append_file(self, segment: str, skipped_bytes: int) -> None:
        with open(segment, "rb", buffering=0) as file:
            file.seek(skipped_bytes)
            while block := file.read(_BLOCK_BYTES):
                self._append(block)
                if self.failure is not None:
                    raise self.failure

    def _skip_excess(self, oldest: LogPart) -> int:
        """Drop the lines at the beginning of ``oldest`` that are more than the last half; return their length."""
        excess_bytes = self.plan.excess_bytes()
        skipped_bytes = 0
        if excess_bytes:
            with open(segment_path(self._path, oldest), "rb") as file:
                while skipped_bytes < excess_bytes and (line := file.readline()):
                    skipped_bytes += len(line)
                    self.plan.dropped[stream_of(line)] += output_in(line)
        return skipped_bytes

    def _reopen(self, path: str, flags: int) -> None:
        self.close()
        self._descriptor = os.open(path, flags, 0o600)
