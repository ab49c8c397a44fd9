"""Verdicts: what an export and a run came to.

Owns the sums and the exit status.  Pure: the scheduler says when, this says what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from procflow_export.destinations import Publication
from procflow_export.model.choices import OnInvalid
from procflow_export.model.codes import ExitStatus, worst
from procflow_export.model.events import Finished, RunFinished, Status
from procflow_export.pipeline.finalise import changed_values
from procflow_export.pipeline.progress import ExportState

_BECAME: Final = {
    OnInvalid.ERROR: "changed",
    OnInvalid.NULL: "changed to NULL",
    OnInvalid.TEXT: "changed to text with escapes",
    OnInvalid.CLAMP: "changed to the nearest that fits",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: The run.
        status: ``success`` when every export succeeded, or had nothing to do.
        exit_status: What a program should exit with (E-61).
        exports: The verdict on every export, in the order of the configuration.
    """

    run_id: str
    status: Status
    exit_status: ExitStatus
    exports: tuple[Finished, ...]


def verdict_of(state: ExportState, publication: Publication | None, *, run_id: str, elapsed_s: float) -> Finished:
    """Return the verdict on an export that has settled."""
    results = state.results.values()
    return Finished(
        run_id=run_id,
        export=state.name,
        status=state.status,
        row_count=sum(result.row_count for result in results),
        part_count=sum(len(result.parts) for result in results),
        size_bytes=sum(result.size_bytes for result in results),
        chunk_count=len(results),
        retry_count=state.retry_count,
        elapsed_s=elapsed_s,
        peak_rss_bytes=state.peak_rss_bytes,
        longest_statement_s=max((result.longest_statement_s for result in results), default=0.0),
        longest_transaction_s=max(
            state.longest_transaction_s, *(result.longest_transaction_s for result in results), 0.0
        ),
        consistency="" if publication is None or state.plan is None else state.plan.consistency.value,
        changed_values=changed_values(state.results),
        destination=state.target.destination.location,
        manifest=None if publication is None else publication.manifest_key,
        skip_reason=state.skip_reason if state.status is Status.SKIPPED else None,
        failure=state.failure,
    )


def changes_of(state: ExportState) -> tuple[str, ...]:
    """Return what the policies of columns changed in a published export, one line a column."""
    if state.plan is None:
        return ()
    counts = changed_values(state.results)
    return tuple(
        f"{column.name}: {counts[column.name]:,} value{'s' if counts[column.name] > 1 else ''} {_BECAME[column.on_invalid]}"
        for column in state.plan.columns
        if counts.get(column.name)
    )


def sum_up(
    verdicts: Sequence[Finished],
    *,
    run_id: str,
    elapsed_s: float,
    peak_rss_bytes: int,
    longest_statement_s: float,
) -> tuple[RunFinished, RunResult]:
    """Return the last event of a run and its result; rows, parts and bytes are those that were published.

    ``longest_statement_s`` is that of the planner, which works for all exports.
    """
    counts = {status: sum(verdict.status is status for verdict in verdicts) for status in Status}
    published = [verdict for verdict in verdicts if verdict.manifest is not None]
    statuses = [verdict.failure.code.exit_status for verdict in verdicts if verdict.failure is not None]
    if counts[Status.CANCELLED]:
        statuses.append(ExitStatus.INTERRUPTED)
    status = Status.SUCCESS
    if counts[Status.FAILED]:
        status = Status.FAILED
    elif counts[Status.CANCELLED]:
        status = Status.CANCELLED
    exit_status = worst(statuses)
    finished = RunFinished(
        run_id=run_id,
        status=status,
        succeeded=counts[Status.SUCCESS],
        failed=counts[Status.FAILED],
        cancelled=counts[Status.CANCELLED],
        skipped=counts[Status.SKIPPED],
        row_count=sum(verdict.row_count for verdict in published),
        part_count=sum(verdict.part_count for verdict in published),
        size_bytes=sum(verdict.size_bytes for verdict in published),
        elapsed_s=elapsed_s,
        peak_rss_bytes=max([peak_rss_bytes, *(verdict.peak_rss_bytes for verdict in verdicts)]),
        exit_status=int(exit_status),
        longest_statement_s=max([longest_statement_s, *(verdict.longest_statement_s for verdict in verdicts)]),
        longest_transaction_s=max((verdict.longest_transaction_s for verdict in verdicts), default=0.0),
    )
    return finished, RunResult(run_id=run_id, status=status, exit_status=exit_status, exports=tuple(verdicts))
