"""Going on with what a run left: when that is right, and with what.

Owns the decision and the sealed form of a plan.  No I/O.

Parts of two runs make one set only if both runs would have written the same rows into the same chunks.  So a run goes on
with the *sealed* cut of the run before, never with one that it finds anew: bounds that were found again on a table that has
grown would overlap with parts that are kept.  And it goes on only where chunks may differ in time anyway: a snapshot died with
its holder (spec E-11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from procflow_export.model.keys import Bound, Key, KeyValues
from procflow_export.model.ledger import ChunkEntry, ExportEntry, SealedPlan
from procflow_export.model.manifest import CursorOwner, Manifest
from procflow_export.model.plan import UnitResult
from procflow_export.model.settings import Consistency, FormatOptions
from procflow_export.planning.chunks import Chunks
from procflow_export.planning.plan import Cut, ExportPlan

MAX_SEALED_CUTS: Final = 100_000
"""A plan with more cuts is not kept: going on with it is not offered."""


class _SealedCut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    key: Key = ()
    cuts: tuple[KeyValues, ...] = ()
    is_cut_behind: bool = False
    low: Bound | None = None
    high: Bound | None = None
    has_ranges: bool = True
    has_nulls: bool = False
    description: str = ""
    scopes: tuple[str, ...] = ()
    position: KeyValues | None = None


_CUT_DECODER: Final = msgspec.json.Decoder(_SealedCut)  # for all threads: see ``model.manifest``


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What a run has left of an export that it did not publish.

    Attributes:
        run_id: The run.
        plan: How it had cut the export.
        results: What its finished chunks left behind, by chunk.
    """

    run_id: str
    plan: SealedPlan
    results: Mapping[int, UnitResult]

    @property
    def part_keys(self) -> frozenset[str]:
        """Keys of all its parts, some of which still earlier runs may have stored."""
        return frozenset(part.key for result in self.results.values() for part in result.parts)


def unfinished(entry: ExportEntry, chunks: list[ChunkEntry]) -> Unfinished | None:
    """Return what there is to go on with, if there is anything."""
    results = {each.chunk: each.result for each in chunks if each.result is not None}
    if not results or entry.plan is None or entry.plan.cut is None:
        return None
    return Unfinished(run_id=entry.run_id, plan=entry.plan, results=results)


def plan_digest(owner: CursorOwner, columns: bytes, options: FormatOptions) -> str:
    """Return the digest of everything that must be the same for parts of two runs to be one set.

    Args:
        owner: What a cursor of the export would belong to: its rows, its source, its destination.
        columns: The resolved columns.
        options: How parts are encoded.
    """
    parts = (msgspec.json.encode(owner), columns, msgspec.json.encode(options))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def why_not(
    left: Unfinished, *, digest: str, previous: Manifest | None, base: Manifest | None, has_snapshot: bool
) -> str | None:
    """Return why a run cannot go on with what another left; ``None`` if it can.

    Args:
        left: What is left.
        digest: The plan's digest as the export is now.
        previous: The set that is published now: one that is newer than the parts must not be replaced by them.
        base: The same if it would be added to; ``None`` if the run begins anew, after ``state reset`` for example.
        has_snapshot: Whether this run reads one state of the database.
    """
    if left.plan.consistency == Consistency.SNAPSHOT.value:
        return "its snapshot is gone"
    if has_snapshot:
        return "its chunks differ in time, and this run reads one state of the database"
    if left.plan.previous_run_id != _run_id(previous):
        return "another run has published since"
    if left.plan.base_run_id != _run_id(base):
        return "its cursor was reset since"
    if left.plan.digest != digest:
        return "the export or its table was changed since"
    return None


def _run_id(manifest: Manifest | None) -> str | None:
    return None if manifest is None else manifest.run_id


def sealed_plan(plan: ExportPlan) -> SealedPlan:
    """Return what is remembered of a plan."""
    chunks = plan.cut.chunks
    cut: bytes | None = None
    if plan.consistency is Consistency.CHUNK and len(chunks.cuts) <= MAX_SEALED_CUTS:
        cut = msgspec.json.encode(
            _SealedCut(
                key=chunks.key,
                cuts=tuple(chunks.cuts),
                is_cut_behind=chunks.is_cut_behind,
                low=chunks.low,
                high=chunks.high,
                has_ranges=chunks.has_ranges,
                has_nulls=chunks.has_nulls,
                description=plan.cut.description,
                scopes=plan.cut.scopes,
                position=plan.cut.position,
            )
        )
    return SealedPlan(
        digest=plan.digest,
        cut=cut,
        previous_run_id=plan.previous_run_id,
        base_run_id=None if plan.continuation is None else plan.continuation.run_id,
        chunk_count=len(chunks),
        consistency=plan.consistency.value,
    )


def opened_cut(plan: SealedPlan) -> Cut:
    """Return the cut of a plan that was sealed with it."""
    assert plan.cut is not None, "only a plan with its cut is gone on with"
    cut = _CUT_DECODER.decode(plan.cut)
    chunks = Chunks(
        key=cut.key,
        cuts=cut.cuts,
        is_cut_behind=cut.is_cut_behind,
        low=cut.low,
        high=cut.high,
        has_ranges=cut.has_ranges,
        has_nulls=cut.has_nulls,
    )
    return Cut(chunks=chunks, description=cut.description, scopes=cut.scopes, position=cut.position)
