"""Reads a source into a log, for as long as the reliable subscribers let it.

Owns when to read, when to pause, when to let other tasks run, and what happens to a subscriber that stalls the stream.
Must not know what a subscriber does with its bytes.
"""

from __future__ import annotations

import logging
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from procflow._streams.cursor import Cursor
from procflow._streams.log import StreamLog
from procflow._streams.source import ByteSource, LocalSource
from procflow._streams.terminal import Terminal
from procflow._streams.waking import Bell, ready_pumps
from procflow.errors import StallError
from procflow.events import StreamEnding
from procflow.policies import BestEffort, OnStall, Reliable

READS_PER_TURN: Final = 16
"""Reads of all ready streams in one turn of the loop: 1 MiB.  More gains nothing and delays everybody else."""
CLOSE_WAIT_S: Final = 1.0

logger: Final = logging.getLogger("procflow.stream")


class Pump:
    """One stream's reader."""

    __slots__ = ("_data_bell", "_log", "_room_bell", "_scope", "_source")

    def __init__(self, source: ByteSource, log: StreamLog, *, data_bell: Bell, room_bell: Bell) -> None:
        self._source = source
        self._log = log
        self._data_bell = data_bell
        self._room_bell = room_bell
        self._scope: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Read until the terminal.  Never raises for the source: its failure is the terminal.

        However it is left, the terminal is recorded, every subscriber is awake and the source is closed.
        """
        try:
            with anyio.CancelScope() as self._scope:
                await self._read_all()
        finally:
            self._scope = None
            self.end(Terminal(StreamEnding.CLOSED))
            await self._close_source()

    def end(self, terminal: Terminal) -> None:
        """Record the terminal unless there is one, wake everybody and let go of the source."""
        if self._log.end(terminal):
            self._data_bell.ring()
        self._room_bell.ring()
        if isinstance(self._source, LocalSource):
            self._source.close_nowait()
        if self._scope is not None:
            self._scope.cancel()

    def abandon(self, terminal: Terminal) -> None:
        """Record the terminal and let go of the source after the event loop is gone, and with it everybody to be woken."""
        self._log.end(terminal)
        if isinstance(self._source, LocalSource):
            self._source.close_nowait()

    def pending_bytes(self) -> int:
        """How many bytes the source holds that were not read yet, as far as it can say."""
        return self._source.pending_bytes() if isinstance(self._source, LocalSource) else 0

    async def _read_all(self) -> None:
        log, source, data_bell = self._log, self._source, self._data_bell
        receive, append = source.receive, log.append
        reads = 0
        ready = ready_pumps()
        with ready.one_more():
            while not log.has_ended():
                if not log.has_room():
                    await self._wait_for_room()
                    reads = 0
                    continue
                try:
                    data = await receive()
                except anyio.EndOfStream:
                    data = b""
                except Exception as error:  # noqa: BLE001 (whatever a source raises is the terminal)
                    self.end(Terminal(StreamEnding.READ_FAILED, error))
                    return
                if log.has_ended():
                    return
                if not data:
                    self.end(Terminal(StreamEnding.EOF))
                    return
                append(data)
                data_bell.ring()
                reads += 1
                if reads * ready.count >= READS_PER_TURN:
                    reads = 0
                    await checkpoint()

    async def _wait_for_room(self) -> None:
        """Wait until there is room or the stream has ended, ending the patience of stalled subscribers in time."""
        log = self._log
        since = anyio.current_time()
        while log.must_wait():
            deadline = self._end_stalls(since)
            if not log.must_wait():
                return
            with ready_pumps().one_less(), anyio.CancelScope(deadline=deadline):
                await self._room_bell.sleep()

    def _end_stalls(self, since: float) -> float:
        """Act on every subscriber whose time is up; return when the next one's will be."""
        now = anyio.current_time()
        next_deadline = float("inf")
        for cursor in self._log.awaited():
            delivery = cursor.delivery
            assert isinstance(delivery, Reliable)
            if delivery.stall_timeout_s is None:
                continue
            deadline = max(since, cursor.touched_at) + delivery.stall_timeout_s
            if deadline <= now:
                self._end_stall(cursor, delivery, delivery.stall_timeout_s)
            else:
                next_deadline = min(next_deadline, deadline)
        return next_deadline

    def _end_stall(self, cursor: Cursor, delivery: Reliable, stall_timeout_s: float) -> None:
        error = StallError(stream_name=self._log.name, stall_timeout_s=stall_timeout_s)
        match delivery.on_stall:
            case OnStall.DETACH:
                cursor.error = error
                self._log.detach(cursor)
            case OnStall.DOWNGRADE:
                cursor.downgrade(BestEffort(buffer_bytes=delivery.buffer_bytes))
            case OnStall.FAIL_STREAM:
                self.end(Terminal(StreamEnding.CLOSED, error))
        self._data_bell.ring()

    async def _close_source(self) -> None:
        with anyio.move_on_after(CLOSE_WAIT_S, shield=True):
            try:
                await self._source.aclose()
            except Exception as error:  # noqa: BLE001 (recorded)
                # the stream has its terminal already: what closing says cannot change it
                logger.debug("%s: closing the source failed: %r", self._log.name, error)
