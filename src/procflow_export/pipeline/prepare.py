"""From a target to its plan: what must be asked of the source and the destination before any row is read.

``run`` and ``check`` come through here, so that what one finds the other finds; only ``run`` changes anything.
"""

from __future__ import annotations

import anyio
import anyio.to_thread

from procflow_export.destinations import Destination, Owner, open_destination, previous_manifest
from procflow_export.formats import refuse_unwritable
from procflow_export.model.types import arrow_schema
from procflow_export.pipeline.sources import SharedSources
from procflow_export.planning.plan import ExportPlan, KeyFacts, Target, chunk_key, plan_export


async def plan_target(target: Target, sources: SharedSources) -> ExportPlan:
    """Ask the source for columns, estimate and key, and return the plan.  Reads no rows.

    Raises:
        ExportError: If the source cannot be reached or does not hold what the export names, or no plan is possible.
    """
    async with sources.borrowed(target.source) as source:
        profile = await source.profile(target.selection, target.choices)
        column = chunk_key(target, columns=profile.columns, integer_key=profile.integer_key)
        key = None
        if column is not None:
            bounds = await source.key_bounds(target.selection, column)
            key = KeyFacts(column=column, low=bounds.low, high=bounds.high, has_nulls=bounds.has_nulls)
    # Here and not at the first row, so that ``check`` knows it as well.
    refuse_unwritable(target.format, arrow_schema(profile.columns))
    return plan_export(target, columns=profile.columns, row_estimate=profile.row_estimate, key=key)


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


def _prepare(destination: Destination, export: str) -> None:
    previous_manifest(destination, export)
    destination.remove_stale()
