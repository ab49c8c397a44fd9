"""Arrow arrays and kernels, as far as their types can be said.

The stubs of pyarrow describe an array by its element and the kernels by overloads that refuse valid calls.  Code that works
on columns of any type uses these names; batches and schemas keep their own types at every interface.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

Values: TypeAlias = Any
"""A ``pyarrow.Array`` of whatever type."""

AnyType: TypeAlias = Any
"""A ``pyarrow.DataType`` whose own attributes are asked for: its unit, its precision, its element."""

Kernel: TypeAlias = Any
kernels: Final[Kernel] = pyarrow.compute


def buffer_of(values: np.ndarray[Any, Any]) -> pa.Buffer:
    """Return an Arrow buffer over the memory of ``values``."""
    return pa.py_buffer(np.ascontiguousarray(values).data.cast("B") if values.size else b"")


def cut_out(data: bytes, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> tuple[pa.Buffer, pa.Buffer]:
    """Return pieces of ``data`` one after another, as the offsets and the bytes of an Arrow array: one copy, no object for a piece.

    Args:
        data: At most 2 GiB.
        starts: Where each piece begins, in order.
        stops: Where each ends, at the latest where the next one begins.
    """
    count = len(starts)
    if not count:
        return buffer_of(np.zeros(1, np.int32)), pa.py_buffer(b"")
    # Every second entry of an array over all of the data is a piece; between two there is what lies between them.
    bounds = np.empty(2 * count + 1, np.int32)
    bounds[:-1:2] = starts
    bounds[1::2] = stops
    # Arrow makes room for as many bytes as the mean entry has.  That is half of the data for every column, however narrow, and what
    # is given back of it are holes in the heap (E-30).  One entry more, which nobody takes, makes the mean that of the pieces.
    entry_count = 2 * count - 1
    enough = int(bounds[0]) + 2 * (int(stops.sum()) - int(starts.sum()) + 1)
    if enough < len(data):
        bounds[-1] = enough
        entry_count += 1
    entries = pa.Array.from_buffers(pa.binary(), entry_count, [None, buffer_of(bounds), pa.py_buffer(data)])
    _, offsets, pieces = kernels.take(entries, _every_second(count), boundscheck=False).buffers()
    return offsets, pieces


def _every_second(count: int) -> Values:
    """Return the indices 0, 2, 4 and so on."""
    return _even_numbers(max(16, count.bit_length())).slice(0, count)


@lru_cache(maxsize=4)
def _even_numbers(bits: int) -> Values:
    return pa.array(np.arange(0, 2 << bits, 2, dtype=np.int32))


class DoesNotFitError(pa.ArrowInvalid):
    """A value does not fit its type; unlike Arrow's own errors, this one says why in words that people can be shown."""


class MisfitError(Exception):
    """A value does not fit its column, and the column's policy keeps it from being changed.

    Attributes:
        index: Its place among the values that were read.
        reason: Why, where the value does not say it.
    """

    def __init__(self, index: int, reason: str = "") -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason
