"""The bytes of a result on a bounded stream of the core, between a driver and a decoder.

Owns the hand-over from a driver that pushes, and the reading of a stream as plain bytes.  Must not know a wire format.

The stream is what bounds memory: when its reader is ``READ_BUFFER_BYTES`` behind, it stops asking its source, the driver
stops reading its socket, and the server waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from procflow import (
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
from procflow_export.sources.port import READ_BUFFER_BYTES, ReadStatistics


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
        """Hand bytes over; waits until they are taken."""
        if data:
            await self._sender.send(data)

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
            return await self._receiver.receive()
        except anyio.EndOfStream:
            if self._error is not None:
                raise self._error from self._error.__cause__
            return b""

    async def aclose(self) -> None:
        """Take nothing more."""
        self._sender.close()
        self._receiver.close()


class ByteChunks:
    """An async iterator over the bytes of a subscription: all that are there at a time."""

    def __init__(self, subscription: Subscription, statistics: ReadStatistics) -> None:
        self._subscription = subscription
        self._statistics = statistics

    def __aiter__(self) -> ByteChunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            items = await self._subscription.receive_batch()
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
        parts = []
        for item in items:
            if isinstance(item, Gap):
                raise SourceError(Code.INTERNAL, f"a reliable stream lost {item.lost_bytes} bytes")
            parts.append(item.data)
        data = b"".join(parts)
        self._statistics.received_bytes += len(data)
        return data


@asynccontextmanager
async def open_byte_chunks(source: ReadsBytes, statistics: ReadStatistics) -> AsyncIterator[ByteChunks]:
    """Put a source on a bounded stream and read it: its bytes come in order, each once."""
    async with (
        open_stream(source, StreamConfig(replay=Replay.none())) as stream,
        stream.subscribe(Reliable(buffer_bytes=READ_BUFFER_BYTES)) as subscription,
    ):
        yield ByteChunks(subscription, statistics)
