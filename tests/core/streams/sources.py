"""Sources for tests: bytes come when the test says so."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

import anyio
from anyio.lowlevel import checkpoint

from procflow.outcome import EndedBy, Outcome

OUTCOME = Outcome(
    name="child",
    pid=5,
    exit_code=3,
    signal=None,
    core_dumped=False,
    ended_by=EndedBy.ITSELF,
    started_at=datetime.now(UTC),
    ended_at=datetime.now(UTC),
    started_mono_s=1.0,
    ended_mono_s=2.0,
)


class ScriptedSource:
    """Yields what the test sends, counts what was read, and can block, end or fail."""

    def __init__(self, *items: bytes | Exception) -> None:
        self.items: deque[bytes | Exception] = deque(items)
        self.reads = 0
        self.is_closed = False
        self._more = anyio.Event()

    def send(self, *items: bytes | Exception) -> None:
        self.items.extend(items)
        self._more.set()

    async def receive(self) -> bytes:
        while not self.items:
            self._more = anyio.Event()
            await self._more.wait()
        self.reads += 1
        item = self.items.popleft()
        if isinstance(item, Exception):
            raise item
        return item

    async def aclose(self) -> None:
        self.is_closed = True
        await checkpoint()


class EndlessSource:
    """Always has another chunk."""

    def __init__(self, chunk: bytes, count: int) -> None:
        self.chunk = chunk
        self.left = count

    async def receive(self) -> bytes:
        if not self.left:
            return b""
        self.left -= 1
        return self.chunk

    async def aclose(self) -> None:
        return
