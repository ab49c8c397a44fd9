"""Texts of dates and times, as any of the databases prints them, become dates and times.

Owns the forms that are understood: ``YYYY-MM-DD``, then optionally a space or ``T`` and ``HH:MM[:SS[.fffffffff]]``, then
optionally a zone (``Z``, ``+02``, ``-03:30``), then optionally ``BC``; a year has four to seven digits.  Every function takes
a string array and returns one of the type asked for, NULLs where they were; a value that does not fit raises
``pa.ArrowInvalid``.

Arrow's parser is fast, and refuses years before 0 and after 9999, which its types hold.  So a column is first brought into
the one form that Arrow reads; where that fails, its distinct texts are read one by one.

A date has no time but midnight, a wall-clock time no zone but UTC, and a moment without a zone is one in UTC.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from procflow_export.sources.arrays import AnyType, DoesNotFitError, Values
from procflow_export.sources.arrays import kernels as pc

MICROSECONDS: Final = 1_000_000
DAY_S: Final = 86_400

_CLOCK: Final = r"(?P<hours>\d\d):(?P<minutes>\d\d)(?::(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
_ZONE: Final = r"(?P<zone>Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?"
_MOMENT: Final = re.compile(
    rf"(?P<year>\d{{4,7}})-(?P<month>\d\d)-(?P<day>\d\d)(?:[ T]{_CLOCK}{_ZONE})?(?P<era> BC)?", re.ASCII
)
_TIME: Final = re.compile(_CLOCK + _ZONE, re.ASCII)
_UTC: Final = r"(:\d\d(?:\.\d+)?)(?:Z|[+-]00(?::?00){0,2})$"
_MIDNIGHT: Final = r"[ T]00:00(?::00(?:\.0+)?)?$"
_DURATION: Final = (
    r"^(?P<sign>-?)(?P<hours>\d{1,3}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)(?:\.(?P<fraction>\d{1,6}))?$"
)
UNITS_IN_SECOND: Final = {"us": 1_000_000, "ns": 1_000_000_000}


def to_date(texts: Values) -> Values:
    """Convert to ``date32``."""
    return _converted(texts, pa.date32(), _midnights, _to_days)


def to_timestamp(texts: Values, arrow_type: AnyType) -> Values:
    """Convert to wall-clock time; a zone may stand there if it is UTC."""
    unit = arrow_type.unit
    return _converted(texts, arrow_type, _without_utc, lambda text: _to_ticks(text, unit, may_have_zone=False))


def to_instant(texts: Values, arrow_type: AnyType) -> Values:
    """Convert to points in time; without a zone they are in UTC."""
    unit, naive = arrow_type.unit, pa.timestamp(arrow_type.unit)

    def prepared(plain: Values) -> Values:
        return _without_utc(plain).cast(naive).cast(pa.int64())

    return _converted(texts, arrow_type, prepared, lambda text: _to_ticks(text, unit, may_have_zone=True))


def to_time(texts: Values) -> Values:
    """Convert to ``time64[us]``; one with a zone becomes the time in UTC, and ``24:00:00`` does not fit."""
    return _converted(texts, pa.time64("us"), _on_the_first_day, _to_clock_us)


def to_duration(texts: Values) -> Values:
    """Convert ``[-]H…:MM:SS`` with up to six decimals to ``duration[us]``."""
    parts = pc.extract_regex(texts, _DURATION)
    if parts.null_count != texts.null_count:
        raise DoesNotFitError("not a time of the form [-]HHH:MM:SS[.ffffff]")

    def number(name: str) -> Values:
        text = pc.struct_field(parts, name)
        if name == "fraction":
            text = pc.utf8_rpad(text, 6, "0")
        return text.cast(pa.int64())

    seconds = pc.add(pc.add(pc.multiply(number("hours"), 3600), pc.multiply(number("minutes"), 60)), number("seconds"))
    total = pc.add(pc.multiply(seconds, MICROSECONDS), number("fraction"))
    is_negative = pc.equal(pc.struct_field(parts, "sign"), "-")
    return pc.if_else(is_negative, pc.negate(total), total).cast(pa.duration("us"))


def _converted(
    texts: Values, arrow_type: AnyType, prepare: Callable[[Values], Values], parse: Callable[[str], int]
) -> Values:
    try:
        return prepare(texts).cast(arrow_type)
    except pa.ArrowInvalid:
        encoded = texts.dictionary_encode()
        numbers = [None if text is None else parse(text) for text in encoded.dictionary.to_pylist()]
        storage = pa.int32() if arrow_type.bit_width == 32 else pa.int64()
        return pc.take(pa.array(numbers, storage), encoded.indices).cast(arrow_type)


def _without_utc(texts: Values) -> Values:
    return pc.replace_substring_regex(texts, _UTC, r"\1")


def _midnights(texts: Values) -> Values:
    longest = pc.max(pc.binary_length(texts)).as_py()
    if longest is None or longest <= len("YYYY-MM-DD"):
        return texts
    return pc.replace_substring_regex(_without_utc(texts), _MIDNIGHT, "")


def _on_the_first_day(texts: Values) -> Values:
    moments = pc.binary_join_element_wise(pa.scalar("1970-01-01"), texts, " ")
    return moments.cast(pa.timestamp("us"))


def seconds_of(text: str) -> tuple[int, int, bool]:
    """Return seconds since 1970 in UTC, however many, nanoseconds beyond them, and whether a zone other than UTC stands there.

    Raises:
        pa.ArrowInvalid: If the text is no date that ever was, or no moment of one.
    """
    match = _matched(_MOMENT, text)
    seconds = _days(match) * DAY_S
    if match["hours"] is None:
        return seconds, 0, False
    zone_s = _zone_s(match)
    return seconds + _clock_s(match) - zone_s, _nanoseconds(match), zone_s != 0


def _to_days(text: str) -> int:
    seconds, nanoseconds, has_zone = seconds_of(text)
    days, rest = divmod(seconds, DAY_S)
    if rest or nanoseconds or has_zone:
        raise DoesNotFitError("a date with a time")
    if not -(2**31) <= days < 2**31:
        raise DoesNotFitError("beyond the range of days in 32 bits")
    return days


def _to_ticks(text: str, unit: str, *, may_have_zone: bool) -> int:
    seconds, nanoseconds, has_zone = seconds_of(text)
    if has_zone and not may_have_zone:
        raise DoesNotFitError("a wall-clock time with a zone")
    ticks = seconds * UNITS_IN_SECOND[unit] + _in_unit(nanoseconds, unit)
    if not -(2**63) <= ticks < 2**63:
        raise DoesNotFitError("beyond the range of 64 bits")
    return ticks


def _to_clock_us(text: str) -> int:
    match = _matched(_TIME, text)
    seconds = (_clock_s(match) - _zone_s(match)) % DAY_S
    return seconds * MICROSECONDS + _in_unit(_nanoseconds(match), "us")


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise DoesNotFitError("not a finite date or time")
    return match


def _clock_s(match: re.Match[str]) -> int:
    hours, minutes, seconds = int(match["hours"]), int(match["minutes"]), int(match["seconds"] or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise DoesNotFitError("not a time of day")
    return (hours * 60 + minutes) * 60 + seconds


def _nanoseconds(match: re.Match[str]) -> int:
    return int((match["fraction"] or "").ljust(9, "0"))


def _in_unit(nanoseconds: int, unit: str) -> int:
    ticks, rest = divmod(nanoseconds, UNITS_IN_SECOND["ns"] // UNITS_IN_SECOND[unit])
    if rest:
        raise DoesNotFitError("more decimals than the type has")
    return ticks


def _zone_s(match: re.Match[str]) -> int:
    zone = match["zone"]
    if zone in (None, "Z"):
        return 0
    digits = zone[1:].replace(":", "").ljust(6, "0")
    seconds = (int(digits[:2]) * 60 + int(digits[2:4])) * 60 + int(digits[4:])
    return -seconds if zone[0] == "-" else seconds


def _days(match: re.Match[str]) -> int:
    """Return days since 1970-01-01 in the proleptic Gregorian calendar; the year 0 of some databases is 1 BC.

    The algorithm is ``days_from_civil`` of <https://howardhinnant.github.io/date_algorithms.html>.
    """
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if match["era"]:
        year = 1 - year
    # The calendar repeats itself after 400 years.
    if not 1 <= month <= 12 or not 1 <= day <= monthrange(year % 400 + 400, month)[1]:
        raise DoesNotFitError("a date that never was")
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468
