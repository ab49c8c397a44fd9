"""Which release of this distribution runs.

Owns the look at the installed packages, which takes milliseconds and is made when it is asked for.
"""

from __future__ import annotations

from functools import cache


@cache
def release() -> str:
    """Return the version of this distribution; nothing if it runs from its sources without being installed."""
    from importlib.metadata import PackageNotFoundError, version  # dear

    try:
        return version("procflow")
    except PackageNotFoundError:
        return ""
