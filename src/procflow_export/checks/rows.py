"""The rows of a chunk, here and there: found again by their key, and compared without being kept.

Owns what is kept of a row: three words, the hashes of its key, of its cursor and of all its values.  Of a chunk with more rows
than ``MAX_ROWS`` only those are kept that are among the different ones: rows are first counted and summed in buckets, by
the hash of their key, and buckets that are equal on both sides are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.checks.judging import Evidence
from procflow_export.checks.values import Hashes, combined_hashes

MAX_ROWS: Final = 2_000_000
"""So many rows of each side are kept: about 100 MB for both."""
_BUCKET_BITS: Final = 14
_BUCKETS: Final = 1 << _BUCKET_BITS
_HALF: Final = np.uint64(32)
_LOW_HALF: Final = np.uint64(2**32 - 1)
Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


class RowShape:
    """Which columns tell a row from the others, and which say that it has changed."""

    def __init__(self, key: Sequence[str] = (), cursor: Sequence[str] = ()) -> None:
        """Take the columns by name; without a key, a row is told by all its values."""
        self.key = tuple(key)
        self.cursor = tuple(cursor)

    def hashes(self, batch: pa.RecordBatch) -> tuple[Hashes, Hashes, Hashes]:
        """Return the hashes of keys, cursors and rows."""
        rows = combined_hashes(batch)
        keys = combined_hashes(batch.select(list(self.key))) if self.key else rows
        return keys, combined_hashes(batch.select(list(self.cursor))) if self.cursor else keys, rows


class Buckets:
    """The rows of one side, counted and summed by the hash of their key."""

    def __init__(self, shape: RowShape) -> None:
        """Begin with no rows."""
        self._shape = shape
        self.counts = np.zeros(_BUCKETS, dtype=np.int64)
        self._sums = np.zeros(_BUCKETS, dtype=np.uint64)

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        keys, _, rows = self._shape.hashes(batch)
        buckets = _bucket_of(keys)
        self.counts += np.bincount(buckets, minlength=_BUCKETS)
        for part, shift in ((rows & _LOW_HALF, np.uint64(0)), (rows >> _HALF, _HALF)):
            # Halves of words, so that the sums of a batch are exact in the floats that numpy adds up here.
            self._sums += np.bincount(buckets, weights=part, minlength=_BUCKETS).astype(np.uint64) << shift

    def suspects(self, other: Buckets) -> tuple[Mask, bool]:
        """Return the buckets that differ, as many as may be kept, and whether those are all."""
        differs: Mask = (self.counts != other.counts) | (self._sums != other._sums)
        kept = np.cumsum(np.where(differs, np.maximum(self.counts, other.counts), 0)) <= MAX_ROWS
        return differs & kept, bool(np.all(kept[differs]))


class Rows:
    """The rows of one side, three words each."""

    def __init__(self, shape: RowShape, suspects: Mask | None = None) -> None:
        """Begin with no rows; keep those of some buckets, or all."""
        self._shape = shape
        self._suspects = suspects
        self._batches: list[tuple[Hashes, Hashes, Hashes]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        hashes = self._shape.hashes(batch)
        if self._suspects is not None:
            kept = self._suspects[_bucket_of(hashes[0])]
            hashes = (hashes[0][kept], hashes[1][kept], hashes[2][kept])
        self._batches.append(hashes)

    def sorted(self) -> tuple[Hashes, Hashes, Hashes]:
        """Return keys, cursors and rows, in the order of the keys."""
        if not self._batches:
            empty: Hashes = np.zeros(0, dtype=np.uint64)
            return empty, empty, empty
        keys, cursors, rows = (np.concatenate(words) for words in zip(*self._batches, strict=True))
        order = np.argsort(keys, kind="stable")
        return keys[order], cursors[order], rows[order]


class Findings:
    """The rows of both sides, compared."""

    def __init__(self, shape: RowShape, source: Rows, files: Rows, *, is_partial: bool = False) -> None:
        """Compare them."""
        self._shape = shape
        self._is_partial = is_partial
        self._source = source.sorted()
        self._files = files.sorted()
        source_keys, source_counts = np.unique(self._source[0], return_counts=True)
        file_keys, file_counts = np.unique(self._files[0], return_counts=True)
        common, at_source, in_files = np.intersect1d(source_keys, file_keys, assume_unique=True, return_indices=True)
        self._more_at_source = int(np.maximum(source_counts[at_source] - file_counts[in_files], 0).sum())
        self._more_in_files = int(np.maximum(file_counts[in_files] - source_counts[at_source], 0).sum())
        self._only_at_source = int(source_counts.sum() - source_counts[at_source].sum())
        self._gone = file_keys[~np.isin(file_keys, common, assume_unique=True)]
        self._only_in_files = int(file_counts.sum() - file_counts[in_files].sum())
        self._behind: Hashes = np.zeros(0, dtype=np.uint64)
        first, second = np.searchsorted(self._source[0], common), np.searchsorted(self._files[0], common)
        is_altered = self._source[2][first] != self._files[2][second]
        is_moved = self._source[1][first] != self._files[1][second]
        self._altered_and_moved = int(np.count_nonzero(is_altered & is_moved))
        self._altered_in_place = int(np.count_nonzero(is_altered & ~is_moved))

    @property
    def has_gone(self) -> bool:
        """Whether files have rows that the chunk at the source has not."""
        return bool(len(self._gone))

    def look_behind(self, batch: pa.RecordBatch) -> None:
        """Take note of rows that are behind the end of the chunk: some of those that are gone may be among them."""
        keys = self._shape.hashes(batch)[0]
        self._behind = np.union1d(self._behind, keys[np.isin(keys, self._gone)])

    @property
    def evidence(self) -> Evidence:
        """The counts."""
        has_key = bool(self._shape.key)
        return Evidence(
            has_key=has_key,
            only_at_source=self._only_at_source + (0 if has_key else self._more_at_source),
            only_in_files=self._only_in_files + (0 if has_key else self._more_in_files),
            moved_on=len(self._behind) if has_key else 0,
            altered_in_place=self._altered_in_place,
            altered_and_moved=self._altered_and_moved,
            repeated=self._more_in_files if has_key else 0,
            is_partial=self._is_partial,
        )


def _bucket_of(keys: Hashes) -> np.ndarray[Any, np.dtype[np.int64]]:
    return (keys >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)
