"""Dates, moments and times in their binary form, for a whole column at once.

Owns the calendar: which dates exist.  A value is a length and then as much of year, month, day, hour, minute, second and
microsecond as is not zero: <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html>.

The servers store dates that never were: zero dates (``0000-00-00``, ``2020-02-00``), and with ``ALLOW_INVALID_DATES`` days
like ``2020-02-31``.  They are found here; what becomes of them is decided elsewhere.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from procflow_export.sources.mysql.decoding.fields import Field, Mask
from procflow_export.sources.mysql.decoding.packets import FramingError
from procflow_export.sources.mysql.decoding.walk import Positions

_Words: TypeAlias = npt.NDArray[np.uint64]

MICROSECONDS: Final = 1_000_000
DAY_S: Final = 86_400
_MAX_TIME_DAYS: Final = 36_500
"""Far above what TIME holds, far below what microseconds in a word hold."""

_DATE_LENGTHS: Final = np.zeros(256, np.bool_)
_DATE_LENGTHS[[0, 4]] = True
_MOMENT_LENGTHS: Final = np.zeros(256, np.bool_)
_MOMENT_LENGTHS[[0, 4, 7, 11]] = True
_TIME_LENGTHS: Final = np.zeros(256, np.bool_)
_TIME_LENGTHS[[0, 8, 12]] = True
_YEARS: Final = 10_000
_MONTHS: Final = 16
_KEPT: Final = np.zeros(12, np.uint64)
"""By length: which of a moment's first seven bytes, and the length before them, are there."""
_KEPT[4] = 0xFFFFFFFFFF
_KEPT[[7, 11]] = 0xFFFFFFFFFFFFFFFF
_moment = Struct("<HBBBBBI")


class Moments(NamedTuple):
    """A column of dates or moments."""

    values: npt.NDArray[np.int64] | npt.NDArray[np.int32]
    is_wrong: Mask
    """Which of them never were."""


def dates(field: Field) -> Moments:
    """Return days since 1970-01-01.

    Raises:
        FramingError: If a value has an impossible length.
    """
    lengths = _lengths(field, _DATE_LENGTHS)
    return Moments(*_days(_head(field, lengths)))


def moments(field: Field) -> Moments:
    """Return microseconds since 1970-01-01 00:00:00.

    Raises:
        FramingError: If a value has an impossible length.
    """
    lengths = _lengths(field, _MOMENT_LENGTHS)
    head = _head(field, lengths)
    days, is_wrong = _days(head)
    hour, minute, second = (_octet(head, at) for at in (5, 6, 7))
    micros = _micros(field, lengths, 7)
    if max(hour.max() // 24, minute.max() // 60, second.max() // 60, micros.max() // MICROSECONDS):
        is_wrong |= (hour >= 24) | (minute >= 60) | (second >= 60) | (micros >= MICROSECONDS)
    return Moments(((days * DAY_S + hour * 3600) + (minute * 60 + second)) * MICROSECONDS + micros, is_wrong)


def times(field: Field) -> npt.NDArray[np.int64]:
    """Return microseconds, negative ones too.

    Raises:
        FramingError: If a value has an impossible length, or parts that no time has.
    """
    lengths = _lengths(field, _TIME_LENGTHS)
    head: _Words = field.gather("<u8") * (np.asarray(lengths) > 0)
    days = (head >> np.uint64(8)).astype(np.uint32).astype(np.int64)
    hours, minutes, seconds = (_octet(head, at) for at in (5, 6, 7))
    micros = _micros(field, lengths, 8)
    if max(days.max() // _MAX_TIME_DAYS, minutes.max() // 60, seconds.max() // 60, micros.max() // MICROSECONDS):
        raise FramingError("a time has parts that no time has")
    total = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * MICROSECONDS + micros
    return np.where(_octet(head, 0) > 0, -total, total)


def moment_text(value: bytes, *, has_time: bool) -> str:
    """Return one date or moment as the servers write it."""
    year, month, day, hour, minute, second, micros = _moment.unpack(value.ljust(_moment.size, b"\0"))
    text = f"{year:04d}-{month:02d}-{day:02d}"
    if has_time:
        text += f" {hour:02d}:{minute:02d}:{second:02d}"
    return f"{text}.{micros:06d}" if micros else text


def _lengths(field: Field, possible: Mask) -> int | Positions:
    """Return the lengths of the values; one where it is that of all."""
    lengths = field.lengths if field.width is None else field.width
    if not possible[np.minimum(lengths, len(possible) - 1)].all():
        raise FramingError("a date or time has an impossible length")
    return lengths


def _head(field: Field, lengths: int | Positions) -> _Words:
    """Return the length, in the lowest byte, and what there is of year (two bytes), month, day, hour, minute and second."""
    head: _Words = field.gather("<u8", -1)
    head &= _KEPT[lengths]
    return head


def _octet(head: _Words, at: int) -> npt.NDArray[np.int64]:
    part = head >> np.uint64(8 * at)
    if at < 7:
        part &= np.uint64(0xFF)
    return part.view(np.int64)


def _micros(field: Field, lengths: int | Positions, at: int) -> npt.NDArray[np.int64]:
    has_micros = np.equal(lengths, at + 4)
    if not has_micros.any():
        return np.zeros(1, np.int64)
    return field.gather("<u4", at).astype(np.int64) * has_micros


def _days(head: _Words) -> tuple[npt.NDArray[np.int64], Mask]:
    """Return the days since 1970-01-01, and which dates never were."""
    year = head >> np.uint64(8)
    year &= np.uint64(0xFFFF)
    month, day = _octet(head, 3), _octet(head, 4)
    entry = (year.view(np.int64) << 4) + np.minimum(month, _MONTHS - 1)
    known = _calendar()[np.minimum(entry, _YEARS * _MONTHS)].astype(np.int64)
    # Day 0 wraps around to a number above every month's length.
    is_wrong = (day - 1).view(np.uint64) >= (known & 31).view(np.uint64)
    return (known >> 5) + day, is_wrong


@cache
def _calendar() -> npt.NDArray[np.int32]:
    """Return, at 16 times a year plus a month, the day before the month's first, times 32, plus the month's length.

    There is 0 for what is no month, and at the end for every year beyond 9999.
    """
    firsts = np.arange("0000-01", "10000-02", dtype="M8[M]").astype("M8[D]").astype(np.int64)
    table = np.zeros((_YEARS, _MONTHS), np.int64)
    table[:, 1:13] = ((firsts[:-1] - 1) * 32 + np.diff(firsts)).reshape(_YEARS, 12)
    return np.append(table, 0).astype(np.int32)
