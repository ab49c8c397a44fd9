"""The engine of this process: units are tasks, encoding happens in threads.

Owns the open sources, one for each configuration, whatever the number of units that read it; the threads that encode;
and the memory budget of the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.abc

from procflow_export.destinations import Owner, open_destination
from procflow_export.model.events import UnitEvent, UnitStarted, UnitWarning
from procflow_export.model.plan import Snapshot, UnitResult, WorkUnit
from procflow_export.model.settings import DEFAULT_MEMORY_MB, SourceConfig
from procflow_export.model.types import decode_columns
from procflow_export.pipeline.budget import MemoryBudget
from procflow_export.pipeline.guard import ResidentGuard
from procflow_export.pipeline.machine import resident_bytes
from procflow_export.pipeline.sources import SharedSources
from procflow_export.pipeline.unit import MEMORY_WARNING, run_unit
from procflow_export.planning.memory import data_bytes, estimated_row_bytes, row_group_warning, unit_bytes
from procflow_export.sources import Source

DEFAULT_MAX_UNITS: Final = max(2, min(8, os.cpu_count() or 2))


class InProcessEngine:
    """Executes units as tasks of this process; an async context manager.

    Memory: a unit reserves its estimate (see ``planning.memory``) from a budget that all units of the engine share, and
    waits while there is not enough; and while the process is larger than the unit's threshold.
    """

    NAME: Final = "in-process"

    def __init__(
        self,
        *,
        max_units: int = DEFAULT_MAX_UNITS,
        memory_bytes: int = DEFAULT_MEMORY_MB << 20,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare an engine.

        Args:
            max_units: Units that run at once; each has one connection to its source.
            memory_bytes: Budget of the whole process, interpreter and libraries included.
            environ: Environment for connection settings; this process's by default.
        """
        if max_units < 1:
            raise ValueError("an engine runs at least one unit")
        self._max_units = max_units
        self._environ = os.environ if environ is None else environ
        self._budget = MemoryBudget(data_bytes(memory_bytes))
        self._guard = ResidentGuard(resident_bytes)
        self._memory_bytes = memory_bytes
        self._encoders = anyio.CapacityLimiter(max_units)
        self._exit_stack = AsyncExitStack()
        self._sources: SharedSources | None = None

    @property
    def name(self) -> str:
        """``in-process``."""
        return self.NAME

    @property
    def max_units(self) -> int:
        """How many units may run at once."""
        return self._max_units

    async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        """Do one unit: see ``Engine.execute``."""
        report(UnitStarted(export=unit.export, chunk=unit.index, attempt=unit.attempt, pid=os.getpid()))
        columns = decode_columns(unit.columns)
        owner = Owner(export=unit.export, run_id=unit.run_id)
        threshold_bytes = unit.source.tuning.limits().memory_threshold_bytes

        def warn(message: str) -> None:
            report(UnitWarning(export=unit.export, chunk=unit.index, code=MEMORY_WARNING, message=message))

        too_large = row_group_warning(unit.format, estimated_row_bytes(columns), self._memory_bytes)
        if too_large is not None and unit.index == 0:
            warn(too_large)
        async with (
            self._budget.reserved(unit_bytes(unit, columns, self._memory_bytes)),
            self._guard.admitted(threshold_bytes, warn),
            self._opened(unit.source) as source,
            open_destination(unit.destination, owner=owner, environ=self._environ) as destination,
        ):
            return await run_unit(
                unit,
                source=source,
                destination=destination,
                encoders=self._encoders,
                report=report,
                memory_bytes=self._memory_bytes,
            )

    async def prepare_readers(self, source: SourceConfig, snapshot: Snapshot, count: int) -> None:
        """Open connections for a snapshot: see ``Engine.prepare_readers``."""
        async with self._opened(source) as opened:
            await opened.prepare_readers(snapshot, count)

    async def join_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """Begin to read it: see ``Engine.join_snapshot``."""
        async with self._opened(source) as opened:
            await opened.join_snapshot(snapshot)

    async def leave_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """Close them: see ``Engine.leave_snapshot``."""
        async with self._opened(source) as opened:
            await opened.leave_snapshot(snapshot)

    def _opened(self, source: SourceConfig) -> AbstractAsyncContextManager[Source]:
        assert self._sources is not None, "the engine is not open"
        return self._sources.borrowed(source)

    async def __aenter__(self) -> Self:
        self._sources = await self._exit_stack.enter_async_context(SharedSources(self._environ))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._exit_stack.__aexit__(exc_type, exc, traceback)
