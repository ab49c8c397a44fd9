"""Points in time as text: the one form that manifests, events and the state have them in."""

from __future__ import annotations

from datetime import datetime


def rfc3339(moment: datetime) -> str:
    """Return an aware time in UTC as RFC 3339 with milliseconds and ``Z``."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
