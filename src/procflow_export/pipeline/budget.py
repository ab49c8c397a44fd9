"""A budget of bytes that many units share.

Owns fairness: whoever asked first is served first, so that a large unit is not passed by small ones for ever.  A request
above the whole budget gets the whole budget: it runs alone rather than never.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class MemoryBudget:
    """Bytes that units reserve before they begin and give back when they end."""

    def __init__(self, total_bytes: int) -> None:
        """Share ``total_bytes``, at least one."""
        if total_bytes < 1:
            raise ValueError("a budget has at least one byte")
        self._total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @property
    def total_bytes(self) -> int:
        """The whole budget."""
        return self._total_bytes

    @property
    def free_bytes(self) -> int:
        """What nobody has reserved."""
        return self._free_bytes

    @asynccontextmanager
    async def reserved(self, wanted_bytes: int) -> AsyncIterator[int]:
        """Hold ``wanted_bytes``, or the whole budget if that is less, for the length of the block."""
        granted = min(max(wanted_bytes, 1), self._total_bytes)
        await self._acquire(granted)
        try:
            yield granted
        finally:
            self._free_bytes += granted
            self._serve()

    async def _acquire(self, granted: int) -> None:
        if not self._waiting and granted <= self._free_bytes:
            self._free_bytes -= granted
            return
        entry = (granted, anyio.Event())
        self._waiting.append(entry)
        try:
            await entry[1].wait()
        except BaseException:
            if entry[1].is_set():  # served and cancelled at once: what was granted goes back
                self._free_bytes += granted
            else:
                self._waiting.remove(entry)
            self._serve()
            raise

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            granted, served = self._waiting.popleft()
            self._free_bytes -= granted
            served.set()
