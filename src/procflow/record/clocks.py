"""The two clocks of a record.

Owns nothing but the readings, so that tests can make time go backwards.
"""

from __future__ import annotations

import time
from typing import Protocol


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
