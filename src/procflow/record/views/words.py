"""Lengths and times as words, and texts that fit a column.

Owns what several views print alike.  Must not know what is printed.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Final

_NS_PER_S: Final = 1_000_000_000
_WIDE: Final = frozenset("WF")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def duration_text(duration_ns: int) -> str:
    """Return a duration in at most seven characters, ``>999d`` if it needs more: ``20us``, ``3.5ms``, ``12.0s``, ``3m07s``, ``2h05m``, ``3d04h``."""
    if duration_ns < 999_500:
        return f"{duration_ns}ns" if duration_ns < 1000 else f"{duration_ns / 1000:.0f}us"
    seconds = duration_ns / _NS_PER_S
    if seconds < 0.9995:
        return f"{duration_ns / 1_000_000:.1f}ms" if duration_ns < 99_950_000 else f"{duration_ns / 1_000_000:.0f}ms"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest_s:02}s"
    hours, rest_min = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{rest_min:02}m"
    days, rest_h = divmod(hours, 24)
    return f"{days}d{rest_h:02}h" if days < 1000 else ">999d"


def fitted(text: str, columns: int) -> str:
    """Return ``text`` in exactly ``columns`` of a terminal: cut with ``…``, or filled with spaces; nothing in it moves the cursor."""
    clean = "".join(char if char.isprintable() else "·" for char in text)
    if columns_of(clean) <= columns:
        return clean + " " * (columns - columns_of(clean))
    kept, used = [], 0
    for char in clean:
        width = columns_of(char)
        if used + width > columns - 1:
            break
        kept.append(char)
        used += width
    return "".join(kept) + "…" + " " * (columns - 1 - used) if columns > 0 else ""


def columns_of(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes, if nothing in it moves the cursor."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in _WIDE) for char in text)


def printable(text: str, *, columns: int | None = None) -> str:
    """Return ``text`` without anything that moves the cursor or the direction of writing, cut to ``columns`` if there are more."""
    if columns is not None and columns_of(text) > columns:
        return fitted(text, columns).rstrip()
    return text if text.isprintable() else "".join(char if char.isprintable() else "·" for char in text)


def instant_text(at_ms: int | None) -> str:
    """Return a time of the wall clock in UTC, to the second: ``2026-01-31 07:05:09``; ``?`` if it is none."""
    if at_ms is None:
        return "?"
    try:
        return (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:
        return "?"


def bytes_text(count: int) -> str:
    """Return a number of bytes in at most eight characters: ``0 B``, ``1023 B``, ``1.5 KiB``, ``20 GiB``."""
    size, units = float(count), iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    if count < 1024:
        return f"{count} B"
    unit = ""
    while size >= 1023.5:
        size, unit = size / 1024, next(units)
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: ``1 call``, ``3 calls``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
