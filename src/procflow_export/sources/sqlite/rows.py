"""Rows off a cursor, as many as make a batch.

Owns how many that is: rows are counted in bytes as they come, because the next one may be as large as all before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.sqlite.decoder import Value

ROW_BYTES: Final = 64
"""What Python takes for a row without its values."""
CELL_BYTES: Final = 40
"""What Python takes for a number, or for a text beside its characters."""
_NUMBERS: Final = frozenset({LogicalType.INTEGER, LogicalType.FLOAT, LogicalType.BOOL})


class RowReader:
    """Reads one cursor; everything here blocks."""

    def __init__(self, cursor: sqlite3.Cursor, columns: Sequence[Column], *, max_rows: int, max_bytes: int) -> None:
        """Read ``cursor`` in pieces of at most ``max_rows`` rows and, unless a single row has more, about ``max_bytes``."""
        self._cursor = cursor
        self._row_bytes = ROW_BYTES + CELL_BYTES * len(columns)
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        # A column of numbers may hold a text, too; it is refused, and rare.
        self._texts = [at for at, column in enumerate(columns) if column.logical_type not in _NUMBERS]
        self._rows: list[tuple[Value, ...]] = []
        self.size_bytes = 0
        """About how many bytes the rows take that were read last."""

    def read(self) -> bool:
        """Read the next rows and keep them; return whether there are any."""
        rows: list[tuple[Value, ...]] = []
        size_bytes, texts, row_bytes = 0, self._texts, self._row_bytes
        for row in self._cursor:
            rows.append(row)
            size_bytes += row_bytes
            for at in texts:
                value = row[at]
                if isinstance(value, (str, bytes)):
                    size_bytes += len(value)
            if size_bytes >= self._max_bytes or len(rows) == self._max_rows:
                break
        self._rows, self.size_bytes = rows, size_bytes
        return bool(rows)

    def take(self) -> list[tuple[Value, ...]]:
        """Return the rows that were read; they are not kept here any longer."""
        rows, self._rows = self._rows, []
        return rows
