"""The look that one event loop has at the guard.

Owns one epoll object of a loop, and its place in that loop, where it looks while guarded processes of the loop live.  Must not know what the
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
import weakref
from collections.abc import Callable
from typing import Final

import anyio

from procflow._process.backend import LooseTask
from procflow._streams.waking import CallbackLoop, Timer, callback_loop

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
        # Weak: the watch lives as long as its loop, by which it is kept; a strong one would keep both for ever.
        loop = callback_loop()
        self._callback_loop: Callable[[], CallbackLoop | None] | None = None if loop is None else weakref.ref(loop)
        self._timer: Timer | None = None
        self._task: LooseTask | None = None
        self._is_known = False  # to the loop that calls back
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
        if self._callback_loop is None:
            self._task = LooseTask(self._serve, WATCH_TASK)
        elif (loop := self._loop) is not None:
            if not self._is_known:
                self._is_known = True
                loop.add_reader(self._epoll.fileno(), self._called)
            if not self._watched:  # there is no guard: it is to be tried again
                self._plan(0.0)

    def release(self) -> None:
        """End the watch with the last holder; may be called elsewhere once the loop runs no more.

        A loop that calls back goes on knowing the descriptor until it calls in vain: for one child after the other that is less.
        """
        self._holders -= 1
        if self._holders:
            return
        with contextlib.suppress(RuntimeError):  # the loop is gone
            if self._task is not None:
                task, self._task = self._task, None
                task.cancel()
        self._plan(math.inf)

    @property
    def _loop(self) -> CallbackLoop | None:
        return self._callback_loop() if self._callback_loop is not None else None

    def _called(self) -> None:
        if self._holders:
            self._plan(self._tend())
        elif (loop := self._loop) is not None:
            self._is_known = False
            loop.remove_reader(self._epoll.fileno())

    def _plan(self, wait_s: float) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            timer.cancel()
        if (loop := self._loop) is not None and wait_s < math.inf:
            self._timer = loop.call_later(wait_s, self._called)

    async def _serve(self) -> None:
        wait_s = math.inf if self._watched else 0.0
        while True:
            with anyio.move_on_after(wait_s):
                await anyio.wait_readable(self._epoll.fileno())
            wait_s = self._tend()
