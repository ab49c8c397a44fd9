"""Rows cut into strips, at borders that follow from the rows alone.

Owns how many bytes a row counts for, and where a strip ends: after ``STRIP_ROWS`` rows, or before the row with which it
would exceed ``STRIP_BYTES`` of cells.  Must not know files.

A file whose bytes are to depend on its rows alone cannot be written in the pieces in which the rows happened to come
(E-24).  Strips are what it is written in instead.  Putting one together copies its rows once, while they are warm in
the cache, and what waits to be written is never copied as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.formats._arrow import Column, offsets_of

STRIP_ROWS: Final = 16 * 1024
STRIP_BYTES: Final = 1024 * 1024
_VARIABLE_WIDTH: Final = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)

ByteCounts: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows in one piece, and the bytes of their cells."""

    rows: pa.RecordBatch
    cell_bytes: int


class StripCutter:
    """Takes batches and gives strips."""

    def __init__(self, schema: pa.Schema, *, max_rows: int = STRIP_ROWS) -> None:
        """Cut batches of ``schema``, which has no dictionaries."""
        self._weights = RowWeights(schema)
        self._pieces: list[pa.RecordBatch] = []
        self._row_count = 0
        self.max_rows = max_rows
        """Where strips end at the latest; may be changed between two strips, to a number that the open one does not exceed."""
        self.pending_bytes = 0
        """Bytes of the rows that belong to no strip yet."""

    def cut(self, batch: pa.RecordBatch) -> Iterator[Strip]:
        """Take the rows of ``batch`` and yield the strips that they complete."""
        weights = self._weights.before_each_row(batch)
        start, row_count = 0, batch.num_rows
        while start < row_count:
            most = min(row_count, start + self.max_rows - self._row_count)
            room = int(weights[start]) + STRIP_BYTES - self.pending_bytes
            stop = min(most, int(np.searchsorted(weights, room, side="right")) - 1)
            if stop <= start and not self._pieces:
                stop = start + 1  # a row that is larger than a strip is one
            if stop > start:
                self._pieces.append(batch.slice(start, stop - start))
                self._row_count += stop - start
                self.pending_bytes += int(weights[stop] - weights[start])
            if stop < row_count or self._row_count == self.max_rows or self.pending_bytes >= STRIP_BYTES:
                yield self.take()
            start = max(start, stop)

    def take(self) -> Strip:
        """End the strip that is open, which has a row at least."""
        pieces, self._pieces = self._pieces, []
        strip = Strip(pieces[0] if len(pieces) == 1 else _joined(pieces), self.pending_bytes)
        self._row_count = self.pending_bytes = 0
        return strip

    @property
    def is_empty(self) -> bool:
        """Whether every row was given out."""
        return not self._pieces


def _joined(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(pieces).combine_chunks().to_batches()[0]


class RowWeights:
    """How many bytes the cells of a row take before encoding; depends on the values alone, not on buffers or slices."""

    def __init__(self, schema: pa.Schema) -> None:
        types = [_storage_type(field.type) for field in schema]
        self._bytes_per_row = sum(_fixed_bytes(arrow_type) for arrow_type in types)
        self._variable = [position for position, arrow_type in enumerate(types) if _is_variable(arrow_type)]

    def before_each_row(self, batch: pa.RecordBatch) -> ByteCounts:
        """Return the bytes before each row, one entry more than rows."""
        weights: ByteCounts = np.arange(batch.num_rows + 1, dtype=np.int64) * self._bytes_per_row
        for position in self._variable:
            weights += _variable_bytes(_storage(batch.column(position)))
        # A slice begins in the middle of its buffers.
        weights -= weights[0]
        return weights


def _storage_type(arrow_type: pa.DataType) -> pa.DataType:
    while isinstance(arrow_type, pa.BaseExtensionType):
        arrow_type = arrow_type.storage_type
    return arrow_type


def _storage(column: Column) -> Column:
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column


def _is_list(arrow_type: pa.DataType) -> bool:
    return pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)


def _is_variable(arrow_type: pa.DataType) -> bool:
    return any(is_kind(arrow_type) for is_kind in _VARIABLE_WIDTH) or _is_list(arrow_type)


def _fixed_bytes(arrow_type: pa.DataType) -> int:
    try:
        return max(1, arrow_type.bit_width // 8)
    except ValueError:
        return 4  # the length word of a variable value


def _variable_bytes(column: Column) -> ByteCounts:
    """Return the bytes of variable values before each row, counted from anywhere; one entry more than rows."""
    if not _is_list(column.type):
        return offsets_of(column)
    offsets = column.offsets.to_numpy().astype(np.int64)
    values = _storage(column.values)
    fixed: ByteCounts = offsets * _fixed_bytes(values.type)
    return fixed + _variable_bytes(values)[offsets] if _is_variable(values.type) else fixed
