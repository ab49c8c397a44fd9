"""The log of one call, written while it runs.

Whoever reads the call's pipes gives a copy of every chunk to ``append()``; nothing here changes or delays what the caller gets.
Secrets are taken out on the way.  A disk that fails ends the log and nothing else: no method raises ``OSError``, what comes
after is counted, and ``close()`` says so.

Synchronous, without a clock of its own: the caller gives the times, and asks ``due_ns`` when ``flush_idle()`` is due.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from procflow.record.logs.cap import DEFAULT_CAP_BYTES
from procflow.record.logs.format import LogStream
from procflow.record.logs.lane import LogLane
from procflow.record.logs.storage import LogFiles, make_private_directories
from procflow.record.redaction.redactor import Redactor


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """What became of the output of a call.

    Attributes:
        read_bytes: Bytes of each stream as the child wrote them: the true totals, whatever the log holds.
        dropped_bytes: Bytes of output that are not in the log, because of the cap or a failure; counted as they would have
            been written, that is with markers in the place of secrets, except after a failure, where nothing is redacted.
        failure: Why the log ended early; ``None`` if it did not.
    """

    read_bytes: Mapping[LogStream, int]
    dropped_bytes: int
    failure: OSError | None


class CallLog:
    """One log of two streams.  Not safe for use by two threads at once.

    At most one unfinished line of 16 KiB and, with secrets, a few bytes are held for each stream; the rest is in the file
    when ``append()`` returns, in the sense that it survives the end of this process.
    """

    def __init__(
        self, root: str, path: str, *, cap_bytes: int | None = DEFAULT_CAP_BYTES, redactor: Redactor | None = None
    ) -> None:
        """Make the log at ``path``, relative to the run's directory ``root``, and the directories between them.

        Args:
            root: A directory that exists.
            path: As ``log_path()`` gives it; a file that is there already is a failure of the log, and stays as it is.
            cap_bytes: About how much is kept, one half from the beginning and one from the end; ``None`` for everything.
            redactor: What takes secrets out.

        Raises:
            ValueError: If ``cap_bytes`` is not positive.
        """
        if cap_bytes is not None and cap_bytes <= 0:
            raise ValueError(f"cap_bytes must be positive, not {cap_bytes}")
        self._lanes: Final = {
            stream: LogLane(stream, None if redactor is None else redactor.stream()) for stream in LogStream
        }
        self._unwritten_bytes = 0
        self._failure: OSError | None = None
        self._files: LogFiles | None = None
        self._summary: LogSummary | None = None
        self._name: Final = path
        try:
            self._files = _opened(root, path, cap_bytes)
        except OSError as exc:
            self._failure = exc

    def __repr__(self) -> str:
        state = "failed" if self._failure is not None else "open" if self._summary is None else "closed"
        return f"<CallLog {self._name!r}, {state}>"

    @property
    def failure(self) -> OSError | None:
        """Why nothing is written any more; ``None`` as long as everything is."""
        return self._failure

    @property
    def due_ns(self) -> int | None:
        """The monotonic time at which ``flush_idle()`` has something to do; ``None`` if nothing waits."""
        return min((lane.due_ns for lane in self._lanes.values() if lane.due_ns is not None), default=None)

    def append(self, stream: LogStream, data: bytes, *, at_ns: int, mono_ns: int) -> None:
        """Log ``data``, the next bytes of ``stream``, read at ``at_ns`` (wall clock) and ``mono_ns`` (monotonic).

        Raises:
            ValueError: If the log is closed.
        """
        if self._summary is not None:
            raise ValueError("the log is closed")
        lane = self._lanes[stream]
        if self._failure is not None:
            lane.read_bytes += len(data)
            self._unwritten_bytes += len(data)
            return
        self._write(lane, lane.feed(data, at_ns=at_ns, mono_ns=mono_ns))

    def flush_idle(self, mono_ns: int) -> None:
        """Write what has waited for 200 ms at ``mono_ns``, unfinished lines as pieces; a call too early does nothing."""
        if self._summary is None:
            for lane in self._lanes.values():
                self._write(lane, lane.flush_idle(mono_ns))

    def finish_stream(self, stream: LogStream) -> None:
        """Write what is left of ``stream``, which has ended."""
        if self._summary is None:
            lane = self._lanes[stream]
            self._write(lane, lane.finish())

    def close(self, at_ns: int) -> LogSummary:
        """Write what is left, put the parts of a capped log together, and return what became of the output.

        A second call returns the same.

        Args:
            at_ns: The wall clock, for the line that marks what was dropped.
        """
        if self._summary is not None:
            return self._summary
        for stream in LogStream:
            self.finish_stream(stream)
        dropped_bytes = self._unwritten_bytes
        if self._files is not None:
            # After a failure too: the parts are there, and a reader finds them apart as well.
            try:
                self._files.merge(at_ns)
            except OSError as exc:
                self._failure = self._failure or exc
            with contextlib.suppress(OSError):
                self._files.close()
            dropped_bytes += sum(self._files.plan.dropped.values())
        self._summary = LogSummary(
            read_bytes={stream: lane.read_bytes for stream, lane in self._lanes.items()},
            dropped_bytes=dropped_bytes,
            failure=self._failure,
        )
        return self._summary

    def _write(self, lane: LogLane, lines: bytes) -> None:
        """Write ``lines``, what ``lane`` gave last."""
        output_bytes = lane.take_output_bytes()
        if not output_bytes:
            return
        if self._files is None or self._failure is not None:
            self._unwritten_bytes += output_bytes
            return
        before = self._files.plan.output_bytes
        try:
            self._files.write(lines, lane.stream, output_bytes)
        except OSError as exc:
            self._failure = exc
            self._unwritten_bytes += output_bytes - (self._files.plan.output_bytes - before)


def _opened(root: str, path: str, cap_bytes: int | None) -> LogFiles:
    where = os.path.join(root, path)
    try:
        return LogFiles(where, cap_bytes=cap_bytes)
    except FileNotFoundError:  # the first call of its job
        make_private_directories(root, os.path.dirname(path))
        return LogFiles(where, cap_bytes=cap_bytes)
