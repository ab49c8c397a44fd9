"""Signals that ask this program to stop: heeded from its first moment until the process is gone.

Owns the handlers.  Until something has begun that must end in order, a signal ends the process at once, from the handler itself: an
exception would break into whatever import is under way, and some of those swallow it.  Afterwards a signal is noted, and whoever
works is asked to stop; later ones interrupt nothing.

Handlers of our own instead of the event loop's: the loop gives SIGINT back to Python when it closes, and a second Ctrl-C would then
break into whatever runs last.

Must stay cheap to import: it runs before everything else.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STATUS_OF: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
"""Exit statuses of a stopped program: a hang-up is a way to be terminated."""


class Interrupts:
    """Takes the signals of this process over; main thread only."""

    def __init__(self, end_at_once: Callable[[signal.Signals], None]) -> None:
        """Prepare.

        Args:
            end_at_once: Ends the process; called from the handler while nothing is held.
        """
        self._end_at_once = end_at_once
        self._is_held = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._react: Callable[[], None] = lambda: None
        self.first: signal.Signals | None = None
        """The signal that asked for the stop."""

    def install(self) -> None:
        """Heed the signals from now on; one that somebody ignores (nohup) stays ignored."""
        for number in HEEDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """Only note signals from now on: something begins that must end in order."""
        self._is_held = True

    def release(self) -> None:
        """Let a signal end the process at once again; one that was noted does so now."""
        self._loop, self._is_held = None, False
        if self.first is not None:
            self._end(self.first)

    def attach(self, react: Callable[[], None]) -> None:
        """Call ``react`` in the running loop for every signal that is held, also for one that came before."""
        import asyncio

        self._react = react
        self._loop = asyncio.get_running_loop()
        if self.first is not None:
            react()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.first is None:
            self.first = signal.Signals(number)
        if not self._is_held:
            self._end(self.first)
        elif self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: there is nothing left to stop
                self._loop.call_soon_threadsafe(self._react)

    def _end(self, number: signal.Signals) -> None:
        self._is_held = True  # the next signal must not break into the ending
        self._end_at_once(number)
