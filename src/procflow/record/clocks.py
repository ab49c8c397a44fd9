"""The two clocks of a stream of events, and the times that they give to each.

Owns nothing but the readings, so that tests can make time go backwards.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from procflow.record.envelope import AnyEvent, stamped


class Clock(Protocol):
    """Tells the time twice: for people, and for durations."""

    def at_ms(self) -> int:
        """Milliseconds since 1970, UTC; may step, also backwards."""
        ...

    def mono_ns(self) -> int:
        """Nanoseconds from some moment on; never goes backwards."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def at_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def mono_ns(self) -> int:
        """Nanoseconds of ``CLOCK_MONOTONIC``."""
        return time.monotonic_ns()


class StreamClock:
    """The clocks of one stream; its monotonic one stands at 0 when this is made.

    Whoever writes a stream of events has one: the recorder, and the exporter for its runs and for each direction between a
    parent and its workers.
    """

    __slots__ = ("_began_ns", "_clock")

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Final[Clock] = clock if clock is not None else SystemClock()
        self._began_ns = self._clock.mono_ns()

    def at_ms(self) -> int:
        """Milliseconds since 1970, UTC; may step, also backwards."""
        return self._clock.at_ms()

    def mono_ns(self) -> int:
        """Nanoseconds since the stream began."""
        return self._clock.mono_ns() - self._began_ns

    def stamped(self, event: AnyEvent, *, seq: int) -> AnyEvent:
        """Return ``event`` with the times of now and the number ``seq``."""
        return stamped(event, seq=seq, at_ms=self.at_ms(), mono_ns=self.mono_ns())
