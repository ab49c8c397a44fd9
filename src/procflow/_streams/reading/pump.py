"""Reads a source into a log, for as long as the reliable subscribers let it.

Owns when to read, when to pause, when to let other tasks run, and what happens to a subscriber that stalls the stream.
Must not know what a subscriber does with its bytes.

Three ways to wait for a source, one way to read a descriptor: a loop that calls back drives ``drain()`` without any task (see
``callbacks``); elsewhere a task waits for readiness and drains; any other ``ByteSource`` is asked in a task, read by read.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

from procflow._observers import emit, observers
from procflow._streams.log.cursor import Cursor
from procflow._streams.log.terminal import Terminal
from procflow._streams.pacing import (
    FLOOD_PIPE_BYTES,
    INTERVAL_S,
    LARGE_PIPE_BYTES,
    SMALL_PIPE_BYTES,
    PipeGrowth,
    ReadPace,
    TurnBudget,
)
from procflow._streams.reading.callbacks import CallbackReader, Drained
from procflow._streams.reading.heap import keep_heap
from procflow._streams.reading.source import ByteSource, FdSource, LocalSource
from procflow._streams.waking import CallbackLoop, PerLoop, callback_loop, is_being_cancelled
from procflow.errors import StallError
from procflow.events import StreamEnding
from procflow.observation import Stalled
from procflow.policies import BestEffort, OnStall, Reliable

if TYPE_CHECKING:
    from procflow._streams.core import StreamCore

CLOSE_WAIT_S: Final = 1.0

TURN_BUDGETS: Final = PerLoop("turn_budget", TurnBudget)
"""The reads that all streams of an event loop share."""

logger: Final = logging.getLogger("procflow.stream")


class Pump:
    """One stream's reader."""

    __slots__ = (
        "_budget",
        "_core",
        "_growth",
        "_has_let_go",
        "_local",
        "_log",
        "_pace",
        "_reader",
        "_scope",
        "_source",
        "_turn",
    )

    def __init__(self, source: ByteSource, core: StreamCore) -> None:
        self._source = source
        # Asked once: the question costs more than a system call.
        self._local = source if isinstance(source, FdSource) or isinstance(source, LocalSource) else None  # noqa: SIM101 (cheap first)
        self._has_let_go = False
        self._core = core
        self._log = core.log
        self._scope: anyio.CancelScope | None = None
        self._reader: CallbackReader | None = None
        self._budget: TurnBudget | None = None
        self._turn = -1
        self._growth = PipeGrowth()
        self._pace = ReadPace()

    # --- for the owner ------------------------------------------------------------------------------------------

    def start_nowait(self, loop: CallbackLoop | None) -> bool:
        """Begin to read without a task in callbacks of ``loop``, the running one, if it can; return whether it does."""
        if self._reader is None:
            if loop is None or not isinstance(self._source, FdSource) or self._log.has_ended():
                return False
            self._budget = TURN_BUDGETS.of(loop)
            reader = CallbackReader(loop, self, self._source, self._core)
            if not reader.start():
                return False
            self._reader = reader
        return True

    async def run(self) -> None:
        """Read until the terminal.  Never raises for the source: its failure is the terminal.

        However it is left, the terminal is recorded, every subscriber is awake and the source is closed.
        """
        try:
            with anyio.CancelScope() as self._scope:
                if self.start_nowait(callback_loop()):
                    while not self._log.has_ended():
                        await self._core.end_bell.sleep()
                else:
                    await self._read_all()
        finally:
            self._scope = None
            self.end(Terminal(StreamEnding.CLOSED))
            await self._close_source()

    @property
    def has_let_go(self) -> bool:
        """Whether the stream has ended and the source, a local one, is closed: nothing is left for ``end()`` to do."""
        return self._has_let_go

    def end(self, terminal: Terminal) -> None:
        """Record the terminal unless there is one, wake everybody and let go of the source."""
        if self._has_let_go:
            return
        is_first = self._log.end(terminal)
        if self._reader is not None:
            self._reader.close()
        self._close_source_nowait()
        if self._scope is not None:
            self._scope.cancel()
        if is_first:
            self._core.data_bell.ring()
            self._core.end_bell.ring()
        self._core.room_bell.ring()
        self._has_let_go = self._local is not None

    def abandon(self, terminal: Terminal) -> None:
        """Record the terminal and let go of the source after the event loop is gone, and with it everybody to be woken."""
        self._log.end(terminal)
        self._close_source_nowait()

    def pending_bytes(self) -> int:
        """How many bytes the source holds that were not read yet, as far as it can say."""
        return self._local.pending_bytes() if self._local is not None else 0

    @property
    def hands_over_late(self) -> bool:
        """Whether the source may hold more than ``pending_bytes()`` says."""
        return isinstance(self._source, FdSource) and self._source.hands_over_late

    def read_rest(self) -> None:
        """Read what the source holds now, also if a reliable subscriber is a full buffer behind: no more than a pipe takes."""
        source, log = self._source, self._log
        if not isinstance(source, FdSource):
            return
        left = source.pending_bytes()
        try:
            while not log.has_ended() and left >= 0:
                data = source.read_nowait()
                if not data:
                    self.end(Terminal(StreamEnding.EOF))
                else:
                    log.refresh()  # best-effort subscribers keep their bounds
                    log.append(data)
                    left -= len(data)
        except BlockingIOError:
            pass
        except Exception as error:  # noqa: BLE001 (whatever a source raises is the terminal)
            self.end(Terminal(StreamEnding.READ_FAILED, error))
        self._core.data_bell.ring()

    # --- reading a descriptor -----------------------------------------------------------------------------------

    def drain(self, source: FdSource) -> Drained:
        """Read what is there, as much as this turn of the loop allows.  Wakes nobody, except at the end of the stream."""
        log = self._log
        read, append, has_room, full_bytes = source.read_nowait, log.append, log.has_room, source.read_bytes
        # No more than leave every subscriber half of its buffer until it has had its turn.
        reads = min(self._share(), log.smallest_buffer_bytes // (2 * full_bytes))
        try:
            while has_room():
                data = read()
                if not data:
                    self.end(Terminal(StreamEnding.EOF))
                    return Drained.ENDED
                append(data)
                if len(data) < full_bytes:
                    return Drained.EMPTY
                reads -= 1
                if reads <= 0:
                    return Drained.MORE
        except BlockingIOError:
            return Drained.EMPTY
        except Exception as error:  # noqa: BLE001 (whatever a source raises is the terminal)
            self.end(Terminal(StreamEnding.READ_FAILED, error))
            return Drained.ENDED
        return Drained.BLOCKED

    def reads_by_clock(self, source: FdSource, now: float, read_bytes: int) -> bool:
        """Return whether the next look comes ``INTERVAL_S`` after this one, ``now``, which read ``read_bytes``; see to the pipe."""
        if read_bytes * 2 >= SMALL_PIPE_BYTES and self._growth.is_due(now, read_bytes, source.pipe_bytes):
            keep_heap()
            source.grow_pipe(LARGE_PIPE_BYTES)
        pace = self._pace
        was_by_clock = pace.by_clock
        pace.note(now, read_bytes, source.pipe_bytes)
        if pace.by_clock and not was_by_clock:
            source.grow_pipe(FLOOD_PIPE_BYTES)
        return pace.by_clock

    def tell_stalled(self) -> None:
        """Tell the observers whom the stream begins to wait for."""
        if observers:
            for cursor in self._log.awaited():
                self._tell_stalled(cursor, cursor.live_lag, None)

    def end_stalls(self, since: float, now: float) -> float:
        """Act on every subscriber whose time is up; return when the next one's will be."""
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

    # --- reading in a task --------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        self._budget = TURN_BUDGETS.get()
        if isinstance(self._source, FdSource):
            try:
                await self._drain_all(self._source)
            except PermissionError:  # always ready, and nothing that can be waited for
                pass
            except OSError as error:
                self.end(Terminal(StreamEnding.READ_FAILED, error))
            except anyio.ClosedResourceError:
                return
        await self._receive_all()

    async def _drain_all(self, source: FdSource) -> None:
        log, data_bell = self._log, self._core.data_bell
        while not log.has_ended():
            before = log.produced
            drained = self.drain(source)
            read_bytes = log.produced - before
            if read_bytes:
                data_bell.ring()
            if drained is Drained.BLOCKED:
                await self._wait_for_room()
            elif drained is Drained.MORE:
                self.reads_by_clock(source, anyio.current_time(), read_bytes)
                await checkpoint()
            elif drained is Drained.EMPTY:
                if self.reads_by_clock(source, anyio.current_time(), read_bytes):
                    await anyio.sleep(INTERVAL_S)
                else:
                    await source.wait_readable()

    async def _receive_all(self) -> None:
        log, source, data_bell = self._log, self._source, self._core.data_bell
        receive, append = source.receive, log.append
        reads = self._share()
        while not log.has_ended():
            if not log.has_room():
                await self._wait_for_room()
                reads = self._share()
                continue
            try:
                data = await receive()
            except anyio.EndOfStream:
                data = b""
            except Exception as error:  # noqa: BLE001 (whatever a source raises is the terminal)
                self.end(Terminal(StreamEnding.READ_FAILED, error))
                return
            except anyio.get_cancelled_exc_class() as error:
                if is_being_cancelled():
                    raise
                self.end(Terminal(StreamEnding.READ_FAILED, error))
                return
            if log.has_ended():
                return
            if not data:
                self.end(Terminal(StreamEnding.EOF))
                return
            append(data)
            data_bell.ring()
            reads -= 1
            if reads <= 0:
                await checkpoint()
                reads = self._share()

    async def _wait_for_room(self) -> None:
        """Wait until there is room or the stream has ended, ending the patience of stalled subscribers in time."""
        log = self._log
        self.tell_stalled()
        since = anyio.current_time()
        while log.must_wait():
            deadline = self.end_stalls(since, anyio.current_time())
            if not log.must_wait():
                return
            with anyio.CancelScope(deadline=deadline):
                await self._core.room_bell.sleep()

    # --- inside -------------------------------------------------------------------------------------------------

    def _share(self) -> int:
        """How many reads this stream may do in this turn of the loop."""
        assert self._budget is not None
        reads = self._budget.reads(self._turn)
        self._turn = self._budget.turn
        return reads

    def _end_stall(self, cursor: Cursor, delivery: Reliable, stall_timeout_s: float) -> None:
        error = StallError(stream_name=self._log.name, stall_timeout_s=stall_timeout_s)
        lag_bytes = cursor.live_lag
        match delivery.on_stall:
            case OnStall.DETACH:
                cursor.error = error
                self._log.detach(cursor)
            case OnStall.DOWNGRADE:
                cursor.downgrade(BestEffort(buffer_bytes=delivery.buffer_bytes))
            case OnStall.FAIL_STREAM:
                self.end(Terminal(StreamEnding.CLOSED, error))
        self._core.data_bell.ring()
        self._tell_stalled(cursor, lag_bytes, delivery.on_stall)

    def _tell_stalled(self, cursor: Cursor, lag_bytes: int, action: OnStall | None) -> None:
        name = self._core.name_of(cursor)
        emit(Stalled, stream=self._log.name, subscriber=name, lag_bytes=lag_bytes, action=action)

    def _close_source_nowait(self) -> None:
        if self._local is not None:
            try:
                self._local.close_nowait()
            except Exception as error:  # noqa: BLE001 (recorded)
                self._note_failed_close(error)

    async def _close_source(self) -> None:
        with anyio.move_on_after(CLOSE_WAIT_S, shield=True):
            try:
                await self._source.aclose()
            except Exception as error:  # noqa: BLE001 (recorded)
                self._note_failed_close(error)
            except anyio.get_cancelled_exc_class() as error:
                if is_being_cancelled():
                    raise
                self._note_failed_close(error)

    def _note_failed_close(self, error: BaseException) -> None:
        # the stream has its terminal already: what closing says cannot change it
        logger.debug("%s: closing the source failed: %r", self._log.name, error)
