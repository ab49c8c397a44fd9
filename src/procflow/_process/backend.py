"""What anyio does not give: the few things that differ between asyncio and trio.

Owns the deferral of Ctrl-C, and tasks that nobody joins.  Must not know processes.

Problem: trio raises ``KeyboardInterrupt`` at any bytecode of unprotected code, so also between a fork and the line that
notes its pid.  Code marked with ``defers_interrupts`` gets it at its next checkpoint instead.  trio keeps the marks by
code object, so they are given once, and only where trio is in use: nothing imports it for that.  asyncio's own runner
turns the first Ctrl-C into a cancellation; the marks mean nothing there.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final, TypeVar

import anyio
from anyio.lowlevel import current_token

F = TypeVar("F", bound=Callable[..., object])

_unmarked: Final[list[Callable[..., object]]] = []
_loose: Final[set[asyncio.Task[None]]] = set()
"""The event loop keeps only weak references to tasks."""


def defers_interrupts(function: F) -> F:
    """Mark ``function``: on trio a Ctrl-C waits for its next checkpoint; effective once ``mark_for_trio()`` was called."""
    _unmarked.append(function)
    return function


def mark_for_trio() -> None:
    """Give the marks to trio, if it is in use; costs two truth tests otherwise."""
    # Taken as it is found, not imported: another thread may be in the middle of importing trio, and would be broken by that.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None) if _unmarked else None
    if lowlevel is not None:
        for function in tuple(_unmarked):
            lowlevel.enable_ki_protection(function)
        _unmarked.clear()


class LooseTask:
    """A task that is never joined: for code of others, which may refuse to end, where a bound must hold all the same.

    ``work`` must not raise.  What runs it is this object's owner: cancel it there, and wait for ``ended`` with a bound.
    """

    def __init__(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        self.ended: Final = anyio.Event()
        self._work = work
        native: Any = current_token().native_token
        if isinstance(native, asyncio.AbstractEventLoop):
            task = native.create_task(self._run(), name=name)
            _loose.add(task)
            task.add_done_callback(_loose.discard)
            # Once, as asyncio does: an anyio scope would try again on every turn of the loop.
            self.cancel: Callable[[], object] = task.cancel
        else:
            scope = anyio.CancelScope()
            lowlevel = importlib.import_module("trio.lowlevel")
            lowlevel.spawn_system_task(self._run, scope, name=name, context=copy_context())
            self.cancel = scope.cancel

    async def _run(self, scope: anyio.CancelScope | None = None) -> None:
        try:
            if scope is None:
                await self._work()
            else:
                with scope:
                    await self._work()
        finally:
            self.ended.set()
