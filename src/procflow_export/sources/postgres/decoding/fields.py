"""The values of one column in a block: where they are, and how they are taken out of it together.

Owns the two ways in which a column can lie in a block.  Must not know types.

``Packed`` values are equally long in every row and stand at one distance from each other: NumPy sees them as a strided array,
without a copy.  ``Loose`` values are anywhere: fixed-width ones are gathered, texts are taken by Arrow out of an array that
lies over the block itself, which is one copy and no object for a value.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from procflow_export.sources.arrays import buffer_of, cut_out

Positions: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[Any]

MAX_BLOCK_BYTES: Final = 2**31 - 1
"""Arrow's offsets have 32 bits."""


class FramingError(Exception):
    """The bytes are not what the format says."""


class Block:
    """The bytes of a block, read at any position."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_BLOCK_BYTES:
            raise FramingError("a row is longer than 2 GiB")
        self.data = data
        self.size = len(data)

    def everywhere(self, dtype: np.dtype[Any]) -> Numbers:
        """Return what stands at each position, read as ``dtype``; a view."""
        return np.ndarray((max(0, self.size - dtype.itemsize + 1),), dtype, self.data, strides=(1,))

    def gather(self, positions: Positions, dtype: np.dtype[Any]) -> Numbers:
        """Return what stands at ``positions``, which are sorted; behind the block's end there are zeros.

        Raises:
            IndexError: If they are not sorted, and one is behind the end.
        """
        last = self.size - dtype.itemsize
        if not len(positions) or positions[-1] <= last:
            return self.everywhere(dtype)[positions]
        begin = max(0, last + 1)
        inside = int(np.searchsorted(positions, begin))
        behind = np.minimum(positions[inside:], self.size) - begin
        if behind.min() < 0:
            raise IndexError("positions that are not sorted")
        result = np.empty(len(positions), dtype)
        result[:inside] = self.everywhere(dtype)[positions[:inside]]
        result[inside:] = Block(self.data[begin:] + bytes(2 * dtype.itemsize)).everywhere(dtype)[behind]
        return result


class Packed:
    """Values that are equally long in all rows, none of them NULL.

    Attributes:
        block: Where they are.
        rows: Where their rows begin.
        offset: From there to the value.
        width: Bytes of each.
        is_null: None, as no value is NULL.
    """

    __slots__ = ("_column", "block", "is_null", "offset", "rows", "width")

    def __init__(self, block: Block, rows: Positions, offset: int, column: Numbers) -> None:
        self.block = block
        self.rows = rows
        self.offset = offset
        self.width: int = column.dtype.itemsize
        self.is_null: Mask | None = None
        self._column = column

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def start(self) -> Positions:
        """Where the values begin."""
        return self.rows + self.offset

    @property
    def stop(self) -> Positions:
        """Where they end."""
        return self.rows + (self.offset + self.width)

    def raw(self, index: int) -> bytes | None:
        """Return the bytes of one value."""
        begin = int(self.rows[index]) + self.offset
        return self.block.data[begin : begin + self.width]

    def fixed(self, dtype: np.dtype[Any]) -> Numbers:
        """Return values of a fixed width, strided.

        Raises:
            FramingError: If the values have another width.
        """
        if self.width != dtype.itemsize:
            raise _wrong_width(dtype, self.width)
        return self._column.view(dtype)

    def head(self, dtype: np.dtype[Any]) -> Numbers:
        """Return what stands where the values begin, however long they are."""
        return self.block.gather(self.start, dtype)

    def pieces(self) -> tuple[pa.Buffer, pa.Buffer]:
        """Return the values one after another, as the offsets and the data of an Arrow array."""
        offsets = np.arange(0, (len(self) + 1) * self.width, self.width, dtype=np.int32)
        return buffer_of(offsets), buffer_of(np.ascontiguousarray(self._column).view(np.uint8))


class Loose:
    """Values of any length at any place, some of them NULL perhaps: those have length 0.

    Attributes:
        block: Where they are.
        start: Where the values begin, in order.
        stop: Where they end.
        is_null: Which are NULL; None if none is.
    """

    __slots__ = ("_ahead", "block", "is_null", "start", "stop")

    def __init__(
        self, block: Block, start: Positions, stop: Positions, is_null: Mask | None, ahead: Numbers | None = None
    ) -> None:
        """Take note of where the values are.

        Args:
            block: Where they are.
            start: Where each begins.
            stop: Where each ends.
            is_null: Which are NULL.
            ahead: So many bytes from the beginning of each as are looked at in any case, if they were taken already.
        """
        self.block = block
        self.start = start
        self.stop = stop
        self.is_null = is_null
        self._ahead = ahead

    def __len__(self) -> int:
        return len(self.start)

    def raw(self, index: int) -> bytes | None:
        """Return the bytes of one value; None if it is NULL."""
        if self.is_null is not None and self.is_null[index]:
            return None
        return self.block.data[int(self.start[index]) : int(self.stop[index])]

    def fixed(self, dtype: np.dtype[Any]) -> Numbers:
        """Return values of a fixed width; where one is NULL there is something.

        Raises:
            FramingError: If a value has another width.
        """
        fits = self.stop - self.start == dtype.itemsize
        if self.is_null is not None:
            fits |= self.is_null
        if not fits.all():
            row = int(np.argmin(fits))
            raise _wrong_width(dtype, int(self.stop[row] - self.start[row]))
        return self.head(dtype)

    def head(self, dtype: np.dtype[Any]) -> Numbers:
        """Return what stands where the values begin, however long they are."""
        if self._ahead is not None and self._ahead.dtype.itemsize == dtype.itemsize:
            return self._ahead.view(dtype)
        return self.block.gather(self.start, dtype)

    def pieces(self) -> tuple[pa.Buffer, pa.Buffer]:
        """Return the values one after another, as the offsets and the data of an Arrow array."""
        return cut_out(self.block.data, self.start, self.stop)


Field: TypeAlias = Packed | Loose


def _wrong_width(dtype: np.dtype[Any], length: int) -> FramingError:
    return FramingError(f"a value has {length} bytes where its type has {dtype.itemsize}")
