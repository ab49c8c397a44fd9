"""Task groups that an object owns between ``__aenter__`` and ``__aexit__``."""

from __future__ import annotations

from types import TracebackType

import anyio.abc


async def end_group(
    group: anyio.abc.TaskGroup,
    exc_type: type[BaseException] | None,
    exc: BaseException | None,
    traceback: TracebackType | None,
) -> bool | None:
    """Cancel ``group``, wait for its tasks, and let the body's own exception pass as it is.

    A task group wraps whatever leaves its block into an ``ExceptionGroup``; the block of a context manager that merely
    uses one inside must not change the type of its caller's exceptions.
    """
    group.cancel_scope.cancel()
    if isinstance(exc, Exception):
        await group.__aexit__(None, None, None)
        return False
    return await group.__aexit__(exc_type, exc, traceback)
