"""When a process is too full to begin another chunk.

Owns the wait that ``tuning.memory_threshold_mb`` asks for.  A chunk that runs is never interrupted: only its end, or that
of another one, gives memory back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

LOOK_S: Final = 0.5
"""How often the size is looked at while nothing else happens."""


class ResidentGuard:
    """Lets a unit begin when the process is small enough, or when no other unit is there that could end."""

    def __init__(self, resident_bytes: Callable[[], int | None]) -> None:
        """Guard by what ``resident_bytes`` returns; ``None`` is a system that cannot say, where nothing waits."""
        self._resident_bytes = resident_bytes
        self._running = 0
        self._ended = anyio.Event()

    @asynccontextmanager
    async def admitted(self, threshold_bytes: int, warn: Callable[[str], object]) -> AsyncIterator[None]:
        """Run the block once the process is at most ``threshold_bytes``; 0 is no threshold.

        With no other unit to wait for, the block runs all the same, and ``warn`` is told.
        """
        while threshold_bytes and (size_bytes := self._resident_bytes() or 0) > threshold_bytes:
            if not self._running:
                warn(
                    f"the process has {size_bytes >> 20} MiB, more than tuning.memory_threshold_mb"
                    f" ({threshold_bytes >> 20}), and no other chunk to wait for"
                )
                break
            with anyio.move_on_after(LOOK_S):
                await self._ended.wait()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            ended, self._ended = self._ended, anyio.Event()
            ended.set()
