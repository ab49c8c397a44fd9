"""Asking a database where to cut: the statements behind a plan, all short, none of them a count.

Owns the order of the questions; what follows from the answers is decided in ``planning``.  Bounds and the ends of slices
come from the key's index, whether there are NULL keys from a search that its first hit ends, and how many rows to expect from
the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Final, TypeVar

from procflow_export.config.structs import ExportConfig
from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.keys import Bound, Key, KeyKind, KeyPart, KeyValue, KeyValues, is_integer_text
from procflow_export.model.manifest import Manifest, StoredCursor
from procflow_export.model.plan import KeyRange, NullKeys, Snapshot, TableChunk
from procflow_export.planning.chunks import DEFAULT_CHUNK_SIZE, Chunks, cut_days, cut_integers, day_value
from procflow_export.planning.cursors import (
    LATER_SCOPE,
    NULL_SCOPE,
    cursor_key,
    first_day,
    settled_rows,
    uncovered_days,
    usable_position,
    window_part,
)
from procflow_export.planning.keys import (
    CALENDAR_KINDS,
    Days,
    Facts,
    Ranges,
    Slices,
    Way,
    chunked_way,
    described,
    index_notes,
)
from procflow_export.planning.plan import WHOLE, Cut
from procflow_export.planning.sparse import MIN_SPARSE_RANGES, are_days_sparse, are_ranges_sparse
from procflow_export.sources import Source
from procflow_export.sources.port import KeySearch

_T = TypeVar("_T")

_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?![0-9]).*", re.DOTALL)
_FIRST_DAYS: Final = re.compile(r"-infinity|0000-.*|.* BC", re.DOTALL)
_LAST_DAYS: Final = re.compile(r"infinity|\d{5,}-.*", re.DOTALL)


class Cutter:
    """Cuts one selection of an open source."""

    def __init__(self, source: Source, facts: Facts, snapshot: Snapshot | None = None) -> None:
        """Ask ``source``; with a snapshot, about the rows that there are in it."""
        self._source = source
        self._facts = facts
        self._snapshot = snapshot

    async def chunked(self, export: ExportConfig) -> Cut:
        """Return the cut of a chunked export.

        Raises:
            ExportError: If there is no key to cut by, or its bounds cannot be read.
        """
        way, notes = chunked_way(export, self._facts)
        cut = await self.whole(way)
        return replace(cut, notes=(*notes, *cut.notes))

    async def since(self, export: ExportConfig, stored: StoredCursor | None, previous: Manifest | None) -> Cut:
        """Return the cut of the rows behind a cursor, up to the last one there is now.

        Raises:
            ExportError: If the cursor cannot be used.
        """
        key, notes = cursor_key(export, self._facts, stored)
        position = None if stored is None else stored.position
        low = None if position is None else Bound(position, is_inclusive=False)
        settled = None if export.settle is None else settled_rows(export, self._facts, await self._source.now())
        among = () if settled is None else (settled,)
        last = await self._find(KeyRange(key=key, low=low), among=among, is_from_end=True)
        has_nulls = await self._has_nulls(key, previous)
        what = "a key" if export.keyset_incremental else "a cursor"
        description = f"rows behind {what} of {described(key)}"
        if last is None:
            # A first run publishes its columns at least; any other has nothing to tell.
            chunks = Chunks(key=key, has_ranges=False, has_nulls=has_nulls or previous is None)
            return Cut(chunks=chunks, description=description, notes=notes, position=position)
        high = Bound(usable_position(key, last), is_inclusive=True)
        cuts: list[KeyValues] = []
        if export.keyset_incremental or self._facts.leads_index(key[0]):
            # By the cursor alone: its index gives the ends of slices, and rows that share a value stay together.
            by = key if export.keyset_incremental else key[:1]
            cuts = await self._ends(by, KeyRange(key=key, low=low, high=high), export.chunk_size or DEFAULT_CHUNK_SIZE)
        chunks = Chunks(key=key, cuts=cuts, is_cut_behind=True, low=low, high=high, has_nulls=has_nulls)
        return Cut(chunks=chunks, description=description, notes=notes, position=last)

    async def last_days(self, export: ExportConfig, stored: StoredCursor | None, previous: Manifest | None) -> Cut:
        """Return the cut of a time window: one chunk a day, one for the rows of later days, one for those of none.

        Raises:
            ExportError: If the time column cannot be used.
        """
        part = window_part(export, self._facts)
        now = await self._source.now()
        first, today = first_day(export, now), now.date()
        days = [first + timedelta(days=number) for number in range((today - first).days + 1)]
        tomorrow = today + timedelta(days=1)
        chunks = Chunks(
            key=(part,),
            cuts=tuple((day_value(day, part.kind),) for day in (*days[1:], tomorrow)),
            low=Bound((day_value(first, part.kind),), is_inclusive=True),
            has_nulls=await self._has_nulls((part,), previous),
        )
        notes = index_notes(part, self._facts, each="day")
        if (remark := uncovered_days(stored, first)) is not None:
            notes = (*notes, remark)
        return Cut(
            chunks=chunks,
            description=f"days of {part}",
            notes=notes,
            scopes=(*(day.isoformat() for day in days), LATER_SCOPE),
            position=(day_value(today, KeyKind.DATE),),
        )

    # ---- ways to cut a whole table

    async def whole(self, way: Way) -> Cut:
        """Return the cut of every row there is.

        Raises:
            ExportError: If the bounds of the key cannot be read.
        """
        match way:
            case Ranges():
                return await self._ranges(way)
            case Days():
                return await self._days(way)
            case Slices():
                return await self._slices(way)

    async def _ranges(self, way: Ranges) -> Cut:
        key = (way.part,)
        bounds = await self._bounds(key, _integer)
        if bounds is None:
            return WHOLE  # whatever rows there are have no key
        low, high = bounds
        rows = self._facts.row_estimate
        width = way.width or DEFAULT_CHUNK_SIZE
        if way.count is None:
            if rows is not None and 0 < rows <= width:
                return WHOLE
            if high - low >= MIN_SPARSE_RANGES * width and await self._is_sparse(way.part, low, high, width):
                cut = await self._slices(Slices(key=key, rows=width))
                note = (
                    f"the keys of {way.part.column!r} are sparse: ranges of {width} keys would be nearly empty, so the chunks"
                    f" are slices of {width} rows"
                )
                return replace(cut, notes=(note,))
        cuts = cut_integers(way.part.column, low, high, width=way.width, count=way.count)
        return Cut(
            chunks=Chunks(key=key, cuts=cuts, has_nulls=await self._has_nulls(key)), description=f"ranges of {way.part}"
        )

    async def _is_sparse(self, part: KeyPart, low: int, high: int, width: int) -> bool:
        """Look at how far ``width`` rows reach, from the first key and from the middle."""
        if are_ranges_sparse(low, high, width, self._facts.row_estimate):
            return True
        for begin in (low, (low + high) // 2):
            start = KeyRange.of_integers(part.column, begin, begin).low
            last = await self._find(KeyRange(key=(part,), low=start), nth=width)
            if are_ranges_sparse(begin, high if last is None else _integer(last[0]), width, width):
                return True
        return False

    async def _days(self, way: Days) -> Cut:
        key = (way.part,)
        bounds = await self._bounds(key, _day)
        if bounds is None:
            return WHOLE
        cuts = cut_days(way.part, *bounds, way.days)
        if are_days_sparse(len(cuts) + 1, self._facts.row_estimate):
            cut = await self._slices(Slices(key=key))
            note = (
                f"the days of {way.part.column!r} from {bounds[0]} to {bounds[1]} are nearly empty, so the chunks are slices"
                f" of {DEFAULT_CHUNK_SIZE} rows"
            )
            return replace(cut, notes=(note,))
        return Cut(
            chunks=Chunks(key=key, cuts=cuts, has_nulls=await self._has_nulls(key)), description=f"days of {way.part}"
        )

    async def _slices(self, way: Slices) -> Cut:
        estimate = self._facts.row_estimate
        rows = way.rows or DEFAULT_CHUNK_SIZE
        if way.count is not None and estimate:
            rows = -(-estimate // way.count)
        cuts = await self._ends(way.key, KeyRange(key=way.key), rows)
        chunks = Chunks(key=way.key, cuts=cuts, is_cut_behind=True, has_nulls=await self._has_nulls(way.key))
        return Cut(chunks=chunks, description=f"slices of {described(way.key)}")

    # ---- questions

    async def _ends(self, by: Key, whole: KeyRange, rows: int) -> list[KeyValues]:
        """Return the last key of every slice of ``rows`` rows but the last one; equal keys are never parted.

        Raises:
            PlanError: If the database finds a key above its own literal, or above that of a later one.
        """
        ends: dict[KeyValues, None] = {}
        within, among = (whole, ()) if by == whole.key else (KeyRange(key=by), (whole,))
        while (end := await self._find(within, among=among, nth=rows)) is not None:
            if whole.high is not None and end == whole.high.values[: len(end)]:
                break
            if end in ends:
                # Not known of any type that can be a key; but without this, it would be a run that never begins.
                raise PlanError(
                    Code.PLAN_KEY_NOT_USABLE,
                    f"{described(by)} is above itself at {', '.join(map(str, end))}: no key to cut by",
                )
            ends[end] = None
            within = KeyRange(key=by, low=Bound(end, is_inclusive=False), high=within.high)
        return list(ends)

    async def _bounds(self, key: Key, read: Callable[[KeyValue], _T]) -> tuple[_T, _T] | None:
        """Return the lowest and the highest key, or None when no row has one.

        Raises:
            PlanError: If one cannot be read: that is never taken for an empty table.
        """
        bounds = []
        for is_from_end in (False, True):
            found = await self._find(KeyRange(key=key), is_from_end=is_from_end)
            if found is None:
                return None
            try:
                bounds.append(read(found[0]))
            except ValueError:
                raise PlanError(
                    Code.PLAN_KEY_NOT_USABLE,
                    f"{found[0].text!r} is a bound of {key[0]} and cannot be read as {key[0].kind.value}",
                ) from None
        return bounds[0], bounds[1]

    async def _has_nulls(self, key: Key, previous: Manifest | None = None) -> bool:
        """Whether the rows without a key need a chunk: there are some, or parts of some that must be replaced."""
        if previous is not None and any(part.scope == NULL_SCOPE and part.row_count for part in previous.parts):
            return True
        is_nullable = any(part.is_nullable for part in key)
        return is_nullable and await self._source.has_rows(self._facts.selection, NullKeys(key=key), self._snapshot)

    async def _find(
        self, within: KeyRange, *, among: tuple[TableChunk, ...] = (), nth: int = 1, is_from_end: bool = False
    ) -> KeyValues | None:
        return await self._source.find_key(
            KeySearch(selection=self._facts.selection, within=within, among=among, nth=nth, is_from_end=is_from_end),
            self._snapshot,
        )


def _integer(value: KeyValue) -> int:
    if value.kind is not KeyKind.INTEGER or not is_integer_text(value.text):
        raise ValueError(value)
    return int(value.text)


def _day(value: KeyValue) -> date:
    """Return the day of a date or timestamp, or the first or last day there is for one that lies beyond."""
    if value.kind is not KeyKind.TEXT and value.kind not in CALENDAR_KINDS:  # SQLite keeps dates as texts
        raise ValueError(value)
    if _FIRST_DAYS.fullmatch(value.text):
        return date.min
    if _LAST_DAYS.fullmatch(value.text):
        return date.max
    found = _DATE.fullmatch(value.text)
    if found is None:
        raise ValueError(value)
    return date(int(found[1]), int(found[2]), int(found[3]))
