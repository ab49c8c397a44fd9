"""Task groups whose errors come out as they went in.

Owns the unwrapping of exception groups of one.  Must not know what the tasks do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def open_task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group; a single error of its body or its tasks is raised itself, not inside a group.

    Callers of a source handle ``SourceError``: that a reader has helpers is its own affair.
    """
    single: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        single = unwrap(group)
        if single is group:
            raise
    if single is not None:
        raise single


def unwrap(exc: BaseException) -> BaseException:
    """Return the one exception inside nested groups of one, or ``exc`` itself."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
