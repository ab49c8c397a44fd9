"""Where an export publishes, as the path of its destination says it before placeholders are filled in.

Owns the split of a path into the directory of the manifest and what only the names of parts have.  An export that replaces its
set with every run has one directory for both, whatever placeholders say.  One that adds to its set keeps the manifest in one
place: the part of the path before the first placeholder that differs from run to run.
"""

from __future__ import annotations

import re
from typing import Final

EXPORT: Final = "{export}"
_VARYING: Final = re.compile(r"\{(date|hour|run_id)\}")


def manifest_place(path: str, *, is_cumulative: bool) -> tuple[str, str]:
    """Return the directory of the manifest, and the directory of the parts below it; both with placeholders.

    A path without ``{export}`` gets a directory per export, so that no two exports share a manifest.

    Args:
        path: The folder as configured; empty where a prefix is.
        is_cumulative: Whether the export adds to its set.
    """
    segments = path.rstrip("/").split("/") if path else []
    varying = next((at for at, segment in enumerate(segments) if _VARYING.search(segment)), len(segments))
    if not is_cumulative:
        varying = len(segments)
    stable, rest = segments[:varying], [segment for segment in segments[varying:] if segment]
    if EXPORT not in path:
        stable.append(EXPORT)
    return "/".join(stable), "/".join(rest)
