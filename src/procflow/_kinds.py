"""Checks of what callers pass: a wrong kind of value must fail where it is given.

A value of a wrong kind would seldom fail where it is used: it would compare unequal to every policy, and so have none.
Owns the wording of these errors.  Must not know what the values mean.
"""

from __future__ import annotations

import math
from enum import Enum


def require_int(name: str, value: object, *, lowest: int) -> None:
    """Raise unless ``value`` is an ``int`` (a bool is none) and at least ``lowest``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, not {value}")


def require_duration(name: str, value: object, *, allows_zero: bool) -> None:
    """Raise unless ``value`` is a number of seconds that is positive, or not negative if zero is allowed."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if math.isnan(value) or value < 0 or (value == 0 and not allows_zero):
        raise ValueError(f"{name} must {'not be negative' if allows_zero else 'be positive'}, not {value}")


def require_instance(name: str, value: object, kind: type) -> None:
    """Raise unless ``value`` is a ``kind``; the error names the members of an enum."""
    if not isinstance(value, kind):
        members = f" ({', '.join(member.name for member in kind)})" if issubclass(kind, Enum) else ""
        raise TypeError(f"{name} must be of the type {kind.__name__}{members}, not {value!r}")
