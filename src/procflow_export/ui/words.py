"""Numbers as people read them: counts, bytes, rates, durations.

Pure; owns spelling only.  Programs get plain numbers from ``--json`` and never meet these texts.
"""

from __future__ import annotations

from typing import Final

_BINARY_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_COMPACT_UNITS: Final = ("", "k", "M", "G", "T", "P")
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def _three_digits(value: float, *, step: float, units: tuple[str, ...]) -> tuple[str, str]:
    index = 0
    while index + 1 < len(units) and round(value, 0 if value >= 100 else 1) >= step:
        value /= step
        index += 1
    if index == 0:
        return f"{value:.0f}", units[0]
    return (f"{value:.0f}" if round(value, 1) >= 100 else f"{value:.1f}"), units[index]


def whole(count: int) -> str:
    """``1234567`` as ``1,234,567``."""
    return f"{count:,}"


def compact(count: float) -> str:
    """``1234567`` as ``1.2M``: at most five characters below a million million."""
    number, unit = _three_digits(count, step=1000, units=_COMPACT_UNITS)
    return f"{number}{unit}"


def size(size_bytes: int) -> str:
    """``1536`` as ``1.5 KiB``."""
    number, unit = _three_digits(size_bytes, step=1024, units=_BINARY_UNITS)
    return f"{number} {unit}"


def rate(rows_per_s: float) -> str:
    """``412345.6`` as ``412k/s``."""
    return f"{compact(rows_per_s)}/s"


def duration(seconds: float) -> str:
    """``0.42`` as ``0.4 s``, ``75`` as ``1:15``, ``3725`` as ``1:02:05``, ``90061`` as ``1d 1:01:01``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < _MINUTE_S - 0.5:
        return f"{seconds:.0f} s"
    total = round(seconds)
    days, rest = divmod(total, _DAY_S)
    hours, rest = divmod(rest, _HOUR_S)
    minutes, last = divmod(rest, _MINUTE_S)
    if days:
        return f"{days}d {hours}:{minutes:02}:{last:02}"
    return f"{hours}:{minutes:02}:{last:02}" if hours else f"{minutes}:{last:02}"


def plural(count: int, noun: str, *, many: str | None = None) -> str:
    """``1 part``, ``2 parts``, ``1,000 parts``."""
    return f"{whole(count)} {noun if count == 1 else (many or noun + 's')}"


def percent(fraction: float) -> str:
    """``0.587`` as ``58%``: rounded down, so that only the end reads ``100%``."""
    return f"{int(max(0.0, min(fraction, 1.0)) * 100)}%"
