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

WRITE_BYTES: Final = 64 * 1024

TURN_S: Final = 0.001
"""How long writing may go on without giving others their turn."""


class ChildStdin(anyio.abc.ByteSendStream):
    """Standard input of a child, as an anyio byte stream.

    One task may send at a time; a second one gets ``anyio.BusyResourceError``.  Closing is idempotent and never waits.
    """

    def __init__(self, fd: int, *, process_name: str) -> None:
        self._fd = fd
        self._name = f"{process_name} stdin"
        self._guard = anyio.ResourceGuard("sending to")
        self._is_broken = False

    def __repr__(self) -> str:
        state = "broken" if self._is_broken else "closed" if self._fd < 0 else "open"
        return f"<ChildStdin {self._name!r}, {state}>"

    @property
    def is_broken(self) -> bool:
        """Whether the child closed its end before everything was written."""
        return self._is_broken

    @property
    def is_closed(self) -> bool:
        """Whether our end is closed."""
        return self._fd < 0

    async def send(self, item: bytes) -> None:
        """Write all of ``item``; waits while the pipe is full.

        Cancellation leaves an unknown beginning of ``item`` written.

        Raises:
            anyio.BrokenResourceError: If the child closed its end.
            anyio.ClosedResourceError: If our end was closed, also by another task meanwhile.
        """
        await checkpoint()
        with self._guard:
            await self._write(memoryview(item))

    async def _write(self, view: memoryview) -> None:
        turn_ends_s = time.monotonic() + TURN_S
        while view:
            written = self.write_nowait(view)
            view = view[written:]
            if written == 0:
                await anyio.wait_writable(self._fd)
            elif time.monotonic() >= turn_ends_s:
                await checkpoint()
            else:
                continue
            turn_ends_s = time.monotonic() + TURN_S

    def write_nowait(self, view: memoryview) -> int:
        """Write what fits now and return how much that was; raises like ``send()``."""
        if self._fd < 0:
            raise anyio.ClosedResourceError
        try:
            return os.write(self._fd, view[:WRITE_BYTES])
        except BlockingIOError:
            return 0
        except BrokenPipeError as exc:
            self._is_broken = True
            raise anyio.BrokenResourceError from exc

    def feed_nowait(self, data: bytes) -> int:
        """Write the beginning of ``data`` as far as it fits, at most one write, and return its length; close if that was all."""
        try:
            written = self.write_nowait(memoryview(data)) if data else 0
        except anyio.BrokenResourceError:
            written = len(data)  # nobody reads the rest: noted in is_broken
        if written == len(data):
            self.close()
        return written

    async def feed(self, data: bytes, start: int) -> None:
        """Write ``data`` from ``start`` on, then close.  A child that stops reading is normal: ``is_broken`` tells of it."""
        try:
            with self._guard:
                await self._write(memoryview(data)[start:])
        except anyio.BrokenResourceError:
            pass  # noted in is_broken
        finally:
            self.close()

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

    async def aclose(self) -> None:
        """Close our end: the child reads end of file after what was written."""
        self.close()
        await checkpoint()
