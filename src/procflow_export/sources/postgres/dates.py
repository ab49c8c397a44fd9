"""Dates and times as PostgreSQL prints them, in any year: Python's own know the years 1 to 9999 only.

Owns their texts, both ways; pure.  Days and microseconds count from 1970-01-01, as in Arrow.
"""

from __future__ import annotations

import re
from typing import Final

DAY_US: Final = 86_400_000_000
_SECOND_US: Final = 1_000_000
_TIME: Final = r"(?P<hours>\d\d):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,6}))?"
_ONE_TIME: Final = re.compile(_TIME, re.ASCII)
_MOMENT: Final = re.compile(
    rf"(?P<year>\d{{4,7}})-(?P<month>\d\d)-(?P<day>\d\d)(?: {_TIME}(?P<zone>\+00)?)?(?P<era> BC)?", re.ASCII
)


def days_of(text: str) -> int:
    """Return the day of a date.

    Raises:
        ValueError: If it is none, or not finite.
    """
    match = _MOMENT.fullmatch(text)
    if match is None or match["hours"] is not None:
        raise ValueError("not a finite date")
    return _days(match)


def microseconds_of(text: str, *, has_zone: bool) -> int:
    """Return the moment of a date and time; a zone is always UTC's.

    Raises:
        ValueError: If it is none, or not finite.
    """
    match = _MOMENT.fullmatch(text)
    if match is None or match["hours"] is None or (match["zone"] is not None) != has_zone:
        raise ValueError("not a finite moment")
    return _days(match) * DAY_US + _time_us(match)


def time_of(text: str) -> int:
    """Return the microseconds since midnight of a time of day, ``24:00:00`` among them.

    Raises:
        ValueError: If it is none.
    """
    match = _ONE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a time of day")
    return _time_us(match)


def date_text(days: int) -> str:
    """Return the text of a day."""
    # civil_from_days of <https://howardhinnant.github.io/date_algorithms.html>
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    year = year_of_era + era * 400 + (month >= 10)
    month = (month + 2) % 12 + 1
    return f"{year:04}-{month:02}-{day:02}" if year > 0 else f"{1 - year:04}-{month:02}-{day:02} BC"


def moment_text(microseconds: int, zone: str = "") -> str:
    """Return the text of a moment."""
    days, time = divmod(microseconds, DAY_US)
    date, space, era = date_text(days).partition(" ")
    return f"{date} {time_text(time)}{zone}{space}{era}"


def time_text(microseconds: int) -> str:
    """Return the text of a time of day."""
    seconds, fraction = divmod(microseconds, _SECOND_US)
    decimals = f".{fraction:06}".rstrip("0") if fraction else ""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{decimals}"


def _time_us(match: re.Match[str]) -> int:
    seconds = (int(match["hours"]) * 60 + int(match["minutes"])) * 60 + int(match["seconds"])
    return seconds * _SECOND_US + int((match["fraction"] or "").ljust(6, "0"))


def _days(match: re.Match[str]) -> int:
    # days_from_civil of <https://howardhinnant.github.io/date_algorithms.html>
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if match["era"]:
        year = 1 - year
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468
