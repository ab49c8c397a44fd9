"""Fields of type ``numeric`` become Arrow decimals, all rows at once.

Owns the arithmetic.  On the wire a numeric is four 16-bit numbers (how many digits, weight of the first, sign, display scale)
and its digits to the base 10000, 16 bits each, without zeros at either end; see ``numeric_send`` in the server's sources.

Four digits are one 64-bit word, of which a few operations on both halves at once make a number below 10**16.  Where the
results have at most 19 decimal digits, everything stays in 64 bits (``_short``); else the words are put together in limbs of
32 bits (``_long``).  Both are exact.  What has more digits than the type is seen by the first digit and its weight, or by what
is left over behind the last decimal.

Digits are counted from the last one that the type's decimals reach: its *place* is 0.  Of its four decimals the type may have
fewer: the last ``up`` of them must be zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from procflow_export.sources.arrays import Values, buffer_of
from procflow_export.sources.postgres.decoding.binary_cells import decimal_of
from procflow_export.sources.postgres.decoding.cells import ENOUGH, DecimalType, nearest_decimal
from procflow_export.sources.postgres.decoding.fields import Field, FramingError, Mask, Positions
from procflow_export.sources.postgres.decoding.fixed import validity
from procflow_export.sources.postgres.decoding.misfits import Misfits

Words: TypeAlias = npt.NDArray[np.uint64]

HEAD: Final = np.dtype((np.void, 16))
"""The header and the first four digits of a numeric."""

_DIGITS_IN_WORD: Final = 4
_DIGIT_BITS: Final = 16
_DIGIT_BYTES: Final = 2
_HEADER_BYTES: Final = 8
_WORD: Final = np.dtype("<u8")
_BIG_WORD: Final = np.dtype(">u8")

# Parts of the header, read as one number.
_COUNT_SHIFT: Final = 48
_NEGATIVE: Final = np.uint64(0x4000 << 16)
_SPECIAL: Final = np.uint64(0x8000 << 16)
_SIGN: Final = np.uint64(0xFFFF << 16)
_NAN: Final = np.uint64(0xC000 << 16)

_DIGIT_SHIFT: Final = np.uint64(16)
_LANES: Final = np.uint64(0x0000_FFFF_0000_FFFF)
_HALF: Final = np.uint64(0xFFFF_FFFF)
_HALF_SHIFT: Final = np.uint64(32)
_BASE: Final = np.uint64(10**4)
_HALF_BASE: Final = np.uint64(10**8)
_SHORT_DIGITS: Final = 19

# Masks by how many of the four digits they keep.
_LAST_DIGITS: Final = np.array([(1 << _DIGIT_BITS * digits) - 1 for digits in range(_DIGITS_IN_WORD + 1)], np.uint64)
_FIRST_DIGITS: Final = ~_LAST_DIGITS[::-1]


class DecimalReader:
    """Reads the numerics of one column."""

    def __init__(self, arrow_type: DecimalType, misfits: Misfits) -> None:
        """Prepare for a type whose scale is not negative."""
        self._arrow_type = arrow_type
        self._misfits = misfits
        self._word_count = arrow_type.bit_width // 64
        self._scale_digits = -(-arrow_type.scale // _DIGITS_IN_WORD)
        self._up = _DIGITS_IN_WORD * self._scale_digits - arrow_type.scale
        self._unit = np.uint64(10**self._up)
        # The lowest number that does not fit: how many places it has, then its first digit.
        places, decimals = divmod(arrow_type.precision + self._up, _DIGITS_IN_WORD)
        self._too_big = ((places + 1) << _DIGIT_BITS) + 10**decimals
        factors = [1, *(10 ** (_DIGITS_IN_WORD * place - self._up) for place in range(1, _DIGITS_IN_WORD + 2))]
        self._factors = np.array([factor for factor in factors if factor < 2**64], np.uint64)

    def read(self, field: Field) -> Values:
        """Return the decimals of a column; NaN, infinities and values with more digits than the type do not fit."""
        count = len(field)
        if not count:
            return pa.array([], self._arrow_type)
        pairs = np.ascontiguousarray(field.head(HEAD)).view(_BIG_WORD).reshape(count, 2)
        header, word = pairs.T.astype(_WORD, order="C")
        if field.is_null is not None:
            header[field.is_null] = 0
        digits = (header >> _COUNT_SHIFT).view(np.int64)
        places = (header << _DIGIT_BITS).view(np.int64) >> _COUNT_SHIFT
        places += 1 + self._scale_digits
        _check_lengths(field, digits)
        every_bit = np.bitwise_or.reduce(header)
        misfits = _union(header & _SPECIAL != 0 if every_bit & _SPECIAL else None, self._too_many(word, digits, places))
        if misfits is not None:
            digits, places = np.where(misfits, 0, digits), np.where(misfits, 0, places)
        if min(self._arrow_type.precision, _DIGITS_IN_WORD * int(places.max()) - self._up) <= _SHORT_DIGITS:
            words, leftover = self._short(field, word, digits, places)
        else:
            words, leftover = self._long(field, digits, places)
        result = np.zeros((count, self._word_count), np.uint64)
        _assign(result, words, header & _NEGATIVE != 0 if every_bit & _NEGATIVE else None)
        misfits = _union(misfits, leftover)
        is_null = field.is_null if misfits is None else self._settled(field, header, misfits, result)
        return pa.Array.from_buffers(self._arrow_type, count, [validity(is_null), buffer_of(result)])

    def _too_many(self, word: Words, digits: Positions, places: Positions) -> Mask | None:
        """Return which numbers have too many digits before the point; None if none has."""
        size = places << _DIGIT_BITS
        size += (word >> _COUNT_SHIFT).view(np.int64)
        return None if size.max() < self._too_big else (size >= self._too_big) & (digits > 0)

    def _short(
        self, field: Field, word: Words, digits: Positions, places: Positions
    ) -> tuple[list[Words], Mask | None]:
        """Return numbers of at most 19 decimal digits, and which have digits behind the last decimal."""
        if digits.max() <= _DIGITS_IN_WORD:
            numbers, leftover = self._scaled(_number(word, digits), places - digits)
            return [numbers], leftover
        leading = np.minimum(digits, _DIGITS_IN_WORD)
        numbers, leftover = self._scaled(_number(word, leading), places - leading)
        # A number of 19 decimal digits has six digits at most, or some behind the last decimal.
        rows = np.flatnonzero(digits > _DIGITS_IN_WORD)
        trailing = np.minimum(digits[rows] - _DIGITS_IN_WORD, _DIGITS_IN_WORD)
        rest, rest_leftover = self._scaled(
            _number(_words_at(field, field.start[rows] + HEAD.itemsize), trailing), (places - digits)[rows]
        )
        numbers[rows] += rest
        if rest_leftover is not None:
            leftover = np.zeros(len(numbers), bool) if leftover is None else leftover
            leftover[rows] |= rest_leftover
        return [numbers], leftover

    def _scaled(self, numbers: Words, place: Positions) -> tuple[Words, Mask | None]:
        """Return numbers in units of the last decimal, and which are no whole number of them.

        Args:
            numbers: As their digits say; changed.
            place: The place of their last digit.
        """
        leftover = place < 0 if place.min() < 0 else None
        numbers *= self._factors.take(place, mode="clip")
        if not self._up:
            return numbers, leftover
        is_last = place == 0
        whole = numbers // self._unit
        uneven = whole * self._unit != numbers
        uneven &= is_last
        return np.where(is_last, whole, numbers), _union(leftover, uneven if uneven.any() else None)

    def _long(self, field: Field, digits: Positions, places: Positions) -> tuple[list[Words], Mask | None]:
        """Return numbers of any length as words, the lowest first, and which have digits behind the last decimal."""
        start, stop = field.start + _HEADER_BYTES, field.stop
        limbs: list[Words] = []
        for group in range(-(-int(places.max()) // _DIGITS_IN_WORD) - 1, -1, -1):
            first = np.clip(places - _DIGITS_IN_WORD * (group + 1), -_DIGITS_IN_WORD, digits)
            word = _words_at(field, np.minimum(start + _DIGIT_BYTES * first, stop))
            word &= _LAST_DIGITS[_DIGITS_IN_WORD + np.minimum(first, 0)]
            word &= _FIRST_DIGITS[np.minimum(digits - first, _DIGITS_IN_WORD)]
            halves = _halves(word)
            _append(limbs, halves >> _HALF_SHIFT)
            _append(limbs, halves & _HALF)
        rest = np.zeros(len(digits), np.uint64)
        for position in range(len(limbs) - 1, -1, -1):
            rest = (rest << _HALF_SHIFT) | limbs[position]
            limbs[position] = rest // self._unit
            rest -= limbs[position] * self._unit
        leftover = (rest != 0) | (digits > places)
        limbs.append(np.zeros(len(digits), np.uint64))
        words = [low | (high << _HALF_SHIFT) for low, high in zip(limbs[::2], limbs[1::2], strict=False)]
        return words[: self._word_count], leftover if leftover.any() else None

    def _settled(self, field: Field, header: Words, misfits: Mask, result: Words) -> Mask | None:
        """Return which values are NULL now; where the nearest value is wanted, it is put into ``result``."""
        is_null = self._misfits.settle(misfits, field.is_null, hopeless=header & _SIGN == _NAN)
        for row in np.flatnonzero(misfits if is_null is None else misfits & ~is_null).tolist():
            nearest = nearest_decimal(decimal_of(field.raw(row) or b""), self._arrow_type)
            units = int(nearest.scaleb(self._arrow_type.scale, ENOUGH))
            result[row] = np.frombuffer(units.to_bytes(8 * self._word_count, "little", signed=True), np.uint64)
        return is_null


def _check_lengths(field: Field, digits: Positions) -> None:
    surplus = field.stop - field.start
    surplus -= _HEADER_BYTES
    surplus -= _DIGIT_BYTES * digits
    if field.is_null is not None:
        surplus[field.is_null] = 0
    if surplus.any():
        raise FramingError("a numeric has another length than its digits")


def _words_at(field: Field, positions: Positions) -> Words:
    words: Words = field.block.gather(positions, _WORD)
    return words.byteswap(inplace=True)


def _number(word: Words, digits: Positions) -> Words:
    """Return the numbers that the first digits of words are, at most four."""
    halves = _halves(word >> (_DIGIT_BITS * (_DIGITS_IN_WORD - digits)).view(np.uint64))
    low = halves & _HALF
    halves >>= _HALF_SHIFT
    halves *= _HALF_BASE
    halves += low
    return halves


def _halves(word: Words) -> Words:
    """Return words whose halves are the numbers of two digits each."""
    halves = word >> _DIGIT_SHIFT
    halves &= _LANES
    halves *= _BASE
    halves += word & _LANES
    return halves


def _append(limbs: list[Words], half: Words) -> None:
    """Append two digits to numbers in limbs of 32 bits, the lowest first."""
    carry = half
    for position, limb in enumerate(limbs):
        carry = limb * _HALF_BASE + carry
        limbs[position] = carry & _HALF
        carry = carry >> _HALF_SHIFT
    limbs.append(carry)


def _assign(result: Words, words: Sequence[Words], is_negative: Mask | None) -> None:
    """Write magnitudes, the lowest word first, as two's complements over zeros."""
    for position, word in enumerate(words):
        result[:, position] = word
    if is_negative is None:
        return
    # The complement of a number is that of its words, and one more.
    carry = is_negative.astype(np.uint64)
    flip = np.uint64(0) - carry
    for position in range(result.shape[1]):
        word = result[:, position] ^ flip
        word += carry
        carry &= word == 0
        result[:, position] = word


def _union(one: Mask | None, other: Mask | None) -> Mask | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other
