"""Chunk arithmetic: how the values of a key are cut into ranges.

Owns the promise that the chunks of a table partition its rows: every key lies in exactly one range, and rows without a
key in a chunk of their own.  Integers are unbounded, so that no key type of any database overflows; ranges are computed
when they are asked for, so that fifty million of them cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, overload

from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.plan import Everything, KeyRange, NullKeys, TableChunk

DEFAULT_CHUNK_SIZE: Final = 100_000
MAX_CHUNKS: Final = 50_000_000
"""More windows than this over one key mean that the key is sparse and the width wrong: refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks(Sequence[TableChunk]):
    """The chunks of one export, in the order of their keys, NULL keys last.

    Attributes:
        column: The key; None means one chunk of everything.
        low: Smallest key; None when no row has one.
        high: Largest key, inclusive.
        window_count: Ranges between ``low`` and ``high``; each has at least one possible key.
        width: Width of every range but the last; None spreads the keys evenly over ``window_count`` ranges.
        has_nulls: Whether there is a chunk for the rows without a key.
    """

    column: str | None = None
    low: int | None = None
    high: int | None = None
    window_count: int = 0
    width: int | None = None
    has_nulls: bool = False

    def __len__(self) -> int:
        return 1 if self.column is None else self.window_count + self.has_nulls

    @overload
    def __getitem__(self, index: int) -> TableChunk: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TableChunk]: ...

    def __getitem__(self, index: int | slice) -> TableChunk | Sequence[TableChunk]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.column is None:
            return Everything()
        if index == self.window_count:
            return NullKeys(column=self.column)
        return KeyRange(column=self.column, low=self._edge(index), high=self._edge(index + 1))

    def _edge(self, index: int) -> int:
        """Return where range ``index`` begins; range ``window_count`` begins behind the largest key."""
        assert self.low is not None
        assert self.high is not None
        span = self.high - self.low + 1
        if self.width is not None:
            return self.low + min(index * self.width, span)
        return self.low + span * index // self.window_count


def cut_table(
    column: str,
    *,
    low: int | None,
    high: int | None,
    has_nulls: bool,
    chunk_size: int | None = None,
    chunk_count: int | None = None,
    row_estimate: int | None = None,
) -> Chunks:
    """Return the chunks of a table by ranges of ``column``.

    ``chunk_size`` is the width of a range (default 100 000), ``chunk_count`` the number of equal ranges; with fewer keys
    than ranges there are fewer ranges.  A table that is expected to have no more rows than one range is one chunk,
    unless ranges were counted out.

    Args:
        column: The key.
        low: Smallest key; None when no row has one.
        high: Largest key, inclusive.
        has_nulls: Whether a row has no key.
        chunk_size: Width of a range.
        chunk_count: Number of ranges, instead.
        row_estimate: Rows that are expected; None when nobody knows.

    Raises:
        PlanError: If there would be more than ``MAX_CHUNKS`` ranges, or the smallest key is above the largest.
    """
    if low is None or high is None:
        # No row has a key: whatever rows there are have none.
        return Chunks()
    if low > high:
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE,
            f"the smallest key of {column!r} is {low} and the largest {high}: not an integer order",
        )
    span = high - low + 1
    if chunk_count is not None:
        window_count, width = min(chunk_count, span), None
    else:
        width = chunk_size if chunk_size is not None else DEFAULT_CHUNK_SIZE
        if row_estimate is not None and 0 < row_estimate <= width:
            return Chunks()
        window_count = -(-span // width)
    if window_count > MAX_CHUNKS:
        raise PlanError(
            Code.PLAN_TOO_MANY_CHUNKS,
            f"the keys of {column!r} from {low} to {high} make {window_count} ranges, more than {MAX_CHUNKS}",
        )
    return Chunks(column=column, low=low, high=high, window_count=window_count, width=width, has_nulls=has_nulls)


def is_sparse(chunks: Chunks, row_estimate: int | None) -> bool:
    """Whether most ranges will be nearly empty: far more of them than there are rows for."""
    return row_estimate is not None and row_estimate > 0 and len(chunks) > max(1_000, row_estimate)
