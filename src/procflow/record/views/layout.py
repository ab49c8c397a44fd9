"""A run as rows of a picture.

Owns which rows there are, in which order, and what is left out of a run that is too large for a picture.  Must not know how anything
is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from procflow.record.fold.rows import CallKey, CallRow, JobKey, JobRow, RunRow
from procflow.record.fold.view import RunView
from procflow.record.views.looks import Look, ending_word, look_of
from procflow.record.views.spans import Span, SpanKind, in_lanes, timeline
from procflow.record.views.words import counted, duration_text

T = TypeVar("T")

MAX_CALLS: Final = 5_000
"""How many calls a picture shows: those that did not end well first, then the longest."""

MAX_JOBS: Final = 1_000
"""The same for jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRows:
    """What belongs to one job; its attempts and its calls have lanes of their own.

    Attributes:
        rows: Its attempts, begun or not, the last one last.
    """

    job_id: str
    rows: tuple[JobRow, ...]
    attempts: tuple[Span, ...]
    calls: tuple[Span, ...]

    @property
    def last(self) -> JobRow:
        """What tells how the job ended."""
        return self.rows[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A run as a picture shows it.

    Attributes:
        total_ns: Where the last span ends.
        left_out: What is not shown, in words for people; empty if everything is.
    """

    run: Span | None
    jobs: tuple[JobRows, ...]
    total_ns: int
    left_out: str


def layout(view: RunView, *, max_jobs: int = MAX_JOBS, max_calls: int = MAX_CALLS) -> Layout:
    """Return the rows of ``view``; jobs are in the order in which they were first spoken of."""
    spans = timeline(view)
    rows: dict[str, list[JobRow]] = {}
    for row in view.jobs.values():
        rows.setdefault(row.job_id, []).append(row)
    kept_jobs = set(_most_telling([(job_id, _worst(found)) for job_id, found in rows.items()], max_jobs))
    calls = [
        (span, span.row)
        for span in spans
        if span.kind is SpanKind.CALL and isinstance(span.key, CallKey) and span.key.job_id in kept_jobs
    ]
    kept_calls = {span.key for span in _most_telling(calls, max_calls)}
    attempts_of: dict[str, list[Span]] = {}
    calls_of: dict[str, list[Span]] = {}
    for span in spans:
        if isinstance(span.key, CallKey):
            if span.key in kept_calls:
                calls_of.setdefault(span.key.job_id, []).append(span)
        elif isinstance(span.key, JobKey):
            attempts_of.setdefault(span.key.job_id, []).append(span)
    missing = [
        counted(count, noun)
        for count, noun in ((len(rows) - len(kept_jobs), "job"), (len(calls) - len(kept_calls), "call"))
        if count
    ]
    return Layout(
        run=next((span for span in spans if span.kind is SpanKind.RUN), None),
        jobs=tuple(
            JobRows(
                job_id=job_id,
                rows=tuple(sorted(found, key=lambda row: row.attempt)),
                attempts=tuple(in_lanes(attempts_of.get(job_id, ()))),
                calls=tuple(in_lanes(calls_of.get(job_id, ()))),
            )
            for job_id, found in rows.items()
            if job_id in kept_jobs
        ),
        total_ns=max([span.end_ns for span in spans], default=0),
        left_out=f"{' and '.join(missing)} that ended well or were shorter are not shown" if missing else "",
    )


def told(span: Span) -> list[str]:
    """Return all that a reader who points at a span wants to know, line by line."""
    row = span.row
    ending = f"{ending_word(row)} after {duration_text(span.duration_ns)}"
    if span.is_lost:
        ending = f"lost: open for {duration_text(span.duration_ns)} when its writer died"
    elif span.is_open:
        ending = f"open for {duration_text(span.duration_ns)}"
    found = [span.label, f"{ending}, begun at {duration_text(span.start_ns)}"]
    if isinstance(row, CallRow):
        again = f", attempt {row.attempt}" if row.attempt != 1 else ""
        found.append(f"job {row.job_id}{again}, call {row.sh}")
        found += [
            f"{word} {value}" for word, value in (("in", row.cwd), ("pid", row.pid), ("log", row.log_path)) if value
        ]
    if not isinstance(row, RunRow) and row.error is not None:
        found.append(f"{row.error.type}: {row.error.message}")
    return found


def _most_telling(found: Iterable[tuple[T, RunRow | JobRow | CallRow]], at_most: int) -> list[T]:
    """Return what is kept of ``found``, each with its row: what did not end well, then what took longest."""
    ordered = sorted(
        found, key=lambda item: (look_of(item[1]) is Look.FINE, -(item[1].duration_ns or 0), item[1].first_seq)
    )
    return [thing for thing, _ in ordered[:at_most]]


def _worst(rows: list[JobRow]) -> JobRow:
    return next((row for row in rows if look_of(row) is not Look.FINE), rows[0])
