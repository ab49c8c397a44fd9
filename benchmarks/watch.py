"""Processes that are not ours, watched from outside: each is pinned by a pidfd, which tells of its end and of nobody else's."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self


class Watched:
    """Some processes, from the moment this is made; those that are gone by then do not count."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._alive: dict[int, int] = {}
        self._pidfds: list[int] = []
        self._poller = select.poll()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                self._pidfds.append(pidfd)
                self._alive[pidfd] = pid
                self._poller.register(pidfd, select.POLLIN)
        self.count_alive(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill whoever is left."""
        for pidfd in self._alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in self._pidfds:
            os.close(pidfd)

    def count_alive(self, limit_s: float) -> int:
        """Wait until all have ended, at most so long; return how many have not."""
        deadline = time.perf_counter() + limit_s
        while self._alive:
            ended = self._poller.poll(max(0.0, deadline - time.perf_counter()) * 1e3)
            for pidfd, _ in ended:
                self._poller.unregister(pidfd)
                del self._alive[pidfd]
            if not ended:
                break
        return len(self._alive)
