"""Signals that ask a command to stop: heeded from before its event loop starts until the process is gone.

A handler of our own instead of the loop's: the loop gives SIGINT back to Python when it closes, and a second Ctrl-C would then break
into whatever runs last.  Once a signal has come, later ones interrupt nothing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final, Self

HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Takes the signals of this process over for the length of a block; main thread only."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._react: Callable[[], None] = lambda: None
        self.first: signal.Signals | None = None
        """The signal that asked for the stop."""

    def __enter__(self) -> Self:
        for number in HEEDED:
            before = signal.getsignal(number)
            # Where somebody ignores a signal (nohup), it stays ignored.
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            # After a signal the process is about to end: nothing may break into that.
            signal.signal(number, before if self.first is None else signal.SIG_IGN)

    def attach(self, react: Callable[[], None]) -> None:
        """Call ``react`` in the running loop for every signal, also for one that came before."""
        self._loop = asyncio.get_running_loop()
        self._react = react
        if self.first is not None:
            react()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.first is None:
            self.first = signal.Signals(number)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: there is nothing left to stop
                self._loop.call_soon_threadsafe(self._react)
