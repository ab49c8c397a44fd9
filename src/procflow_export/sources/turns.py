"""One large row at a time, over all readers of an event loop.

Owns whose turn it is.  A row that is larger than every buffer exists several times while it is received, decoded and encoded; the
memory of a process allows for that once, not once for each of its readers.

A reader has the turn from the moment it asks for its next rows until it is done with them, if it has had a large row lately; another
one, which does not know of any, asks freely unless somebody works on a large row.  The known hole: readers that all meet their first
large row at the same moment have received it by then, and wait with it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
from anyio.lowlevel import RunVar

from procflow_export.sources.port import MIB

LARGE_BYTES: Final = 4 * MIB
"""From this size on, a row, or rows that come as one piece, go through alone."""
WARY_PIECES: Final = 16
"""So many pieces after a large one the next one is expected no more."""


class LargeTurn:
    """Who may have a large row in work; who asked first is next."""

    def __init__(self) -> None:
        self.holder: Reader | None = None
        self.is_at_work = False
        self._waiting: deque[tuple[Reader, anyio.Event]] = deque()
        self._is_quiet = anyio.Event()

    async def take(self, reader: Reader) -> None:
        """Return when it is the turn of ``reader``, who has it from then on."""
        if self.holder is reader:
            return
        if self.holder is None:
            self.holder = reader
            return
        entry = (reader, anyio.Event())
        self._waiting.append(entry)
        try:
            await entry[1].wait()
        except BaseException:
            if entry[1].is_set():  # it became our turn and we were cancelled, at once
                self.give_back(reader)
            else:
                self._waiting.remove(entry)
            raise

    async def wait_quiet(self) -> None:
        """Return when nobody works on a large row."""
        while self.is_at_work:
            await self._is_quiet.wait()

    def give_back(self, reader: Reader) -> None:
        """Let the next one go on; does nothing for whoever does not have the turn."""
        if self.holder is not reader:
            return
        self.holder, self.is_at_work = None, False
        if self._waiting:
            self.holder, served = self._waiting.popleft()
            served.set()
        quiet, self._is_quiet = self._is_quiet, anyio.Event()
        quiet.set()


class Reader:
    """One reader's part in the turn."""

    def __init__(self, *, is_wary: bool = False) -> None:
        """Take part from now on; who is wary expects a large row from the beginning, because it costs little to wait."""
        self._turn = _turn()
        self._wary_pieces = WARY_PIECES if is_wary else 0

    async def before_asking(self) -> None:
        """Return when this reader may ask for more; a step of a stream, without a checkpoint if that is now."""
        if self._wary_pieces:
            await self._turn.take(self)
        else:
            await self._turn.wait_quiet()

    async def received(self, size_bytes: int) -> None:
        """Take in how much came; returns when it may be worked on."""
        if size_bytes >= LARGE_BYTES:
            await self._turn.take(self)
            self._turn.is_at_work = True
            self._wary_pieces = WARY_PIECES
        else:
            self._wary_pieces = max(0, self._wary_pieces - 1)
            self.done()

    def done(self) -> None:
        """Say that what came was worked on, or that nothing more is read: the next one may go on."""
        self._turn.give_back(self)


_TURN: Final = RunVar[LargeTurn]("procflow_export large turn")


def _turn() -> LargeTurn:
    """Return the turn that the readers of this event loop share."""
    try:
        return _TURN.get()
    except LookupError:
        turn = LargeTurn()
        _TURN.set(turn)
        return turn
