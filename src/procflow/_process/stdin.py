"""The writing end of a child's standard input.

Owns one descriptor and everything that is written to it.  Must not know processes.
"""

from __future__ import annotations

import os
from typing import Final

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

WRITE_BYTES: Final = 64 * 1024


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
            view = memoryview(item)
            while view:
                written = self.write_nowait(view)
                if written == 0:
                    await anyio.wait_writable(self._fd)
                view = view[written:]

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

    def feed_nowait(self, data: bytes) -> bytes:
        """Write what fits of ``data`` now; close if that was all.  Returns the rest, which is empty if nobody reads."""
        view = memoryview(data)
        try:
            while view:
                written = self.write_nowait(view)
                if written == 0:
                    return bytes(view)
                view = view[written:]
        except anyio.BrokenResourceError:
            pass  # noted in is_broken
        self.close()
        return b""

    async def feed(self, data: bytes) -> None:
        """Write all of ``data``, then close.  A child that stops reading is normal: ``is_broken`` tells of it."""
        try:
            await self.send(data)
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
