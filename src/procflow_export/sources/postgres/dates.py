"""Dates and times of PostgreSQL that lie outside the years 1 to 9999.

Owns the conversion of ``YYYYY-MM-DD``, ``… BC`` and their times; pure.  Arrow holds these values, its parser refuses them.
"""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa

from procflow_export.model.types import LogicalType
from procflow_export.sources.arrays import Values

_MOMENT: Final = re.compile(
    r"(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?: (?P<hours>\d\d):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,6}))?(?P<zone>\+00)?)?(?P<era> BC)?"
)
_DAY_US: Final = 86_400_000_000


def convert(texts: Values, logical_type: LogicalType, arrow_type: pa.DataType) -> Values:
    """Return dates or moments of any year that the Arrow type holds.

    Raises:
        pa.ArrowInvalid: If a text is something else: ``infinity`` and ``-infinity`` are not dates.
    """
    try:
        return texts.cast(arrow_type)
    except pa.ArrowInvalid:
        numbers = [None if text is None else _parse(text, logical_type) for text in texts.to_pylist()]
        storage = pa.int32() if logical_type is LogicalType.DATE else pa.int64()
        return pa.array(numbers, storage).cast(arrow_type)


def _parse(text: str, logical_type: LogicalType) -> int:
    """Return days (dates) or microseconds (everything else) since 1970."""
    match = _MOMENT.fullmatch(text)
    has_time = match is not None and match["hours"] is not None
    has_zone = match is not None and match["zone"] is not None
    if (
        match is None
        or has_time != (logical_type is not LogicalType.DATE)
        or has_zone != (logical_type is LogicalType.INSTANT)
    ):
        raise pa.ArrowInvalid(f"not a finite {logical_type.value}")
    year = int(match["year"])
    days = _days(1 - year if match["era"] else year, int(match["month"]), int(match["day"]))
    if not has_time:
        return days
    seconds = (int(match["hours"]) * 60 + int(match["minutes"])) * 60 + int(match["seconds"])
    microseconds = days * _DAY_US + seconds * 1_000_000 + int((match["fraction"] or "").ljust(6, "0"))
    if not -(2**63) <= microseconds < 2**63:
        raise pa.ArrowInvalid("beyond the range of microseconds in 64 bits")
    return microseconds


def _days(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01 in the proleptic Gregorian calendar, astronomical years.

    The algorithm is ``days_from_civil`` of <https://howardhinnant.github.io/date_algorithms.html>.
    """
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468
