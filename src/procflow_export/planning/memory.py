"""How the memory of a process is divided, and how much of it a work unit takes, as far as that is known before it is read.

Owns the estimates by which batches are sized and units are admitted to a process, and how large row groups may become.  An
estimate too low costs memory, one too high costs parallelism: these lean to the high side.

A process has a budget, its interpreter and libraries included (``PROCESS_BASE_BYTES``); the rest is for data.  What a
unit takes has two parts: what is on its way (wire, decoded, handed over: bounded by constants, see ``UNIT_BYTES``) and
the rows that wait for their row group, the largest thing by far.  So the budget decides how large a row group may be, and
never what else runs at the same time: equal rows under equal settings give equal files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from procflow_export.model.plan import WorkUnit
from procflow_export.model.settings import AUTO_ROW_GROUP_BYTES, Format, FormatOptions, ReadLimits, RowGroupStrategy
from procflow_export.model.types import Column, LogicalType

KIB: Final = 1 << 10
MIB: Final = 1 << 20
PROCESS_BASE_BYTES: Final = 96 * MIB
"""What an idle process has with interpreter, drivers and Arrow loaded (measured: 96 to 100 MiB)."""
MIN_DATA_BYTES: Final = 32 * MIB
UNIT_BYTES: Final = 28 * MIB
"""Wire buffer, block, batches and their copies of one unit, and what an allocator loses on them."""
COLUMN_BYTES: Final = 16 * KIB
"""What a column adds to that, and to its unit's plan, however narrow it is (measured: 12 to 16 MiB for a thousand)."""
CSV_BYTES: Final = 4 * MIB
STORE_BYTES: Final = 24 * MIB
"""The blocks of one upload to an object store: two that travel and one that is filled."""
PENDING_FACTOR: Final = 1.375
"""Rows that wait for their row group, encoded pages of a column, and what an allocator loses on them (measured: 44 MiB for 32)."""
MIN_BATCH_ROWS: Final = 1_000

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


def data_bytes(memory_bytes: int) -> int:
    """Return what a process with a budget of ``memory_bytes`` may use for data."""
    return max(memory_bytes - PROCESS_BASE_BYTES, MIN_DATA_BYTES)


def max_pending_bytes(memory_bytes: int) -> int:
    """Return how many bytes of rows may wait for their row group in a process with a budget of ``memory_bytes``."""
    return data_bytes(memory_bytes) * 3 // 8


def max_row_group_bytes(options: FormatOptions, memory_bytes: int) -> int:
    """Return the most bytes of cells that a row group has; it depends on settings alone."""
    most = max_pending_bytes(memory_bytes)
    parquet = options.parquet
    match parquet.row_group_strategy:
        case RowGroupStrategy.FIXED_ROWS:
            return most
        case RowGroupStrategy.FIXED_MEMORY:
            target_mb = min(parquet.target_row_group_mb, parquet.max_row_group_mb or parquet.target_row_group_mb)
            return min(most, target_mb * MIB)
        case RowGroupStrategy.AUTO:
            # With the default budget 15 MiB: an encoder that is busy for longer keeps its reader waiting (see ``HANDOVER_BYTES``).
            return min(most // 4, AUTO_ROW_GROUP_BYTES)


def row_group_warning(options: FormatOptions, row_bytes: int, memory_bytes: int) -> str | None:
    """Return what the operator should know if row groups end before they have the size that was asked for."""
    wanted = 0
    parquet = options.parquet
    if options.format is Format.PARQUET and parquet.row_group_strategy is RowGroupStrategy.FIXED_ROWS:
        wanted = (parquet.row_group_rows or 0) * row_bytes
    elif options.format is Format.PARQUET and parquet.row_group_strategy is RowGroupStrategy.FIXED_MEMORY:
        wanted = parquet.target_row_group_mb * MIB
    most = max_pending_bytes(memory_bytes)
    if wanted <= most:
        return None
    return (
        f"row groups end at {most // MIB} MiB, before the {wanted // MIB} MiB of their settings: "
        f"memory_mb ({memory_bytes // MIB}) allows no more"
    )


def estimated_row_bytes(columns: Iterable[Column]) -> int:
    """Return about how many bytes a decoded row has."""
    return sum(_VALUE_BYTES.get(column.logical_type, _OTHER_BYTES) for column in columns) or 1


def batch_rows(limits: ReadLimits, row_bytes: int) -> int:
    """Return how many rows a batch may have so that it should stay under the byte limit."""
    return min(limits.batch_rows, max(MIN_BATCH_ROWS, limits.batch_bytes // row_bytes))


def unit_bytes(unit: WorkUnit, columns: Sequence[Column], memory_bytes: int) -> int:
    """Return about how much memory the work on a unit takes at its peak, in a process with a budget of ``memory_bytes``.

    Args:
        unit: The unit.
        columns: Those of the unit, decoded.
        memory_bytes: The budget.
    """
    on_its_way = UNIT_BYTES + COLUMN_BYTES * len(columns)
    if unit.destination.type.is_store:
        on_its_way += STORE_BYTES
    if unit.format.format is Format.CSV:
        return on_its_way + CSV_BYTES
    row_bytes = estimated_row_bytes(columns)
    pending = max_row_group_bytes(unit.format, memory_bytes)
    rows = unit.format.parquet.row_group_rows
    if unit.format.parquet.row_group_strategy is RowGroupStrategy.FIXED_ROWS and rows is not None:
        pending = min(pending, 2 * rows * row_bytes)
    if unit.row_estimate is not None:
        # Statistics may be old: twice what they say.
        pending = min(pending, 2 * unit.row_estimate * row_bytes)
    return on_its_way + int(PENDING_FACTOR * pending)
