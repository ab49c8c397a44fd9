"""Where the bytes of a stream come from.

Owns the ``ByteSource`` port and its implementation over a non-blocking descriptor.  Must not know the log.
"""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol, runtime_checkable

import anyio
from anyio.lowlevel import checkpoint

from procflow._streams.waking import ready_pumps

READ_BYTES: Final = 64 * 1024
"""Reads of more than 128 KiB make glibc map fresh pages for every one of them, which costs factors."""


class ByteSource(Protocol):
    """Anything that yields bytes; every ``anyio.abc.ByteReceiveStream`` is one.

    ``receive()`` returns the next bytes, or ``b""`` at the end (``anyio.EndOfStream`` means the same); whatever else it raises
    is a read failure.  It may return without passing a checkpoint: the pump passes them.  It is never called twice at
    once, never again after the end, and may be cancelled.
    """

    async def receive(self) -> bytes: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class ClosesAtOnce(Protocol):
    """A source that can be closed without waiting, also while ``receive()`` waits: that call then raises."""

    def close(self) -> None: ...


class FdSource:
    """Reads a descriptor that ``poll`` knows (pipe, pty, socket) or that never blocks (file).  Owns and closes it."""

    __slots__ = ("_eio_is_eof", "_fd", "_is_waiting", "_read_bytes")

    def __init__(self, fd: int, *, read_bytes: int = READ_BYTES, eio_is_eof: bool = False) -> None:
        """Take over ``fd``, which becomes non-blocking.

        Args:
            fd: The descriptor.
            read_bytes: The most one read takes.
            eio_is_eof: A pty whose other side is gone fails with EIO: read that as the end.
        """
        os.set_blocking(fd, False)
        self._fd = fd
        self._read_bytes = read_bytes
        self._eio_is_eof = eio_is_eof
        self._is_waiting = False

    def __repr__(self) -> str:
        return f"<FdSource {'closed' if self._fd < 0 else self._fd}>"

    def fileno(self) -> int:
        """The descriptor, or -1 after it was closed."""
        return self._fd

    async def receive(self) -> bytes:
        """Return what is there, at most ``read_bytes``; wait only if nothing is.

        Raises:
            anyio.ClosedResourceError: If the source is, or meanwhile was, closed.
            OSError: If the read fails.
        """
        while True:
            if self._fd < 0:
                raise anyio.ClosedResourceError
            try:
                return os.read(self._fd, self._read_bytes)
            except BlockingIOError:
                pass
            except OSError as error:
                if self._eio_is_eof and error.errno == errno.EIO:
                    return b""
                raise
            self._is_waiting = True
            try:
                with ready_pumps().one_less():
                    await anyio.wait_readable(self._fd)
            finally:
                self._is_waiting = False

    def close(self) -> None:
        """Close the descriptor; idempotent.  A ``receive()`` that waits raises ``ClosedResourceError``."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._is_waiting:
                anyio.notify_closing(fd)
            os.close(fd)

    async def aclose(self) -> None:
        """Close the descriptor."""
        self.close()
        await checkpoint()
