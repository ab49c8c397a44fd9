"""The values nearest to those that a type cannot hold.

Owns the ends of every type.  A text goes in, the text of the nearest value comes out, or ``None`` where there is no such thing:
NaN is near to nothing, and neither is a date that never was.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

import pyarrow as pa

from procflow_export.sources.arrays import AnyType
from procflow_export.sources.columns.moments import seconds_of
from procflow_export.sources.columns.numbers import NUMBER

# 64 bits hold one tick more below than above, which is no time at all for many readers.
_LATEST: Final = {"us": "294247-01-10 04:00:54.775807", "ns": "2262-04-11 23:47:16.854775807"}
_EARLIEST: Final = {"us": "290309-12-21 19:59:05.224193 BC", "ns": "1677-09-21 00:12:43.145224193"}
_LATEST_DATE: Final = "5881580-07-11"
_EARLIEST_DATE: Final = "5877642-06-24 BC"
_LAST_OF_DAY: Final = "23:59:59.999999"
_FIRST_OF_DAY: Final = "00:00:00"
_INFINITIES: Final = frozenset({"Infinity", "-Infinity", "inf", "-inf"})
_NUMBER: Final = re.compile(NUMBER)
_CLOCK: Final = re.compile(r"(-?)(\d{2,3}):\d\d:\d\d(?:\.\d+)?", re.ASCII)
_BEYOND_MICROSECONDS: Final = re.compile(r"(\.\d{6})\d+", re.ASCII)
_HOURS_OF_DAY: Final = 24
_CONTEXT: Final = Context(prec=1_000)


def nearest(text: str, arrow_type: AnyType) -> str | None:
    """Return the text of the value of ``arrow_type`` that is nearest to ``text``, which does not fit.

    Numbers with too many decimals are rounded half to even, times are cut.
    """
    types = pa.types
    if types.is_decimal(arrow_type):
        highest = Decimal(10**arrow_type.precision - 1).scaleb(-arrow_type.scale, _CONTEXT)
        # Not ``-highest``: that rounds to the digits of the thread's context.
        return _nearest_number(text, highest.copy_negate(), highest, arrow_type.scale)
    if types.is_integer(arrow_type):
        is_signed = types.is_signed_integer(arrow_type)
        count = 2 ** (arrow_type.bit_width - is_signed)
        return _nearest_number(text, Decimal(-count if is_signed else 0), Decimal(count - 1), 0)
    if types.is_floating(arrow_type):
        return _nearest_float(text, arrow_type)
    if types.is_date(arrow_type):
        return _nearest_moment(text, _EARLIEST_DATE, _LATEST_DATE, "")
    if types.is_timestamp(arrow_type):
        unit = arrow_type.unit
        return _nearest_moment(text, _EARLIEST[unit], _LATEST[unit], unit)
    if types.is_time(arrow_type):
        return _nearest_time(text)
    return None


def _nearest_number(text: str, lowest: Decimal, highest: Decimal, scale: int) -> str | None:
    if text in _INFINITIES:
        return format(lowest if text.startswith("-") else highest, "f")
    if _NUMBER.match(text) is None or text.endswith("\n"):
        return None
    number = Decimal(text)
    number = min(max(number, lowest), highest)
    rounded = number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_EVEN, _CONTEXT)
    return format(rounded, "f")


def _nearest_float(text: str, arrow_type: pa.DataType) -> str | None:
    if _NUMBER.match(text) is None or text.endswith("\n"):
        return None
    number = pa.scalar(text).cast(arrow_type).as_py()
    highest = 1.7976931348623157e308 if arrow_type.bit_width == 64 else 3.4028234663852886e38
    bounded = min(max(number, -highest), highest)
    return str(pa.scalar(bounded, arrow_type).cast(pa.string()).as_py())


def _nearest_moment(text: str, earliest: str, latest: str, unit: str) -> str | None:
    if text in {"infinity", "-infinity"}:
        return latest if text == "infinity" else earliest
    try:
        seconds, nanoseconds, _ = seconds_of(text)
    except pa.ArrowInvalid:
        return None
    if seconds >= seconds_of(latest)[0]:
        return latest
    if seconds <= seconds_of(earliest)[0]:
        return earliest
    if unit == "us" and nanoseconds % 1_000:
        return _BEYOND_MICROSECONDS.sub(r"\1", text)
    return None


def _nearest_time(text: str) -> str | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    if match[1]:
        return _FIRST_OF_DAY
    if int(match[2]) >= _HOURS_OF_DAY:
        return _LAST_OF_DAY
    return _BEYOND_MICROSECONDS.sub(r"\1", text)
