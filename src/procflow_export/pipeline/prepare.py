"""From a target to its plan: what must be asked of the source and the destination before any row is read.

``run`` and ``check`` come through here, so that what one finds the other finds; only ``run`` changes anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import anyio
import anyio.to_thread

from procflow_export.config.structs import ExportConfig, Mode
from procflow_export.destinations import Destination, Owner, open_destination, previous_manifest
from procflow_export.formats import refuse_unwritable
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig
from procflow_export.model.errors import DestinationError, SourceError, StateError
from procflow_export.model.manifest import Manifest, StoredCursor
from procflow_export.model.plan import Snapshot
from procflow_export.model.settings import Consistency
from procflow_export.model.times import rfc3339
from procflow_export.model.types import arrow_schema, encode_columns
from procflow_export.pipeline.aftermath import Past, Places, Remark, look_back, sweep
from procflow_export.pipeline.cutting import Cutter
from procflow_export.pipeline.garbage import Garbage, find_garbage, remove_garbage
from procflow_export.pipeline.ledger import STATE_WARNING, Ledger, place_of
from procflow_export.pipeline.machine import utc_now
from procflow_export.pipeline.sources import SharedSources
from procflow_export.planning.cursors import own_cursor
from procflow_export.planning.keys import Facts
from procflow_export.planning.plan import WHOLE, Cut, ExportPlan, Target, plan_export
from procflow_export.planning.resume import Unfinished, opened_cut, plan_digest, why_not
from procflow_export.state import StateStore


async def plan_target(
    target: Target,
    sources: SharedSources,
    previous: Manifest | None = None,
    *,
    snapshot: Snapshot | None = None,
    left: Unfinished | None = None,
) -> ExportPlan:
    """Ask the source for columns, estimate and keys, and return the plan.  Reads no rows.

    Args:
        target: The export.
        sources: Open sources.
        previous: The set that is published now.
        snapshot: The state that chunks will be read in: the key's bounds are those of its rows.
        left: What an earlier run left; the plan says whether it is gone on with, and if not why.

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
        digest = plan_digest(owner, encode_columns(profile.columns), target.format)
        notes = [*source.warnings, *profile.notes]
        cut: Cut | None = None
        if left is not None:
            refusal = why_not(left, digest=digest, previous=previous, base=base, has_snapshot=snapshot is not None)
            if refusal is None:
                cut = opened_cut(left.plan)
                kept = f"{len(left.results)} of {left.plan.chunk_count} chunks are kept"
                notes.append(f"goes on with run {left.run_id}: {kept}")
            else:
                notes.append(f"what run {left.run_id} had finished is read again: {refusal}")
        resumed_from = None if cut is None or left is None else left.run_id
        if cut is None:
            cut = await _cut(Cutter(source, facts, snapshot), export, stored, base)
        cut = replace(cut, notes=(*notes, *cut.notes))
    if export.is_cumulative:
        plan = plan_export(target, facts, cut, previous=base, owner=owner, snapshot=snapshot)
    else:
        plan = plan_export(target, facts, cut, snapshot=snapshot)
    previous_run_id = None if previous is None else previous.run_id
    return replace(plan, digest=digest, resumed_from=resumed_from, previous_run_id=previous_run_id)


async def _cut(cutter: Cutter, export: ExportConfig, stored: StoredCursor | None, base: Manifest | None) -> Cut:
    if export.mode is Mode.TIME_WINDOW:
        return await cutter.last_days(export, stored, base)
    if export.is_cumulative:
        return await cutter.since(export, stored, base)
    if export.mode is Mode.CHUNKED:
        return await cutter.chunked(export)
    return WHOLE


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
    async with open_destination(target.destination, environ=target.environ) as destination:
        return await anyio.to_thread.run_sync(previous_manifest, destination, target.export.name, limiter=threads)


async def prepare_past(target: Target, ledger: Ledger, threads: anyio.CapacityLimiter, *, resume: bool) -> Past:
    """Find out what is published and what the runs before left: see ``pipeline.aftermath``.

    Raises:
        DestinationError: If another export publishes there, or the place cannot be used.
        StateError: If the state cannot be used.
    """
    async with _open_places(target, ledger) as places:
        look = partial(look_back, target, ledger.store, places, now=rfc3339(utc_now()), resume=resume)
        return await anyio.to_thread.run_sync(look, limiter=threads)


async def sweep_published(
    target: Target, ledger: Ledger, threads: anyio.CapacityLimiter, *, is_clean: bool
) -> list[Remark]:
    """Remove what this run, and the one that it was to go on with, left beside the published set.

    Args:
        target: The export, published, or with nothing to publish.
        ledger: What is remembered.
        threads: Where it is done.
        is_clean: Whether every chunk was done at the first attempt, so that nothing can be left.
    """
    if is_clean:
        await ledger.swept(target.export.name)
        return []
    remarks: list[Remark] = []

    def sweep_all() -> None:
        entries = ledger.store.exports(export=target.export.name)
        for entry in entries:
            if not entry.is_swept:
                sweep(entry, entries, ledger.store, places, remarks)

    try:
        async with _open_places(target, ledger) as places:
            await anyio.to_thread.run_sync(sweep_all, limiter=threads)
    except StateError as exc:  # what is published is published; the next run sweeps
        remarks.append(Remark(code=STATE_WARNING, message=exc.message))
    return remarks


async def collect_garbage(
    target: Target, store: StateStore, threads: anyio.CapacityLimiter, *, older_than: timedelta, removes: bool
) -> list[Garbage]:
    """Return what lies beside the published set of an export, and remove what is removable if that is wanted.

    Raises:
        DestinationError: If the place is another export's, or fails.
        StateError: If a run works on the export, or the state cannot be used.
    """
    export = target.export.name

    def collect() -> list[Garbage]:
        with store.leased(export, None):
            garbage = find_garbage(destination, store, export, now=utc_now(), older_than=older_than)
            if removes:
                remove_garbage(destination, store, export, garbage)
            return garbage

    owner = Owner(export=export, run_id=target.run_id)
    async with open_destination(target.destination, owner=owner, environ=target.environ) as destination:
        return await anyio.to_thread.run_sync(collect, limiter=threads)


@asynccontextmanager
async def _open_places(target: Target, ledger: Ledger) -> AsyncIterator[Places]:
    """Open the export's destination, and those of its last run and of runs that may have left something."""
    owner = Owner(export=target.export.name, run_id=target.run_id)
    entries = await ledger.call(partial(ledger.store.exports, export=target.export.name))
    last = next((entry for entry in entries if entry.run_id != target.run_id), None)
    places = (entry.place.destination for entry in entries if entry is last or not entry.is_swept)
    wanted = dict.fromkeys((target.destination, *places))
    opened: dict[DestinationConfig, Destination | DestinationError] = {}
    async with AsyncExitStack() as stack:
        for config in wanted:
            try:
                opened[config] = await stack.enter_async_context(
                    open_destination(config, owner=owner, environ=target.environ)
                )
            except DestinationError as exc:
                opened[config] = exc

        def place(config: DestinationConfig) -> Destination:
            found = opened[config]
            if isinstance(found, DestinationError):
                raise found
            return found

        yield place


async def discard_parts(target: Target, threads: anyio.CapacityLimiter) -> None:
    """Remove every part that this run has stored for an export; none of them is published.

    Raises:
        DestinationError: If the place cannot be used.
    """
    stem = place_of(target).part_stem

    def discard() -> None:
        for found in list(destination.list(stem)):
            destination.remove(found.key)

    async with open_destination(target.destination, environ=target.environ) as destination:
        await anyio.to_thread.run_sync(discard, limiter=threads)
