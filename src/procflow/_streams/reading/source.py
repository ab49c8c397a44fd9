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

from procflow._streams.reading import pipes
from procflow._streams.waking import LoopDoor

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

    __slots__ = (
        "_claimed_bytes",
        "_door",
        "_eio_is_eof",
        "_fd",
        "_grows",
        "_is_closed",
        "_is_waiting",
        "_pipe_bytes",
        "_read_bytes",
    )

    def __init__(
        self, fd: int, *, read_bytes: int = READ_BYTES, pipe_bytes: int | None = None, eio_is_eof: bool = False
    ) -> None:
        """Take over ``fd``, which becomes non-blocking.

        Args:
            fd: The descriptor.
            read_bytes: The most one read takes.
            pipe_bytes: What the kernel's pipe shall hold, as far as the system allows; ``None`` leaves it alone until its reader
                finds it too small.
            eio_is_eof: A pty whose other side is gone fails with EIO: read that as the end.
        """
        self._fd = -1
        os.set_blocking(fd, False)
        self._fd = fd
        self._claimed_bytes = 0
        self._is_closed = False
        self._read_bytes = read_bytes
        self._eio_is_eof = eio_is_eof
        self._is_waiting = False
        self._door: LoopDoor | None = None  # to the loop on which receive() has waited
        self._pipe_bytes = -1  # not asked for yet
        self._grows = True
        if pipe_bytes is not None:
            self.grow_pipe(pipe_bytes)
            self._grows = False

    def __repr__(self) -> str:
        return f"<FdSource {'closed' if self._is_closed else self._fd}>"

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _close(fd)
            if self._claimed_bytes:
                pipes.BUDGET.give_back(self._claimed_bytes)

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

    @property
    def hands_over_late(self) -> bool:
        """Whether more may be there than ``pending_bytes()`` says: a terminal passes on in the background what was written."""
        return self._eio_is_eof

    @property
    def read_bytes(self) -> int:
        """The most one read takes."""
        return self._read_bytes

    @property
    def pipe_bytes(self) -> int:
        """How many bytes the pipe holds before its writer has to wait; 0 if it is no pipe, or the system cannot say."""
        if self._pipe_bytes < 0:
            self._pipe_bytes = 0 if self._is_closed else pipes.capacity(self._fd)
        return self._pipe_bytes

    def grow_pipe(self, to_bytes: int) -> None:
        """Let the pipe hold ``to_bytes``, unless its size was given, or the system, or the budget of all pipes, is against it."""
        if self._grows and not self._is_closed:
            self._claimed_bytes += pipes.grow(self._fd, to_bytes)
            self._pipe_bytes = -1

    async def receive(self) -> bytes:
        """Return what is there, at most ``read_bytes``; wait only if nothing is.

        Raises:
            anyio.ClosedResourceError: If the source is, or meanwhile was, closed.
            OSError: If the read fails.
        """
        while True:
            try:
                return self.read_nowait()
            except BlockingIOError:
                await self.wait_readable()

    def read_nowait(self) -> bytes:
        """Return what is there, at most ``read_bytes``; empty at the end.

        Raises:
            BlockingIOError: If nothing is there.
            anyio.ClosedResourceError: If the source was closed.
            OSError: If the read fails.
        """
        if self._is_closed:
            raise anyio.ClosedResourceError
        try:
            return os.read(self._fd, self._read_bytes)
        except OSError as error:
            if self._eio_is_eof and error.errno == errno.EIO:
                return b""
            raise

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

    async def wait_readable(self) -> None:
        """Return when there is something to read, or the end.

        Raises:
            anyio.ClosedResourceError: If the source is, or meanwhile was, closed.
            PermissionError: If the descriptor is of a kind that is always ready, as files are.
        """
        if self.fileno() < 0:
            raise anyio.ClosedResourceError
        if self._door is None:
            self._door = LoopDoor()
        self._is_waiting = True
        try:
            await anyio.wait_readable(self._fd)
        finally:
            self._is_waiting = False
            if self._is_closed:
                self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            claimed_bytes, self._claimed_bytes = self._claimed_bytes, 0
            pipes.BUDGET.give_back(claimed_bytes)
            os.close(fd)
