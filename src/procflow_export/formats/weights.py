"""How many bytes the cells of a column take before encoding.

Owns that measure, which depends on the values alone, not on buffers or slices: what waits for a row group is measured by it,
and what a single value may have.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.formats._arrow import Column, offsets_of

_VARIABLE_WIDTH: Final = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)

ByteCounts: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]


class RowWeights:
    """How many bytes the cells of a row take before encoding; depends on the values alone, not on buffers or slices."""

    def __init__(self, schema: pa.Schema) -> None:
        types = [storage_type(field.type) for field in schema]
        self._bytes_per_row = sum(_fixed_bytes(arrow_type) for arrow_type in types)
        self._variable = tuple(position for position, arrow_type in enumerate(types) if is_variable(arrow_type))

    @property
    def variable_columns(self) -> tuple[int, ...]:
        """Positions of the columns whose values have sizes of their own."""
        return self._variable

    def before_each_row(self, batch: pa.RecordBatch) -> ByteCounts:
        """Return the bytes before each row, one entry more than rows."""
        weights: ByteCounts = np.arange(batch.num_rows + 1, dtype=np.int64) * self._bytes_per_row
        for position in self._variable:
            weights += variable_bytes(batch.column(position))
        # A slice begins in the middle of its buffers.
        weights -= weights[0]
        return weights


def storage_type(arrow_type: pa.DataType) -> pa.DataType:
    while isinstance(arrow_type, pa.BaseExtensionType):
        arrow_type = arrow_type.storage_type
    return arrow_type


def _storage(column: Column) -> Column:
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column


def _is_list(arrow_type: pa.DataType) -> bool:
    return pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)


def is_variable(arrow_type: pa.DataType) -> bool:
    return any(is_kind(arrow_type) for is_kind in _VARIABLE_WIDTH) or _is_list(arrow_type)


def _fixed_bytes(arrow_type: pa.DataType) -> int:
    try:
        return max(1, arrow_type.bit_width // 8)
    except ValueError:
        return 4  # the length word of a variable value


def variable_bytes(column: Column) -> ByteCounts:
    """Return the bytes of variable values before each row, counted from anywhere; one entry more than rows."""
    column = _storage(column)
    if not _is_list(column.type):
        return offsets_of(column)
    offsets = column.offsets.to_numpy().astype(np.int64)
    values = _storage(column.values)
    fixed: ByteCounts = offsets * _fixed_bytes(values.type)
    return fixed + variable_bytes(values)[offsets] if is_variable(values.type) else fixed


def first_row_above(column: Column, limit_bytes: int) -> int | None:
    """Return the first row of a variable-width column whose value has more than ``limit_bytes``."""
    counts = variable_bytes(column)
    if counts[-1] - counts[0] <= limit_bytes:
        return None
    rows = np.flatnonzero(np.diff(counts) > limit_bytes)
    return int(rows[0]) if rows.size else None
