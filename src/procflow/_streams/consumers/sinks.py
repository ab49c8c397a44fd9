"""Sinks: what a writer writes to, without ever blocking the event loop.

Owns the choice of how a sink is written: awaited, polled, or in a worker thread.  Must not know streams.

A descriptor of a pipe or terminal shares its mode with whoever else has it, so it is not made non-blocking: it is opened once
more, through ``/proc/self/fd``, which gives a mode of our own.  A socket has a flag for each call (``MSG_DONTWAIT``).  Where neither
works, a thread writes and blocks.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import ByteSendStream
from anyio.lowlevel import checkpoint

from procflow._streams.consumers.files import BlockingWriter, Descriptor, FileObject, PathFile
from procflow._streams.consumers.kinds import BinaryWriter, Write
from procflow._streams.waking import PerLoop

if TYPE_CHECKING:
    from pathlib import Path

WRITE_BYTES: Final = 64 * 1024
"""The most that one call writes to a pipe or socket."""

FIFO_POLL_S: Final = 0.05
"""How often a named pipe is looked at that nobody reads yet."""

SINK_THREADS: Final = PerLoop("sink_threads", partial(anyio.CapacityLimiter, 32))
"""How many threads of one event loop write to files at the same time."""


class Sink(ABC):
    """Where bytes go.  One task uses it, and calls ``finish()`` or ``abandon()`` at the end."""

    name: str
    bytes_written: int = 0
    """What the sink has taken for certain."""

    async def open(self) -> None:
        """Make it ready, so that failures show early."""
        await checkpoint()

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Write all of ``data``; cancelled or failed, an unknown beginning of what ``bytes_written`` does not cover is written."""

    async def flush(self) -> None:
        """Hand over what is buffered, because nothing more comes for a while."""
        return

    async def finish(self) -> None:
        """Flush and close what was opened here."""
        self.abandon()
        await checkpoint()

    def abandon(self) -> None:
        """Close what was opened here, without waiting; idempotent."""
        return

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were made."""
        return ()


class StreamSink(Sink):
    """An anyio byte stream, which its owner closes."""

    def __init__(self, stream: ByteSendStream) -> None:
        self._stream = stream
        self.name = type(stream).__name__

    async def write(self, data: bytes) -> None:
        await self._stream.send(data)
        self.bytes_written += len(data)


class ThreadSink(Sink):
    """A blocking writer, in a worker thread that is left alone when it does not come back."""

    def __init__(self, writer: BlockingWriter, name: str) -> None:
        self._writer = writer
        self._flushed_bytes = 0
        self.name = name

    @property
    def files(self) -> tuple[Path, ...]:
        return self._writer.files if isinstance(self._writer, PathFile) else ()

    async def open(self) -> None:
        await self._in_thread(self._writer.open)

    async def write(self, data: bytes) -> None:
        try:
            await self._in_thread(lambda: self._writer.write(data))
        finally:
            self.bytes_written = self._writer.bytes_written

    async def flush(self) -> None:
        if self._writer.is_buffered and self._writer.bytes_written != self._flushed_bytes:
            self._flushed_bytes = self._writer.bytes_written
            await self._in_thread(self._writer.flush)

    async def finish(self) -> None:
        await self._in_thread(self._writer.finish)

    def abandon(self) -> None:
        self._writer.abandon()

    async def _in_thread(self, function: Callable[[], None]) -> None:
        await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=SINK_THREADS.get())


class PolledSink(Sink):
    """A pipe, terminal or socket that is written when it takes something; owns what it writes to."""

    def __init__(self, target: int | socket.socket | None, name: str) -> None:
        self._target = target
        self.name = name

    async def write(self, data: bytes) -> None:
        await checkpoint()
        view = memoryview(data)
        while view:
            target = self._target
            if target is None:
                raise anyio.ClosedResourceError
            try:
                if isinstance(target, int):
                    written = os.write(target, view[:WRITE_BYTES])
                else:
                    written = target.send(view[:WRITE_BYTES], socket.MSG_DONTWAIT)
            except BlockingIOError:
                await anyio.wait_writable(target)
            else:
                self.bytes_written += written
                view = view[written:]

    def abandon(self) -> None:
        target, self._target = self._target, None
        if isinstance(target, int):
            os.close(target)
        elif target is not None:
            target.close()


class FifoSink(PolledSink):
    """A named pipe: opened when somebody reads it, which may be never, so not in a thread that would wait for it."""

    def __init__(self, path: str) -> None:
        super().__init__(None, path)

    async def open(self) -> None:
        while self._target is None:
            try:
                self._target = os.open(self.name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                await anyio.sleep(FIFO_POLL_S)


def sink_for(request: Write) -> Sink:
    """Return the sink that ``request`` asks for; a descriptor is taken over at once, as a copy.

    Raises:
        OSError: The descriptor is not open.
    """
    sink = request.sink
    if isinstance(sink, str | os.PathLike):
        path = os.path.abspath(os.fspath(sink))  # the host may change its directory
        with suppress(OSError):
            if stat.S_ISFIFO(os.stat(path).st_mode) and request.rotation is None:
                return FifoSink(path)
        file = PathFile(path, is_append=request.append, rotation=request.rotation, is_synced=request.fsync)
        return ThreadSink(file, path)
    if isinstance(sink, int):
        return _descriptor_sink(sink, f"descriptor {sink}")
    if isinstance(sink, ByteSendStream):
        return StreamSink(sink)
    if isinstance(sink, BinaryWriter):
        return ThreadSink(FileObject(sink), str(getattr(sink, "name", type(sink).__name__)))
    return _descriptor_sink(sink.fileno(), type(sink).__name__)


def _descriptor_sink(fd: int, name: str) -> Sink:
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return PolledSink(socket.socket(fileno=os.dup(fd)), name)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return PolledSink(os.open(f"/proc/self/fd/{fd}", flags), name)
        except OSError:
            pass  # of another user, or no such directory: a thread can block
    return ThreadSink(Descriptor(os.dup(fd)), name)
