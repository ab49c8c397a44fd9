"""Fields of array types become Arrow lists.

Owns the binary form of arrays: how many dimensions, whether there are NULLs, the elements' type, size and lower bound of each
dimension, and then the elements like fields of a row; see ``array_send`` in the server's sources.

Only an array of one dimension with lower bound 1 is a list; and an empty one, which has no dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.sources.arrays import MisfitError, Values, buffer_of
from procflow_export.sources.postgres.decoding.cells import NOT_A_LIST
from procflow_export.sources.postgres.decoding.fields import Block, Field, FramingError, Lengths, Loose, Mask, Positions
from procflow_export.sources.postgres.decoding.fixed import validity
from procflow_export.sources.postgres.decoding.framing import NULL_LENGTH
from procflow_export.sources.postgres.decoding.misfits import Misfits

ElementReader: TypeAlias = Callable[[Field], Values]

_INT32: Final = np.dtype("<i4")
_EMPTY_BYTES: Final = 12
_SIZE: Final = 12
_LOWER_BOUND: Final = 16
_HEADER_BYTES: Final = 20
_LENGTH_BYTES: Final = 4
_FEW_ARRAYS: Final = 16


def read_lists(field: Field, arrow_type: pa.DataType, read_elements: ElementReader, misfits: Misfits) -> Values:
    """Return lists whose elements ``read_elements`` reads.

    Raises:
        MisfitError: If an array is no list, or an element does not fit; its index is that of the row.
        FramingError: If the bytes are no arrays.
    """
    block, start, stop, is_null = field.block, field.start, field.stop, field.is_null
    dimensions = _numbers(block, start)
    has_elements = dimensions == 1
    is_list = has_elements & (_numbers(block, start + _LOWER_BOUND) == 1) | (dimensions == 0)
    if not is_list.all():
        is_null = misfits.settle(~is_list, is_null, hopeless=~is_list, reason=NOT_A_LIST)
    has_elements &= is_list
    is_empty = is_list & ~has_elements
    if is_null is not None:
        has_elements &= ~is_null
        is_empty &= ~is_null
    if not ((stop - start == _EMPTY_BYTES) | ~is_empty).all():
        raise FramingError("an array without elements has bytes for some")
    rows = np.flatnonzero(has_elements)
    sizes = np.zeros(len(field), np.int64)
    sizes[rows] = _numbers(block, start[rows] + _SIZE)
    elements = _elements(block, start[rows] + _HEADER_BYTES, stop[rows], sizes[rows])
    offsets = np.zeros(len(field) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    try:
        values = read_elements(elements)
    except MisfitError as exc:
        raise MisfitError(int(np.searchsorted(offsets, exc.index, side="right")) - 1, exc.reason) from exc
    return pa.Array.from_buffers(arrow_type, len(field), [validity(is_null), buffer_of(offsets)], children=[values])


def _elements(block: Block, start: Positions, stop: Positions, sizes: Positions) -> Field:
    """Return the elements of all arrays, one after another.

    Args:
        block: Where they are.
        start: Where the first length of each array is.
        stop: Where the arrays end.
        sizes: How many elements they have, at least one each.

    Raises:
        FramingError: If the elements do not fill their array.
    """
    spans = stop - start
    if not ((sizes > 0) & (sizes * _LENGTH_BYTES <= spans)).all():
        raise FramingError("an array has another size than its bytes")
    try:
        lengths, values = _alike(block, start, spans, sizes) or _one_after_another(block, start, sizes)
    except IndexError as exc:
        raise FramingError("an array goes beyond the end of the block") from exc
    is_null: Mask | None = None
    if len(lengths) and lengths.min() < 0:
        is_null = lengths < 0
        if lengths.min() < NULL_LENGTH:
            raise FramingError("an element has an impossible length")
        lengths = np.maximum(lengths, 0)
    ends = values + lengths
    if not (ends[np.cumsum(sizes) - 1] == stop).all():
        raise FramingError("the elements of an array do not fill it")
    return Loose(block, values, ends, is_null)


def _alike(block: Block, start: Positions, spans: Positions, sizes: Positions) -> tuple[Lengths, Positions] | None:
    """Return lengths and places of elements that are all equally long; None if they are not."""
    if not len(sizes):
        return np.empty(0, np.int32), np.empty(0, np.int64)
    width = int(spans[0] // sizes[0])
    if not (spans == sizes * width).all():
        return None
    before = np.cumsum(sizes) - sizes
    positions = np.repeat(start - before * width, sizes)
    positions += np.arange(len(positions)) * width
    lengths = _numbers(block, positions)
    return (lengths, positions + _LENGTH_BYTES) if (lengths == width - _LENGTH_BYTES).all() else None


def _one_after_another(block: Block, start: Positions, sizes: Positions) -> tuple[Lengths, Positions]:
    """Return lengths and places of all elements: the first ones of all arrays, then the second ones, and so on."""
    total = int(sizes.sum())
    lengths, values = np.empty(total, np.int32), np.empty(total, np.int64)
    position, left, slot = start, sizes, np.cumsum(sizes) - sizes
    while len(position) > _FEW_ARRAYS:
        found = _numbers(block, position)
        lengths[slot], values[slot] = found, position + _LENGTH_BYTES
        has_more = left > 1
        position = (position + _LENGTH_BYTES + np.maximum(found, 0))[has_more]
        left, slot = left[has_more] - 1, slot[has_more] + 1
    # A few long arrays are left: for each, one step of NumPy would cost more than one of Python.
    for place, count, first in zip(position.tolist(), left.tolist(), slot.tolist(), strict=True):
        for number in range(first, first + count):
            length = int.from_bytes(block.data[place : place + _LENGTH_BYTES], "big", signed=True)
            place += _LENGTH_BYTES  # noqa: PLW2901 (the place moves on)
            lengths[number], values[number] = length, place
            place += max(length, 0)  # noqa: PLW2901
    return lengths, values


def _numbers(block: Block, positions: Positions) -> Lengths:
    numbers: Lengths = block.gather(positions, _INT32)
    return numbers.byteswap(inplace=True)
