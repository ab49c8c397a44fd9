"""A run in a few figures.

Owns what is counted, which path through the jobs was the longest, and what is said of the health of a record.  Must not know files or
terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from procflow.record.fold.rows import CallRow
from procflow.record.fold.view import RunView
from procflow.record.reading.reader import Health
from procflow.record.reading.states import RecordState
from procflow.record.views.words import duration_text

OPEN: Final = "open"
"""Stands among the outcomes for what has none."""

CLEAN: Final = 0
DEFECTS: Final = 1
CRASHED: Final = 2
UNREADABLE: Final = 3
RUNNING: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What ``summary()`` returns.

    Attributes:
        state: What the record is.
        outcome: How the run ended; ``None`` if it has not.
        duration_ns: How long it took, up to the last event if it has not ended.
        jobs: How many attempts ended how.
        calls: The same for calls.
        slowest: The calls that took longest, the slowest first.
        critical_path: The jobs that waited for each other and took longest together, the first one first.
        critical_ns: How long they took.
        health: The health of the record in one line.
    """

    state: RecordState
    outcome: str | None
    duration_ns: int
    jobs: Mapping[str, int]
    calls: Mapping[str, int]
    slowest: Sequence[CallRow]
    critical_path: Sequence[str]
    critical_ns: int
    health: str


def summary(view: RunView, *, slowest: int = 5) -> Summary:
    """Return the figures of a run, with at most ``slowest`` calls."""
    path, critical_ns = critical_path(view)
    timed = [call for call in view.calls.values() if call.duration_ns is not None]
    timed.sort(key=lambda call: (-(call.duration_ns or 0), call.first_seq))
    run = view.run
    return Summary(
        state=view.state,
        outcome=run.outcome,
        duration_ns=run.duration_ns if run.duration_ns is not None else max(run.last_mono_ns or 0, 0),
        jobs=Counter(job.outcome or OPEN for job in view.jobs.values()),
        calls=Counter(call.outcome or OPEN for call in view.calls.values()),
        slowest=timed[:slowest],
        critical_path=path,
        critical_ns=critical_ns,
        health=health_line(view.health),
    )


def critical_path(view: RunView) -> tuple[tuple[str, ...], int]:
    """Return the chain of jobs, each of which waited for the one before, that took longest, and how long it took.

    All attempts at a job count.  Jobs that wait for each other in a circle are taken in the order of the record, without the edge
    that closes the circle.
    """
    takes: Counter[str] = Counter()
    waits_for: dict[str, list[str]] = {}
    for job in view.jobs.values():
        takes[job.job_id] += job.duration_ns or 0
        waits_for.setdefault(job.job_id, []).extend(job.after)
    best: dict[str, tuple[int, str | None]] = {}
    for job_id in _in_order(waits_for):
        before = max(
            ((best[name][0], name) for name in waits_for[job_id] if name in best),
            default=(0, None),
            key=lambda found: found[0],
        )
        best[job_id] = (before[0] + takes[job_id], before[1])
    if not best:
        return (), 0
    at: str | None = max(best, key=lambda job_id: best[job_id][0])
    total = best[at][0] if at is not None else 0
    path: list[str] = []
    while at is not None:
        path.append(at)
        at = best[at][1]
    return tuple(reversed(path)), total


def health_line(health: Health) -> str:
    """Return what is wrong with a record in one line, ``clean`` if nothing is."""
    missing = health.missing
    explained = sum(gap.last - gap.first + 1 for gap in health.gaps if gap.is_explained)
    parts = [
        f"{count} {words}"
        for count, words in (
            (health.corrupt, "corrupt lines"),
            (health.torn_bytes, "torn bytes at the end"),
            (missing, f"events missing ({explained} of them told)"),
            (health.dropped, "events dropped by the writer"),
            (health.duplicates, "lines twice"),
            (health.conflicts, "numbers given twice"),
            (health.unknown, "events of unknown types"),
        )
        if count
    ]
    if health.clock_step_ms:
        direction = "back" if health.clock_step_ms < 0 else "ahead"
        parts.append(f"the clock stepped {direction} by {duration_text(abs(health.clock_step_ms) * 1_000_000)}")
    return ", ".join(parts) or "clean"


def check_status(view: RunView | None) -> int:
    """Return the exit status for a record: ``None`` is one that cannot be read."""
    if view is None:
        return UNREADABLE
    match view.state:
        case RecordState.FINISHED:
            return CLEAN if view.health.is_clean else DEFECTS
        case RecordState.CRASHED:
            return CRASHED
        case RecordState.RUNNING:
            return RUNNING
        case RecordState.UNREADABLE:
            return UNREADABLE


def _in_order(waits_for: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the jobs so that each comes after those that it waits for, where that can be."""
    left = {
        job_id: {name for name in names if name in waits_for and name != job_id} for job_id, names in waits_for.items()
    }
    followers: dict[str, list[str]] = {}
    for job_id, names in left.items():
        for name in sorted(names):
            followers.setdefault(name, []).append(job_id)
    ordered: list[str] = []
    ready = [job_id for job_id, names in left.items() if not names]
    candidates = iter(list(left))
    taken: set[str] = set()
    while len(ordered) < len(left):
        if not ready:
            ready = [next(job_id for job_id in candidates if job_id not in taken)]  # breaks a circle
        for job_id in ready:
            if job_id in taken:
                continue
            taken.add(job_id)
            ordered.append(job_id)
            for follower in followers.get(job_id, ()):
                left[follower].discard(job_id)
                if not left[follower] and follower not in taken:
                    ready.append(follower)
        ready = []
    return ordered
