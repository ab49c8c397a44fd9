"""The writing end of a child's standard input.

Owns one descriptor and everything that is written to it.  Must not know processes.
"""

from __future__ import annotations

import os
import time
from typing import Final

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from procflow._streams import pipes

WRITE_BYTES: Final = 64 * 1024

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
            if written == 0:
                self._full_count += 1
                if self._full_count == FULL_BEFORE_GROWTH:
                    self._claimed_bytes = pipes.grow(self._fd, GROWN_BYTES)
                    continue
                await anyio.wait_writable(self._fd)
                self._turn_ends_s = time.monotonic() + TURN_S

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
