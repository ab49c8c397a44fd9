"""From a target to its plan: what must be asked of the source and the destination before any row is read.

``run`` and ``check`` come through here, so that what one finds the other finds; only ``run`` changes anything.
"""

from __future__ import annotations

from dataclasses import replace

import anyio
import anyio.to_thread

from procflow_export.config.structs import Mode
from procflow_export.destinations import Destination, Owner, open_destination, previous_manifest
from procflow_export.formats import refuse_unwritable
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.manifest import Manifest
from procflow_export.model.plan import Snapshot
from procflow_export.model.settings import Consistency
from procflow_export.model.types import arrow_schema
from procflow_export.pipeline.cutting import Cutter
from procflow_export.pipeline.sources import SharedSources
from procflow_export.planning.cursors import own_cursor
from procflow_export.planning.keys import Facts
from procflow_export.planning.names import run_stem
from procflow_export.planning.plan import WHOLE, ExportPlan, Target, plan_export


async def plan_target(
    target: Target, sources: SharedSources, previous: Manifest | None = None, *, snapshot: Snapshot | None = None
) -> ExportPlan:
    """Ask the source for columns, estimate and keys, and return the plan.  Reads no rows.

    Args:
        target: The export.
        sources: Open sources.
        previous: The set that is published now.
        snapshot: The state that chunks will be read in: the key's bounds are those of its rows.

    Raises:
        ExportError: If the source cannot be reached or does not hold what the export names, if no plan is possible, or if the
            published set has a cursor of another export.
    """
    export = target.export
    async with sources.borrowed(target.source) as source:
        owner = target.owner(source.identity)
        stored = own_cursor(previous, owner, is_cumulative=export.is_cumulative)
        base = None if stored is None else previous
        profile = await source.profile(target.selection, target.choices, snapshot)
        # Here and not at the first row, so that ``check`` knows it as well.
        refuse_unwritable(target.format, arrow_schema(profile.columns))
        facts = Facts(
            selection=target.selection,
            columns=profile.columns,
            indexes=profile.indexes,
            row_estimate=profile.row_estimate,
        )
        cutter = Cutter(source, facts, snapshot)
        if export.mode is Mode.TIME_WINDOW:
            cut = await cutter.last_days(export, stored, base)
        elif export.is_cumulative:
            cut = await cutter.since(export, stored, base)
        elif export.mode is Mode.CHUNKED:
            cut = await cutter.chunked(export)
        else:
            cut = WHOLE
        cut = replace(cut, notes=(*source.warnings, *profile.notes, *cut.notes))
    if export.is_cumulative:
        return plan_export(target, facts, cut, previous=base, owner=owner, snapshot=snapshot)
    return plan_export(target, facts, cut, snapshot=snapshot)


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


async def published_set(target: Target, threads: anyio.CapacityLimiter) -> Manifest | None:
    """Return what is published at the destination, once it is known to be this export's own; changes nothing there.

    Raises:
        DestinationError: If another export publishes there, or the place cannot be used.
    """
    async with open_destination(target.destination) as destination:
        return await anyio.to_thread.run_sync(previous_manifest, destination, target.export.name, limiter=threads)


async def prepare_destination(target: Target, threads: anyio.CapacityLimiter) -> Manifest | None:
    """Like ``published_set()``, and remove what dead runs of the export left unfinished.

    Raises:
        DestinationError: If another export publishes there, or the place cannot be used.
    """
    owner = Owner(export=target.export.name, run_id=target.run_id)
    async with open_destination(target.destination, owner=owner) as destination:
        return await anyio.to_thread.run_sync(_prepare, destination, target.export.name, limiter=threads)


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


def _prepare(destination: Destination, export: str) -> Manifest | None:
    previous = previous_manifest(destination, export)
    destination.remove_stale()
    return previous
