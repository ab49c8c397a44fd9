"""Lines for somebody who reads along: standard output, a pipe, a terminal.

Owns one writing thread and the queue before it.  Must not know what events mean, apart from the last one.

Problem: a reader may stall, and a write to its pipe blocks until it reads on.  So nothing but a thread of our own writes; what
it cannot write in time waits in a bounded queue, and what finds the queue full is lost and counted, or waited for.
The thread is a daemon: one that is stuck in a write must not keep the program.  It has a descriptor of its own, or it would write
into whatever the number of its owner's leads to by then.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
from collections import deque
from typing import Final, Literal, TypeAlias

import anyio.to_thread

from procflow.record.envelope import Event, tag_of
from procflow.record.sinks.port import Dropped, Losses

WhenFull: TypeAlias = Literal["drop", "block"]
"""What becomes of an event whose reader is a full queue behind: it is lost and counted, or its emitter waits."""

MOST_LINES: Final = 10_000
MOST_BYTES: Final = 16 * 1024 * 1024
CLOSE_WAIT_S: Final = 5.0
"""How long closing waits for the reader."""

RESERVED: Final = frozenset({"events_dropped", "run_finished"})
"""The types that always find room: there is never more than one notice on its way, and one end."""

_READER_GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})

_log = logging.getLogger("procflow.record")


class PipeSink:
    """Writes to a descriptor that may block.

    Args:
        fd: Where to; stays its owner's, who may close it at any time.
        name: What errors call it.
        when_full: What becomes of an event that finds ``max_lines`` lines, or ``max_bytes`` bytes, unwritten.

    Raises:
        OSError: If ``fd`` is not open.
    """

    def __init__(
        self,
        fd: int,
        *,
        name: str,
        when_full: WhenFull = "drop",
        max_lines: int = MOST_LINES,
        max_bytes: int = MOST_BYTES,
        close_wait_s: float = CLOSE_WAIT_S,
    ) -> None:
        if when_full not in ("drop", "block"):
            raise ValueError(f"when_full must be 'drop' or 'block', not {when_full!r}")
        self.name: Final = name
        self._fd = os.dup(fd)
        self._when_full = when_full
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._close_wait_s = close_wait_s
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._losses = Losses()
        self._reader_is_gone = False
        self._broken = ""
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<PipeSink {self.name!r}, {len(self._lines)} lines wait>"

    @property
    def lost_count(self) -> int:
        """How many events were lost."""
        return self._losses.count

    @property
    def failure(self) -> str:
        """Why something was lost; a reader that went away is no failure."""
        return self._broken or self._losses.failure_of(self.name)

    def emit(self, line: bytes, event: Event) -> None:
        """Queue ``line``.  With ``when_full="block"`` it blocks the thread while the reader is a full queue behind."""
        with self._changed:
            if self._reader_is_gone or self._is_closing:
                return
            if not (self._has_room(line) or tag_of(event) in RESERVED):
                if self._when_full == "drop":
                    self._lose(event.seq, "the reader is too slow")
                    return
                if not self._wait_for_room(line):
                    return
            self._losses.settle()
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name=f"procflow {self.name}", daemon=True)
                self._thread.start()

    def recover(self) -> Dropped | None:
        """Tell what was lost, once a half of the queue is free: not for every line of a slow reader."""
        with self._changed:
            if not self._losses.is_owed or self._reader_is_gone:
                return None
            if len(self._lines) * 2 > self._max_lines or self._bytes * 2 > self._max_bytes:
                return None
            return self._losses.tell()

    async def aclose(self) -> None:
        """Wait until everything is written, at most 5 s; what is left then is lost."""
        with self._changed:
            was_closing, self._is_closing = self._is_closing, True
            self._changed.notify_all()
        if self._thread is None:
            if not was_closing:
                os.close(self._fd)
            return
        with anyio.CancelScope(shield=True):  # bounded
            await anyio.to_thread.run_sync(self._thread.join, self._close_wait_s)
        with self._changed:
            if self._lines:
                _log.warning("%s: the last %d lines are lost: nobody reads them", self.name, len(self._lines))
                self._give_up()

    def _has_room(self, line: bytes) -> bool:
        # One line always fits: it is bounded by itself.
        return not self._lines or (len(self._lines) < self._max_lines and self._bytes + len(line) <= self._max_bytes)

    def _wait_for_room(self, line: bytes) -> bool:
        self._changed.wait_for(lambda: self._has_room(line) or self._reader_is_gone)
        return not self._reader_is_gone

    def _lose(self, seq: int, reason: str) -> None:
        if not self._losses.count:
            _log.warning("%s: event %d is lost: %s; the run goes on", self.name, seq, reason)
        self._losses.lose(seq, reason)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        try:
            while (line := self._next()) is not None:
                self._write(line)
                with self._changed:
                    if self._lines:  # unless it was given up
                        self._lines.popleft()
                        self._bytes -= len(line)
                    self._changed.notify_all()
        except OSError as exc:
            with self._changed:
                self._give_up()
                if exc.errno not in _READER_GONE:
                    self._broken = f"{self.name}: events were lost: {exc.strerror}"
            with contextlib.suppress(Exception):
                _log.warning("%s: nobody reads the events any more (%s); the run goes on", self.name, exc.strerror)
        finally:
            os.close(self._fd)

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closing or self._reader_is_gone)
            return self._lines[0] if self._lines else None

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        while view and not self._reader_is_gone:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody who has it open too has made it non-blocking
                select.select([], [self._fd], [])

    def _give_up(self) -> None:
        """Write nothing any more; called with the lock."""
        self._reader_is_gone = True
        self._lines.clear()
        self._bytes = 0
        self._changed.notify_all()
