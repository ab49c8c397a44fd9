"""Sizes and durations as people write them: ``512MB`` (binary units), ``15m``."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"\s*(\d+)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE)
_SHIFT: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_DURATION: Final = re.compile(r"\s*(\d{1,9})\s*([smhd])\s*", re.IGNORECASE)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S: Final = 36_525 * 86_400
"""A century: what is subtracted from now stays a date."""


def parse_size(text: str | int) -> int:
    """Return the bytes that ``text`` means: a number, or a number and ``B``, ``KB``, ``MB``, ``GB``, ``TB``.

    Raises:
        ValueError: If it is no such size, or not above zero.
    """
    found = _SIZE.fullmatch(str(text))
    size_bytes = 0 if found is None else int(found[1]) << _SHIFT[found[2].upper()]
    if size_bytes < 1:
        raise ValueError(f"not a size: {text!r}")
    return size_bytes


def parse_duration_s(text: str) -> int:
    """Return the seconds that ``text`` means: a number and ``s``, ``m``, ``h`` or ``d``.

    Raises:
        ValueError: If it is no such duration, or longer than a century.
    """
    found = _DURATION.fullmatch(text)
    duration_s = None if found is None else int(found[1]) * _SECONDS[found[2].lower()]
    if duration_s is None or duration_s > _LONGEST_S:
        raise ValueError(f"not a duration: {text!r}")
    return duration_s
