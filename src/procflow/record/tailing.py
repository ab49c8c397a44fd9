"""A record read while it is written.

Owns the loop between a look and the next one, and when nothing more is expected.  Must not know what is done with an event.

Polling, not inotify: ten looks a second cost a few thousandths of a core, work on every file system, and need no descriptor beside the
file's.  A look asks whether the writer lives *before* it reads: what a writer has written before it died is then read in the same look, or
in one that still counts as growth.

The reads are made on the event loop.  Each is a ``pread(2)`` of bytes that somebody has just written, so they are in memory, and a hop to a
thread costs more than they do; the writer, too, writes on its loop.  Known hole: on a network file system that hangs, or a cold disk,
the loop waits for it.  Whoever tails there does it on a loop of its own, in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from time import perf_counter
from typing import Final

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.lowlevel import checkpoint

from procflow.record.errors import UnreadableRecordError
from procflow.record.events import RunStarted
from procflow.record.reading.files import open_record
from procflow.record.reading.liveness import writer_by_pid
from procflow.record.reading.reader import Health, Line, RecordReader
from procflow.record.reading.states import RecordState, Writer, record_state

POLL_S: Final = 0.1
"""Between two looks at a record that does not grow."""

QUIET_S: Final = 1.0
"""How long a record without a writer must not grow until it is taken for all there is."""

TURN_S: Final = 0.001
"""How long events that are there are handed out before other tasks run."""


class GrowthWatch:
    """Decides when nothing more is expected of a record; told of every look, in seconds of any monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self._grown_at_s = now_s

    def note_growth(self, now_s: float) -> None:
        """Note that a look has found more."""
        self._grown_at_s = now_s

    def is_over(self, now_s: float, *, is_finished: bool, writer: Writer) -> bool:
        """Judge after a look that has found nothing more.

        A writer that lives, or of which nobody can tell, may be quiet for as long as it likes.  One that is gone may have left bytes that are
        still on their way, on a network file system or in a copy.
        """
        return is_finished or (writer is Writer.GONE and now_s - self._grown_at_s >= QUIET_S)


class Tail(ObjectReceiveStream[Line]):
    """Receives the events of a record, those that are there and then new ones: ``tail()`` makes it.

    It holds the file open, and closes it when it ends, fails, or is dropped; ``aclose()`` and leaving its ``async with`` block close it at
    once.  Cancelling loses nothing: it goes on with the next event.  A record that is replaced meanwhile is read on as it was.
    """

    def __init__(self, path: str | os.PathLike[str], from_seq: int) -> None:
        self._files = ExitStack()
        self._file = self._files.enter_context(open_record(path))
        self._reader = RecordReader(self._file.path)
        self._from_seq = from_seq
        self._blocks: Iterator[bytes] = iter(())
        self._lines: Iterator[Line] = iter(())
        self._seen_bytes = -1
        self._header: RunStarted | None = None
        self._writer = Writer.UNKNOWN
        self._watch: GrowthWatch | None = None
        self._guard = anyio.ResourceGuard("reading")
        self._is_over = self._is_closed = False
        self._turn_began_s = float("-inf")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "over" if self._is_over else "open"
        return f"<Tail of {self._file.path!r}, {state}>"

    @property
    def state(self) -> RecordState:
        """What the record is, as far as it was read: after the last event, ``FINISHED`` or ``CRASHED``."""
        return record_state(is_finished=self._reader.is_finished, writer=self._writer)

    @property
    def health(self) -> Health:
        """What was wrong with what was read so far."""
        return self._reader.health

    async def receive(self) -> Line:
        """Return the next event; wait for one if there is none.

        Raises:
            anyio.EndOfStream: The run is finished, or its writer is gone and nothing came for a second.  Every further call says the same.
            UnreadableRecordError: The record needs another release, the system does not let us read on, or it is over and no line of
                it is an event.
            anyio.ClosedResourceError: This tail was closed.
            anyio.BusyResourceError: Another task is receiving from it.
        """
        with self._guard:
            while True:
                if self._is_closed:
                    raise anyio.ClosedResourceError
                await self._let_others_run()
                if self._is_over:
                    raise anyio.EndOfStream
                line = self._next_line()
                if line is None:
                    if not self._look():
                        await anyio.sleep(POLL_S)
                elif line.head.seq >= self._from_seq:
                    return line

    async def aclose(self) -> None:
        """Close the file; idempotent."""
        self._is_closed = True
        self._files.close()
        await checkpoint()

    def _next_line(self) -> Line | None:
        """Return the next event of the block that was read last."""
        try:
            line = next(self._lines, None)
        except UnreadableRecordError:
            self._end()
            raise
        if self._header is None and line is not None and isinstance(line.event, RunStarted):
            self._header = line.event
        return line

    def _look(self) -> bool:
        """Read the next block; return whether there was one, or nothing more is expected."""
        try:
            block = self._read()
        except OSError as exc:
            self._end()
            raise UnreadableRecordError(path=self._file.path, reason=exc.strerror or "it cannot be read") from exc
        now_s = anyio.current_time()
        if self._watch is None:
            self._watch = GrowthWatch(now_s)
        if block:
            self._watch.note_growth(now_s)
            self._lines = self._reader.feed(block)
        elif self._watch.is_over(now_s, is_finished=self._reader.is_finished, writer=self._writer):
            self._end()
            self._reader.check_is_record()
        return bool(block) or self._is_over

    def _read(self) -> bytes:
        block = next(self._blocks, b"")
        if block:
            return block
        self._writer = self._file.writer()
        if self._writer is Writer.UNKNOWN:
            self._writer = writer_by_pid(self._header)
        size_bytes = self._file.size_bytes
        if size_bytes == self._seen_bytes:  # a packed record would be unpacked from its beginning to find that out
            return b""
        self._seen_bytes = size_bytes
        self._blocks = self._file.blocks(self._reader.next_offset)
        return next(self._blocks, b"")

    async def _let_others_run(self) -> None:
        if perf_counter() - self._turn_began_s >= TURN_S:
            await checkpoint()
            self._turn_began_s = perf_counter()

    def _end(self) -> None:
        self._is_over = True
        self._files.close()


def tail(path: str | os.PathLike[str], from_seq: int = 0) -> Tail:
    """Return the events of the record ``path`` from number ``from_seq`` on, to be iterated over while it is written.

    ``async for line in tail(run_directory)`` yields what is there and then what comes, each with its offset and its bytes, never a part of
    a line, as ``read_events()`` does.  An event is there about ``POLL_S`` after it was written.  It ends by itself after ``run_finished``, or when
    the writer is gone and nothing has come for ``QUIET_S``; a writer that is quiet and lives does not end it.

    The file is opened here.  Whoever leaves the loop before its end uses ``async with tail(...) as lines`` to close it then.

    Raises:
        UnreadableRecordError: If there is no record, or the system does not let us.
    """
    return Tail(path, from_seq)
