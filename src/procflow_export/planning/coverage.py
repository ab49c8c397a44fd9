"""Which chunks make up a published set, and which rows lie between them.

Owns how parts are put together to chunks again, and the arithmetic of what no part holds.  A chunk without rows leaves no part, so
what lies between two chunks is compared too: as a chunk that should be empty.  Bounds are only compared for being the same,
never for order, which is the database's business; the order of the chunks is that of the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

from procflow_export.config.structs import ExportConfig, Mode
from procflow_export.model.keys import Bound
from procflow_export.model.manifest import Manifest
from procflow_export.model.plan import Everything, KeyRange, NullKeys, PartRecord, TableChunk
from procflow_export.model.reconciling import Growth


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One chunk of a published set.

    Attributes:
        chunk: Which rows of the selection it should hold; None if the manifest does not say.
        parts: The parts that hold them; none where there should be no rows.
        growth: What a difference means.
    """

    chunk: TableChunk | None
    parts: tuple[PartRecord, ...]
    growth: Growth


def sections(manifest: Manifest, export: ExportConfig) -> list[Section]:
    """Return the chunks of a published set, in the order of their keys, with what lies between them."""
    if any(part.bounds is None for part in manifest.parts):
        # A manifest of an earlier release: all or nothing.
        whole = None if export.is_cumulative else Everything()
        return [Section(chunk=whole, parts=manifest.parts, growth=Growth.WHOLE)]
    parts: dict[TableChunk, list[PartRecord]] = {}
    for part in manifest.parts:
        assert part.bounds is not None, "every part has bounds"
        parts.setdefault(part.bounds, []).append(part)
    chunks = [*parts, *(chunk for chunk in gaps(list(parts), manifest, export) if chunk not in parts)]
    return [
        Section(chunk=chunk, parts=tuple(parts.get(chunk, ())), growth=growth_of(chunk, manifest, export))
        for chunk in chunks
    ]


def growth_of(chunk: TableChunk, manifest: Manifest, export: ExportConfig) -> Growth:
    """Return what a difference in a chunk means; rows without a key are exported anew by every run."""
    if manifest.cursor is None or not isinstance(chunk, KeyRange):
        return Growth.WHOLE
    if export.mode is Mode.INCREMENTAL:
        return Growth.CURSOR
    return Growth.KEY if export.keyset_incremental else Growth.WHOLE


def gaps(chunks: list[TableChunk], manifest: Manifest, export: ExportConfig) -> list[TableChunk]:
    """Return the chunks that the set has no part of, although its rows belong to it.

    A time window has none: the days before the first window, and between two that do not touch, were never exported.
    """
    ranges = [chunk for chunk in chunks if isinstance(chunk, KeyRange)]
    key = ranges[0].key if ranges else next((chunk.key for chunk in chunks if isinstance(chunk, NullKeys)), ())
    if not key or export.mode is Mode.TIME_WINDOW:
        return []
    end = None
    if manifest.cursor is not None:
        if manifest.cursor.position is None:
            return []
        end = Bound(manifest.cursor.position, is_inclusive=True)
    # Each range must begin where the one before it has ended; the first before every key.
    found: list[TableChunk] = []
    begin: Bound | None = None
    for chunk in ranges:
        if chunk.low != begin:
            found.append(KeyRange(key=key, low=begin, high=complement(chunk.low)))
        begin = complement(chunk.high)
    is_to_the_end = bool(ranges) and ranges[-1].high == end
    if not is_to_the_end:
        found.append(KeyRange(key=key, low=begin, high=end))
    if any(part.is_nullable for part in key):
        found.append(NullKeys(key=key))
    return found


def complement(bound: Bound | None) -> Bound | None:
    """Return where the other side of a bound begins."""
    return None if bound is None else Bound(bound.values, is_inclusive=not bound.is_inclusive)
