"""The durations and bounds of a run, as values: tests pass their own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from procflow_export.model.codes import Code

_LARGEST_EXPONENT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a work unit waits before it is tried again: exponential, capped, with full jitter.

    Attributes:
        max_backoff_s: Cap of the back-off; 0 retries at once.
        max_extra_s: Cap of what a failure's class adds, because a server needs time to come back.
        jitter: Returns a factor between 0 and 1: units that failed together must not come back together.
    """

    max_backoff_s: float = 60.0
    max_extra_s: float = 15.0
    jitter: Callable[[], float] = field(default=random.random)

    def delay_s(self, *, attempt: int, first_backoff_s: float, code: Code) -> float:
        """Return the delay after ``attempt`` (from 1) failed with ``code``."""
        # The exponent is bounded first: a large attempt must not overflow.
        backoff_s = min(first_backoff_s * (1 << min(attempt - 1, _LARGEST_EXPONENT)), self.max_backoff_s)
        return backoff_s * self.jitter() + min(code.extra_delay_s, self.max_extra_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPolicy:
    """Bounds of one run.

    Attributes:
        retry: Delays between attempts.
        max_planners: Exports that are planned at the same time.
        head_start_s: How long the first unit waits for all exports to be planned, so that the longest goes first.
        progress_interval_s: Least time between two ``progress`` events of one export.
        event_buffer: Events that wait for a slow consumer before the run waits for it.
        drain_s: How long chunks that are being read may go on when the run is asked to stop, where a later run can go on with
            them (``consistency: chunk``); 0 ends them at once, as all others are.
    """

    retry: RetryPolicy = RetryPolicy()
    max_planners: int = 4
    head_start_s: float = 2.0
    progress_interval_s: float = 0.1
    event_buffer: int = 256
    drain_s: float = 0.0
