"""What somebody must do who wants to be told of everything in a run, beside the caller who reads its events."""

from __future__ import annotations

from typing import Protocol

from procflow_export.model.events import RunEvent, UnitEvent


class RunObserver(Protocol):
    """Is told of events when they happen: those of the run, and what workers say of their units."""

    def hear(self, event: RunEvent | UnitEvent) -> None:
        """Take one event, on the event loop's thread; never blocks and never raises.

        Events of the run have their times, and no number: they are numbered when the caller reads them.
        """
        ...


class Unobserved:
    """Nobody listens."""

    def hear(self, event: RunEvent | UnitEvent) -> None:
        """Forget ``event``."""
