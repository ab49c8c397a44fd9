"""Where a subscriber begins.

Owns the meaning of ``start`` and ``last_bytes``.  Must not know what is still retained.
"""

from __future__ import annotations

from procflow._kinds import require_int
from procflow.policies import Start


def resolve_start(start: Start, last_bytes: int | None, *, produced: int, unread: int) -> int:
    """Return the absolute offset that a caller asks for, where ``unread`` is what nobody has been given.

    Raises:
        TypeError: If either is of a wrong kind.
        ValueError: If both are given, or the offset is negative or was not produced yet.
    """
    if last_bytes is not None:
        if start != "unread":
            raise ValueError("give either start or last_bytes")
        require_int("last_bytes", last_bytes, lowest=0)
        return max(0, produced - last_bytes)
    if start == "unread":
        return unread
    if start == "start":
        return 0
    if start == "live":
        return produced
    require_int('start, where it is not "unread", "start" or "live",', start, lowest=0)
    if start > produced:
        raise ValueError(f"offset {start} is beyond {produced}, which is all that the stream has produced")
    return start
