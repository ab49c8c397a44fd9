"""Connections that are lent out one at a time and kept for the next borrower.

Owns which connections are idle, and that a connection which was left in the middle of something is never lent again.  Must
not know a driver.  How many there are is bounded by whoever bounds the readers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint

C = TypeVar("C")

CLOSE_DEADLINE_S: Final = 5.0


class Leases(Generic[C]):
    """The connections of one source.

    Args:
        connect: Makes a connection, with its session set up.
        is_reusable: Whether a connection is open and idle.
        close: Ends a connection in order; it is cancelled after ``CLOSE_DEADLINE_S``.
        abort: Ends it at once; may be called twice.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[C]],
        is_reusable: Callable[[C], bool],
        close: Callable[[C], Awaitable[None]],
        abort: Callable[[C], None],
    ) -> None:
        self._connect = connect
        self._is_reusable = is_reusable
        self._close = close
        self._abort = abort
        self._idle: list[C] = []

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[C]:
        """Lend a connection; after an error, or when it is not idle again, it is closed."""
        connection = await self._take()
        is_clean = False
        try:
            yield connection
            is_clean = self._is_reusable(connection)
        finally:
            if is_clean:
                self._idle.append(connection)
            else:
                await self._end(connection)

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._end(self._idle.pop())

    async def _take(self) -> C:
        while self._idle:
            connection = self._idle.pop()
            if self._is_reusable(connection):
                return connection
            self._abort(connection)
        return await self._connect()

    async def _end(self, connection: C) -> None:
        try:
            # The server is told and whatever the driver still has to do ends here, but not without limit.
            with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await self._close(connection)
        finally:
            self._abort(connection)
            # Transports let go of their sockets in the loop's next turn.
            with anyio.CancelScope(shield=True):
                await checkpoint()
