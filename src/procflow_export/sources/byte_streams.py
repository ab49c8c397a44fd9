"""The bytes of a result on a bounded stream of the core, between a driver and a decoder.

Owns the hand-over from a driver that pushes, the pace of reading, and the reading of a stream as plain bytes.  Must not
know a wire format.

The stream is what bounds memory: when its reader is ``READ_BUFFER_BYTES`` behind, it stops asking its source, the driver
stops reading its socket, and the server waits.

**Pace.**  A server writes a few KiB at a time, and waking a driver for them costs several times what the bytes themselves
cost (measured: 0.6 s of processor time for 320 MB, 0.2 s with pauses).  So after a small read the source is left alone
for ``PAUSE_S``, while the kernel collects what comes.

**Large pieces.**  A driver hands a row over whole, and a row may be larger than every buffer.  After a piece of
``LARGE_BYTES`` the source is asked for more only when the reader has come back with nothing left to take, and no other
reader is asked meanwhile: so one such row is on its way at a time, not one in every stage.  On the stream it is cut
into slices, because a stream keeps what it has read last; the reader puts them together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from procflow import (
    Chunk,
    Gap,
    Reliable,
    Replay,
    StreamClosedError,
    StreamConfig,
    StreamReadError,
    Subscription,
    open_stream,
)
from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.sources.port import KIB, MIB, READ_BUFFER_BYTES, ReadStatistics
from procflow_export.sources.turns import LARGE_BYTES, Reader

PAUSE_S: Final = 0.001
SMALL_READ_BYTES: Final = 16 * KIB
"""A read below this is followed by a pause: the server has written once or twice since the last one.  A larger bound saves no more
of the processor's time beside a decoder and an encoder, and makes the server of a Unix socket wait, whose buffer is full in less
than the pause (measured: 5 % of the time of a large table)."""
SLICE_BYTES: Final = 1 * MIB


class ReadsBytes:
    """What is read off a source; see ``procflow.ByteSource``."""

    async def receive(self) -> bytes:
        """Return the next bytes, or nothing at the end."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Let go."""
        raise NotImplementedError


class PushSource(ReadsBytes):
    """A byte source that a driver fills: ``put()`` returns when somebody took the bytes."""

    def __init__(self) -> None:
        self._sender, self._receiver = anyio.create_memory_object_stream[bytes](0)
        self._error: ExportError | None = None
        self._is_finished = False

    @property
    def is_finished(self) -> bool:
        """Whether everything was put, and nothing failed."""
        return self._is_finished and self._error is None

    async def put(self, data: bytes) -> None:
        """Hand bytes over; waits until they are taken, and after a large piece until more is asked for.

        A buffer that the driver has allocated for a large piece is emptied.
        """
        is_large = len(data) >= LARGE_BYTES
        if is_large:
            data = _moved(data)
        if data:
            await self._sender.send(data)
        if is_large:
            del data
            await self._sender.send(b"")  # taken by whoever asks next, and passed over

    def finish(self, error: ExportError | None = None) -> None:
        """Say that nothing more comes, or why not."""
        self._error = error
        self._is_finished = True
        self._sender.close()

    async def receive(self) -> bytes:
        """Return the next bytes, or nothing at the end.

        Raises:
            ExportError: What the source finished with.
        """
        try:
            while not (data := await self._receiver.receive()):
                pass
        except anyio.EndOfStream:
            if self._error is not None:
                raise self._error from self._error.__cause__
            return b""
        else:
            return data

    async def aclose(self) -> None:
        """Take nothing more."""
        self._sender.close()
        self._receiver.close()


class PacedSource(ReadsBytes):
    """A source that is not asked too often, and not for more while a large piece is worked on."""

    def __init__(self, source: ReadsBytes) -> None:
        self._source = source
        self._last_bytes = SMALL_READ_BYTES
        self._rest = b""
        self._offset = 0
        self._is_wanted = anyio.Event()
        self._reader = Reader()
        self.large_piece = range(0)
        """Offsets of the last large piece on the stream."""

    async def receive(self) -> bytes:
        """Return the next bytes, or nothing at the end."""
        if not self._rest:
            data = await self._receive_piece()
            if len(data) < LARGE_BYTES:
                self._offset += len(data)
                return data
            self._rest = data
            self.large_piece = range(self._offset, self._offset + len(data))
            self._is_wanted = anyio.Event()
        return self._next_slice()

    async def _receive_piece(self) -> bytes:
        if self._last_bytes >= LARGE_BYTES:
            await self._is_wanted.wait()
            self._reader.done()
        elif self._last_bytes < SMALL_READ_BYTES:
            await anyio.sleep(PAUSE_S)
        await self._reader.before_asking()
        data = await self._source.receive()
        self._last_bytes = len(data)
        await self._reader.received(len(data))
        return data

    def _next_slice(self) -> bytes:
        start = self._offset - self.large_piece.start
        data = self._rest[start : start + SLICE_BYTES]
        self._offset += len(data)
        if self._offset == self.large_piece.stop:
            self._rest = b""
        return data

    def want_more(self) -> None:
        """Say that the reader is done with what it was given and has nothing left to take."""
        self._is_wanted.set()

    async def aclose(self) -> None:
        """Let go."""
        self._rest = b""
        self._reader.done()
        await self._source.aclose()


class ByteChunks:
    """An async iterator over the bytes of a subscription, in the pieces in which the source gave them."""

    def __init__(self, subscription: Subscription, source: PacedSource, statistics: ReadStatistics) -> None:
        self._subscription = subscription
        self._source = source
        self._statistics = statistics

    def __aiter__(self) -> ByteChunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._next_piece()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        except StreamClosedError as exc:
            # A cancellation reaches the stream's own task first: then this is only its echo.
            await checkpoint_if_cancelled()
            raise SourceError(Code.INTERNAL, "the stream of a result was closed while it was read") from exc
        except StreamReadError as exc:
            await checkpoint_if_cancelled()
            if isinstance(exc.__cause__, ExportError):
                raise exc.__cause__ from exc.__cause__.__cause__
            raise SourceError(Code.SOURCE_CONNECTION_LOST, "reading from the server failed") from exc
        self._statistics.received_bytes += len(data)
        return data

    async def _next_piece(self) -> bytes:
        try:
            chunk = _chunk(self._subscription.receive_nowait())
        except anyio.WouldBlock:
            self._source.want_more()
            chunk = _chunk(await self._subscription.receive())
        piece = self._source.large_piece
        if chunk.offset not in piece:
            return chunk.data
        slices = [chunk.data]
        while chunk.stop < piece.stop:
            chunk = _chunk(await self._subscription.receive())
            slices.append(chunk.data)
        return b"".join(slices)


def _moved(data: bytes) -> bytes:
    """Return the bytes of a driver's buffer, and empty it: the driver's frames hold it until the next piece has come."""
    buffer: object = data
    if isinstance(buffer, bytearray):
        data = bytes(buffer)
        buffer.clear()
    return data


def _chunk(item: Chunk | Gap) -> Chunk:
    if isinstance(item, Gap):
        raise SourceError(Code.INTERNAL, f"a reliable stream lost {item.lost_bytes} bytes")
    return item


@asynccontextmanager
async def open_byte_chunks(source: ReadsBytes, statistics: ReadStatistics) -> AsyncIterator[ByteChunks]:
    """Put a source on a bounded stream and read it: its bytes come in order, each once."""
    paced = PacedSource(source)
    async with (
        open_stream(paced, StreamConfig(replay=Replay.none())) as stream,
        stream.subscribe(Reliable(buffer_bytes=READ_BUFFER_BYTES)) as subscription,
    ):
        yield ByteChunks(subscription, paced, statistics)
