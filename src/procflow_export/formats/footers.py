"""How much a Parquet part may hold before its footer is too large.

Owns where a part ends because of that (E-30).  A writer keeps what the footer says of every column of every row group until the part
is closed, about 900 bytes each.  So a part has a bounded number of them, counted in full row groups: its rows and the bytes of
their cells, which follow from the rows and the settings alone (E-24).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from procflow_export.formats.settings import ParquetSettings
from procflow_export.formats.weights import RowWeights

MAX_COLUMN_CHUNKS: Final = 16 * 1024
"""About 14 MiB of footer: 16 row groups of a thousand columns, or a thousand of sixteen."""


class FooterBound:
    """What one part may take at most."""

    def __init__(self, settings: ParquetSettings, weights: RowWeights, column_count: int) -> None:
        """Bound a part of ``column_count`` columns, whose rows ``weights`` can weigh."""
        group_count = max(1, MAX_COLUMN_CHUNKS // max(1, column_count))
        self._weights = weights
        self._max_rows = group_count * settings.row_group_rows
        self._max_bytes = group_count * settings.row_group_bytes

    def room_for(self, rows: pa.RecordBatch, *, row_count: int, cell_bytes: int) -> int:
        """Return how many of the leading rows go into a part that has ``row_count`` of ``cell_bytes``; one at least if it has none."""
        weights = self._weights.before_each_row(rows)
        left_bytes = min(self._max_bytes - cell_bytes, int(weights[-1]))
        fitting = int(np.searchsorted(weights, left_bytes, side="right")) - 1
        room = max(0, min(fitting, self._max_rows - row_count))
        return room or int(not row_count and rows.num_rows > 0)
