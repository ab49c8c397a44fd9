"""Names: where the parts of an export go, and what they are called.

Owns placeholders and part names.  A part's name follows from run, export, chunk and part number alone, so that a work
unit that is done twice writes the same objects.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from procflow_export.config.places import manifest_place
from procflow_export.model.destination import DestinationConfig
from procflow_export.model.plan import Query, Selection

_PLACEHOLDER: Final = re.compile(r"\{(date|hour|export|table|run_id)\}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._$-]")
SHORT_RUN_ID_CHARS: Final = 12


def resolved_destination(
    config: DestinationConfig,
    *,
    export: str,
    selection: Selection,
    run_id: str,
    started_at: datetime,
    is_cumulative: bool = False,
) -> tuple[DestinationConfig, str]:
    """Return the destination of one export in one run, placeholders filled in, and what its parts' names begin with.

    Args:
        config: As configured.
        export: Name of the export.
        selection: What it reads; ``{table}`` is the table's name, or the export's for a query.
        run_id: The run.
        started_at: When the run began, UTC.
        is_cumulative: Whether the export adds to its set, so that its manifest stays in one place.
    """
    table = export if isinstance(selection, Query) else selection.table
    values = {
        "date": f"{started_at:%Y-%m-%d}",
        "hour": f"{started_at:%H}",
        "export": export,
        "table": _UNSAFE.sub("_", table),
        "run_id": run_id,
    }
    root, below = (
        _PLACEHOLDER.sub(lambda found: values[found[1]], path)
        for path in manifest_place(config.folder, is_cumulative=is_cumulative)
    )
    return config.with_folder(root), f"{below}/" if below else ""


def part_stem(export: str, run_id: str, index: int) -> str:
    """Return what the names of all parts of one chunk begin with."""
    return f"{run_stem(export, run_id)}{index:05d}"


def run_stem(export: str, run_id: str) -> str:
    """Return what the names of all parts of one export in one run begin with, and those of nothing else."""
    return f"{export}-{short_run_id(run_id)}-c"


def part_key(stem: str, number: int, suffix: str) -> str:
    """Return the name of part ``number`` of a chunk; ``suffix`` begins with its dot."""
    return f"{stem}-p{number:03d}{suffix}"


def short_run_id(run_id: str) -> str:
    """Return the part of a run id that tells runs apart in file names.

    The end of a UUIDv7 is random; its beginning is the time and equal for runs of the same minute.
    """
    return UUID(run_id).hex[-SHORT_RUN_ID_CHARS:]
