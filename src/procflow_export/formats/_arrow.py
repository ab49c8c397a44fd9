"""Arrow columns and kernels, as far as their types can be said.

The stubs of pyarrow describe ``Array`` by its element and the kernels by overloads that refuse valid calls (a scalar among
arrays, a Python value as a scalar), and miss the attributes of concrete arrays.  Code that works on columns of *any* type
uses these two names instead; batches, schemas and fields keep their own types at every interface.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute

Column: TypeAlias = Any
"""A ``pyarrow.Array`` of whatever type."""

Kernel: TypeAlias = Any
kernels: Final[Kernel] = pyarrow.compute


def offsets_of(column: Column) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return where the values of a variable-width column begin in its data, one entry more than rows, without a copy of it."""
    is_wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    buffer = column.buffers()[1]
    if buffer is None or len(column) == 0:
        return np.zeros(len(column) + 1, dtype=np.int64)
    words = np.frombuffer(buffer, dtype=np.int64 if is_wide else np.int32)
    return words[column.offset : column.offset + len(column) + 1].astype(np.int64, copy=False)


def data_of(column: Column) -> memoryview:
    """Return the bytes of all values of a variable-width column in order, without a copy."""
    offsets = offsets_of(column)
    return memoryview(column.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])]


def buffer_of(values: np.ndarray[Any, Any]) -> pa.Buffer:
    """Return an Arrow buffer over the memory of ``values``."""
    return pa.py_buffer(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
