"""Which single values an Arrow type holds, and which one is nearest to one that it does not.

Owns the misfits of plain Python values: dates as days, moments and times as microseconds, numbers as ``Decimal``.  The fast
readers say the same of whole columns; that they do is tested against this.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NoReturn, TypeAlias

import pyarrow as pa

from procflow_export.sources.postgres.dates import DAY_US

DecimalType: TypeAlias = pa.Decimal128Type | pa.Decimal256Type

NOT_UTF8: Final = "the text is not valid UTF-8"
NOT_A_LIST: Final = "an array of several dimensions, or with a lower bound other than 1, is no list"

ENOUGH: Final = Context(prec=200_000, Emax=200_000, Emin=-200_000)
"""For every numeric that a server holds."""


class CellMisfitError(Exception):
    """A value does not fit its Arrow type.

    Attributes:
        nearest: The nearest value that does; None if there is none.
        reason: Why, where the value does not say it.
    """

    def __init__(self, nearest: object = None, reason: str = "") -> None:
        super().__init__(reason)
        self.nearest = nearest
        self.reason = reason


Settle: TypeAlias = Callable[[CellMisfitError], object]
"""Returns what takes the place of a value that does not fit, or raises."""


def nearest_decimal(number: Decimal, arrow_type: DecimalType) -> Decimal:
    """Return the decimal of the type that is nearest to a number other than NaN; half goes to even."""
    limit = Decimal(10**arrow_type.precision - 1).scaleb(-arrow_type.scale, ENOUGH)
    # Not ``-limit``: that rounds to the digits of the thread's context.
    bounded = min(max(number, limit.copy_negate()), limit)
    return bounded.quantize(Decimal(1).scaleb(-arrow_type.scale), ROUND_HALF_EVEN, ENOUGH)


def fitting_decimal(number: Decimal, arrow_type: DecimalType) -> Decimal:
    """Return a number with the decimals of its type.

    Raises:
        CellMisfitError: If it has more digits, or is not finite.
    """
    if number.is_nan():
        raise CellMisfitError
    nearest = nearest_decimal(number, arrow_type)
    if nearest != number:
        raise CellMisfitError(nearest)
    return nearest


def fitting_moment(value: int, bits: int) -> int:
    """Return days or microseconds.

    Raises:
        CellMisfitError: If so many bits do not hold them.
    """
    latest = 2 ** (bits - 1) - 1
    if value > latest:
        refuse_infinity(bits, is_negative=False)
    return value


def refuse_infinity(bits: int, *, is_negative: bool) -> NoReturn:
    """Raise the error for a date or moment that is infinite, or as good as that."""
    # Not the lowest number of all: many readers take that one for no time.
    latest = 2 ** (bits - 1) - 1
    raise CellMisfitError(-latest if is_negative else latest)


def fitting_time(value: int) -> int:
    """Return a time of day in microseconds.

    Raises:
        CellMisfitError: If it is 24:00.
    """
    if value >= DAY_US:
        raise CellMisfitError(DAY_US - 1)
    return value


def utf8_text(raw: bytes) -> str:
    """Return a text.

    Raises:
        CellMisfitError: If it is not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CellMisfitError(reason=NOT_UTF8) from None
