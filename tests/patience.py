"""Time for tests on a machine that may be busy with something else.

Owns two ways to keep the speed of the machine out of a test: a clock that leaves out when nobody was let run, and time limits
that grow until a trial had the time that it needs.  Must not know what is tested.

Rejected: wider bounds alone.  A machine that stops for ten seconds breaks any of them, and one that is wide enough proves
nothing.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

TICK_S: Final = 0.01
LATE_S: Final = 0.05
"""A tick that comes later than this was kept from running, and with it probably everybody else."""


class Growing:
    """A time limit for trials that a slow machine can spoil: each trial has ten times as much as the one before.

    The caller makes one trial, and another as long as the last one was spoilt and the limit can ``grow()``.
    """

    def __init__(self, seconds: float, *, times: int = 3) -> None:
        self.seconds = seconds
        self._left = times - 1

    def grow(self) -> bool:
        """Grow; return ``False`` if it is as long as it may be, so that the trial that was just made is the one that counts."""
        if not self._left:
            return False
        self._left -= 1
        self.seconds *= 10
        return True


class FairClock:
    """Measures wall time without the moments in which this process was kept from running.

    What sleeps or waits too long is measured in full: a thread ticks beside it, and only ticks that come late are left out.
    """

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []
        self._ticked_at_s = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="fair clock")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def since(self, begun_s: float, until_s: float | None = None) -> float:
        """Return the seconds between two readings of ``time.monotonic()``, or since one, that this process had to itself."""
        now_s = time.monotonic()
        if until_s is None:
            until_s = now_s
        late = [*self._late, (self._ticked_at_s + TICK_S, now_s)] if now_s - self._ticked_at_s > LATE_S else self._late
        return until_s - begun_s - sum(max(0.0, min(until_s, stop) - max(begun_s, start)) for start, stop in late)

    def _tick(self) -> None:
        while not self._is_over.wait(TICK_S):
            now_s = time.monotonic()
            if now_s - self._ticked_at_s > LATE_S:
                self._late.append((self._ticked_at_s + TICK_S, now_s))
            self._ticked_at_s = now_s
