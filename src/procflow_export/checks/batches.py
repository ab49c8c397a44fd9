"""Batches against the limits of their reader: no value, and no batch, larger than was allowed.

Owns these two checks.  Must not know where batches come from or go to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from procflow_export.formats.weights import is_variable, storage_type, variable_bytes
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.row_names import RowNames
from procflow_export.model.settings import BatchPolicy, ReadLimits
from procflow_export.model.types import Column

MIB = 1 << 20


class BatchCheck:
    """Looks at the batches of one chunk, in their order."""

    def __init__(
        self, limits: ReadLimits, columns: Sequence[Column], *, key: tuple[str, ...], warn: Callable[[str], object]
    ) -> None:
        """Prepare for the batches of a chunk.

        Args:
            limits: What is allowed.
            columns: The columns of the batches.
            key: Columns whose values name a row in errors.
            warn: Is told, at most once, of batches that are too large, where that is no failure.
        """
        self._limits = limits
        self._variable = [
            (at, column) for at, column in enumerate(columns) if is_variable(storage_type(column.arrow_type))
        ]
        self._row_names = RowNames([column.name for column in columns], key)
        self._warn = warn
        self._has_warned = False

    def checked(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a batch, in one piece or, where its policy is to shrink it, in several.

        Raises:
            DataError: For the first value that is too large, or a batch that is and must not be.
        """
        largest = self._limits.max_value_bytes
        if largest and batch.nbytes > largest:
            self._refuse_larger(batch, largest)
        self._row_names.row_count += batch.num_rows
        most = self._limits.max_batch_bytes
        if not most or (size_bytes := batch.nbytes) <= most:
            yield batch
            return
        about = f"a batch of {batch.num_rows} rows has {_shown(size_bytes)}, more than tuning.max_batch_memory_mb ({most // MIB})"
        match self._limits.on_batch_exceeded:
            case BatchPolicy.FAIL:
                raise DataError(Code.BATCH_TOO_LARGE, about)
            case BatchPolicy.WARN:
                self._warn_once(about)
                yield batch
            case BatchPolicy.AUTO_SHRINK:
                yield from self._shrunk(batch, most, about)

    def _shrunk(self, batch: pa.RecordBatch, most: int, about: str) -> Iterator[pa.RecordBatch]:
        if batch.num_rows == 1:
            self._warn_once(f"{about}, and cannot be shrunk")
            yield batch
        elif batch.nbytes <= most:
            yield batch
        else:
            half = batch.num_rows // 2
            yield from self._shrunk(batch.slice(0, half), most, about)
            yield from self._shrunk(batch.slice(half), most, about)

    def _warn_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(message)

    def _refuse_larger(self, batch: pa.RecordBatch, largest: int) -> None:
        for position, column in self._variable:
            sizes = np.diff(variable_bytes(batch.column(position)))
            row = int(sizes.argmax())
            if sizes[row] > largest:
                raise DataError(
                    Code.VALUE_TOO_LARGE,
                    f"column {column.name!r} ({column.native_type}) holds a value of {_shown(int(sizes[row]))}, more than "
                    f"tuning.max_value_mb ({largest // MIB}), at {self._place(batch, row)}",
                )

    def _place(self, batch: pa.RecordBatch, row: int) -> str:
        def text(at: int) -> str | None:
            value = batch.column(at)[row].as_py()
            return None if value is None else str(value)

        return self._row_names.of(row, text)


def _shown(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f} MiB"
