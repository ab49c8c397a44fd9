"""Numbers from their decimal digits, for a whole column at once.

Owns the arithmetic.  Eight digits are one 64-bit word, and three multiplications make a number of a word; the words of all
rows are computed together.  Every byte that is read as a digit is checked to be one.

Only numbers of up to 18 digits are made here, which fit a signed word with room to spare; where one is longer, or is written
in any other way than the servers write numbers, the answer is ``None`` and Arrow's own exact conversion has the word.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from procflow_export.sources.mysql.decoding.fields import Field

MAX_DIGITS: Final = 18

_Words = npt.NDArray[np.uint64]

_WORD_DIGITS: Final = 8
_MINUS: Final = ord("-")
_POINT: Final = ord(".")
_LAST_BYTES: Final = np.array([0, *((1 << 64) - (1 << 64 - 8 * count) for count in range(1, 9))], np.uint64)
"""Masks of the last bytes of a word, which the machine holds first byte lowest."""
_ZEROS: Final = np.uint64(0x3030303030303030)
_BEYOND_NINE: Final = np.uint64(0x7676767676767676)
_HIGH_BITS: Final = np.uint64(0x8080808080808080)


def numbers(field: Field, scale: int) -> npt.NDArray[np.int64] | None:
    """Return the numbers of a column, multiplied by ten to the power of ``scale``; 0 where it is NULL.

    Args:
        field: Texts of the form ``[-]digits``, followed by a point and ``scale`` digits if there is a scale.
        scale: How many digits follow the point.

    Returns:
        ``None`` if a text has another form or more than ``MAX_DIGITS`` digits.
    """
    if field.longest > MAX_DIGITS + 2:
        return None
    counts, is_negative = _digit_counts(field, scale)
    most = int(counts.max())
    if most > MAX_DIGITS or not _points_are_right(field, counts, scale):
        return None
    total = np.zeros(len(field), np.uint64)
    for done in range(0, max(most, 1), _WORD_DIGITS):
        word = _digit_word(field, done, scale, most)
        mask = _LAST_BYTES[np.clip(counts - done, 0, _WORD_DIGITS) if most > _WORD_DIGITS else counts]
        word ^= _ZEROS
        word &= mask
        if np.bitwise_or.reduce((word + _BEYOND_NINE) | word) & _HIGH_BITS:
            return None
        value = _value(word)
        if done:
            value *= np.uint64(10**done)
        total += value
    result = total.view(np.int64)
    return result if is_negative is None else np.where(is_negative, -result, result)


def _digit_counts(field: Field, scale: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """Return how many digits each text has, and which are negative if any is."""
    counts = field.lengths - (scale > 0)
    is_negative = field.gather(np.uint8) == _MINUS
    if field.is_null is not None:
        is_negative &= ~field.is_null
        np.maximum(counts, 0, out=counts)
    if not is_negative.any():
        return counts, None
    counts -= is_negative
    return counts, is_negative


def _points_are_right(field: Field, counts: npt.NDArray[np.int64], scale: int) -> bool:
    """Return whether each text has enough digits, and the point where it belongs."""
    is_right = counts > scale
    if scale:
        point = field.tail(scale) >> np.uint64(56)
        is_right &= point == _POINT
    if field.is_null is not None:
        is_right |= field.is_null
    return bool(is_right.all())


def _digit_word(field: Field, done: int, scale: int, most: int) -> _Words:
    """Return the eight digits before the last ``done`` ones, without the point."""
    behind_point = scale - done
    if behind_point >= _WORD_DIGITS or not scale:
        return field.tail(done)
    if behind_point <= 0:
        return field.tail(done + 1)
    word = field.tail(done)
    fraction = word & _LAST_BYTES[behind_point]
    # Where no row has a digit in the place that the point leaves empty, a shift closes the gap.
    before = word << np.uint64(8) if most < done + _WORD_DIGITS else field.tail(done + 1)
    before &= ~_LAST_BYTES[behind_point]
    return before | fraction


def _value(word: _Words) -> _Words:
    """Return the numbers that eight digits make, the first in the lowest byte: pairs, then fours, then all."""
    word *= np.uint64(10 * 256 + 1)
    word >>= np.uint64(8)
    word &= np.uint64(0x00FF00FF00FF00FF)
    word *= np.uint64(100 * 65536 + 1)
    word >>= np.uint64(16)
    word &= np.uint64(0x0000FFFF0000FFFF)
    word *= np.uint64(10000 * 4294967296 + 1)
    word >>= np.uint64(32)
    return word
