"""One large row at a time, over all readers of an event loop.

Owns whose turn it is.  A row that is larger than every buffer exists several times while it is decoded and encoded; the
memory of a process allows for that once, not once for each of its readers.
"""

from __future__ import annotations

from typing import Final

import anyio
from anyio.lowlevel import RunVar

from procflow_export.sources.port import MIB

LARGE_BYTES: Final = 4 * MIB
"""From this size on, a row, or rows that come as one piece, go through alone."""


class LargeTurn:
    """Who has a large row in work; the others do not begin to read meanwhile, and keep what they have."""

    def __init__(self) -> None:
        self._holder: object | None = None
        self._ended = anyio.Event()

    async def take(self, holder: object) -> None:
        """Return when it is the turn of ``holder``, who gives it back."""
        await self.wait_free(holder)
        self._holder = holder

    async def wait_free(self, reader: object) -> None:
        """Return when nobody but ``reader`` has the turn; a step of a stream, without a checkpoint if that is now."""
        while self._holder is not None and self._holder is not reader:
            await self._ended.wait()

    def give_back(self, holder: object) -> None:
        """Let the next one go on; does nothing for whoever does not have the turn."""
        if self._holder is holder:
            self._holder = None
            ended, self._ended = self._ended, anyio.Event()
            ended.set()


_TURN: Final = RunVar[LargeTurn]("procflow_export large turn")


def large_turn() -> LargeTurn:
    """Return the turn that the readers of this event loop share."""
    try:
        return _TURN.get()
    except LookupError:
        turn = LargeTurn()
        _TURN.set(turn)
        return turn
