"""Arrow arrays and kernels, as far as their types can be said.

The stubs of pyarrow describe an array by its element and the kernels by overloads that refuse valid calls.  Code that works
on columns of any type uses these names; batches and schemas keep their own types at every interface.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
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
