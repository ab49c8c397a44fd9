"""Chunk arithmetic: how the order of a key is cut into ranges.

Owns the promise that the chunks of a table partition its rows: every key lies in exactly one range, and rows without a
key in a chunk of their own.  The first range begins before every key and the last one ends behind every key, unless the
export itself is bounded, so that a key that appears meanwhile is in some range, and no bound is beyond its column's type.
Where cuts are computed, integers are unbounded and cuts are made when they are asked for: fifty million cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeVar, overload

from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.keys import Bound, Key, KeyKind, KeyPart, KeyValue, KeyValues, integer_value
from procflow_export.model.plan import Everything, KeyRange, NullKeys, TableChunk

T = TypeVar("T")

DEFAULT_CHUNK_SIZE: Final = 100_000
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_S: Final = 86_400
MAX_CHUNKS: Final = 50_000_000
"""More ranges than this over one key mean that the key is sparse and the width wrong: refused."""


@dataclass(frozen=True, slots=True)
class Computed(Sequence[T]):
    """A sequence whose items are computed when they are asked for."""

    length: int
    item: Callable[[int], T]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self.item(position) for position in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(index)
        return self.item(index % self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks(Sequence[TableChunk]):
    """The chunks of one export, in the order of their keys, NULL keys last.

    Attributes:
        key: What is cut; empty for one chunk of everything.
        cuts: Where, in ascending order: n cuts make n + 1 ranges.
        is_cut_behind: Whether the keys at a cut are in the range before it; otherwise they begin the next one.
        low: Where the first range begins; ``None`` begins before every key.
        high: Where the last range ends; ``None`` ends behind every key.
        has_ranges: Whether there are ranges at all.
        has_nulls: Whether there is a chunk for the rows without a key.
    """

    key: Key = ()
    cuts: Sequence[KeyValues] = ()
    is_cut_behind: bool = False
    low: Bound | None = None
    high: Bound | None = None
    has_ranges: bool = True
    has_nulls: bool = False

    @property
    def range_count(self) -> int:
        """How many of the chunks are ranges; the first ones."""
        return len(self.cuts) + 1 if self.key and self.has_ranges else 0

    def __len__(self) -> int:
        return self.range_count + self.has_nulls if self.key else 1

    @overload
    def __getitem__(self, index: int) -> TableChunk: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TableChunk]: ...

    def __getitem__(self, index: int | slice) -> TableChunk | Sequence[TableChunk]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if not self.key:
            return Everything()
        if index == self.range_count:
            return NullKeys(key=self.key)
        low = self.low if index == 0 else Bound(self.cuts[index - 1], is_inclusive=not self.is_cut_behind)
        high = self.high if index == len(self.cuts) else Bound(self.cuts[index], is_inclusive=self.is_cut_behind)
        return KeyRange(key=self.key, low=low, high=high)


def cut_integers(
    column: str, low: int, high: int, *, width: int | None = None, count: int | None = None
) -> Sequence[KeyValues]:
    """Return the cuts between ranges of integers.

    Args:
        column: The key, for messages.
        low: Smallest key.
        high: Largest key.
        width: Keys in a range, the last one perhaps less.
        count: Number of ranges, as equal as they can be, instead; with fewer keys than ranges there are fewer.

    Raises:
        PlanError: If there would be more than ``MAX_CHUNKS`` ranges, or the smallest key is above the largest.
    """
    _require_order(column, low, high)
    span = high - low + 1
    if count is not None:
        range_count = min(count, span)
        _require_few(column, low, high, range_count)
        return Computed(range_count - 1, lambda index: (integer_value(low + span * (index + 1) // range_count),))
    size = DEFAULT_CHUNK_SIZE if width is None else width
    range_count = -(-span // size)
    _require_few(column, low, high, range_count)
    return Computed(range_count - 1, lambda index: (integer_value(low + (index + 1) * size),))


def cut_days(part: KeyPart, low: date, high: date, days: int) -> Sequence[KeyValues]:
    """Return the cuts between windows of ``days`` days, each at midnight UTC; the first window begins at ``low``.

    Raises:
        PlanError: If the first day is after the last.
    """
    _require_order(part.column, low, high)
    first = low.toordinal()
    window_count = -(-(high.toordinal() - first + 1) // days)
    return Computed(
        window_count - 1, lambda index: (day_value(date.fromordinal(first + (index + 1) * days), part.kind),)
    )


def day_value(day: date, kind: KeyKind) -> KeyValue:
    """Return the first moment of a day, UTC, as a value of a key of that kind."""
    match kind:
        case KeyKind.INTEGER:
            return integer_value((day.toordinal() - _EPOCH_DAY) * _DAY_S)  # a Unix time
        case KeyKind.TIMESTAMP:
            return KeyValue(kind, f"{day.isoformat()} 00:00:00")
        case KeyKind.INSTANT:
            return KeyValue(kind, f"{day.isoformat()} 00:00:00+00")
        case _:
            return KeyValue(kind, day.isoformat())


def _require_order(column: str, low: int | date, high: int | date) -> None:
    if low > high:  # type: ignore[operator]  # both are of one type
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE,
            f"the smallest key of {column!r} is {low} and the largest {high}: not in that order",
        )


def _require_few(column: str, low: int, high: int, range_count: int) -> None:
    if range_count > MAX_CHUNKS:
        raise PlanError(
            Code.PLAN_TOO_MANY_CHUNKS,
            f"the keys of {column!r} from {low} to {high} make {range_count} ranges, more than {MAX_CHUNKS}",
        )
