"""A checksum of the values of each column, whatever file or batches they travel in.

Owns what it is: the same values give the same figures however they are ordered, cut into batches or encoded, and any change
of a value gives others.  So what was read from a source can be compared with what a file gives back, without keeping either.

**The figure of a column** is the sum, modulo 2^64, of a well-mixed 64-bit hash of each value; NULL has a hash of its own.  A sum and
not XOR, where equal values cancel in pairs, so that a column whose values were doubled would pass.  **The figure of the rows**, one
more after those of the columns, is the same sum over a hash of each whole row: two columns that are right each for itself
but no longer side by side change it.  The columns are told apart by their position.

**The hash of a value** is taken of what it is, not of how Arrow keeps it: a text is the same as ``string``, ``large_string`` or in
a dictionary.  All arithmetic is that of unsigned 64-bit numbers; ``mix`` and ``stir`` are ``_mixed()`` and ``_stirred()``
below, ``K`` and ``R`` odd constants.

=====================  ==================================================================================
a number, a moment     ``mix`` of its bits as an unsigned number; every NaN is the same one, -0.0 is not 0.0
wider fixed values     of its eight-byte words, little-endian, in turn: ``h = mix(h * K + word)``
a text, bytes          ``mix(size * K + sum of stir(word) * R ** position)`` over its words, the last one filled up with zeros
a list, a map          the same over the hashes of its elements, the size being their number
a struct               ``mix`` of the hashes of its fields, ``h * K + hash`` in turn
=====================  ==================================================================================

It is computed with numpy over the buffers, a few operations for eight bytes.  Texts are padded to one width first, which costs
Arrow less than it costs numpy to gather words from any byte on.  Rejected: a cast to text, and a hash of each value from
Python, which cost more than the export; and hashes of whole buffers, which are cheaper but depend on the order of the rows.

The hash finds faults; it does not stop somebody who makes two values of one hash on purpose: that is what the digest of the
part's bytes is for.  It must never change: a manifest is compared with it years later.  Another hash gets another ``ALGORITHM``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from procflow_export.formats._arrow import Column, kernels, offsets_of
from procflow_export.formats.weights import is_variable, storage_type

ALGORITHM: Final = "sum64-1"
"""Name of the checksum; what a reader does not know, it must not compare."""

_TEXT, _WIDE = pa.string(), pa.large_string()
Hashes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint64]]
_Integers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]

_SLICE_ROWS: Final = 8_192
_PAD_BYTES: Final = 1 << 18
"""So much is worked on at once: what fits the processor's cache, and is not given back to the system and taken again."""
_WIDTHS: Final = (8, 64, 512, 4_096, 32_768)
"""Texts of very different sizes are padded to these; larger ones are not copied, and hashed one by one."""
_TABLE_WORDS: Final = 8_192

_K: Final = np.uint64(0x9E3779B97F4A7C15)
_C1: Final = np.uint64(0xBF58476D1CE4E5B9)
_C2: Final = np.uint64(0x94D049BB133111EB)
_NULL: Final = np.uint64(0x13198A2E03707345)
_HIGH, _LOW = np.uint64(32), np.uint64(29)
_R: Final = 0xD1342543DE82EF95
_R_INVERSE: Final = pow(_R, -1, 1 << 64)
_NAN: Final = {4: np.uint64(0x7FC00000), 8: np.uint64(0x7FF8000000000000)}


class ValueChecksums:
    """The checksums of the rows that are added, for columns of one schema."""

    def __init__(self, schema: pa.Schema) -> None:
        """Begin with no rows."""
        self._hashers = [_hasher_of(storage_type(field.type)) for field in schema]
        self._sums: Hashes = np.zeros(len(schema) + 1, dtype=np.uint64)
        self.row_count = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch; blocks for some nanoseconds a value."""
        for start in range(0, batch.num_rows, _SLICE_ROWS):
            self._add_slice(batch.slice(start, _SLICE_ROWS))
        self.row_count += batch.num_rows

    def _add_slice(self, batch: pa.RecordBatch) -> None:
        rows: Hashes = np.zeros(batch.num_rows, dtype=np.uint64)
        for position, (hasher, column) in enumerate(zip(self._hashers, batch.columns, strict=True)):
            hashes = _with_nulls(hasher, column)
            self._sums[position : position + 1] += hashes.sum()
            rows *= _K
            rows += hashes
        self._sums[-1:] += _mixed(rows).sum()

    def merge(self, other: ValueChecksums) -> None:
        """Add the rows that ``other`` was given."""
        self._sums += other._sums
        self.row_count += other.row_count

    @property
    def figures(self) -> tuple[int, ...]:
        """One figure for each column, and one for the rows."""
        return tuple(int(figure) for figure in self._sums)

    @property
    def text(self) -> str:
        """The figures as a manifest has them: ``sum64-1:`` and the Base64 of one little-endian word each."""
        return f"{ALGORITHM}:{base64.b64encode(self._sums.astype('<u8').tobytes()).decode()}"


def recorded_figures(text: str | None, column_count: int) -> tuple[int, ...] | None:
    """Return the figures that a manifest records; ``None`` where it has none, or of another algorithm.

    Raises:
        ValueError: If it has some that cannot be read.
    """
    algorithm, _, encoded = (text or "").partition(":")
    if algorithm != ALGORITHM:
        return None
    data = base64.b64decode(encoded, validate=True)
    if len(data) != 8 * (column_count + 1):
        raise ValueError(f"{len(data)} bytes of checksums are not those of {column_count} columns")
    return tuple(int(figure) for figure in np.frombuffer(data, dtype="<u8"))


def combined_hashes(batch: pa.RecordBatch) -> Hashes:
    """Return a hash of each row of a batch."""
    rows: Hashes = np.zeros(batch.num_rows, dtype=np.uint64)
    for column in batch.columns:
        rows *= _K
        rows += hashes_of(column)
    return _mixed(rows)


def hashes_of(column: Column) -> Hashes:
    """Return the hash of each value of a column."""
    return _with_nulls(_hasher_of(storage_type(column.type)), column)


def _with_nulls(hasher: Callable[[Column], Hashes], column: Column) -> Hashes:
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    hashes = hasher(column)
    if column.null_count:
        np.copyto(hashes, _NULL, where=_is_null(column))
    return hashes


def _hasher_of(arrow_type: pa.DataType) -> Callable[[Column], Hashes]:
    types = pa.types
    if types.is_null(arrow_type):
        return lambda column: np.zeros(len(column), dtype=np.uint64)
    if types.is_dictionary(arrow_type):
        return _dictionary
    if types.is_struct(arrow_type):
        return _struct
    if types.is_map(arrow_type) or types.is_list(arrow_type) or types.is_large_list(arrow_type):
        return _list
    if types.is_fixed_size_list(arrow_type):
        return _fixed_size_list
    if is_variable(storage_type(arrow_type)):
        return _bytes
    if types.is_boolean(arrow_type):
        return _booleans
    if types.is_primitive(arrow_type) or types.is_decimal(arrow_type) or types.is_fixed_size_binary(arrow_type):
        return _fixed
    return _by_text


# ---- values of one size


def _booleans(column: Column) -> Hashes:
    return _mixed(_bits(column.buffers()[1], column.offset, len(column)).astype(np.uint64))


def _fixed(column: Column) -> Hashes:
    width = column.type.bit_width // 8
    buffer, offset, count = column.buffers()[1], column.offset, len(column)
    if buffer is None or width == 0:
        return _mixed(np.zeros(count, dtype=np.uint64))
    cells = np.frombuffer(buffer, dtype=np.uint8, count=count * width, offset=offset * width)
    if width in (1, 2, 4, 8):
        bits = cells.view(f"u{width}").astype(np.uint64)
        if pa.types.is_floating(column.type) and width in _NAN:
            values = cells.view(f"f{width}")
            bits[np.isnan(values)] = _NAN[width]
        return _mixed(bits)
    word_count = -(-width // 8)
    padded = np.zeros((count, 8 * word_count), dtype=np.uint8)
    padded[:, :width] = cells.reshape(count, width)
    words = padded.view("<u8")
    hashes: Hashes = np.zeros(count, dtype=np.uint64)
    for position in range(word_count):
        hashes *= _K
        hashes += words[:, position]
        hashes = _mixed(hashes)
    return hashes


# ---- values of any size


def _bytes(column: Column) -> Hashes:
    offsets = offsets_of(column)
    sizes = np.diff(offsets)
    hashes = sizes.astype(np.uint64)
    hashes *= _K
    _, places, data = column.buffers()
    if data is None or not len(column):
        return _mixed(hashes)
    # Without validity: what a null slot holds is padded like all others, and forgotten afterwards.
    is_wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    texts: Column = pa.Array.from_buffers(
        _WIDE if is_wide else _TEXT, len(column), [None, places, data], offset=column.offset
    )
    widest = 8 * -(-int(sizes.max()) // 8)
    if widest <= _WIDTHS[-1] and widest * len(sizes) <= 2 * int(offsets[-1] - offsets[0]) + 16 * len(sizes):
        step = max(1, _PAD_BYTES // max(1, widest))
        for start in range(0, len(sizes) if widest else 0, step):
            hashes[start : start + step] += _padded_sums(texts.slice(start, step), widest)
        return _mixed(hashes)
    low = 0
    for width in _WIDTHS:
        rows = np.flatnonzero((sizes > low) & (sizes <= width))
        step = _PAD_BYTES // width
        for some in (rows[start : start + step] for start in range(0, len(rows), step)):
            hashes[some] += _padded_sums(texts.take(pa.array(some)), width)
        low = width
    for row in np.flatnonzero(sizes > low):
        hashes[row : row + 1] += _sum_of_one(data, int(offsets[row]), int(sizes[row]))
    return _mixed(hashes)


def _padded_sums(texts: Column, width: int) -> Hashes:
    """Return the sum over the words of each text; words of nothing but padding add nothing."""
    padded = kernels.ascii_rpad(texts, width=width, padding="\0")
    words = np.frombuffer(padded.buffers()[2], dtype="<u8", count=len(texts) * width // 8)
    sums: Hashes = np.einsum("ij,j->i", _stirred(words).reshape(len(texts), -1), _POWERS[: width // 8])
    return sums


def _sum_of_one(data: pa.Buffer, start: int, size: int) -> Hashes:
    """Return the sum over the words of one text, in blocks: it may be of any size."""
    total = np.zeros(1, dtype=np.uint64)
    scale = 1
    for first in range(start, start + size, 8 * _TABLE_WORDS):
        block = data[first : min(first + 8 * _TABLE_WORDS, start + size)].to_pybytes()
        words = np.frombuffer(block + bytes(-len(block) % 8), dtype="<u8")
        total += np.einsum("i,i", _stirred(words), _POWERS[: len(words)]) * np.array([scale], dtype=np.uint64)
        scale = scale * pow(_R, _TABLE_WORDS, 1 << 64) % (1 << 64)
    return total


def _list(column: Column) -> Hashes:
    offsets = column.offsets.to_numpy().astype(np.int64)
    if pa.types.is_map(column.type):
        return _elements(pa.StructArray.from_arrays([column.keys, column.items], ["key", "value"]), offsets)
    return _elements(column.values, offsets)


def _fixed_size_list(column: Column) -> Hashes:
    offsets = (np.arange(len(column) + 1, dtype=np.int64) + column.offset) * column.type.list_size
    return _elements(column.values, offsets)


def _elements(child: Column, offsets: _Integers) -> Hashes:
    hashes = np.diff(offsets).astype(np.uint64)
    hashes *= _K
    first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    if count:
        places = offsets - first
        before = np.zeros(count + 1, dtype=np.uint64)
        np.cumsum(_stirred(hashes_of(child.slice(first, count))) * _powers(_R, count), out=before[1:])
        hashes += np.diff(before[places]) * _powers(_R_INVERSE, count + 1)[places[:-1]]
    return _mixed(hashes)


# ---- values that are made of others


def _struct(column: Column) -> Hashes:
    hashes: Hashes = np.zeros(len(column), dtype=np.uint64)
    for position in range(column.type.num_fields):
        hashes *= _K
        hashes += hashes_of(column.field(position))
    return _mixed(hashes)


def _dictionary(column: Column) -> Hashes:
    if len(column.dictionary) > len(column):
        return hashes_of(column.dictionary_decode())
    places = column.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    if not len(column.dictionary):
        return np.zeros(len(column), dtype=np.uint64)
    return hashes_of(column.dictionary)[places]


def _by_text(column: Column) -> Hashes:
    """Types that no source gives today: slow, but never wrong."""
    texts = [None if value is None else repr(value) for value in column.to_pylist()]
    return hashes_of(pa.array(texts, pa.large_string()))


# ---- arithmetic


def _mixed(words: Hashes) -> Hashes:
    """Return ``words`` with every bit dependent on all bits of its word; in place.  It takes no two words to the same."""
    words *= _C1
    words ^= words >> _HIGH
    words *= _C2
    words ^= words >> _LOW
    return words


def _stirred(words: Hashes) -> Hashes:
    """Return new words, each one's bits moved about; 0 stays 0, so that padding counts for nothing."""
    stirred: Hashes = words * _C1
    stirred ^= stirred >> _HIGH
    return stirred


def _powers(base: int, count: int) -> Hashes:
    """Return the powers of ``base``, from 1."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[0] = 1
    powers: Hashes = np.cumprod(factors)
    return powers


_POWERS: Final = _powers(_R, _TABLE_WORDS)


def _is_null(column: Column) -> np.ndarray[Any, np.dtype[np.bool_]]:
    validity = column.buffers()[0]
    if validity is None:  # a column of the type that has no values
        return np.ones(len(column), dtype=np.bool_)
    return np.logical_not(_bits(validity, column.offset, len(column)))


def _bits(buffer: Column, offset: int, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if buffer is None or count == 0:
        return np.zeros(count, dtype=np.uint8)
    first, last = offset // 8, -(-(offset + count) // 8)
    bits = np.unpackbits(np.frombuffer(buffer, dtype=np.uint8)[first:last], bitorder="little")
    return bits[offset - 8 * first :][:count]
