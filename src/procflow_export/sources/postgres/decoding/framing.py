"""Where the rows and fields of a block of binary ``COPY`` are: found for all rows at once, and proved.

Owns the format: a row is the number of its fields (16 bits), then for each field its length (32 bits, -1 for NULL) and so
many bytes.  See "Binary Format" on <https://www.postgresql.org/docs/current/sql-copy.html>.

Nothing marks where a row begins, and one row after another in Python would cost more than everything else together.  So:

1. *All rows alike.*  Where the block is a whole number of rows that are as long as its first, the places of all lengths are
   known: if each holds what the first row's holds, that is every row.
2. *Search.*  Else every row begins with bytes that are known: the number of fields and the length of the first one, which has a
   fixed width and is never NULL (the wire format sees to it, with a column of its own if need be).
3. *Prefix.*  The fields at the front that have the same length in all rows are one strided array.
4. *Chase.*  From there column by column: the lengths of all rows are gathered, and the next column follows.
5. *Proof.*  After the last column each row must end where the next one begins, and the last one at the end of the block or at a
   trailer.  That proves all of it, because the first row's place is known.
6. *Follow.*  The search may find its bytes inside of data, and misses a row that contradicts the catalog.  Then the chain is
   followed from the first row through the ends that the chase found; a row that was missed is walked field by field.  The rows
   found are chased again, and proved again.

So a block is read exactly or refused, whatever its data: a value that imitates the beginning of a row costs time only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from procflow_export.sources.postgres.decoding.fields import (
    Block,
    Field,
    FramingError,
    Lengths,
    Loose,
    Mask,
    Numbers,
    Packed,
    Positions,
)

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
TRAILER: Final = b"\xff\xff"
COUNT_BYTES: Final = 2
LENGTH_BYTES: Final = 4
NULL_LENGTH: Final = -1

_HAS_OIDS: Final = 1 << 16
_FLAGS: Final = struct.Struct(">II")
_COUNT: Final = struct.Struct(">h")
_LENGTH: Final = struct.Struct(">i")
_MAX_PREFIX_BYTES: Final = 1024

_WORD: Final = np.dtype("<u8")
_INT16: Final = np.dtype("<i2")
_INT32: Final = np.dtype("<i4")
_BIG_INT32: Final = np.dtype(">i4")
_LOWEST_BIT: Final = np.array([(byte & -byte).bit_length() - 1 if byte else 0 for byte in range(256)], np.int64)


def skip_header(data: bytes, position: int) -> int:
    """Return where the header that begins at ``position`` ends.

    Raises:
        FramingError: If there is none, or one of a format that is not known.
    """
    end = position + len(SIGNATURE) + _FLAGS.size
    if not data.startswith(SIGNATURE, position) or len(data) < end:
        raise FramingError("the signature of binary COPY is missing")
    flags, extension = _FLAGS.unpack_from(data, position + len(SIGNATURE))
    if flags >= _HAS_OIDS or end + extension > len(data):
        raise FramingError("the header asks for what no server sends")
    return end + int(extension)


def is_trailer(data: bytes, position: int) -> bool:
    """Whether the rows that end at ``position`` are the last of their statement: nothing follows, or another header."""
    end = position + len(TRAILER)
    return data.startswith(TRAILER, position) and (end == len(data) or data.startswith(SIGNATURE, end))


def walk_row(data: bytes, position: int, column_count: int) -> tuple[list[int], int]:
    """Return the lengths of the fields of one row, and where it ends.

    Raises:
        FramingError: If it is no row of so many fields, or goes beyond the end.
    """
    try:
        (found,) = _COUNT.unpack_from(data, position)
        if found != column_count:
            raise FramingError(f"a row has {found} fields instead of {column_count}")
        position += COUNT_BYTES
        lengths = []
        for _ in range(column_count):
            (length,) = _LENGTH.unpack_from(data, position)
            if length < NULL_LENGTH:
                raise FramingError("a field has an impossible length")
            lengths.append(length)
            position += LENGTH_BYTES + max(length, 0)
    except struct.error as exc:
        raise FramingError("a row ends before its last field") from exc
    if position > len(data):
        raise FramingError("a field goes beyond the end of the block")
    return lengths, position


class Framer:
    """Finds the fields of all blocks of one result."""

    def __init__(self, peeks: Sequence[int], certain_widths: Sequence[int], mark: bytes = b"") -> None:
        """Prepare for rows of ``len(peeks)`` fields.

        Args:
            peeks: For each field, how many bytes behind its length are needed in any case: they are fetched with it.
            certain_widths: Lengths of the fields at the front that have a fixed width and should never be NULL.  Without
                any, every row is walked.
            mark: What the first field begins with in every row.
        """
        self._peeks = tuple(peeks)
        self._column_count = column_count = len(peeks)
        self._certain = tuple(certain_widths)
        beginning = _COUNT.pack(column_count) + b"".join(_LENGTH.pack(width) for width in self._certain[:1])
        beginning = (beginning + mark)[: _WORD.itemsize] if self._certain else b""
        self._beginning = np.uint64(int.from_bytes(beginning, "little"))
        self._beginning_mask = np.uint64((1 << 8 * len(beginning)) - 1)
        # Of the two bytes of the number of fields, one that is not zero: nearly everything else there is.
        self._scanned = 0 if beginning and beginning[0] else 1
        self._scanned_byte = column_count.to_bytes(COUNT_BYTES, "big")[self._scanned]
        # Lengths at the front that were the same in all rows so far; None before the first block.
        self._steady: list[int] | None = None

    def fields(self, block: Block, begin: int = 0) -> tuple[list[Field], int]:
        """Return the fields of each column of the rows from ``begin``, and where the last row ends.

        That is the end of the block, or a trailer.

        Raises:
            FramingError: If what begins there is not whole rows of the format.
        """
        if begin == block.size or is_trailer(block.data, begin):
            nowhere = np.empty(0, np.int64)
            return [Loose(block, nowhere, nowhere, None) for _ in self._peeks], begin
        lengths, stop = walk_row(block.data, begin, self._column_count)
        alike = self._all_alike(block, begin, lengths, stop - begin)
        if alike is not None:
            return alike
        if self._steady is None:
            self._steady = lengths
        found = self._chase(block, self._search(block, begin), is_exact=False)
        if not found.is_proved(block, begin):
            found = self._chase(block, self._follow(block, begin, found), is_exact=True)
            if not found.is_proved(block, begin):
                raise FramingError("the rows do not follow each other")
        self._steady = self._steady[: found.prefix_count]
        return found.fields, int(found.ends[-1])

    def _all_alike(
        self, block: Block, begin: int, lengths: Sequence[int], stride: int
    ) -> tuple[list[Field], int] | None:
        """Return what ``fields`` does if all rows are as the first one; None if they are not, or that is not known."""
        size = block.size - begin
        if size % stride and block.data.endswith(TRAILER):
            size -= len(TRAILER)
        if size % stride or min(lengths) <= 0:
            return None
        count = size // stride

        def column(offset: int, dtype: np.dtype[Any]) -> Numbers:
            return np.ndarray((count,), dtype, block.data, begin + offset, (stride,))

        if not (column(0, _INT16) == _swapped(self._column_count, COUNT_BYTES)).all():
            return None
        places = _places(lengths, stride)
        for offset, length in places:
            if not (column(offset - LENGTH_BYTES, _INT32) == _swapped(length, LENGTH_BYTES)).all():
                return None
        rows = np.arange(begin, begin + size, stride, dtype=np.int64)
        fields: list[Field] = [Packed(block, rows, offset, column(offset, _void(length))) for offset, length in places]
        return fields, begin + size

    def _search(self, block: Block, begin: int) -> Positions:
        """Return the places where a row might begin, in order: all of them, as far as rows are as the catalog says."""
        if not self._certain:
            return np.empty(0, np.int64)
        at = np.frombuffer(block.data, np.uint8, offset=begin + self._scanned) == self._scanned_byte
        # Few bytes are hits: looking at eight of them at once is much faster than at each.
        bits = np.packbits(at, bitorder="little")
        groups = np.flatnonzero(bits != 0)
        hits = bits[groups]
        found = []
        while len(groups):
            rows = groups * 8
            rows += _LOWEST_BIT[hits]
            rows += begin
            words = block.gather(rows, _WORD)
            words &= self._beginning_mask
            found.append(rows[words == self._beginning])
            hits = hits & (hits - np.uint8(1))
            more = hits != 0
            groups, hits = groups[more], hits[more]
        every = np.concatenate(found) if found else np.empty(0, np.int64)
        every.sort(kind="stable")
        return every

    def _chase(self, block: Block, rows: Positions, *, is_exact: bool) -> _Chased:
        """Return the fields of rows that begin at ``rows``: perhaps, or for certain.

        Places that cannot be the beginning of a row are left out, if they need not be one.

        Raises:
            FramingError: If ``rows`` are the beginnings of rows, and one goes beyond the end of the block.
        """
        if not len(rows):
            return _Chased(rows=rows, fields=[], ends=rows, prefix_count=0, is_sound=False)
        rows, fields, width = self._prefix(block, rows, is_exact=is_exact)
        prefix_count = len(fields)
        position = rows + width
        is_sound = True
        for peek in self._peeks[prefix_count:]:
            lengths, ahead = self._look(block, position, peek, is_exact=is_exact)
            is_null: Mask | None = None
            lowest = lengths.min()
            if lowest < 0:
                is_sound = is_sound and lowest == NULL_LENGTH
                is_null = lengths < 0
                np.maximum(lengths, 0, out=lengths)
            start = position + LENGTH_BYTES
            position = start + lengths
            fields.append(Loose(block, start, position, is_null, ahead))
        return _Chased(rows=rows, fields=fields, ends=position, prefix_count=prefix_count, is_sound=is_sound)

    def _look(self, block: Block, position: Positions, peek: int, *, is_exact: bool) -> tuple[Lengths, Numbers | None]:
        """Return the lengths that stand at ``position``, and the ``peek`` bytes behind each, if there are so many."""
        try:
            if not peek:
                lengths: Lengths = block.gather(position, _INT32)
                return lengths.byteswap(inplace=True), None
            taken = block.gather(position, _void(LENGTH_BYTES + peek))
        except IndexError:
            if is_exact:
                raise FramingError("a row ends before its last field") from None
            # Only places that are no rows lead beyond the end.
            lengths = block.everywhere(_INT32)[np.minimum(position, block.size - LENGTH_BYTES)]
            return lengths.byteswap(inplace=True), None
        return _column(taken, 0, _BIG_INT32).astype(_INT32), _column(taken, LENGTH_BYTES, _void(peek))

    def _prefix(self, block: Block, rows: Positions, *, is_exact: bool) -> tuple[Positions, list[Field], int]:
        """Return the rows, their fields at the front that are equally long in all of them, and how many bytes those are."""
        assert self._steady is not None
        places = _places(self._steady, min(_MAX_PREFIX_BYTES, block.size - int(rows[-1])))
        width = sum(places[-1]) if places else COUNT_BYTES
        taken = block.everywhere(_void(width))[rows]
        for number, (offset, length) in enumerate(places):
            is_same = _column(taken, offset - LENGTH_BYTES, _INT32) == _swapped(length, LENGTH_BYTES)
            if is_same.all():
                continue
            if is_exact or number >= len(self._certain):
                places = places[:number]
                break
            rows, taken = rows[is_same], taken[is_same]
        fields: list[Field] = [
            Packed(block, rows, offset, _column(taken, offset, _void(length))) for offset, length in places
        ]
        return rows, fields, sum(places[-1]) if places else COUNT_BYTES

    def _follow(self, block: Block, begin: int, found: _Chased) -> Positions:
        """Return where the rows begin: each one where the one before it ends.

        Raises:
            FramingError: If a row is not what the format says.
        """
        ends = dict(zip(found.rows.tolist(), found.ends.tolist(), strict=True))
        rows = []
        position = begin
        while position < block.size and not is_trailer(block.data, position):
            rows.append(position)
            position = ends.get(position) or walk_row(block.data, position, self._column_count)[1]
        return np.array(rows, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chased:
    """Where the fields of rows are that begin at ``rows``.

    Attributes:
        rows: Where the rows begin, in order.
        fields: Their fields.
        ends: Where the rows end.
        prefix_count: How many columns at the front were equally long in all rows.
        is_sound: Whether all lengths are possible ones.
    """

    rows: Positions
    fields: list[Field]
    ends: Positions
    prefix_count: int
    is_sound: bool

    def is_proved(self, block: Block, begin: int) -> bool:
        """Whether each row begins where the one before it ends, the first at ``begin``, and the last ends them."""
        return (
            self.is_sound
            and self.rows[0] == begin
            and bool((self.ends[:-1] == self.rows[1:]).all())
            and (self.ends[-1] == block.size or is_trailer(block.data, int(self.ends[-1])))
        )


def _places(lengths: Sequence[int], max_bytes: int) -> list[tuple[int, int]]:
    """Return offset and length of the fields at the front that are not empty, as far as they fit into ``max_bytes``."""
    places = []
    end = COUNT_BYTES
    for length in lengths:
        start = end + LENGTH_BYTES
        end = start + length
        if length <= 0 or end > max_bytes:
            break
        places.append((start, length))
    return places


def _column(rows: Numbers, offset: int, dtype: np.dtype[Any]) -> Numbers:
    """Return what stands at an offset in each of several pieces of bytes, which are as long as each other; a view."""
    return np.ndarray(rows.shape, dtype, rows.data, offset, rows.strides)


def _swapped(number: int, size: int) -> int:
    """Return what bytes in network order look like to a little-endian reader."""
    return int.from_bytes(number.to_bytes(size, "big"), "little", signed=True)


def _void(width: int) -> np.dtype[Any]:
    return np.dtype((np.void, width))
