"""How long lines were under way: out of the time stamps that they carry."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic_ns
from typing import Final

from benchmarks.children import STAMP_BYTES
from benchmarks.harness import Numbers

POINTS: Final = 16


class Delays:
    """Takes chunks of stamped lines and says how old the lines in them were.

    On arrival it keeps the time and the borders of the chunk, nothing else, so that watching costs little.  The lines between the first
    and the last whole one of a chunk are taken to lie evenly between them.
    """

    def __init__(self) -> None:
        self._arrivals: list[tuple[int, int, int, bytes, bytes]] = []
        self.total = 0

    def take(self, data: bytes) -> None:
        """Note a chunk that has just arrived."""
        length = len(data)
        self._arrivals.append((monotonic_ns(), self.total, length, data[: 2 * STAMP_BYTES], data[-2 * STAMP_BYTES :]))
        self.total += length

    def numbers(self) -> Numbers:
        """Return the percentiles over all lines."""
        weighted: list[tuple[float, float]] = []
        for now, start, length, head, end in self._arrivals:
            # The first whole line of the chunk begins at `first`, the last one at `last`, counted from its beginning.
            first = -start % STAMP_BYTES
            last = (start + length) // STAMP_BYTES * STAMP_BYTES - STAMP_BYTES - start
            if last < first:
                continue
            oldest = now - int(head[first : first + STAMP_BYTES])
            from_end = length - last
            newest = now - int(end[len(end) - from_end : len(end) - from_end + STAMP_BYTES])
            lines = (last - first) // STAMP_BYTES + 1
            points = min(lines, POINTS)
            for number in range(points):
                share = number / (points - 1) if points > 1 else 0.0
                weighted.append((oldest + (newest - oldest) * share, lines / points))
        return {
            "p50_us": percentile(weighted, 0.5) / 1e3,
            "p90_us": percentile(weighted, 0.9) / 1e3,
            "p99_us": percentile(weighted, 0.99) / 1e3,
        }


def percentile(weighted: Sequence[tuple[float, float]], share: float) -> float:
    """Return the value that this share of the weight does not exceed."""
    ordered = sorted(weighted)
    left = share * sum(weight for _, weight in ordered)
    for value, weight in ordered:
        left -= weight
        if left <= 0:
            return value
    return ordered[-1][0]
