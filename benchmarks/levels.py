"""Levels of containment: asking for one, and getting it or failing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio

import procflow as pf

PATIENCE_S: Final = 3.0
"""How long a level may need to come into force after the first spawn that asks for it: helpers are started beside it."""

FIRST: Final = pf.Command("/bin/cat")
"""Ends with its input, so that nothing of it is left when the host is killed."""


class NotInForceError(Exception):
    """A level that was asked for cannot be had."""


@contextlib.asynccontextmanager
async def at_level(level: str) -> AsyncIterator[Any]:
    """Give ``spawn`` at ``level``, once that is in force; a first child proves it and lives as long as the block.

    Raises:
        NotInForceError: If this build or this machine does not have it.
    """
    containment: Any = level
    first = pf.spawn(FIRST, stdin=pf.PIPE, containment=containment)

    def spawn(command: pf.Command) -> Any:
        return pf.spawn(command, containment=containment)

    async with first as child:
        with anyio.move_on_after(PATIENCE_S):
            while child.containment.level != level:
                await anyio.sleep(0.005)
        if child.containment.level != level:
            missing = "; ".join(child.containment.missing) or "it does not say why"
            raise NotInForceError(f"{level} is not in force but {child.containment.level}: {missing}")
        yield spawn
