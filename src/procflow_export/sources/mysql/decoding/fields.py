"""Where the values of a block's rows lie, column after column.

Owns the two row forms: text rows, in which every value is a length and a text, and the binary rows of prepared statements,
in which NULLs are bits before the first value and numbers have a fixed width.  Must not know what values mean.  Protocol:
<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html>.

All rows are walked at once: where a column's value has the same width in every row, nothing is done at all but counting
(such columns in a row are a *stretch*, whose bytes are gathered once); elsewhere the lengths of all rows are gathered,
which gives the place of the next column.  After the last column every row must end where its packet ends, which proves
the whole block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from procflow_export.sources.mysql.decoding.packets import FramingError, Rows
from procflow_export.sources.mysql.decoding.walk import Octets, Positions

Mask: TypeAlias = npt.NDArray[np.bool_]

_NULL_MARK: Final = 251
_LONG_LENGTHS: Final = ((252, 2), (253, 3), (254, 8))
_IMPOSSIBLE_MARK: Final = 255
_RESERVED_BITS: Final = 2
_MAX_STRETCHED: Final = 64
"""Longer values are not copied into a stretch, however many rows have the same length."""
_MARGIN_BYTES: Final = 8
"""How far beyond the last field of a stretch may be read."""


class _Stretch:
    """Neighbouring columns whose values lie at the same distances from ``base`` in every row."""

    __slots__ = ("_bytes", "base", "data", "width")

    def __init__(self, data: bytes, base: Positions) -> None:
        self.data = data
        self.base = base
        self.width = 0
        self._bytes: npt.NDArray[np.void] | None = None

    def gather(self, dtype: npt.DTypeLike, offset: int) -> npt.NDArray[Any]:
        """Return the values of ``dtype`` that lie at ``offset``; not before the walk is over."""
        if self._bytes is None:
            self._bytes = gathered(self.data, f"V{self.width + _MARGIN_BYTES}", self.base, 0)
        width = self._bytes.dtype.itemsize
        return np.ndarray((len(self.base),), dtype, self._bytes, offset, (width,)).copy()


class Field:
    """The values of one column: ``is_null`` says which rows have none."""

    __slots__ = ("_lengths", "_offset", "_starts", "_stretch", "data", "is_null", "width")

    def __init__(
        self,
        stretch: _Stretch,
        offset: int,
        is_null: Mask | None,
        *,
        width: int | None = None,
        starts: Positions | None = None,
        lengths: Positions | None = None,
    ) -> None:
        self.data = stretch.data
        self.is_null = is_null
        self.width = width
        """The length of every value, if it is one."""
        self._stretch = stretch
        self._offset = offset
        self._starts = starts
        self._lengths = lengths
        if width is not None:
            stretch.width = max(stretch.width, offset + width)

    def __len__(self) -> int:
        return len(self._stretch.base)

    @property
    def starts(self) -> Positions:
        """Where each value begins."""
        if self._starts is None:
            self._starts = self._stretch.base + self._offset
        return self._starts

    @property
    def lengths(self) -> Positions:
        """How many bytes each value has; none where it is NULL."""
        if self._lengths is None:
            assert self.width is not None
            self._lengths = np.full(len(self), self.width, np.int64)
            if self.is_null is not None:
                self._lengths[self.is_null] = 0
        return self._lengths

    @property
    def longest(self) -> int:
        """The length of the longest value."""
        return self.width if self.width is not None else int(self.lengths.max())

    def gather(self, dtype: npt.DTypeLike, offset: int = 0) -> npt.NDArray[Any]:
        """Return what lies ``offset`` bytes after the beginning of each value, as ``dtype``.

        It has no meaning where that is beyond the value, or where the value is NULL.
        """
        if self.width is None:
            return gathered(self.data, dtype, self.starts, offset)
        reach = np.dtype(dtype).itemsize + offset
        if self._offset + offset < 0 or reach > self.width + _MARGIN_BYTES:
            return gathered(self.data, dtype, self._stretch.base, self._offset + offset)
        return self._stretch.gather(dtype, self._offset + offset)

    def tail(self, skipped: int) -> npt.NDArray[np.uint64]:
        """Return the eight bytes that end ``skipped`` bytes before the end of each value."""
        if self.width is not None:
            return self.gather("<u8", self.width - skipped - 8)
        return gathered(self.data, "<u8", self.starts + self.lengths, -skipped - 8)

    def value(self, row: int) -> bytes:
        """Return the bytes of one value."""
        start = int(self.starts[row])
        return self.data[start : start + int(self.lengths[row])]


def gathered(data: bytes, dtype: npt.DTypeLike, base: Positions, offset: int) -> npt.NDArray[Any]:
    """Return what lies at ``base + offset`` in ``data``."""
    view = np.ndarray((len(data) - np.dtype(dtype).itemsize + 1 - max(offset, 0),), dtype, data, max(offset, 0), (1,))
    return view[base + offset if offset < 0 else base]


class _Walk:
    """The walk over the columns: ``base + offset`` is where the next one begins."""

    def __init__(self, rows: Rows, offset: int) -> None:
        self._rows = rows
        self._octets = np.frombuffer(rows.data, np.uint8)
        self._stretch = _Stretch(rows.data, rows.starts)
        self._offset = offset

    def fixed(self, width: int, is_null: Mask | None) -> Field:
        """Pass a column of ``width`` bytes, or none where it is NULL."""
        field = Field(self._stretch, self._offset, is_null, width=width)
        if is_null is None:
            self._offset += width
        else:
            self._go_to(self._stretch.base + self._offset + np.where(is_null, 0, width))
        return field

    def prefixed(self, is_null: Mask | None) -> Field:
        """Pass a column of values with their length before them; there is nothing where it is NULL."""
        prefix = self._prefix()
        if is_null is None:
            return self._values(prefix, 1, None)
        prefix[is_null] = 0
        return self._values(prefix, ~is_null, is_null)

    def texts(self) -> Field:
        """Pass a column of values with their length, or the mark of NULL, before them."""
        prefix = self._prefix()
        is_null = prefix == _NULL_MARK
        if not is_null.any():
            return self._values(prefix, 1, None)
        prefix[is_null] = 0
        return self._values(prefix, 1, is_null)

    def finish(self) -> None:
        """Check that the columns filled their packets.

        Raises:
            FramingError: If they did not.
        """
        if not np.array_equal(self._stretch.base + self._offset, self._rows.ends):
            raise FramingError("a row does not end with its last field")

    def _prefix(self) -> Octets:
        return self._octets[self._offset :][self._stretch.base]

    def _values(self, prefix: Octets, prefix_bytes: int | Mask, is_null: Mask | None) -> Field:
        longest = int(prefix.max())
        if is_null is None and longest <= _MAX_STRETCHED and longest == int(prefix.min()):
            field = Field(self._stretch, self._offset + 1, None, width=longest)
            self._offset += 1 + longest
            return field
        starts = self._stretch.base + self._offset + prefix_bytes
        lengths = prefix.astype(np.int64)
        if longest >= _NULL_MARK:
            self._lengthen(prefix, starts, lengths)
        field = Field(self._stretch, 0, is_null, starts=starts, lengths=lengths)
        self._go_to(starts + lengths)
        return field

    def _lengthen(self, prefix: Octets, starts: Positions, lengths: Positions) -> None:
        """Correct where the length takes more bytes than one."""
        if ((prefix == _NULL_MARK) | (prefix == _IMPOSSIBLE_MARK)).any():
            raise FramingError("a field has an impossible length")
        for mark, width in _LONG_LENGTHS:
            rows = np.flatnonzero(prefix == mark)
            at = starts[rows]
            value = np.zeros(len(rows), np.uint64)
            for octet in range(width):
                value |= self._octets[at + octet].astype(np.uint64) << np.uint64(8 * octet)
            if (value > len(self._octets)).any():
                raise FramingError("a field goes beyond its block")
            lengths[rows] = value
            starts[rows] += width

    def _go_to(self, base: Positions) -> None:
        self._stretch = _Stretch(self._rows.data, base)
        self._offset = 0


def text_fields(rows: Rows, count: int) -> list[Field]:
    """Return the columns of text rows.

    Raises:
        FramingError: If a row's values do not fill its packet exactly.
    """
    try:
        walk = _Walk(rows, 0)
        fields = [walk.texts() for _ in range(count)]
        walk.finish()
    except IndexError as exc:
        raise FramingError("a field goes beyond its block") from exc
    return fields


def binary_fields(rows: Rows, widths: Sequence[int | None]) -> list[Field]:
    """Return the columns of binary rows.

    Args:
        rows: The rows of a prepared statement.
        widths: Of each column: how many bytes a value has, or ``None`` where its length stands before it.

    Raises:
        FramingError: If a row's values do not fill its packet exactly.
    """
    octets = np.frombuffer(rows.data, np.uint8)
    mask_bytes = (_RESERVED_BITS + len(widths) + 7) // 8
    try:
        if octets[rows.starts].any():
            raise FramingError("a row begins with another byte than 0")
        masks = islice(_null_masks(octets, rows.starts + 1, mask_bytes), _RESERVED_BITS, None)
        walk = _Walk(rows, 1 + mask_bytes)
        fields = [
            walk.prefixed(is_null) if width is None else walk.fixed(width, is_null)
            for width, is_null in zip(widths, masks, strict=False)
        ]
        walk.finish()
    except IndexError as exc:
        raise FramingError("a field goes beyond its block") from exc
    return fields


def _null_masks(octets: Octets, starts: Positions, mask_bytes: int) -> Iterator[Mask | None]:
    """Yield which rows have each bit of their masks set; ``None`` where no row has."""
    for at in range(mask_bytes):
        bits = octets[at:][starts]
        some = int(np.bitwise_or.reduce(bits))
        for bit in range(8):
            yield bits & (1 << bit) != 0 if some >> bit & 1 else None
