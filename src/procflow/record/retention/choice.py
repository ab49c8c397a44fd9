"""Which records go.

Owns the bounds and the order: the least recently used first.  Must not know directories; it is told what is there.

A record that runs, or that somebody holds, never goes, but takes its place within the bounds.  One that this release cannot read never goes
either, and counts for nothing: it may be that of a later release, and what is not understood is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from procflow.record.reading.states import RecordState


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRecord:
    """A record among others, as far as its first and its last events tell.

    Attributes:
        path: Directory of the run.
        state: What the record is.
        run_id: Id of the run; ``None`` if the record does not say.
        name: Its name, likewise.
        started_at_ms: When it began, likewise; wall clock in milliseconds since 1970, UTC.
        finished_at_ms: When it ended; ``None`` unless it is finished.
        outcome: How it ended: the word of its last event, ``lost`` if it crashed, ``None`` while it runs.
        size_bytes: All files in the directory.
        used_at_ms: When the record was last written or read, as far as the file system notes that; listing is no use.
        is_locked: Whether its writer lives, finished or not.
        problem: Why it is unreadable; empty if it is not.
    """

    path: str
    state: RecordState
    run_id: str | None = None
    name: str | None = None
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    outcome: str | None = None
    size_bytes: int = 0
    used_at_ms: int = 0
    is_locked: bool = False
    problem: str = ""

    @property
    def may_go(self) -> bool:
        """Whether it may be removed at all: nobody writes it, and it was understood."""
        return not self.is_locked and self.state in (RecordState.FINISHED, RecordState.CRASHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much is kept; ``None`` is no bound.

    Attributes:
        max_records: How many records.
        max_age_s: For how long after their last use.
        max_bytes: How many bytes together.

    Raises:
        ValueError: If a bound is negative.
    """

    max_records: int | None = None
    max_age_s: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_records", "max_age_s", "max_bytes"):
            bound: float | None = getattr(self, name)
            if bound is not None and not bound >= 0:
                raise ValueError(f"{name} must not be negative, but is {bound}")


def chosen(records: Iterable[ListedRecord], retention: Retention, *, now_ms: int) -> Sequence[ListedRecord]:
    """Return those of ``records`` that go, the least recently used first, until the rest is within every bound or may not go."""
    counted = [record for record in records if record.state is not RecordState.UNREADABLE]
    record_count = len(counted)
    held_bytes = sum(record.size_bytes for record in counted)
    going: list[ListedRecord] = []
    for record in sorted(counted, key=lambda record: (record.used_at_ms, record.path)):
        if not record.may_go:
            continue
        is_too_old = _exceeds((now_ms - record.used_at_ms) / 1000, retention.max_age_s)
        if is_too_old or _exceeds(record_count, retention.max_records) or _exceeds(held_bytes, retention.max_bytes):
            going.append(record)
            record_count -= 1
            held_bytes -= record.size_bytes
    return going


def _exceeds(value: float, bound: float | None) -> bool:
    return bound is not None and value > bound
