"""What an engine must do.

Retry, limits between exports, progress totals and finalising exist once, in ``pipeline``; an engine takes one unit and
returns its result or raises.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from procflow_export.model.events import UnitEvent
from procflow_export.model.plan import Snapshot, UnitResult, WorkUnit
from procflow_export.model.settings import SourceConfig


class Engine(Protocol):
    """Executes work units; an async context manager.

    Leaving the block ends whatever still runs, however it is left: no task, child or connection survives it.
    """

    @property
    def name(self) -> str:
        """``in-process`` or ``processes``, as events and summaries say it."""
        ...

    @property
    def max_units(self) -> int:
        """How many units may run at once; the scheduler never asks for more."""
        ...

    async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        """Do one unit and return what it left behind.

        ``report`` is called on the event loop's thread, never blocks and never raises.  Cancelling ends the unit:
        nothing of it stays visible at the destination, unless a part was already acknowledged.

        Raises:
            ExportError: If the unit failed; ``is_transient`` says whether the same unit may be tried again.
        """
        ...

    async def prepare_readers(self, source: SourceConfig, snapshot: Snapshot, count: int) -> None:
        """Open ``count`` connections that will read a joined snapshot, spread over the workers.

        Units with that snapshot are done where such a connection is.

        Raises:
            ExportError: If a worker or the source failed.
        """
        ...

    async def join_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """Let all of them begin to read; see ``Source.join_snapshot``.

        Raises:
            ExportError: If one of them did not.
        """
        ...

    async def leave_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """Close what is left of them; never raises."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...
