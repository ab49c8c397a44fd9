"""Sizes as people write them: ``512MB``, binary units."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"\s*(\d+)\s*([KMGT]?)(?:I?B)?\s*", re.IGNORECASE)
_SHIFT: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


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
