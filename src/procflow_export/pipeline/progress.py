"""What one export has done so far: the state that the scheduler keeps for it.

Owns the counting: which chunks are waiting, running, delayed or done, and what that adds up to.  Synchronous code
without clock or loop; the scheduler acts on what it says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import anyio

from procflow_export.model.errors import ExportError, Failure
from procflow_export.model.events import Status, UnitEvent, UnitProgress, UnitWarning
from procflow_export.model.plan import UnitResult
from procflow_export.model.settings import Consistency
from procflow_export.pipeline.aftermath import Past
from procflow_export.planning.order import remaining_cost
from procflow_export.planning.plan import ExportPlan, Target
from procflow_export.sources.port import SnapshotPrice

MAX_WARNINGS: Final = 100
"""Warnings of a unit's worker that wait to be shown; further ones are counted."""


@dataclass(slots=True, eq=False)
class ExportState:
    """One export in one run.

    Attributes:
        target: What was known at the start.
        whole_cost: How much work it is, by estimate; known once its source was asked.
        admitted: Set once it may be planned and read: the scheduler has kept a place and connections for it.
        plan: Known once it is planned; None again while it starts over.
        lost: Why what was read so far is of no use: the snapshot is gone.
        price: What a snapshot of its source takes in connections; known with ``whole_cost``.
        granted: Connections that are kept for it beside those of its running units.
        is_preparing: Whether it was admitted and has no plan yet.
        is_snapshot_refused: Whether a snapshot was asked for and is not to be had.
        longest_transaction_s: Longest transaction that held a snapshot for it.
        reading: Ends planning and reading.
        is_read: Whether nothing more will be read.
        failure: Why it failed; the first reason counts.
        is_cancelled: Whether the run was asked to stop before it was done.
        running: Units that an engine works on, by chunk, with the scope that ends each.
        delayed: Units that wait for their next attempt.
        results: What finished units left behind.
        task_count: Tasks that may still change this state.
        began_ns: When its first unit was taken, on the run's clock; None before.
        settled: Set once nothing of it runs and nothing will.
        is_finished: Whether its verdict was emitted.
        past: What the runs before left; known with ``whole_cost``.
        skip_reason: Why there is nothing to do for it.
        state_trouble: Why something of it could not be remembered; the first reason.
    """

    target: Target
    whole_cost: float | None = None
    past: Past = field(default_factory=Past)
    skip_reason: str | None = None
    state_trouble: str | None = None
    admitted: anyio.Event = field(default_factory=anyio.Event)
    plan: ExportPlan | None = None
    lost: ExportError | None = None
    price: SnapshotPrice | None = None
    granted: int = 0
    is_preparing: bool = False
    is_snapshot_refused: bool = False
    longest_transaction_s: float = 0.0
    reading: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    is_read: bool = False
    failure: Failure | None = None
    is_cancelled: bool = False
    running: dict[int, anyio.CancelScope] = field(default_factory=dict)
    delayed: dict[int, anyio.CancelScope] = field(default_factory=dict)
    results: dict[int, UnitResult] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    retry_count: int = 0
    task_count: int = 0
    peak_rss_bytes: int = 0
    began_ns: int | None = None
    settled: anyio.Event = field(default_factory=anyio.Event)
    is_finished: bool = False
    is_dirty: bool = False
    warnings: deque[UnitWarning] = field(default_factory=deque)
    dropped_warnings: int = 0
    _next_index: int = 0
    _again: deque[int] = field(default_factory=deque)
    _live: dict[int, tuple[int, int]] = field(default_factory=dict)
    _done_rows: int = 0
    _done_bytes: int = 0

    @property
    def name(self) -> str:
        """Name of the export."""
        return self.target.export.name

    @property
    def is_active(self) -> bool:
        """Whether its work goes on."""
        return self.failure is None and not self.is_cancelled

    @property
    def is_reading(self) -> bool:
        """Whether its units go on: what they come to counts."""
        return self.is_active and self.plan is not None and self.lost is None

    @property
    def waits_to_be_admitted(self) -> bool:
        """Whether it could be planned and read now."""
        return self.is_active and self.whole_cost is not None and not self.admitted.is_set()

    @property
    def holds_idly(self) -> bool:
        """Whether it keeps a state of its database while none of its units runs."""
        return self.plan is not None and self.plan.snapshot is not None and not self.running

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is done, or there is nothing to do."""
        if self.skip_reason is not None:
            return True
        return self.plan is not None and len(self.results) == len(self.plan.chunks)

    @property
    def status(self) -> Status:
        """How it stands if nothing more happens."""
        if self.failure is not None:
            return Status.FAILED
        if self.is_cancelled:
            return Status.CANCELLED
        return Status.SUCCESS if self.skip_reason is None else Status.SKIPPED

    @property
    def row_count(self) -> int:
        """Rows of finished chunks and of running attempts."""
        return self._done_rows + sum(rows for rows, _ in self._live.values())

    @property
    def size_bytes(self) -> int:
        """Bytes stored by finished chunks and by running attempts."""
        return self._done_bytes + sum(size for _, size in self._live.values())

    @property
    def cost(self) -> float | None:
        """How much work is left if it may be admitted or a unit of it may start now; None if not."""
        if self.waits_to_be_admitted:
            return self.whole_cost
        plan = self.plan
        if plan is None or not self.is_reading or len(self.running) >= plan.parallel:
            return None
        self._pass_done()
        if not self._again and self._next_index >= len(plan.chunks):
            return None
        return remaining_cost(plan, len(plan.chunks) - len(self.results), work_s=self.past.work_s)

    def take(self, scope: anyio.CancelScope) -> tuple[int, int]:
        """Start the next unit: return its chunk and the number of the attempt."""
        if self._again:
            index = self._again.popleft()
        else:
            self._pass_done()
            index = self._next_index
            self._next_index += 1
        attempt = self.attempts.get(index, 0) + 1
        self.attempts[index] = attempt
        self.running[index] = scope
        return index, attempt

    def keep(self, results: Mapping[int, UnitResult]) -> None:
        """Take over chunks that another run had finished."""
        for index, result in results.items():
            self.complete(index, result)

    def put_back(self, index: int) -> None:
        """Let the unit of ``index`` start again."""
        self._again.append(index)

    def release(self, index: int) -> None:
        """Forget an attempt: it neither runs nor counts."""
        del self.running[index]
        self._live.pop(index, None)
        self.is_dirty = True

    def complete(self, index: int, result: UnitResult) -> None:
        """Record what a unit left behind (W3)."""
        self.results[index] = result
        self._done_rows += result.row_count
        self._done_bytes += result.size_bytes
        self.peak_rss_bytes = max(self.peak_rss_bytes, result.peak_rss_bytes)
        self.is_dirty = True

    def observe(self, event: UnitEvent) -> bool:
        """Take note of what a worker says; return whether there is something to show."""
        match event:
            case UnitProgress(chunk=chunk, row_count=rows, size_bytes=size) if chunk in self.running:
                self._live[chunk] = (rows, size)
                self.peak_rss_bytes = max(self.peak_rss_bytes, event.peak_rss_bytes)
            case UnitWarning() if len(self.warnings) < MAX_WARNINGS:
                self.warnings.append(event)
            case UnitWarning():
                self.dropped_warnings += 1
                return False
            case _:
                return False
        self.is_dirty = True
        return True

    def lose(self, error: ExportError) -> None:
        """Give up what was read so far, because the snapshot is gone; units that run are ended."""
        if self.is_reading and not self.is_complete:
            self.lost = error
            self._end_units()

    def start_over(self) -> None:
        """Forget what was read so far; nothing of it runs."""
        self.plan = self.lost = None
        self.admitted, self.settled = anyio.Event(), anyio.Event()
        self.results.clear()
        self.attempts.clear()
        self._live.clear()
        self._again.clear()
        self._next_index = self._done_rows = self._done_bytes = 0

    def fail(self, failure: Failure) -> None:
        """Give the export up: the first reason counts, and whatever runs for it is ended."""
        if self.failure is None:
            self.failure = failure
        self._end_units()

    def cancel(self, *, drains: bool = False) -> None:
        """Give the export up because somebody asked for it; ``drains`` lets units go on that a later run can use."""
        if self.is_active and not self.is_complete:
            self.is_cancelled = True
        if not (drains and self.plan is not None and self.plan.consistency is Consistency.CHUNK):
            self._end_units()
        self.reading.cancel()

    def settle(self) -> None:
        """Say so if nothing of this export runs and nothing will, unless it starts over."""
        if self.task_count == 0 and (not self.is_active or self.is_complete or self.lost is not None):
            self.settled.set()

    def _pass_done(self) -> None:
        while self._next_index in self.results:
            self._next_index += 1

    def _end_units(self) -> None:
        for scope in (*self.running.values(), *self.delayed.values()):
            scope.cancel()
