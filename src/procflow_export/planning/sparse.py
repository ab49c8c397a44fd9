"""Sparse keys: when ranges would be nearly empty.

Owns the rule by which ranges are given up for slices.  A range costs a statement and a round trip however few rows it holds,
and a table whose keys are time-ordered identifiers of 64 bits makes more ranges than it has rows.
"""

from __future__ import annotations

from typing import Final

MIN_SPARSE_RANGES: Final = 64
"""So many ranges are cheap, however empty."""
MIN_DENSITY: Final = 4
"""Keys between which there is a row, on average, before ranges are called sparse."""
MIN_SPARSE_DAYS: Final = 1_000
MIN_ROWS_A_DAY: Final = 10
MANY_DAYS: Final = 50_000
"""More windows than a calendar that people use has days: some dates stand for "never"."""


def are_ranges_sparse(low: int, high: int, width: int, rows: int | None) -> bool:
    """Whether ranges of ``width`` keys from ``low`` to ``high`` would be nearly empty with that many rows in all."""
    if rows is None or rows <= 0:
        return False
    return high - low >= MIN_DENSITY * max(rows, width)


def are_days_sparse(window_count: int, rows: int | None) -> bool:
    """Whether so many windows of days would be nearly empty; without a row estimate, very many are."""
    if rows is None or rows <= 0:
        return window_count > MANY_DAYS
    return window_count >= MIN_SPARSE_DAYS and rows < MIN_ROWS_A_DAY * window_count
