"""Where the bytes of a stream come from.

Owns the ``ByteSource`` port and its implementation over a non-blocking descriptor.  Must not know the log.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import termios
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import anyio
from anyio.lowlevel import checkpoint

from procflow._streams.waking import LoopDoor, ready_pumps

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
class LocalSource(Protocol):
    """A source of this machine: it can be closed without waiting, and knows how much is there to be read.

    Its names are not those of other streams on purpose: an object that happens to have a ``close()`` is none.
    """

    def close_nowait(self) -> None:
        """Close, also while ``receive()`` waits, which then raises."""

    def pending_bytes(self) -> int:
        """How many bytes were written to the source, but not read yet."""
        ...


class FdSource:
    """Reads a descriptor that ``poll`` knows (pipe, pty, socket) or that never blocks (file).  Owns and closes it.

    While ``receive()`` waits, the event loop knows the descriptor by its number.  So the number stays taken until that call has
    let go of it: whoever closes meanwhile only wakes it, and it closes on its way out.
    """

    __slots__ = ("_door", "_eio_is_eof", "_fd", "_is_closed", "_is_waiting", "_read_bytes")

    def __init__(self, fd: int, *, read_bytes: int = READ_BYTES, eio_is_eof: bool = False) -> None:
        """Take over ``fd``, which becomes non-blocking.

        Args:
            fd: The descriptor.
            read_bytes: The most one read takes.
            eio_is_eof: A pty whose other side is gone fails with EIO: read that as the end.
        """
        self._fd = -1
        os.set_blocking(fd, False)
        self._fd = fd
        self._is_closed = False
        self._read_bytes = read_bytes
        self._eio_is_eof = eio_is_eof
        self._is_waiting = False
        self._door: LoopDoor | None = None  # to the loop on which receive() has waited

    def __repr__(self) -> str:
        return f"<FdSource {'closed' if self._is_closed else self._fd}>"

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _close(fd)

    def fileno(self) -> int:
        """The descriptor, or -1 after the source was closed."""
        return -1 if self._is_closed else self._fd

    def pending_bytes(self) -> int:
        """How many bytes are there to be read; 0 where the system cannot say."""
        count = array.array("i", [0])
        if not self._is_closed:
            try:
                fcntl.ioctl(self._fd, termios.FIONREAD, count)
            except OSError:
                return 0
        return count[0]

    async def receive(self) -> bytes:
        """Return what is there, at most ``read_bytes``; wait only if nothing is.

        Raises:
            anyio.ClosedResourceError: If the source is, or meanwhile was, closed.
            OSError: If the read fails.
        """
        while True:
            if self._is_closed:
                raise anyio.ClosedResourceError
            try:
                return os.read(self._fd, self._read_bytes)
            except BlockingIOError:
                pass
            except OSError as error:
                if self._eio_is_eof and error.errno == errno.EIO:
                    return b""
                raise
            await self._wait_readable()

    def close_nowait(self) -> None:
        """Close the descriptor; idempotent.  A ``receive()`` that waits raises ``ClosedResourceError``.

        For tasks of the event loop that reads, or after that loop is gone.  From elsewhere a ``receive()`` that waits goes on
        waiting until it is cancelled, and the descriptor is closed then: a stream does that, so close the stream.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if not self._is_waiting or self._door is None or self._door.is_gone:
            self._release()
        elif self._door.is_here:
            anyio.notify_closing(self._fd)

    async def aclose(self) -> None:
        """Close the descriptor."""
        self.close_nowait()
        await checkpoint()

    async def _wait_readable(self) -> None:
        if self._door is None:
            self._door = LoopDoor()
        self._is_waiting = True
        try:
            with ready_pumps().one_less():
                await anyio.wait_readable(self._fd)
        finally:
            self._is_waiting = False
            if self._is_closed:
                self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
