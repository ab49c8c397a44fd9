"""What writes a child's standard input for the caller.

Owns the way of given bytes into the pipe.  Must not know processes.
"""

from __future__ import annotations

from procflow._process.stdin import ChildStdin


class Feeder:
    """Feeds one child."""

    def __init__(self, writer: ChildStdin, data: bytes) -> None:
        self._writer = writer
        self._data = data
        self._fed_bytes = 0

    def start_nowait(self) -> bool:
        """Feed what fits now; returns whether that was all.  Otherwise ``run()`` has to follow."""
        self._fed_bytes = self._writer.feed_nowait(self._data)
        return self._writer.is_closed

    async def run(self) -> None:
        """Feed the rest."""
        await self._writer.feed(self._data, self._fed_bytes)
