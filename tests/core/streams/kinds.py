"""Every kind of source that a stream can have, under one handle: what is sent comes out of the stream."""

from __future__ import annotations

import os
import socket
import struct
import tty
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.abc

import procflow as pf
from procflow._streams.reading.source import ByteSource, FdSource
from procflow._streams.stream import OutputStream, open_stream
from procflow.policies import StreamConfig
from tests.core.streams.sources import ScriptedSource


class Kind(ABC):
    """One stream over a source of this kind."""

    is_live: ClassVar[bool] = True
    """Whether bytes can be sent while the stream is read."""
    can_fail: ClassVar[bool] = False
    stream: OutputStream

    @asynccontextmanager
    async def open(self, config: StreamConfig, before: bytes, tmp_path: Path) -> AsyncIterator[Kind]:
        """Open the stream; a source that is not live has exactly ``before``, the others get it by ``send()``."""
        async with open_stream(await self.make(before, tmp_path), config) as self.stream:
            try:
                if self.is_live and before:
                    await self.send(before)
                yield self
            finally:
                self.release()

    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        raise NotImplementedError

    @abstractmethod
    async def end(self) -> None:
        """Let the source end; nothing is to be done where it ends by itself."""

    async def fail(self) -> None:
        """Let the next read fail."""
        raise NotImplementedError

    def release(self) -> None:
        """Close what the writer still has open."""
        return


class InMemory(Kind):
    can_fail = True

    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        self.source = ScriptedSource()
        return self.source

    async def send(self, data: bytes) -> None:
        self.source.send(*[data[start : start + 50_000] for start in range(0, len(data), 50_000)])

    async def end(self) -> None:
        self.source.send(b"")

    async def fail(self) -> None:
        self.source.send(OSError(5, "boom"))


class ObjectStream(Kind):
    """A memory stream of anyio."""

    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        self.sender, receiver = anyio.create_memory_object_stream[bytes](100)
        return receiver

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), 50_000):
            await self.sender.send(data[start : start + 50_000])

    async def end(self) -> None:
        await self.sender.aclose()

    def release(self) -> None:
        self.sender.close()


class Tcp(Kind):
    """A socket stream of anyio; its peer is a plain socket."""

    can_fail = True

    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        with socket.create_server(("127.0.0.1", 0)) as server:
            stream = await anyio.connect_tcp("127.0.0.1", server.getsockname()[1])
            self.peer, _ = server.accept()
        self.peer.setblocking(False)
        return stream

    async def send(self, data: bytes) -> None:
        await write_all(self.peer.fileno(), data)

    async def end(self) -> None:
        self.peer.close()

    async def fail(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def release(self) -> None:
        self.peer.close()


class Descriptor(Kind):
    """A descriptor whose other end is ours."""

    writer = -1

    async def send(self, data: bytes) -> None:
        await write_all(self.writer, data)

    async def end(self) -> None:
        self.release()

    def release(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


class Pipe(Descriptor):
    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        return FdSource(reader)


class SocketPair(Descriptor):
    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        ours, theirs = socket.socketpair()
        self.writer = theirs.detach()
        os.set_blocking(self.writer, False)
        return FdSource(ours.detach())


class Pty(Descriptor):
    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        controller, self.writer = os.openpty()
        tty.setraw(self.writer)
        os.set_blocking(self.writer, False)
        return FdSource(controller, eio_is_eof=not self.can_fail)


class PtyWhoseEndIsAFailure(Pty):
    can_fail = True

    async def fail(self) -> None:
        self.release()


class RegularFile(Kind):
    is_live = False

    async def make(self, before: bytes, tmp_path: Path) -> ByteSource:
        path = tmp_path / "source"
        path.write_bytes(before)
        return FdSource(os.open(path, os.O_RDONLY))

    async def end(self) -> None:
        return


class Child(Kind):
    """A process of ours: what is sent goes through its standard input to its standard output."""

    @asynccontextmanager
    async def open(self, config: StreamConfig, before: bytes, tmp_path: Path) -> AsyncIterator[Kind]:
        async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE, stdout=config, stderr=pf.NULL) as self.child:
            self.stream = self.child.stdout
            if before:
                await self.send(before)
            yield self

    async def send(self, data: bytes) -> None:
        await self.child.stdin.send(data)

    async def end(self) -> None:
        await self.child.stdin.aclose()


async def write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await anyio.wait_writable(fd)


KINDS: tuple[type[Kind], ...] = (InMemory, ObjectStream, Tcp, Pipe, SocketPair, Pty, RegularFile, Child)
LIVE_KINDS = tuple(kind for kind in KINDS if kind.is_live)
FAILING_KINDS = (InMemory, Tcp, PtyWhoseEndIsAFailure)
