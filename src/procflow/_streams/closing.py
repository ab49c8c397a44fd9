"""How a subscriber is left.

Owns the three ways that all end in ``close()``.  Must not know what is closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from anyio.lowlevel import checkpoint


class Detachable(ABC):
    """Detaches when it is closed and when its ``async with`` block is left."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Detach; idempotent."""

    async def aclose(self) -> None:
        """Detach; idempotent."""
        self.close()
        await checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()  # without a checkpoint: leaving a block must not add a cancellation to it
