"""How large rows, batches and work units are, as far as that can be known before they are read.

Owns the estimates by which batches are sized and units are admitted to a process.  An estimate too low costs memory, one
too high costs parallelism: these lean to the high side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from procflow_export.model.plan import WorkUnit
from procflow_export.model.settings import AUTO_ROW_GROUP_BYTES, Format, FormatOptions, ReadLimits, RowGroupStrategy
from procflow_export.model.types import Column, LogicalType

MIB: Final = 1 << 20
MIN_BATCH_ROWS: Final = 1_000
READER_BYTES: Final = 8 * MIB
"""Wire buffer and decoded block of one chunk reader."""
CSV_BYTES: Final = 4 * MIB
ENCODER_FACTOR: Final = 2
"""A row group exists twice while it is encoded: as rows, and as pages that wait for its end."""

_VALUE_BYTES: Final = {
    LogicalType.BOOL: 1,
    LogicalType.INTEGER: 8,
    LogicalType.FLOAT: 8,
    LogicalType.DECIMAL: 16,
    LogicalType.MONEY: 16,
    LogicalType.DATE: 4,
    LogicalType.TIME: 8,
    LogicalType.TIMESTAMP: 8,
    LogicalType.INSTANT: 8,
    LogicalType.UUID: 16,
    LogicalType.YEAR: 2,
    LogicalType.ENUM: 12,
    LogicalType.TEXT: 40,
    LogicalType.JSON: 200,
    LogicalType.BYTES: 200,
    LogicalType.GEOMETRY: 200,
    LogicalType.ARRAY: 100,
}
_OTHER_BYTES: Final = 32


def estimated_row_bytes(columns: Iterable[Column]) -> int:
    """Return about how many bytes a decoded row has."""
    return sum(_VALUE_BYTES.get(column.logical_type, _OTHER_BYTES) for column in columns) or 1


def batch_rows(limits: ReadLimits, row_bytes: int) -> int:
    """Return how many rows a batch may have so that it should stay under the byte limit."""
    return min(limits.batch_rows, max(MIN_BATCH_ROWS, limits.batch_bytes // row_bytes))


def unit_bytes(unit: WorkUnit, row_bytes: int) -> int:
    """Return about how much memory the work on a unit takes at its peak."""
    limits = unit.source.tuning.limits()
    batches = 4 * min(
        limits.batch_bytes, unit.batch_rows * row_bytes
    )  # rows as the driver gives them, read, handed over, encoded
    pending = _pending_bytes(unit.format, row_bytes)
    if unit.row_estimate is not None:
        # Statistics may be old: twice what they say, but nothing below a batch.
        pending = min(pending, max(2 * unit.row_estimate * row_bytes, limits.batch_bytes))
    return READER_BYTES + batches + ENCODER_FACTOR * pending


def _pending_bytes(options: FormatOptions, row_bytes: int) -> int:
    if options.format is Format.CSV:
        return CSV_BYTES
    parquet = options.parquet
    match parquet.row_group_strategy:
        case RowGroupStrategy.FIXED_ROWS:
            return (parquet.row_group_rows or 0) * row_bytes
        case RowGroupStrategy.FIXED_MEMORY:
            return parquet.target_row_group_mb * MIB
        case RowGroupStrategy.AUTO:
            return AUTO_ROW_GROUP_BYTES
