"""Noticing that a leader has exited.

Owns one registration of an exit descriptor with an event loop that calls back, or the task that waits for it elsewhere.
Must not know what follows from an exit.

A task of its own for every process costs more than everything else that is done for an exit, so there is one only where
the loop knows nothing but tasks.  A descriptor that becomes readable says that the exit was announced to everybody; of a
traced process it is ours to see only after the tracer's, so then it is looked for by the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from procflow._process.backend import defers_interrupts
from procflow._process.leader import LeaderPort
from procflow._streams.waking import CallbackLoop, Timer

FIRST_TICK_S: Final = 0.001
LAST_TICK_S: Final = 0.05
"""How often an exit is looked for that was announced and cannot be seen yet: a tracer has it."""


class ExitWatch:
    """Calls ``on_exit`` once, when the exit of ``leader`` can be seen.  Ends with that, or with ``close()``."""

    def __init__(self, leader: LeaderPort, on_exit: Callable[[], object]) -> None:
        self._leader = leader
        self._on_exit = on_exit
        self._loop: CallbackLoop | None = None
        self._fd = -1  # what the loop knows
        self._tick_s = FIRST_TICK_S
        self._timer: Timer | None = None

    def start_nowait(self, loop: CallbackLoop | None) -> bool:
        """Begin to watch in callbacks of ``loop``; return whether it can, otherwise ``run()`` has to be run in a task."""
        if loop is None:
            return False
        fd = self._leader.exit_fd
        try:
            loop.add_reader(fd, self._look)
        except (OSError, NotImplementedError):  # a proactor loop has no readers
            return False
        self._loop, self._fd = loop, fd
        return True

    async def run(self) -> None:
        """Watch in a task."""
        tick_s = FIRST_TICK_S
        while not self._leader.observe():
            await anyio.wait_readable(self._leader.exit_fd)
            if self._leader.observe():
                break
            await anyio.sleep(tick_s)
            tick_s = min(tick_s * 2, LAST_TICK_S)
        self._on_exit()

    def close(self) -> None:
        """Call nobody any more; to be called before the descriptor is closed.  Idempotent.

        Raises:
            RuntimeError: If the loop is closed; then nothing is left to be done either.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._loop is not None:
            self._loop.remove_reader(fd)

    @defers_interrupts
    def _look(self) -> None:
        self._timer = None
        if self._leader.observe():
            self.close()
            self._on_exit()
            return
        assert self._loop is not None, "called by a loop"
        fd, self._fd = self._fd, -1
        if fd >= 0:  # it stays readable: to be called for that would be to spin
            self._loop.remove_reader(fd)
        self._timer = self._loop.call_later(self._tick_s, self._look)
        self._tick_s = min(self._tick_s * 2, LAST_TICK_S)
