"""Open sources, shared: one for each configuration, however many tasks ask for it.

Owns their life.  Each is opened and closed by a task of its own, because a context manager that holds a task group or a
cancel scope must be left by the task that entered it; it stays open until the holder ends, so that connections are reused
from unit to unit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
import anyio.abc

from procflow_export.model.settings import SourceConfig
from procflow_export.pipeline.groups import end_group
from procflow_export.pipeline.logs import get_logger
from procflow_export.sources import ReadStatistics, Source, open_source


class SharedSources:
    """Opens a source when it is first borrowed; an async context manager that closes them all."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._group = anyio.create_task_group()
        self._slots: dict[SourceConfig, _Slot] = {}

    @asynccontextmanager
    async def borrowed(self, config: SourceConfig) -> AsyncIterator[Source]:
        """Return the open source of ``config``; several tasks may have it at once.

        Raises:
            SourceError: If the configuration leads nowhere; the next borrower tries again.
        """
        slot = self._slots.setdefault(config, _Slot())
        async with slot.lock:
            if slot.source is None:
                slot.failure = None
                await self._group.start(self._keep_open, config, slot, name="source")
            if slot.failure is not None:
                raise slot.failure
            source = slot.source
        assert source is not None
        yield source

    @property
    def longest_statement_s(self) -> float:
        """The longest statement so far by which somebody asked a source about what it holds; chunk readers count their own."""
        found = (one.longest_statement_s for slot in self._slots.values() for one in slot.statistics)
        return max(found, default=0.0)

    async def _keep_open(self, config: SourceConfig, slot: _Slot, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        is_open = False
        try:
            async with open_source(config, environ=self._environ) as source:
                slot.source = source
                slot.statistics.append(source.statistics)
                is_open = True
                task_status.started()
                await anyio.sleep_forever()
        except Exception as exc:  # noqa: BLE001 (kept for the borrower, or told)
            if is_open:
                # Everything was read: a connection that does not close well is no failure of the export.
                get_logger("sources").warning("source_closed_badly", source=config.type.value, error=type(exc).__name__)
            else:
                slot.failure = exc  # the borrower raises it: a group would wrap it
                task_status.started()
        finally:
            slot.source = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await end_group(self._group, exc_type, exc, traceback)


class _Slot:
    """One configuration's source, once it is open."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.source: Source | None = None
        self.failure: Exception | None = None
        self.statistics: list[ReadStatistics] = []
        """Of every time that it was opened."""
