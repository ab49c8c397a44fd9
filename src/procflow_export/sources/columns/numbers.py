"""Texts of numbers become numbers, or are refused: digits are never lost, and no number passes through a float.

Owns what counts as a number, and when it fits a type.  Every function takes a string array and returns one of the type
asked for, NULLs where they were; a value that does not fit raises ``pa.ArrowInvalid``.

Arrow's own casts are stricter than needed where digits are zeros (``1.50`` as ``decimal(3,1)``), and laxer where they must
not be: they read ``0x1A`` as an integer, and ``1e400`` as infinity.
"""

from __future__ import annotations

from decimal import Context, Decimal
from math import isfinite
from typing import Final

import pyarrow as pa

from procflow_export.sources.arrays import DoesNotFitError, Values
from procflow_export.sources.arrays import kernels as pc

NUMBER: Final = r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?$"
"""A finite number, for Python's regular expressions and for Arrow's; ``$`` of the first allows a line end."""
_TRAILING_ZEROS: Final = r"^([^.eE]*\.[^eE]*?)0*$"
_DOUBLE_DIGITS: Final = 17
_SINGLE_DIGITS: Final = 9
"""So many digits tell every float from its neighbours; databases print no more."""
_CONTEXT: Final = Context(prec=10_000)
_WIDEST: Final = pa.decimal256(76, 0)
_SAFE_DIGITS: Final = 38
"""So many decimal digits fit into any decimal of Arrow's."""
_INTEGER_DIGITS: Final = 20
"""Of the largest integer that Arrow has."""
_SPECIAL_FLOATS: Final = ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf")


def to_decimal(texts: Values, arrow_type: pa.DataType) -> Values:
    """Convert numbers that have no more digits than the type, neither before the point nor after it."""
    assert isinstance(arrow_type, pa.Decimal128Type | pa.Decimal256Type), "a decimal was asked for"
    plain = _plain(texts)
    _require_room(plain, arrow_type.precision - arrow_type.scale, spare_digits=arrow_type.scale)
    return plain.cast(arrow_type)


def to_integer(texts: Values, arrow_type: pa.DataType) -> Values:
    """Convert whole numbers, however they are spelled: ``7``, ``7.00`` and ``7e0``."""
    plain = _plain(texts)
    try:
        return plain.cast(arrow_type)
    except pa.ArrowInvalid:
        _require_room(plain, _INTEGER_DIGITS)
        return plain.cast(_WIDEST).cast(arrow_type)


def to_float(texts: Values, arrow_type: pa.DataType) -> Values:
    """Convert numbers whose digits a float keeps: printed with as many digits, the float is the same number."""
    special = pc.fill_null(pc.is_in(texts, value_set=pa.array(_SPECIAL_FLOATS)), pa.scalar(value=False))
    plain = _plain(pc.if_else(special, pa.scalar("0"), texts))
    floats = plain.cast(arrow_type)
    shortest = _without_zeros(floats.cast(pa.string()))
    # Nearly all are spelled in the shortest way; what is left is compared as numbers.
    differs = pc.fill_null(pc.not_equal(plain, shortest), pa.scalar(value=False))
    if pc.any(differs).as_py():
        most_digits = _DOUBLE_DIGITS if arrow_type.bit_width == 64 else _SINGLE_DIGITS
        pairs = zip(plain.filter(differs).to_pylist(), floats.filter(differs).to_pylist(), strict=True)
        if not all(_has_digits_of(value, text, most_digits) for text, value in pairs):
            raise DoesNotFitError("a float does not hold all digits")
    if not pc.any(special).as_py():
        return floats
    return pc.if_else(special, pc.if_else(special, texts, pa.scalar("0")).cast(arrow_type), floats)


def _has_digits_of(value: float, text: str, most_digits: int) -> bool:
    """Whether a float, printed with as many digits as a number has, is that number."""
    number = Decimal(text)
    digits = len(number.normalize(_CONTEXT).as_tuple().digits)
    return digits <= most_digits and isfinite(value) and Decimal(f"{value:.{digits}g}") == number


def _require_room(plain: Values, most_digits: int, *, spare_digits: int = 0) -> None:
    """Refuse numbers with more than ``most_digits`` before the point.

    Arrow 26 multiplies the digits by a power of ten before it counts them, and what is too large by far comes out as another
    number: 69.5 as ``decimal(76,76)`` is 0.0247….  Where the longest text leaves no room for that, nothing is looked at.

    Args:
        plain: Numbers as ``_plain`` returns them.
        most_digits: Before the point.
        spare_digits: Behind it.
    """
    longest = pc.max(pc.binary_length(plain)).as_py() or 0
    has_exponent = pc.any(pc.match_substring_regex(plain, "[eE]")).as_py()
    if longest + spare_digits <= _SAFE_DIGITS and not has_exponent:
        return
    if has_exponent:
        digits = max((Decimal(text).adjusted() + 1 for text in plain.to_pylist() if text and Decimal(text)), default=0)
    else:
        whole = pc.replace_substring_regex(plain, r"^-?0*([0-9]*).*$", r"\1")
        digits = pc.max(pc.binary_length(whole)).as_py() or 0
    if digits > most_digits:
        raise DoesNotFitError("too many digits before the point")


def _plain(texts: Values) -> Values:
    """Return numbers without a plus sign, a bare point at the beginning, and zeros at the end of their fraction."""
    is_number = pc.match_substring_regex(texts, NUMBER)
    if pc.all(is_number).as_py() is False:
        raise DoesNotFitError("not a number")
    return _without_zeros(texts)


def _without_zeros(texts: Values) -> Values:
    if pc.any(pc.match_substring_regex(texts, r"^[+.]|^-\.")).as_py():
        texts = pc.replace_substring_regex(pc.utf8_ltrim(texts, "+"), r"^(-?)\.", r"\10.")
    if pc.any(pc.match_substring(texts, ".")).as_py():
        texts = pc.utf8_rtrim(pc.replace_substring_regex(texts, _TRAILING_ZEROS, r"\1"), ".")
    return texts
