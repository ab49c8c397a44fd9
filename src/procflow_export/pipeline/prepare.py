"""From a target to its plan: what must be asked of the source and the destination before any row is read.

``run`` and ``check`` come through here, so that what one finds the other finds; only ``run`` changes anything.
"""

from __future__ import annotations

import anyio
import anyio.to_thread

from procflow_export.destinations import Destination, Owner, open_destination, previous_manifest
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Snapshot
from procflow_export.model.settings import Consistency
from procflow_export.pipeline.sources import SharedSources
from procflow_export.planning.names import run_stem
from procflow_export.planning.plan import ExportPlan, KeyFacts, Target, chunk_key, plan_export


async def plan_target(target: Target, sources: SharedSources, *, snapshot: Snapshot | None = None) -> ExportPlan:
    """Ask the source for columns, estimate and key, and return the plan.  Reads no rows.

    With a snapshot the key's bounds are those of its rows, and the chunks will be read in it.

    Raises:
        ExportError: If the source cannot be reached or does not hold what the export names, or no plan is possible.
    """
    async with sources.borrowed(target.source) as source:
        profile = await source.profile(target.selection, snapshot)
        column = chunk_key(target, columns=profile.columns, integer_key=profile.integer_key)
        key = None
        if column is not None:
            bounds = await source.key_bounds(target.selection, column, snapshot)
            key = KeyFacts(column=column, low=bounds.low, high=bounds.high, has_nulls=bounds.has_nulls)
    return plan_export(target, columns=profile.columns, row_estimate=profile.row_estimate, key=key, snapshot=snapshot)


async def check_consistency(plan: ExportPlan, sources: SharedSources) -> str | None:
    """Return what the operator should know of the snapshot that a run would ask for; None if nothing.

    Raises:
        SourceError: If it would be refused, and the configuration insists on it.
    """
    export = plan.target.export
    if export.consistency is Consistency.CHUNK or len(plan.chunks) == 1:
        return None
    try:
        async with sources.borrowed(plan.target.source) as source:
            await source.check_snapshot(plan.target.selection)
    except SourceError as exc:
        if exc.code is not Code.SOURCE_SNAPSHOT_REFUSED or export.consistency is Consistency.SNAPSHOT:
            raise
        return f"parts may differ in time (consistency: chunk): {exc.message}"
    return None


async def check_destination(target: Target, threads: anyio.CapacityLimiter) -> None:
    """Make sure that the destination is this export's own; changes nothing there.

    Raises:
        DestinationError: If another export publishes there, or the place cannot be used.
    """
    async with open_destination(target.destination) as destination:
        await anyio.to_thread.run_sync(previous_manifest, destination, target.export.name, limiter=threads)


async def prepare_destination(target: Target, threads: anyio.CapacityLimiter) -> None:
    """Like ``check_destination()``, and remove what dead runs of the export left unfinished.

    Raises:
        DestinationError: If another export publishes there, or the place cannot be used.
    """
    owner = Owner(export=target.export.name, run_id=target.run_id)
    async with open_destination(target.destination, owner=owner) as destination:
        await anyio.to_thread.run_sync(_prepare, destination, target.export.name, limiter=threads)


async def discard_parts(target: Target, threads: anyio.CapacityLimiter) -> None:
    """Remove every part that this run has stored for an export; none of them is published.

    Raises:
        DestinationError: If the place cannot be used.
    """
    stem = run_stem(target.export.name, target.run_id)

    def discard() -> None:
        for found in list(destination.list(stem)):
            destination.remove(found.key)

    async with open_destination(target.destination) as destination:
        await anyio.to_thread.run_sync(discard, limiter=threads)


def _prepare(destination: Destination, export: str) -> None:
    previous_manifest(destination, export)
    destination.remove_stale()
