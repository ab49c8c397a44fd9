"""Ids of runs: UUIDs of version 7 (RFC 9562, section 5.7) that sort in the order they were made in.

Owns the making of ids.  Must not know what is named by them.

The order must hold within one millisecond and when the wall clock steps back.  So the time never goes back, and within one
millisecond the 74 random bits are a counter that rises by a random step (RFC 9562, section 6.2, method 2): ids stay hard to guess.
Two processes share no counter; their ids differ by chance, of 2**-73 or less for ids of the same millisecond.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

_RANDOM_BITS: Final = 74
_STEP_BITS: Final = 32
_MAX_MS: Final = 2**48 - 1


class IdMaker:
    """Makes ids that sort in the order of the calls; safe to use from several threads, and after a fork."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Read the wall clock from ``now_ms`` and chance from ``random_bytes``."""
        self._now_ms: Final = now_ms
        self._random_bytes: Final = random_bytes
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._last_ms = -1
        self._counter = 0

    def __call__(self) -> UUID:
        """Return the next id."""
        if self._pid != os.getpid():
            # The lock may have been held by a thread of the parent; what the parent counts is the parent's.
            self._lock, self._pid, self._last_ms = threading.Lock(), os.getpid(), -1
        with self._lock:
            return self._next()

    def _next(self) -> UUID:
        now = min(max(self._now_ms(), 0), _MAX_MS)
        if now > self._last_ms:
            self._begin(now)
        else:
            self._counter += 1 + int.from_bytes(self._random_bytes(_STEP_BITS // 8))
            if self._counter >= 1 << _RANDOM_BITS:
                self._begin(self._last_ms + 1)
        high, low = self._counter >> 62, self._counter & (2**62 - 1)
        return UUID(int=self._last_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)

    def _begin(self, ms: int) -> None:
        self._last_ms = ms
        # The highest bit begins as 0, so that there is room to count.
        self._counter = int.from_bytes(self._random_bytes(10)) & (2 ** (_RANDOM_BITS - 1) - 1)


new_run_id: Final = IdMaker()
"""Makes the ids of this process."""
