"""Showing a run while it runs: cards that move, or plain lines.

Thin: folds each event into the board and asks ``layout`` or ``plain`` what to say.  Drawing happens in a thread, so that a terminal
that was stopped (Ctrl-S) stops the picture and not the export.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio
import anyio.to_thread
from rich.text import Text

from procflow_export.model.events import Retry, RunEvent, Warned
from procflow_export.ui.board import Board
from procflow_export.ui.layout import UNICODE, Glyphs, render_board
from procflow_export.ui.painter import Painter
from procflow_export.ui.plain import event_line, message_line, sign_of_life

REFRESH_S: Final = 0.1
SIGN_OF_LIFE_S: Final = 10.0
MAX_WAITING_MESSAGES: Final = 1_000
_NS_PER_S: Final = 1e9


class Display(Protocol):
    """How a run is shown; ``keep_current`` runs in a task until it is cancelled."""

    def hear(self, event: RunEvent) -> None:
        """Take one event; never blocks."""
        ...

    async def keep_current(self) -> None:
        """Keep what is shown up to date, for ever."""
        ...

    async def close(self, last: Sequence[Text]) -> None:
        """Take away what moves and leave ``last``."""
        ...


class _Clock:
    """Seconds since the run began, from the stamps of its events."""

    __slots__ = ("_base_s", "_clock")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._base_s: float | None = None

    def hear(self, event: RunEvent) -> None:
        if event.mono_ns >= 0:
            base_s = self._clock() - event.mono_ns / _NS_PER_S
            self._base_s = base_s if self._base_s is None else min(self._base_s, base_s)

    @property
    def now_s(self) -> float:
        return 0.0 if self._base_s is None else self._clock() - self._base_s


class CardsDisplay:
    """One card per export, redrawn in place on a terminal."""

    def __init__(
        self,
        board: Board,
        painter: Painter,
        *,
        glyphs: Glyphs = UNICODE,
        is_verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._painter = painter
        self._glyphs = glyphs
        self._is_verbose = is_verbose
        self._clock = _Clock(clock)
        self._messages: deque[Text] = deque(maxlen=MAX_WAITING_MESSAGES)
        self._limiter = anyio.CapacityLimiter(1)

    def hear(self, event: RunEvent) -> None:
        self._clock.hear(event)
        self._board.apply(event)
        match event:
            case Retry() | Warned():
                self._messages.append(Text.assemble((" ! ", "bold yellow"), message_line(event)))
            case _ if self._is_verbose and (line := event_line(event, self._board, is_verbose=True)) is not None:
                self._messages.append(Text(f"   {line}", style="dim"))
            case _:
                pass

    async def keep_current(self) -> None:
        while True:
            await self._draw()
            await anyio.sleep(REFRESH_S)

    async def close(self, last: Sequence[Text]) -> None:
        messages = [*self._messages]
        self._messages.clear()
        with anyio.CancelScope(shield=True):  # bounded by the terminal alone, as every last word of a program is
            await anyio.to_thread.run_sync(self._painter.close, [*messages, *last], limiter=self._limiter)

    async def _draw(self) -> None:
        size = self._painter.size
        rows = render_board(
            self._board, width=size.columns, height=size.lines - 1, now_s=self._clock.now_s, glyphs=self._glyphs
        )
        messages = [*self._messages]
        self._messages.clear()
        await anyio.to_thread.run_sync(self._paint, rows, messages, limiter=self._limiter)

    def _paint(self, rows: Sequence[Text], messages: Sequence[Text]) -> None:
        self._painter.paint(rows, above=messages)


class PlainDisplay:
    """One line per thing that happens, and a sign of life every ``SIGN_OF_LIFE_S``."""

    def __init__(
        self,
        board: Board,
        write: Callable[[str], None],
        show: Callable[[Sequence[Text]], None],
        *,
        is_verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], str] = lambda: time.strftime("%H:%M:%S"),
    ) -> None:
        self._board = board
        self._write = write
        self._show = show
        self._is_verbose = is_verbose
        self._clock = _Clock(clock)
        self._wall_clock = wall_clock

    def hear(self, event: RunEvent) -> None:
        self._clock.hear(event)
        self._board.apply(event)
        line = event_line(event, self._board, is_verbose=self._is_verbose)
        if line is not None:
            self._write(f"{self._wall_clock()} {line}")

    async def keep_current(self) -> None:
        while True:
            await anyio.sleep(SIGN_OF_LIFE_S)
            for line in sign_of_life(self._board, self._clock.now_s):
                self._write(f"{self._wall_clock()} {line}")

    async def close(self, last: Sequence[Text]) -> None:
        self._show(last)
        await anyio.lowlevel.checkpoint()


class SilentDisplay:
    """Nothing until the end, and then only what failed."""

    def __init__(self, board: Board, show: Callable[[Sequence[Text]], None]) -> None:
        self._board = board
        self._show = show

    def hear(self, event: RunEvent) -> None:
        self._board.apply(event)

    async def keep_current(self) -> None:
        await anyio.sleep_forever()

    async def close(self, last: Sequence[Text]) -> None:
        self._show(last)
        await anyio.lowlevel.checkpoint()
