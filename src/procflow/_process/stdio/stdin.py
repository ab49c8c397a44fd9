"""The writing end of a child's standard input.

Owns one descriptor and everything that is written to it.  Must not know processes.

A full pipe is what a large input meets all the time.  To wait for it in a task costs more than to write 64 KiB, so where the
event loop calls back, the rest is written in its callbacks, and the task sleeps until nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._streams.reading import pipes
from procflow._streams.waking import CallbackLoop, Sleeper, callback_loop

WRITE_BYTES: Final = 256 * 1024

GROWN_BYTES: Final = 256 * 1024
"""A pipe that was found full ``FULL_BEFORE_GROWTH`` times is made this large: 64 KiB wake both sides four times as often."""

FULL_BEFORE_GROWTH: Final = 2

TURN_S: Final = 0.001
"""How long writing may go on without giving others their turn."""


class InputPipe:
    """Our end of the pipe, for one writer at a time.  Closing is idempotent and never waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_broken = False
        self._written_bytes = 0
        self._turn_ends_s = 0.0
        self._full_count = 0
        self._claimed_bytes = 0
        self._rest = memoryview(b"")  # what the callbacks write
        self._error: Exception | None = None
        self._sleeper: Sleeper | None = None  # set while there are callbacks
        self._loop: CallbackLoop | None = None

    def __repr__(self) -> str:
        return f"<InputPipe, {self.state}>"

    @property
    def state(self) -> str:
        """In a word, for a ``repr``."""
        return "broken" if self._is_broken else "closed" if self._fd < 0 else "open"

    @property
    def is_broken(self) -> bool:
        """Whether the child closed its end, or ended, before everything was written."""
        return self._is_broken

    @property
    def is_closed(self) -> bool:
        """Whether our end is closed."""
        return self._fd < 0

    @property
    def written_bytes(self) -> int:
        """How many bytes the pipe has taken."""
        return self._written_bytes

    async def write_all(self, view: memoryview) -> None:
        """Write all of ``view``; waits while the pipe is full.

        Passes a checkpoint where it waits or a turn is over; turns go on from one call to the next.

        Raises:
            anyio.BrokenResourceError: If the child closed its end.
            anyio.ClosedResourceError: If our end was closed, also by another task meanwhile.
        """
        while True:
            if time.monotonic() >= self._turn_ends_s:
                await checkpoint()
                self._turn_ends_s = time.monotonic() + TURN_S
            if not view:
                return
            written = self.write_nowait(view)
            view = view[written:]
            if written == 0 and not self._has_grown():
                view = await self._when_writable(view)
                self._turn_ends_s = time.monotonic() + TURN_S

    def _has_grown(self) -> bool:
        """Count that the pipe was full; returns whether there may be more room now."""
        self._full_count += 1
        if self._full_count != FULL_BEFORE_GROWTH:
            return False
        self._claimed_bytes = pipes.grow(self._fd, GROWN_BYTES)
        return self._claimed_bytes > 0

    async def _when_writable(self, view: memoryview) -> memoryview:
        """Wait until there is room; returns what is then still to be written: all of it, or nothing."""
        loop = callback_loop()
        if loop is None:
            await anyio.wait_writable(self._fd)
            return view
        self._rest, self._loop, self._sleeper = view, loop, loop.create_future()
        loop.add_writer(self._fd, self._write_rest)
        try:
            await self._sleeper
        finally:
            error, self._error = self._error, None
            self._stop_writing()
        if error is not None:
            raise error
        return self._rest

    def _write_rest(self) -> None:
        """Write what fits, for a turn at most; called again as long as there is room and something is left."""
        ends_s = time.monotonic() + TURN_S
        try:
            while self._rest:
                written = self.write_nowait(self._rest)
                self._rest = self._rest[written:]
                if (written == 0 and not self._has_grown()) or (self._rest and time.monotonic() >= ends_s):
                    return
        except Exception as exc:  # noqa: BLE001 (raised in the task that writes)
            self._error = exc
        self._stop_writing()

    def _stop_writing(self) -> None:
        """Wake the task that waits for its callbacks, and have no more of them."""
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.remove_writer(self._fd)
                if not sleeper.done():
                    sleeper.set_result(None)

    def write_nowait(self, view: memoryview) -> int:
        """Write what fits now and return how much that was; raises like ``write_all()``."""
        if self._fd < 0:
            raise anyio.ClosedResourceError
        try:
            written = os.write(self._fd, view[:WRITE_BYTES])
        except BlockingIOError:
            return 0
        except BrokenPipeError as exc:
            self._is_broken = True
            raise anyio.BrokenResourceError from exc
        self._written_bytes += written
        return written

    def note_cut(self) -> None:
        """Remember that not everything was written, because nobody was left to read it."""
        self._is_broken = True

    def close(self) -> None:
        """Close our end: the child reads end of file after what was written."""
        self._stop_writing()  # the task that waits finds the pipe closed
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                anyio.notify_closing(fd)
            except anyio.NoEventLoopError:
                pass  # an escaped handle is closed after its loop ended
            finally:
                os.close(fd)
                pipes.BUDGET.give_back(self._claimed_bytes)


class ChildStdin(anyio.abc.ByteSendStream):
    """Standard input of a child, as an anyio byte stream.

    One task may send at a time; a second one gets ``anyio.BusyResourceError``.  Closing is idempotent and never waits.
    """

    def __init__(self, pipe: InputPipe, *, process_name: str) -> None:
        self._pipe = pipe
        self._name = f"{process_name} stdin"
        self._guard = anyio.ResourceGuard("sending to")

    def __repr__(self) -> str:
        return f"<ChildStdin {self._name!r}, {self._pipe.state}>"

    @property
    def is_broken(self) -> bool:
        """Whether the child closed its end before everything was written."""
        return self._pipe.is_broken

    @property
    def is_closed(self) -> bool:
        """Whether our end is closed."""
        return self._pipe.is_closed

    async def send(self, item: bytes) -> None:
        """Write all of ``item``; waits while the pipe is full.

        Cancellation leaves an unknown beginning of ``item`` written.

        Raises:
            anyio.BrokenResourceError: If the child closed its end.
            anyio.ClosedResourceError: If our end was closed, also by another task meanwhile.
        """
        await checkpoint()
        with self._guard:
            await self._pipe.write_all(memoryview(item))

    def close(self) -> None:
        """Close our end: the child reads end of file after what was written."""
        self._pipe.close()

    async def aclose(self) -> None:
        """Close our end: the child reads end of file after what was written."""
        self.close()
        await checkpoint()
