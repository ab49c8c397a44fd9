"""Rows and values that are too large for the ordinary way.

Owns where a part ends because of them (E-30).  What a file's columns are encoded with is said once for all of its row
groups, and its writer keeps the buffers of the last column until it writes the next one.  So a part ends before the first row
with a value above ``LARGE_VALUE_BYTES`` in a column that had none so far, and after a row above ``LARGE_ROW_BYTES``.  Both
follow from the rows alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from procflow_export.formats.weights import RowWeights, first_row_above
from procflow_export.model.settings import AUTO_ROW_GROUP_BYTES

LARGE_VALUE_BYTES: Final = 1024 * 1024
LARGE_ROW_BYTES: Final = AUTO_ROW_GROUP_BYTES


class LargeRows:
    """Watches the rows of one part.

    Attributes:
        columns: Positions of the columns that have had large values, in this part or before.
        has_ended: Whether a row was taken after which the part ends.
    """

    def __init__(self, weights: RowWeights, columns: frozenset[int]) -> None:
        """Watch rows that ``weights`` can weigh."""
        self._weights = weights
        self._is_empty = True
        self.has_ended = False
        self.columns = columns

    def room_for(self, rows: pa.RecordBatch) -> int:
        """Return how many of the leading rows this part can take; at least one if it has none yet."""
        if self.has_ended or not rows.num_rows:
            return 0
        if self._is_empty:
            self.columns |= self._large_columns(rows.slice(0, 1))
        ends = [rows.num_rows]
        for position in self._weights.variable_columns:
            if position not in self.columns:
                row = first_row_above(rows.column(position), LARGE_VALUE_BYTES)
                ends += [] if row is None else [row]
        row = self._first_large_row(rows)
        ends += [] if row is None else [row + 1]
        return min(ends)

    def note(self, rows: pa.RecordBatch) -> None:
        """Take in rows that the part has taken, no more than there was room for."""
        if rows.num_rows:
            self._is_empty = False
            self.has_ended = self._first_large_row(rows) is not None

    def _large_columns(self, rows: pa.RecordBatch) -> frozenset[int]:
        found = self._weights.variable_columns
        return frozenset(at for at in found if first_row_above(rows.column(at), LARGE_VALUE_BYTES) is not None)

    def _first_large_row(self, rows: pa.RecordBatch) -> int | None:
        if rows.nbytes <= LARGE_ROW_BYTES:
            return None
        large = np.flatnonzero(np.diff(self._weights.before_each_row(rows)) > LARGE_ROW_BYTES)
        return int(large[0]) if large.size else None
