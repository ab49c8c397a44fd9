"""What the cards know: a fold of run events, one card per export.

Pure: events in, state out; time comes from the events' own ``mono_ns`` and from whoever draws.  Must not know a terminal, an engine
or how a card looks.  Every text of an event is made printable here, once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, assert_never

from procflow_export.model.errors import Failure
from procflow_export.model.events import (
    VALUES_CHANGED,
    ChunkFinished,
    Finished,
    PartWritten,
    Progress,
    ProgressInit,
    Retry,
    RunEvent,
    RunFinished,
    RunStarted,
    Started,
    Status,
    Warned,
)
from procflow_export.ui.clean import one_line

RATE_WINDOW_S: Final = 5.0
MIN_SAMPLE_S: Final = 0.1
MIN_RATE_S: Final = 0.5
MIN_ETA_S: Final = 1.0
MIN_ETA_FRACTION: Final = 0.02
ALMOST: Final = 0.99
_NS_PER_S: Final = 1e9


class CardState(Enum):
    """Where an export is; the values are the words that people read."""

    WAITING = "waiting"
    PLANNING = "planning"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "nothing new"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_ended(self) -> bool:
        """Whether the export has its verdict."""
        return self in _ENDED


_ENDED: Final = frozenset({CardState.DONE, CardState.SKIPPED, CardState.FAILED, CardState.CANCELLED})
_ENDINGS: Final = {
    Status.SUCCESS: CardState.DONE,
    Status.SKIPPED: CardState.SKIPPED,
    Status.FAILED: CardState.FAILED,
    Status.CANCELLED: CardState.CANCELLED,
}


@dataclass(slots=True, eq=False, kw_only=True)
class Card:
    """One export as it is known now.  Seconds count from the beginning of the run."""

    name: str
    """As the configuration spells it, made printable."""
    state: CardState = CardState.WAITING
    mode: str = ""
    source: str = ""
    format: str = ""
    row_count: int = 0
    row_estimate: int | None = None
    size_bytes: int = 0
    part_count: int = 0
    chunks_done: int = 0
    chunk_count: int | None = None
    retry_count: int = 0
    warning_count: int = 0
    started_s: float | None = None
    working_s: float | None = None
    """When the first worker took it up; before that it was planned and queued."""
    ended_s: float | None = None
    finished: Finished | None = None
    changes: list[str] = field(default_factory=list)
    """What the policies of its columns changed, one line a column."""
    _samples: deque[tuple[float, int]] = field(default_factory=deque, repr=False)

    @property
    def failure(self) -> Failure | None:
        """Why the export failed; ``None`` unless it did and said why."""
        return self.finished.failure if self.finished is not None else None

    @property
    def peak_rss_bytes(self) -> int:
        """Largest resident size of a process that worked on it; 0 while unknown."""
        return self.finished.peak_rss_bytes if self.finished is not None else 0

    def elapsed_s(self, now_s: float) -> float | None:
        """Seconds of work: from its first sign to its end or to ``now_s``, time in the queue left out; ``None`` before."""
        since_s = self.working_s if self.working_s is not None else self.started_s
        if since_s is None or (self.working_s is None and not self.state.is_ended):
            return None
        return max(MIN_SAMPLE_S, (self.ended_s if self.ended_s is not None else now_s) - since_s)

    def rows_per_s(self, now_s: float) -> float | None:
        """Rows per second of the last ``RATE_WINDOW_S``, or over all once it ended; ``None`` while too short to tell."""
        if self.state.is_ended:
            elapsed = self.elapsed_s(now_s)
            return self.row_count / elapsed if elapsed and elapsed > MIN_SAMPLE_S else None
        if not self._samples:
            return None
        since_s, rows = self._samples[0]
        return max(0, self.row_count - rows) / (now_s - since_s) if now_s - since_s >= MIN_RATE_S else None

    def fraction(self) -> float | None:
        """How much is done, from 0 to 1: rows against their estimate, or chunks; 1 only at the end; ``None`` if unknown."""
        if self.state in (CardState.DONE, CardState.SKIPPED):
            return 1.0
        by_chunks = self.chunks_done / self.chunk_count if self.chunk_count else None
        if self.row_estimate:
            # An estimate may be wrong by factors; what the chunks say is a floor that cannot be wrong by much.
            return min(ALMOST, max(self.row_count / self.row_estimate, (by_chunks or 0.0) * ALMOST))
        if by_chunks is None or (self.chunk_count == 1 and not self.chunks_done):
            return None
        return min(ALMOST, by_chunks)

    def left_s(self, now_s: float) -> float | None:
        """Seconds until the end at the average pace so far; ``None`` while it cannot be told."""
        elapsed, fraction = self.elapsed_s(now_s), self.fraction()
        if self.state is not CardState.RUNNING or elapsed is None or elapsed < MIN_ETA_S:
            return None
        if fraction is None or fraction < MIN_ETA_FRACTION:
            return None
        return elapsed * (1.0 - fraction) / fraction

    def sample(self, at_s: float) -> None:
        """Note how many rows there are at ``at_s``, for the pace."""
        samples = self._samples
        if samples and self.row_count < samples[-1][1]:
            samples.clear()  # an attempt was taken back: the pace starts anew
        if not samples or at_s - samples[-1][0] >= MIN_SAMPLE_S:
            samples.append((at_s, self.row_count))
        while len(samples) > 1 and at_s - samples[1][0] > RATE_WINDOW_S:
            samples.popleft()


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """All cards together."""

    card_count: int
    ended_count: int
    failed_count: int
    row_count: int
    size_bytes: int
    retry_count: int
    warning_count: int
    elapsed_s: float
    rows_per_s: float | None


class Board:
    """All cards of one run, in the order in which the run named its exports."""

    __slots__ = ("_names", "_started_s", "cards", "engine", "finished", "max_units", "notice", "now_s", "run_id")

    def __init__(self) -> None:
        self.cards: dict[str, Card] = {}
        self.run_id = ""
        self.engine = ""
        self.max_units = 0
        self.notice = ""
        """A word about the run as a whole, such as ``stopping``; set by whoever draws."""
        self.finished: RunFinished | None = None
        self.now_s = 0.0
        """Time of the newest event."""
        self._started_s = 0.0

    def __repr__(self) -> str:
        return f"<Board {len(self.cards)} cards, {'finished' if self.finished else 'running'}>"

    def apply(self, event: RunEvent) -> None:
        """Fold one event in; events of exports that were never named get a card of their own."""
        at_s = event.mono_ns / _NS_PER_S if event.mono_ns >= 0 else self.now_s
        self.now_s = max(self.now_s, at_s)
        match event:
            case RunStarted():
                self.run_id, self.engine, self.max_units = event.run_id, event.engine, event.max_units
                self._started_s = at_s
                for name in event.exports:
                    self.card(name)
            case Started():
                card = self.card(event.export)
                card.state, card.started_s = CardState.PLANNING, at_s
                card.mode, card.source, card.format = (
                    one_line(text) for text in (event.mode, event.source, event.format)
                )
            case ProgressInit():
                card = self.card(event.export)
                card.state = CardState.QUEUED
                card.chunk_count, card.row_estimate = event.total_chunks, event.row_estimate
                card.part_count = 0  # an export that starts over has none left
            case Progress():
                self._progress(event, at_s)
            case PartWritten():
                card = self.card(event.export)
                card.part_count += 1
            case ChunkFinished():
                pass  # a progress event follows with the totals
            case Retry():
                self.card(event.export).retry_count += 1
            case Warned():
                self._warn(event)
            case Finished():
                self._finish(event, at_s)
            case RunFinished():
                self.finished = event
            case _:
                assert_never(event)

    def card(self, export: str) -> Card:
        """Return the card of ``export``, a new one if it has none."""
        return self.cards.setdefault(export, Card(name=one_line(export) or "(unnamed)"))

    def total(self, now_s: float) -> Total:
        """Return the sums over all cards."""
        cards = list(self.cards.values())
        elapsed_s = self.finished.elapsed_s if self.finished is not None else max(0.0, now_s - self._started_s)
        rates = [rate for card in cards if not card.state.is_ended and (rate := card.rows_per_s(now_s)) is not None]
        row_count = sum(card.row_count for card in cards)
        over_all = row_count / elapsed_s if elapsed_s >= MIN_RATE_S else None
        return Total(
            card_count=len(cards),
            ended_count=sum(card.state.is_ended for card in cards),
            failed_count=sum(card.state is CardState.FAILED for card in cards),
            row_count=row_count,
            size_bytes=sum(card.size_bytes for card in cards),
            retry_count=sum(card.retry_count for card in cards),
            warning_count=sum(card.warning_count for card in cards),
            elapsed_s=elapsed_s,
            rows_per_s=over_all if self.finished is not None or not rates else sum(rates),
        )

    def _warn(self, event: Warned) -> None:
        card = self.card(event.export)
        card.warning_count += 1
        if event.code == VALUES_CHANGED:
            card.changes.append(one_line(event.message))

    def _progress(self, event: Progress, at_s: float) -> None:
        card = self.card(event.export)
        if card.state.is_ended:
            return
        card.state = CardState.RUNNING
        card.working_s = at_s if card.working_s is None else card.working_s
        card.row_count, card.size_bytes = event.row_count, event.size_bytes
        card.chunks_done, card.chunk_count = event.chunks_done, event.total_chunks
        card.sample(at_s)

    def _finish(self, event: Finished, at_s: float) -> None:
        card = self.card(event.export)
        card.state, card.finished, card.ended_s = _ENDINGS[event.status], event, at_s
        card.row_count, card.size_bytes = event.row_count, event.size_bytes
        card.part_count, card.retry_count = event.part_count, event.retry_count
        if event.chunk_count:
            card.chunk_count = event.chunk_count
        if card.state is CardState.DONE:
            card.chunks_done = card.chunk_count or 0
