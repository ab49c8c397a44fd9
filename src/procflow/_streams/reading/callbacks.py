"""Reads a descriptor in the callbacks of an event loop that has them: asyncio's and uvloop's.

Owns one stream's registration with such a loop, its planned calls, and when its sleepers are woken.  Must not know tasks.

A task that waits for readiness costs ten times what a callback does that stays registered.  So nothing here runs in a task:
whatever fails in a callback becomes the terminal of the stream, for there is nobody else to tell.

At any time a reader is one of: *armed* (the loop calls when the descriptor is readable), *planned* (called soon, or by
the clock: the loop does not know the descriptor meanwhile), *blocked* (a reliable subscriber will call), *closed*.
"""

from __future__ import annotations

from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING

from procflow._streams.log.terminal import Terminal
from procflow._streams.pacing import INTERVAL_S, WakePace
from procflow.events import StreamEnding

if TYPE_CHECKING:
    from procflow._streams.core import StreamCore
    from procflow._streams.reading.pump import Pump
    from procflow._streams.reading.source import FdSource
    from procflow._streams.waking import CallbackLoop, Timer


class Drained(Enum):
    """Why a look at a descriptor ended."""

    EMPTY = "empty"
    """Nothing is left to read."""

    MORE = "more"
    """There may be more, but others shall run first."""

    BLOCKED = "blocked"
    """A reliable subscriber is a full buffer behind."""

    ENDED = "ended"
    """The terminal is known."""


class CallbackReader:
    """Drives the pump of one descriptor; made in the event loop that it uses."""

    __slots__ = (
        "_blocked_since",
        "_core",
        "_is_armed",
        "_is_closed",
        "_late_ring",
        "_loop",
        "_planned",
        "_pump",
        "_rung_produced",
        "_source",
        "_wakes",
    )

    def __init__(self, loop: CallbackLoop, pump: Pump, source: FdSource, core: StreamCore) -> None:
        self._loop = loop
        self._pump = pump
        self._source = source
        self._core = core
        self._is_armed = False
        self._is_closed = False
        self._planned: Timer | None = None  # the next look, or the next end of somebody's patience
        self._late_ring: Timer | None = None
        self._rung_produced = 0
        self._blocked_since = 0.0
        self._wakes = WakePace()

    def start(self) -> bool:
        """Begin; return false, and do nothing, if the loop cannot watch this descriptor."""
        try:
            self._arm()
        except (OSError, NotImplementedError):  # a regular file is always ready; a proactor loop has no readers
            return False
        return True

    def close(self) -> None:
        """Let the loop forget everything; idempotent.  Must be called on the loop, before the descriptor is closed."""
        self._is_closed = True
        self._pause()
        if self._late_ring is not None:
            self._late_ring.cancel()
            self._late_ring = None

    # --- looking ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what is there; called by the loop."""
        self._planned = None
        if self._is_closed:
            return
        try:
            self._read()
        except BaseException as error:
            self._pump.end(Terminal(StreamEnding.READ_FAILED, error))
            if not isinstance(error, Exception):
                raise

    def _read(self) -> None:
        pump, source, log = self._pump, self._source, self._core.log
        before = log.produced
        drained = pump.drain(source)
        if drained is Drained.ENDED:
            return
        now = monotonic()
        read_bytes = log.produced - before
        if drained is Drained.BLOCKED:
            self._ring()
            self._wait_for_room()
            return
        if read_bytes:
            self._announce(now)
        if pump.reads_by_clock(source, now, read_bytes) and drained is Drained.EMPTY:
            self._pause()
            self._planned = self._loop.call_later(INTERVAL_S, self._look)
        elif not self._is_armed:
            if drained is Drained.EMPTY:
                self._arm()
            else:
                self._planned = self._loop.call_soon(self._look)

    def _arm(self) -> None:
        self._loop.add_reader(self._source.fileno(), self._look)
        self._is_armed = True

    def _pause(self) -> None:
        if self._is_armed:
            self._is_armed = False
            self._loop.remove_reader(self._source.fileno())
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None

    # --- waking -------------------------------------------------------------------------------------------------

    def _announce(self, now: float) -> None:
        """Wake those who wait for data, now or, if the stream is saturated, together a little later."""
        sleepers = self._core.data_bell.sleepers
        if not sleepers:
            return
        log = self._core.log
        wait_s = self._wakes.wait_s(now, log.produced - self._rung_produced, log.smallest_buffer_bytes, sleepers)
        if not wait_s:
            self._ring()
        elif self._late_ring is None:
            self._late_ring = self._loop.call_later(wait_s, self._ring_late)

    def _ring_late(self) -> None:
        self._late_ring = None
        self._ring()

    def _ring(self) -> None:
        self._wakes.rung()
        self._rung_produced = self._core.log.produced
        self._core.data_bell.ring()

    # --- waiting for room ---------------------------------------------------------------------------------------

    def _wait_for_room(self) -> None:
        self._pause()
        self._pump.tell_stalled()
        self._blocked_since = self._loop.time()
        self._core.room_bell.call_next(self._relieved)
        self._watch_stalls()

    def _watch_stalls(self) -> None:
        """End the patience of stalled subscribers in time."""
        self._planned = None
        if self._is_closed or not self._core.log.must_wait():
            return
        deadline = self._pump.end_stalls(self._blocked_since, self._loop.time())
        if not self._core.log.must_wait():
            self._core.room_bell.ring()
        elif deadline < float("inf"):
            self._planned = self._loop.call_at(deadline, self._watch_stalls)

    def _relieved(self) -> None:
        """Read on, soon: this is called in the middle of a subscriber's step."""
        if self._is_closed:
            return
        if self._core.log.must_wait():
            self._core.room_bell.call_next(self._relieved)
            return
        self._pause()
        self._planned = self._loop.call_soon(self._look)
