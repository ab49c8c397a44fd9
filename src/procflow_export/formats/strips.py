"""Rows cut into strips, at borders that follow from the rows alone.

Owns how many bytes a row counts for, and where a strip ends: after ``STRIP_ROWS`` rows, or before the row with which it
would exceed ``STRIP_BYTES`` of cells, or more if there are many columns.  Must not know files.

A file whose bytes are to depend on its rows alone cannot be written in the pieces in which the rows happened to come
(E-24).  Strips are what it is written in instead.  Putting one together copies its rows once, while they are warm in
the cache, and what waits to be written is never copied as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from procflow_export.formats.weights import RowWeights

STRIP_ROWS: Final = 16 * 1024
STRIP_BYTES: Final = 1024 * 1024
STRIP_BYTES_PER_COLUMN: Final = 8 * 1024
"""A piece of a column costs some hundred bytes beside its cells: with a thousand columns it must not be a handful of rows."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows in one piece, and the bytes of their cells."""

    rows: pa.RecordBatch
    cell_bytes: int


class StripCutter:
    """Takes batches and gives strips."""

    def __init__(self, schema: pa.Schema, *, max_rows: int = STRIP_ROWS, max_bytes: int = sys.maxsize) -> None:
        """Cut batches of ``schema``, which has no dictionaries; ``max_bytes`` bounds what many columns add to a strip."""
        self.weights = RowWeights(schema)
        self._pieces: list[pa.RecordBatch] = []
        self._row_count = 0
        self._strip_bytes = max(STRIP_BYTES, min(STRIP_BYTES_PER_COLUMN * len(schema), max_bytes))
        self.max_rows = max_rows
        """Where strips end at the latest; may be changed between two strips, to a number that the open one does not exceed."""
        self.pending_bytes = 0
        """Bytes of the rows that belong to no strip yet."""

    def cut(self, batch: pa.RecordBatch) -> Iterator[Strip]:
        """Take the rows of ``batch`` and yield the strips that they complete."""
        weights = self.weights.before_each_row(batch)
        start, row_count = 0, batch.num_rows
        while start < row_count:
            most = min(row_count, start + self.max_rows - self._row_count)
            room = int(weights[start]) + self._strip_bytes - self.pending_bytes
            stop = min(most, int(np.searchsorted(weights, room, side="right")) - 1)
            if stop <= start and not self._pieces:
                stop = start + 1  # a row that is larger than a strip is one
            if stop > start:
                self._pieces.append(batch.slice(start, stop - start))
                self._row_count += stop - start
                self.pending_bytes += int(weights[stop] - weights[start])
            if stop < row_count or self._row_count == self.max_rows or self.pending_bytes >= self._strip_bytes:
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
