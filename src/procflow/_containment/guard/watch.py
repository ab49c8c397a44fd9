"""The look that one event loop has at the guard.

Owns one epoll object of a loop, and its place in that loop while guarded processes of the loop live.  Must not know what the
guard says, nor what is done about it.

Problem: channel and pidfd of the guard are watched by every loop that has guarded processes, in any thread, and are replaced
by others whenever the guard dies, in the thread that noticed it first.  A loop takes one waiter a descriptor, and must
be told of every change in its own thread.  So each loop watches one epoll object of its own, for ever the same, and which
descriptors are behind it can be changed from any thread.
Rejected: a thread (a host with 500 idle children has one), a duplicate of each descriptor for each loop.
"""

from __future__ import annotations

import contextlib
import math
import select
from collections.abc import Callable
from typing import Final

import anyio

from procflow._process.backend import LooseTask
from procflow._streams.waking import Timer, callback_loop

WATCH_TASK: Final = "procflow guard watch"
"""The name of the task that watches where the loop does not call back."""


class GuardWatch:
    """Calls ``tend`` in its event loop whenever the guard has something to tell, while it is held.

    Args:
        tend: Must not raise; returns after how many seconds it wants to be called again in any case, or infinity.
    """

    def __init__(self, tend: Callable[[], float]) -> None:
        self._tend = tend
        self._epoll: Final = select.epoll()
        self._loop = callback_loop()
        self._timer: Timer | None = None
        self._task: LooseTask | None = None
        self._holders = 0
        self._watched: set[int] = set()

    def fileno(self) -> int:
        """The descriptor of the epoll object."""
        return self._epoll.fileno()

    # --- what is watched: from any thread ---------------------------------------------------------------------------

    def add(self, *fds: int) -> None:
        """Watch ``fds`` too."""
        for fd in fds:
            if fd not in self._watched:
                self._epoll.register(fd, select.EPOLLIN)
                self._watched.add(fd)

    def discard(self, *fds: int) -> None:
        """Watch ``fds`` no more; call it before they are closed."""
        for fd in fds:
            if fd in self._watched:
                self._epoll.unregister(fd)
                self._watched.discard(fd)

    # --- when it is watched: on the loop ----------------------------------------------------------------------------

    def hold(self) -> None:
        """Watch until there were as many calls of ``release()``."""
        self._holders += 1
        if self._holders > 1:
            return
        if self._loop is None:
            self._task = LooseTask(self._serve, WATCH_TASK)
        else:
            self._loop.add_reader(self._epoll.fileno(), self._called)
            if not self._watched:  # there is no guard: it is to be tried again
                self._plan(0.0)

    def release(self) -> None:
        """End the watch with the last holder; may be called elsewhere once the loop runs no more."""
        self._holders -= 1
        if self._holders:
            return
        with contextlib.suppress(RuntimeError):  # the loop is gone
            if self._task is not None:
                task, self._task = self._task, None
                task.cancel()
            if self._loop is not None:
                self._loop.remove_reader(self._epoll.fileno())
        self._plan(math.inf)

    def _called(self) -> None:
        if self._holders:
            self._plan(self._tend())

    def _plan(self, wait_s: float) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            timer.cancel()
        if self._loop is not None and wait_s < math.inf:
            self._timer = self._loop.call_later(wait_s, self._called)

    async def _serve(self) -> None:
        wait_s = math.inf if self._watched else 0.0
        while True:
            with anyio.move_on_after(wait_s):
                await anyio.wait_readable(self._epoll.fileno())
            wait_s = self._tend()
