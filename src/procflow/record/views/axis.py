"""Marks on an axis of time.

Owns where they stand and what they say.  Must not know how they are drawn.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_US: Final = 1_000
_MS: Final = 1_000_000
_S: Final = 1_000_000_000
_MIN: Final = 60 * _S
_H: Final = 60 * _MIN
_D: Final = 24 * _H

_ROUND: Final[tuple[int, ...]] = (
    *(
        step * tens for tens in (1, 10, 100, _US, 10 * _US, 100 * _US, _MS, 10 * _MS, 100 * _MS) for step in (1, 2, 5)
    ),  # up to half a second
    *(step * _S for step in (1, 2, 5, 10, 15, 30)),
    *(step * _MIN for step in (1, 2, 5, 10, 15, 30)),
    *(step * _H for step in (1, 2, 3, 6, 12)),
)


class Tick(NamedTuple):
    """One mark."""

    at_ns: int
    label: str


def ticks(total_ns: int, *, at_most: int) -> list[Tick]:
    """Return marks from 0 to ``total_ns``, equally far apart, no more than ``at_most``; their distance is a round one."""
    step = _step(total_ns, max(at_most - 1, 1))
    return [Tick(at_ns, _label(at_ns, total_ns)) for at_ns in range(0, total_ns + 1, step)]


def _step(total_ns: int, parts: int) -> int:
    for step in _ROUND:
        if total_ns // step <= parts:
            return step
    tens = _D
    while True:
        for factor in (1, 2, 5):
            if total_ns // (factor * tens) <= parts:
                return factor * tens
        tens *= 10


def _label(at_ns: int, total_ns: int) -> str:
    if at_ns == 0:
        return "0"
    if total_ns < _MIN:
        unit, name = next(
            ((unit, name) for unit, name in ((_S, "s"), (_MS, "ms"), (_US, "us")) if total_ns >= unit), (1, "ns")
        )
        return f"{at_ns / unit:.9f}".rstrip("0").rstrip(".") + name
    days, rest = divmod(at_ns, _D)
    hours, rest = divmod(rest, _H)
    minutes, rest = divmod(rest, _MIN)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (rest // _S, "s"))
    return "".join(f"{value}{name}" for value, name in parts if value)
