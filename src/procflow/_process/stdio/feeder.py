"""What writes a child's standard input for the caller.

Owns the way from what was given into the pipe: one task of the process.  Must not know processes.

A child that stops reading is normal.  A source that fails is not: to close the pipe then would look to the child like the
end of its input, and it would take a part for the whole.  So the pipe stays open and the owner is told, who stops it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from procflow._process.stdio.pieces import Pieces
from procflow._process.stdio.stdin import TURN_S, InputPipe
from procflow._streams.waking import is_being_cancelled

CLOSE_S: Final = 1.0
"""How long closing the source may take."""


class Feeder:
    """Feeds one child; the pipe's only writer."""

    def __init__(self, writer: InputPipe, data: bytes | Pieces) -> None:
        self._writer = writer
        self._rest = memoryview(data if isinstance(data, bytes) else b"")
        self._pieces = None if isinstance(data, bytes) else data
        self.on_failure: Callable[[], object] = lambda: None
        """Called when the source has failed, with the pipe still open."""
        self.failure: Exception | None = None
        """What the source raised."""

    @property
    def fed_bytes(self) -> int:
        """How many bytes the pipe has taken."""
        return self._writer.written_bytes

    def start_nowait(self) -> bool:
        """Feed what fits now; returns whether that was all.  Otherwise ``run()`` has to follow."""
        if self._pieces is not None:
            return False
        try:
            ends_s = time.monotonic() + TURN_S
            while self._rest and time.monotonic() < ends_s:
                written = self._writer.write_nowait(self._rest)
                if written == 0:
                    break
                self._rest = self._rest[written:]
        except anyio.BrokenResourceError:  # nobody reads the rest: noted by the writer
            self._rest = memoryview(b"")
        if not self._rest:
            self._writer.close()
        return not self._rest

    async def run(self) -> None:
        """Feed everything, then close the pipe and the source."""
        is_settled = False
        try:
            is_settled = await self._feed()
        finally:
            if not is_settled:  # cancelled, or the pipe was closed under it
                self._writer.note_cut()
            await self._close_source()

    async def _feed(self) -> bool:
        """Return whether the feed is over; ``False`` if it was cut by our own side."""
        try:
            await self._writer.write_all(self._rest)
            while (piece := await self._pull()) is not None:
                await self._writer.write_all(memoryview(piece))
        except anyio.BrokenResourceError:  # a child that stops reading: noted by the writer
            pass
        except anyio.ClosedResourceError:
            return False
        if self.failure is None:
            self._writer.close()
        return True

    async def _pull(self) -> bytes | None:
        if self._pieces is None:
            return None
        piece: bytes | None = None
        with self._records_failure():  # what is suppressed there leaves `None`
            piece = await self._pieces.pull()
        return piece  # noqa: RET504 (the block may suppress)

    async def _close_source(self) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            return
        with anyio.move_on_after(CLOSE_S, shield=True) as scope:
            with self._records_failure():
                await pieces.aclose()
        if scope.cancelled_caught:
            self._fail(TimeoutError(f"it took more than {CLOSE_S:g} s to close it"))

    @contextmanager
    def _records_failure(self) -> Iterator[None]:
        """Around code of others: what it raises is told at the end of the block."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 (recorded)
            self._fail(exc)
        except anyio.get_cancelled_exc_class() as exc:
            if is_being_cancelled():
                raise
            error = RuntimeError("it let a cancellation escape that was not its own")
            error.__cause__ = exc
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            if not self._writer.is_closed:
                self.on_failure()
