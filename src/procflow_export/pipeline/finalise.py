"""The one way in which an export becomes published, whatever engine and mode made its parts.

Owns the end of the order that the specification numbers W1 to W7 (E-42); the beginning is in ``pipeline.unit`` (W1, W2)
and in the destinations.  The cursor is in the manifest, and the state follows it (W6): see ``pipeline.ledger``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from procflow_export.destinations import Owner, Publication, open_destination, publish
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.manifest import Manifest, ManifestSource
from procflow_export.model.plan import Query, Relation, Selection, UnitResult
from procflow_export.model.times import rfc3339
from procflow_export.planning.plan import ExportPlan


async def finalise(
    plan: ExportPlan,
    results: Mapping[int, UnitResult],
    *,
    started_at: datetime,
    finished_at: datetime,
    threads: anyio.CapacityLimiter,
) -> Publication | None:
    """Check that the parts are the export, and publish them; ``None`` where nothing can be published, as in a stream.

    Publishing is one call in a thread: a cancellation waits for it, and never stops between manifest and marker.

    Raises:
        DataError: If a chunk is missing, row counts do not add up, or chunks have different schemas; nothing was
            published.
        DestinationError: If the destination failed; a note says when the commit had happened already.
    """
    # W3: every part of every chunk is recorded before the manifest is made of the records.
    manifest = build_manifest(plan, results, started_at=started_at, finished_at=finished_at)
    owner = Owner(export=plan.name, run_id=plan.target.run_id)
    async with open_destination(plan.target.destination, owner=owner, environ=plan.target.environ) as destination:
        if not destination.keeps_objects:
            return None
        # W4: the manifest is one put after all its parts: it is the commit.  W5: the marker follows it, once it reads back.
        commit = partial(publish, destination, manifest, continuation=plan.continuation)
        return await anyio.to_thread.run_sync(commit, limiter=threads)
    # W7: the verdict event is the scheduler's, after this returned.


def build_manifest(
    plan: ExportPlan, results: Mapping[int, UnitResult], *, started_at: datetime, finished_at: datetime
) -> Manifest:
    """Return the manifest of a finished export.

    Raises:
        DataError: If the results are not the whole export, each chunk once.
    """
    if set(results) != set(range(len(plan.chunks))) or any(result.index != index for index, result in results.items()):
        raise DataError(
            Code.ROW_COUNT_MISMATCH, f"{len(results)} of {len(plan.chunks)} chunks of {plan.name} have a result"
        )
    ordered = [results[index] for index in range(len(plan.chunks))]
    for result in ordered:
        in_parts = sum(part.row_count for part in result.parts)
        if in_parts != result.row_count:
            raise DataError(
                Code.ROW_COUNT_MISMATCH,
                f"chunk {result.index} of {plan.name} read {result.row_count} rows, its parts hold {in_parts}",
            )
    fingerprints = {result.schema_fingerprint for result in ordered}
    if len(fingerprints) != 1:
        raise DataError(Code.SCHEMA_CHANGED, f"the chunks of {plan.name} have {len(fingerprints)} different schemas")
    target = plan.target
    return Manifest(
        run_id=target.run_id,
        export=plan.name,
        status="success",
        source=source_of(target.source.type.value, target.selection),
        format=target.format.format.value,
        compression=target.format.compression.value,
        schema_fingerprint=fingerprints.pop(),
        row_count=sum(result.row_count for result in ordered),
        parts=tuple(
            msgspec.structs.replace(part, scope=plan.scope(result.index)) for result in ordered for part in result.parts
        ),
        consistency=plan.consistency.value,
        started_at=rfc3339(started_at),
        finished_at=rfc3339(finished_at),
        changed_values=changed_values(results),
        cursor=plan.cursor,
    )


def changed_values(results: Mapping[int, UnitResult]) -> dict[str, int]:
    """Return how many values a policy changed, per column, over all chunks."""
    totals: Counter[str] = Counter()
    for result in results.values():
        totals.update(result.changed_values)
    return dict(totals)


def source_of(engine: str, selection: Selection) -> ManifestSource:
    """Return what a manifest says of where its rows came from."""
    match selection:
        case Relation(schema=schema, table=table):
            return ManifestSource(engine=engine, selection="table", schema=schema, table=table)
        case Query():
            return ManifestSource(engine=engine, selection="query", query_sha256=selection.sha256)
