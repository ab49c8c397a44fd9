"""A run as stretches of time.

Owns which part of a run is a span, where it lies, and in which lane.  Must not know how spans are drawn.

All times are those of the writer's monotonic clock, since the run began.  What is open ends, for the time being, at the last event.
What was never begun has no span.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from procflow.record.fold.rows import CallKey, CallRow, JobKey, JobRow, RunRow
from procflow.record.fold.view import RunView


class SpanKind(Enum):
    """What a span is of."""

    RUN = "run"
    JOB = "job"
    CALL = "call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One stretch of time of a run.

    Attributes:
        key: Names the attempt or the call; ``None`` for the run.
        label: For people.
        start_ns: When it began.
        duration_ns: How long it took, so far if it is open.
        outcome: How it ended; ``None`` if it is open, ``lost`` if recovery says so.
        is_open: Whether no ending was written: still running, or lost.
        lane: No two spans of one kind overlap in one lane, and there are no more lanes than spans at once.
        row: All that is known.
    """

    kind: SpanKind
    key: JobKey | CallKey | None
    label: str
    start_ns: int
    duration_ns: int
    outcome: str | None
    is_open: bool
    lane: int
    row: RunRow | JobRow | CallRow

    @property
    def end_ns(self) -> int:
        """When it ended."""
        return self.start_ns + self.duration_ns

    @property
    def is_lost(self) -> bool:
        """Whether its ending was made up by recovery."""
        return self.row.synthesized


Interval: TypeAlias = tuple[int, int]


def timeline(view: RunView) -> list[Span]:
    """Return the run, its attempts and its calls as spans, each kind in the order in which they began."""
    end_ns = view.run.last_mono_ns or 0
    rows: list[tuple[SpanKind, JobKey | CallKey | None, str, RunRow | JobRow | CallRow]] = []
    if view.run.last_seq >= 0:
        rows.append((SpanKind.RUN, None, view.run.name or "run", view.run))
    rows += [(SpanKind.JOB, key, job_label(key), row) for key, row in view.jobs.items() if row.has_begun]
    rows += [(SpanKind.CALL, key, row.cmd or f"call {key.sh}", row) for key, row in view.calls.items()]
    spans = [
        Span(
            kind=kind,
            key=key,
            label=label,
            start_ns=start_ns,
            duration_ns=row.duration_ns if row.duration_ns is not None else max(end_ns - start_ns, 0),
            outcome=row.outcome,
            is_open=row.finished_seq is None,
            lane=0,
            row=row,
        )
        for kind, key, label, row in rows
        for start_ns in [_start_ns(row, view.run)]
    ]
    return [span for kind in SpanKind for span in in_lanes([span for span in spans if span.kind is kind])]


def in_lanes(spans: Iterable[Span]) -> list[Span]:
    """Return ``spans`` in the order in which they begin, with as few lanes as can be."""
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.row.first_seq))
    lanes = pack([(span.start_ns, span.end_ns) for span in ordered])
    return [replace(span, lane=lane) for span, lane in zip(ordered, lanes, strict=True)]


def pack(intervals: Sequence[Interval]) -> list[int]:
    """Return a lane for each interval (start, end), which are ordered by their starts.

    Intervals that touch may share a lane; one of no length counts as one of a nanosecond.  The lanes are as many as the most
    intervals at one moment.
    """
    busy: list[tuple[int, int]] = []  # end, lane
    free: list[int] = []
    count = 0
    lanes: list[int] = []
    for start, end in intervals:
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, count = count, count + 1
        heapq.heappush(busy, (max(end, start + 1), lane))
        lanes.append(lane)
    return lanes


def job_label(key: JobKey) -> str:
    """Return the name of an attempt for people: the first one needs no number."""
    return key.job_id if key.attempt == 1 else f"{key.job_id} #{key.attempt}"


def _start_ns(row: RunRow | JobRow | CallRow, run: RunRow) -> int:
    if row.start_mono_ns is not None:
        return row.start_mono_ns
    # Its first event is missing.  The wall clock tells roughly where it ended.
    if isinstance(row, RunRow) or row.finished_at_ms is None or run.started_at_ms is None:
        return 0
    return max((row.finished_at_ms - run.started_at_ms) * 1_000_000 - (row.duration_ns or 0), 0)
