"""Values of options: text in, numbers out, and what is said of a text that is none.

Owns the types of the command line.
"""

from __future__ import annotations

import argparse
import math
from typing import Final


class at_least:  # noqa: N801 (argparse shows the name of a type in its messages)
    """An argument type: a whole number with a lower bound."""

    __name__ = "number"

    def __init__(self, low: int) -> None:
        self._low = low

    def __call__(self, text: str) -> int:
        """Return the number that ``text`` is."""
        try:
            number = int(text.replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < self._low:
            raise argparse.ArgumentTypeError(f"{number} is below {self._low}")
        return number


_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str) -> float:
    """Return a duration in seconds: ``90``, ``1.5s``, ``10m``, ``2h``, ``7d``."""
    number = text.rstrip("smhd")
    unit = _UNITS.get(text[len(number) :])
    try:
        value = float(number) * unit if unit is not None else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: it is written 90, 1.5s, 10m, 2h or 7d")
    return value


def size_bytes(text: str) -> int:
    """Return a size in bytes: ``1000``, ``64K``, ``2M``, ``10G``, powers of 1024."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    factor = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(unit)
    if factor is None or not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no size: it is written 1000, 64K, 2M or 10G")
    return int(digits) * factor


def speed(text: str) -> float:
    """Return a factor above 0, ``inf`` included."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: it is a number above 0, or inf")
    return value
