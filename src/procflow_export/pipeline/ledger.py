"""What a run tells the state, and when.

Owns the moments, and what a state that fails costs: the ledger is an aid, so a chunk that could not be noted down is no
failure of the export; only the possibility to go on with it is lost, and the operator is told.  Leases, and the note that a run
has begun, must be had.

Crash points (see ``destinations.crash``) stand behind every note.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from procflow.record.release import release
from procflow_export.destinations import Publication
from procflow_export.destinations.crash import crash_point
from procflow_export.model.errors import Failure, StateError
from procflow_export.model.events import Finished, Status
from procflow_export.model.ledger import ExportEntry, Place, RunEntry, Standing
from procflow_export.model.plan import UnitResult
from procflow_export.model.times import rfc3339
from procflow_export.pipeline.logs import get_logger
from procflow_export.pipeline.machine import utc_now
from procflow_export.pipeline.progress import ExportState
from procflow_export.pipeline.verdicts import RunResult
from procflow_export.planning.names import run_stem
from procflow_export.planning.plan import ExportPlan, Target
from procflow_export.planning.resume import sealed_plan
from procflow_export.state import StateStore

T = TypeVar("T")

STATE_WARNING = "STATE"
"""Code of the warning that something could not be remembered."""

_STANDINGS = {
    Status.SUCCESS: Standing.SUCCESS,
    Status.SKIPPED: Standing.SKIPPED,
    Status.FAILED: Standing.FAILED,
    Status.CANCELLED: Standing.CANCELLED,
}


class Ledger:
    """The state's side of one run."""

    def __init__(self, store: StateStore, run_id: str) -> None:
        self.store = store
        self._run_id = run_id
        self._thread = anyio.CapacityLimiter(1)
        self._log = get_logger("ledger").bind(run_id=run_id)

    async def begin_run(self, exports: Sequence[str], engine: str) -> None:
        """Remember that the run begins.

        Raises:
            StateError: If the state cannot be written.
        """
        entry = RunEntry(
            run_id=self._run_id,
            standing=Standing.RUNNING,
            started_at=rfc3339(utc_now()),
            engine=engine,
            host=socket.gethostname(),
            pid=os.getpid(),
            release=release(),
            exports=tuple(exports),
        )
        await self.call(self.store.begin_run, entry)

    async def end_run(self, result: RunResult) -> None:
        """Remember how the run ended."""
        standing = _STANDINGS[result.status]
        await self._noted(self.store.end_run, self._run_id, standing, int(result.exit_status), rfc3339(utc_now()))

    @asynccontextmanager
    async def leased(self, export: str) -> AsyncIterator[None]:
        """Work on ``export`` alone, against every run and command that shares the state.

        Raises:
            StateError: ``EXPORT_LEASED`` if somebody else does.
        """
        with ExitStack() as stack:
            # Entered in a thread, since it may wait for the file system; left here, where nothing can come between.
            await self.call(stack.enter_context, self.store.leased(export, self._run_id))
            yield

    async def begin_export(self, target: Target, resumed_from: str | None) -> None:
        """Remember that the run works on an export, where, and what it means to go on with.

        Raises:
            StateError: If the state cannot be written: nobody would find what the run leaves.
        """
        await self.call(self.store.begin_export, entry_of(target, rfc3339(utc_now()), resumed_from=resumed_from))
        crash_point("state.export_begun")

    async def plan_export(self, state: ExportState, plan: ExportPlan) -> None:
        """Remember how an export was cut, and what is kept of an earlier run."""
        kept = dict(state.results)
        at = rfc3339(utc_now())

        def note() -> None:  # a plan of many chunks takes its time to be sealed
            self.store.plan_export(self._run_id, state.name, sealed_plan(plan), kept, plan.resumed_from, at)

        await self._noted(note, state=state)
        crash_point("state.planned")

    async def begin_chunk(self, state: ExportState, chunk: int, attempt: int) -> None:
        """Remember that a chunk is being read."""
        await self._noted(
            self.store.begin_chunk, self._run_id, state.name, chunk, attempt, rfc3339(utc_now()), state=state
        )

    async def end_chunk(self, state: ExportState, result: UnitResult) -> None:
        """Remember a chunk and its parts (W3)."""
        await self._noted(self.store.end_chunk, self._run_id, state.name, result, rfc3339(utc_now()), state=state)
        crash_point("state.chunk_recorded")

    async def fail_chunk(self, state: ExportState, chunk: int, failure: Failure) -> None:
        """Remember that an attempt failed."""
        await self._noted(
            self.store.fail_chunk,
            self._run_id,
            state.name,
            chunk,
            failure.code.value,
            rfc3339(utc_now()),
            state=state,
        )

    async def published(self, state: ExportState, plan: ExportPlan, publication: Publication) -> None:
        """Follow the manifest that was published (W6)."""
        await self._noted(
            self.store.publish,
            self._run_id,
            state.name,
            plan.cursor,
            publication.superseded,
            rfc3339(utc_now()),
            state=state,
        )
        crash_point("state.published")

    async def swept(self, export: str) -> None:
        """Remember that this run has left nothing but what is published."""
        await self._noted(self.store.sweep, self._run_id, export, ())

    async def end_export(self, state: ExportState, verdict: Finished) -> None:
        """Remember the verdict on an export; called before anybody else hears it (W7)."""
        entry = entry_of(
            state.target,
            "",  # it stays as it is
            standing=_STANDINGS[verdict.status],
            finished_at=rfc3339(utc_now()),
            row_count=verdict.row_count,
            part_count=verdict.part_count,
            size_bytes=verdict.size_bytes,
            retry_count=verdict.retry_count,
            work_s=sum(result.elapsed_s for result in state.results.values()),
            elapsed_s=verdict.elapsed_s,
            peak_rss_bytes=verdict.peak_rss_bytes,
            manifest_key=verdict.manifest,
            code=None if verdict.failure is None else verdict.failure.code.value,
            message=None if verdict.failure is None else verdict.failure.message,
        )
        await self._noted(self.store.end_export, entry, state=state)

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call the store in its thread; a cancellation waits for the answer."""
        return await anyio.to_thread.run_sync(partial(function, *arguments), limiter=self._thread)

    async def _noted(self, function: Callable[..., None], *arguments: object, state: ExportState | None = None) -> None:
        try:
            await self.call(function, *arguments)
        except StateError as exc:
            self._log.warning("state_not_written", code=exc.code.value, error=exc.message)
            if state is not None and state.state_trouble is None:
                state.state_trouble = exc.message


def entry_of(
    target: Target, started_at: str, *, standing: Standing = Standing.RUNNING, **values: object
) -> ExportEntry:
    """Return what is remembered of an export in the run of ``target``."""
    return ExportEntry(
        run_id=target.run_id,
        export=target.export.name,
        standing=standing,
        mode=target.export.mode.value,
        place=place_of(target),
        started_at=started_at,
        **values,  # type: ignore[arg-type]  # the fields of the struct
    )


def place_of(target: Target) -> Place:
    """Return where a run puts the parts of an export."""
    return Place(
        destination=target.destination,
        part_stem=target.part_directory + run_stem(target.export.name, target.run_id),
    )
