"""The tasks that serve one process.

Owns their count and their cancellation.  Must not know what they do.

Every task shields itself: a cancellation around the scope must not tear away what the tear-down needs.  Each ends when
its work ends or when ``cancel_all()`` says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.abc
from anyio.lowlevel import cancel_shielded_checkpoint

from procflow._process.backend import defers_interrupts

LAST_STEPS_S: Final = 1.0
"""How long cancelled tasks may take to end."""


class ServiceTasks:
    """Named, shielded tasks in the task group of a scope."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self._group = group
        self._scopes: set[anyio.CancelScope] = set()
        self._ended: anyio.Event | None = None  # made by who waits
        self._count = 0
        self._is_over = False

    def __repr__(self) -> str:
        return f"<ServiceTasks, {self._count} running>"

    @property
    def is_idle(self) -> bool:
        """Whether none of them runs."""
        return self._count == 0

    def start(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        """Start a task; synchronous."""
        self._count += 1
        self._group.start_soon(self._serve, work, name=f"procflow {name}")

    def cancel_soon(self) -> None:
        """Cancel every task, without waiting."""
        self._is_over = True
        for scope in tuple(self._scopes):
            scope.cancel()

    async def cancel_all(self) -> None:
        """Cancel every task and wait for their ends; call it shielded."""
        self.cancel_soon()
        if self.is_idle:
            return
        # Bounded: a task that asyncio cancelled before its first step never counts down.
        with anyio.move_on_after(LAST_STEPS_S):
            while self._count:
                self._ended = anyio.Event()
                await self._ended.wait()
        # Lets the task group see the ends, so that leaving it does not have to wait.
        await cancel_shielded_checkpoint()

    @defers_interrupts
    async def _serve(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            with anyio.CancelScope(shield=True) as scope:
                self._scopes.add(scope)
                try:
                    if not self._is_over:
                        await work()
                except anyio.ClosedResourceError:
                    pass  # a descriptor was closed by its owner while the task waited for it
                finally:
                    self._scopes.discard(scope)
        finally:
            self._count -= 1
            if self._ended is not None:
                self._ended.set()
