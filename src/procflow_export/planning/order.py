"""Which work comes next: longest first.

Owns the estimate of what an export still has to do.  Work that takes long is begun early, because whatever begins last
decides when the run ends.
"""

from __future__ import annotations

from typing import Final

from procflow_export.planning.plan import ExportPlan, Target

UNKNOWN_ROWS: Final = 10_000_000
"""What an export without an estimate is taken for: large, so that it is not left for the end."""


NOMINAL_BYTES_PER_S: Final = 50 << 20
"""What a measured second is worth beside an estimate in bytes: about what one worker reads, decodes and encodes."""


def measured_cost(target: Target, work_s: float) -> float:
    """Return the same measure for an export whose last run took ``work_s`` seconds of work."""
    return work_s / target.export.parallel * NOMINAL_BYTES_PER_S


def whole_cost(target: Target, *, row_count: int | None, row_bytes: int) -> float:
    """Return the same measure for an export that has no plan yet."""
    rows = UNKNOWN_ROWS if row_count is None else max(row_count, 1)
    return float(-(-rows // target.export.parallel) * row_bytes)


def remaining_cost(plan: ExportPlan, chunks_left: int, *, work_s: float | None = None) -> float:
    """Return how much work ``chunks_left`` chunks are along the export's longest chain, in estimated bytes.

    An export that may use three workers at once is a third as long as one that may use one.  What its last run took
    (``work_s``) beats every estimate.
    """
    if work_s is not None:
        return measured_cost(plan.target, work_s) * chunks_left / len(plan.chunks)
    unit_rows = plan.unit_rows
    if unit_rows is None:
        unit_rows = -(-UNKNOWN_ROWS // len(plan.chunks))
    rounds = -(-chunks_left // plan.parallel)
    return float(rounds * max(unit_rows, 1) * plan.row_bytes)
