"""The bytes of a result on their way from the socket into one buffer.

Owns when to read and when enough is there to be looked at.  Must not know the driver, nor what the bytes mean, except how a
result usually ends.

The driver's own reader copies every byte twice more and stops at every 64 KiB.  Here the loop reads straight into the buffer
that is searched for rows, and stops when that is full: then the kernel's buffers fill, and the server waits.

Searching a little often costs much more than searching much at once, so bytes wait until a block is there.  But the server
sends nothing after the end of a result: whether that has come is guessed from the last bytes, and after a short silence what
came is looked at anyhow.
"""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np

from procflow_export.sources.mysql.decoding.packets import may_have_ended
from procflow_export.sources.mysql.decoding.walk import SLACK_BYTES, Octets
from procflow_export.sources.port import BLOCK_BYTES, KIB

SILENCE_S: Final = 0.02
WANTED_BYTES: Final = BLOCK_BYTES + 64 * KIB
"""What is looked at in one go: a block, and the row that its end has torn."""
_SPARE_BYTES: Final = 256 * KIB
"""What may come beyond it before reading stops."""


class Receiver(asyncio.BufferedProtocol):
    """The protocol of a transport for the time of one result.

    Args:
        transport: Of a connection; its own protocol stands aside until ``stop()``.
        received: What that protocol has received of the result.
    """

    def __init__(self, transport: asyncio.Transport, received: bytes | bytearray) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._previous = transport.get_protocol()
        self._wanted = WANTED_BYTES
        self._room = max(self._wanted, len(received)) + _SPARE_BYTES
        self._data = bytearray(self._room + SLACK_BYTES)
        self._data[: len(received)] = received
        self.size = len(received)
        """How many bytes are there."""
        self._seen = 0
        self._is_lost = False
        self._waiter: asyncio.Future[None] | None = None
        transport.set_protocol(self)
        self._read_on()

    @property
    def data(self) -> Octets:
        """The buffer; behind ``size`` it holds anything."""
        return np.frombuffer(self._data, np.uint8)

    async def wait(self) -> bool:
        """Wait until there are bytes to look at that were not looked at; return whether there are any before the connection's end."""
        while not self._is_due():
            if self._is_lost:
                if self.size == self._seen:
                    return False
                break
            before = self.size
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(SILENCE_S, self._wake) if before > self._seen else None
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
            if self.size == before > self._seen:
                break
        self._seen = self.size
        return True

    def take(self, count: int, needed_bytes: int) -> bytes:
        """Return the first ``count`` bytes, which are gone then.

        Args:
            count: At most ``size``.
            needed_bytes: How many bytes, these included, the next look needs at least.
        """
        view = memoryview(self._data)
        taken, rest = bytes(view[:count]), view[count : self.size]
        self._wanted = max(needed_bytes - count, WANTED_BYTES)
        room = self._wanted + _SPARE_BYTES
        if room != self._room:
            # For a row that is longer than the buffer, and back to the usual size after it.
            self._room, self._data = room, bytearray(room + SLACK_BYTES)
        memoryview(self._data)[: len(rest)] = rest
        self.size = self._seen = len(rest)
        self._read_on()
        return taken

    def stop(self) -> None:
        """Let the transport's own protocol go on."""
        self._transport.set_protocol(self._previous)
        self._read_on()

    # --- for the transport --------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the room is what it is)
        return memoryview(self._data)[self.size : self._room]

    def buffer_updated(self, nbytes: int) -> None:
        had_seen_all = self.size == self._seen
        self.size += nbytes
        if self.size == self._room:
            self._transport.pause_reading()
        if had_seen_all or self._is_due():
            self._wake()

    def eof_received(self) -> bool | None:
        self._lose()
        return self._previous.eof_received() if isinstance(self._previous, asyncio.Protocol) else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose()
        self._previous.connection_lost(exc)

    def pause_writing(self) -> None:
        self._previous.pause_writing()

    def resume_writing(self) -> None:
        self._previous.resume_writing()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        is_new = self.size > self._seen
        return is_new and (self.size >= self._wanted or may_have_ended(self._data, self.size))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose(self) -> None:
        self._is_lost = True
        self._wake()

    def _read_on(self) -> None:
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()
