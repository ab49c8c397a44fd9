"""A cursor: one subscriber's place in a log, and the delivery rule that moves it.

Owns what one subscriber is given, in which order, and what it is told to have lost.  Must not know a clock, an event loop
or the operating system.  ``log`` explains the whole.

What a cursor will deliver is always: the items it holds, then the gap it knows of, then the log from ``position`` on.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from operator import length_hint
from typing import TYPE_CHECKING, Final

from procflow._streams.log.chunks import cut_front, join_small
from procflow.errors import SpillError, StallError
from procflow.events import Chunk, Gap, SubscriberStatistics
from procflow.policies import BestEffort, Delivery, Loss, Reliable

if TYPE_CHECKING:
    from procflow._streams.log.log import StreamLog

NEVER: Final = sys.maxsize
JOIN_HELD_AT_CHUNKS: Final = 64


class Cursor:
    """One subscriber's place in a ``StreamLog``; made by ``StreamLog.attach()``."""

    __slots__ = (
        "_delivered",
        "_gap_start",
        "_held",
        "_is_full",
        "_lent",
        "_lent_rest",
        "_live_from",
        "_log",
        "_loss",
        "_position",
        "_settles",
        "buffer_bytes",
        "counts_time",
        "delivery",
        "error",
        "is_attached",
        "is_awaited",
        "is_reliable",
        "is_resting",
        "lost_bytes",
        "on_lost",
        "start",
        "touched_at",
    )

    def __init__(self, log: StreamLog, delivery: Delivery, *, start: int, position: int, live_from: int) -> None:
        self._log = log
        self._held: deque[Chunk | Gap] = deque()
        self._gap_start: int | None = start if start < position else None
        self._live_from = live_from  # bytes before it are history: promised, and not counted against the buffer
        self._is_full = False  # DROP_NEWEST: what is buffered is held, arrivals are dropped until all of it was taken
        self._settles = True
        self._position = position
        self._lent: list[Chunk] | None = None
        self._lent_rest: Iterator[Chunk] = iter(())
        self.start = start
        self._delivered = 0
        self.lost_bytes = 0
        self.on_lost: Callable[[Gap], object] | None = None  # told of every gap that is handed out
        self.is_attached = True
        self.is_awaited = False  # the log's: the source waits for this cursor
        self.is_resting = False  # the log's: nothing that is produced changes what it needs
        self.error: StallError | SpillError | None = None  # why it was detached from our side
        self.touched_at = 0.0  # when it last took something: kept for the pump, the log has no clock
        self._set_delivery(delivery)

    def __repr__(self) -> str:
        state = "attached" if self.is_attached else "detached"
        return f"<Cursor {state} at {self.offset} of {self._log.produced} {self.delivery!r}>"

    def _set_delivery(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.buffer_bytes = delivery.buffer_bytes
        self.is_reliable = isinstance(delivery, Reliable)
        self.counts_time = isinstance(delivery, Reliable) and delivery.stall_timeout_s is not None
        self._loss = delivery.loss if isinstance(delivery, BestEffort) else None

    # --- what is known ------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Offset from which on it needs the log."""
        if self._lent is not None:
            self.catch_up()
        return self._position

    @position.setter
    def position(self, offset: int) -> None:
        self._position = offset

    @property
    def offset(self) -> int:
        """Offset of the next byte that this cursor delivers or reports lost."""
        if self._held:
            first = self._held[0]
            return first.offset if isinstance(first, Chunk) else first.start
        return self.position if self._gap_start is None else self._gap_start

    @property
    def next_offset(self) -> int:
        """Offset of the next byte that this cursor delivers, as it stands now."""
        if self._held:
            first = self._held[0]
            return first.offset if isinstance(first, Chunk) else first.stop
        self._overtake()
        return self.position

    @property
    def delivered_bytes(self) -> int:
        """Bytes that were taken."""
        self.catch_up()
        return self._delivered

    @property
    def lag_bytes(self) -> int:
        """Bytes produced since its start that were neither delivered nor reported lost."""
        return self._log.produced - self.offset

    @property
    def live_lag(self) -> int:
        """How far it is behind, history at its attachment not counted."""
        position, live_from = self.position, self._live_from
        return self._log.produced - (max(position, live_from))

    def statistics(self, name: str) -> SubscriberStatistics:
        """The numbers of this cursor, for the subscriber called ``name``."""
        return SubscriberStatistics(
            name=name,
            is_reliable=self.is_reliable,
            start=self.start,
            delivered_bytes=self.delivered_bytes,
            lost_bytes=self.lost_bytes,
            lag_bytes=self.lag_bytes,
            is_blocking=self.is_awaited,
        )

    @property
    def has_items(self) -> bool:
        """Whether a take would return something now."""
        if self._lent is not None:
            self.catch_up()
        log = self._log
        return (
            log.produced > self._position
            or bool(self._held)
            or (self._gap_start is not None and log.terminal is not None)
        )

    @property
    def is_behind(self) -> bool:
        """Whether the next bytes must be loaded before a take gives anything: never, where all of the log is in memory."""
        return False

    # --- what the log asks --------------------------------------------------------------------------------------

    @property
    def is_movable(self) -> bool:
        """Whether only a moving window protects what it has not taken."""
        return (self._loss is Loss.DROP_OLDEST or self._loss is Loss.LATEST_ONLY) and self.position >= self._live_from

    @property
    def needs_log(self) -> bool:
        """Whether the log must keep everything from ``position`` on."""
        return not self._is_full

    @property
    def can_rest(self) -> bool:
        """Whether nothing changes for it until it takes: it was overtaken, or drops what arrives."""
        if self.is_reliable:
            return False
        return self._is_full or (self.is_movable and self._position < self._log.produced - self.window_bytes)

    @property
    def window_bytes(self) -> int:
        """How many of the newest bytes a movable cursor may claim; the newest chunk is always kept."""
        return 0 if self._loss is Loss.LATEST_ONLY else self.buffer_bytes

    def trigger(self) -> int:
        """How much must be produced before this cursor needs attention again."""
        position, live_from = self.position, self._live_from
        if self.is_reliable:
            return max(position, live_from) + self.buffer_bytes
        if self._loss is Loss.DROP_NEWEST:
            return NEVER if self._is_full else max(position, live_from) + self.buffer_bytes + 1
        if position >= live_from:
            return NEVER
        return max(position + self.window_bytes, live_from) + 1

    def secure(self) -> None:
        """Take along what was promised and the log is about to outrun."""
        if self._log.produced < self.trigger() or self.is_reliable:
            return
        stop = self._live_from
        if self._loss is Loss.DROP_NEWEST:
            stop = max(self.position, self._live_from) + self.buffer_bytes
            self._is_full = True
        self._hold_until(stop)

    def _hold_until(self, stop: int) -> None:
        if stop <= self.position:
            return
        if self._gap_start is not None:
            self._held.append(Gap(self._gap_start, self.position))
            self._gap_start = None
        chunks = self._log.chunks_between(self.position, stop)
        if len(chunks) > JOIN_HELD_AT_CHUNKS:
            chunks = join_small(chunks)
        self._held.extend(chunks)
        self.position = stop

    def downgrade(self, delivery: BestEffort) -> None:
        """Follow a best-effort rule from now on."""
        self.recall()
        self._set_delivery(delivery)
        self._log.relieve(self)
        self._log.refresh()

    def release(self) -> None:
        """Let go of everything: the log's part of a detachment."""
        self.is_attached = False
        self._held.clear()
        self.recall()

    # --- taking -------------------------------------------------------------------------------------------------

    def defer_settling(self) -> None:
        """What this cursor takes counts as given only when ``settle()`` says so."""
        self._settles = False

    def settle(self, offset: int) -> None:
        """Note that the subscriber has been given everything before ``offset``."""
        self._log.settle(offset)

    def lend(self, max_chunks: int) -> Iterator[Chunk] | None:
        """Return an iterator over chunks that come next; each counts as taken, at the latest when anybody asks, once drawn.

        So what is ready costs its subscriber no call.  Nothing is lent, and the answer is ``None``, where somebody must know of
        every single take: lossy delivery, a stall timeout, a source that waits for this cursor.  When a source begins to wait
        the log recalls what is lent.
        """
        if self._lent is not None:
            self.take_back()
        log, position = self._log, self._position
        if (
            position >= log.produced
            or not self.is_reliable
            or self.is_awaited
            or self.counts_time
            or self._held
            or self._gap_start is not None
            or not self.is_attached
        ):
            return None
        self._lent = chunks = log.chunks_from(position, max_chunks)
        self._lent_rest = rest = iter(chunks)
        return rest

    @property
    def has_loan(self) -> bool:
        """Whether chunks are lent."""
        return self._lent is not None

    def catch_up(self) -> None:
        """Book what was drawn from a loan."""
        lent = self._lent
        if lent is None:
            return
        left = length_hint(self._lent_rest)
        offset = lent[-left].offset if left else lent[-1].stop
        self._delivered += offset - self._position
        self._position = offset
        if self._settles:
            self._log.settle(offset)

    def take_back(self) -> None:
        """End a loan: what was not drawn comes next."""
        if self._lent is not None:
            self.recall()
            self._log.taken(self)

    def recall(self) -> None:
        """End a loan, as the log's part of it."""
        if self._lent is not None:
            self.catch_up()
            self._lent = None
            for _ in self._lent_rest:  # whoever still has the iterator draws nothing any more
                pass

    def take(self) -> Chunk | Gap | None:
        """Return the next item, or ``None`` if there is nothing now.

        A ``Gap`` is followed by a chunk, which is reserved: the next take returns it whatever happens meanwhile.  Only when
        nothing was produced after the loss and the stream has ended does a ``Gap`` come last.
        """
        self.take_back()
        held = self._held
        if held:
            item = held.popleft()
            if not held:
                self._drained()
            return self._moved(item)
        self._overtake()
        log = self._log
        if self.position < log.produced:
            chunk = log.chunk_at(self.position)
            self.position = chunk.stop
            if self._gap_start is None:
                return self._moved(chunk)
            held.append(chunk)
            return self._moved(self._gap_before(chunk.offset))
        if self._gap_start is not None and log.terminal is not None:
            return self._moved(self._gap_before(self.position))
        return None

    def take_batch(self) -> list[Chunk | Gap]:
        """Return everything there is now, with at most one ``Gap``; empty if there is nothing.

        A ``Gap`` is followed by a chunk in the same list; the exception is that of ``take()``.
        """
        self.take_back()
        items: list[Chunk | Gap] = []
        has_gap = False
        if self._held:
            items += self._held
            self._held.clear()
            has_gap = any(isinstance(item, Gap) for item in items)
            if self._is_full:
                self._drained()
                return self._moved_all(items)
            self._overtake()
            if has_gap and self._gap_start is not None:
                return self._moved_all(items)
        else:
            self._overtake()
        log = self._log
        if self.position < log.produced:
            if self._gap_start is not None:
                items.append(self._gap_before(self.position))
            items += log.chunks_between(self.position, log.produced)
            self.position = log.produced
        elif self._gap_start is not None and log.terminal is not None:
            items.append(self._gap_before(self.position))
        return self._moved_all(items) if items else items

    def cut_at(self, stop: int) -> None:
        """Let the next chunk end at ``stop`` at the latest.  If that cuts it, it is reserved."""
        self.take_back()
        held = self._held
        if not held:
            self._overtake()
            if not self.position < stop < self._log.produced or self._log.chunk_at(self.position).stop <= stop:
                return
            self._hold_until(self._log.chunk_at(self.position).stop)
        index = 0 if isinstance(held[0], Chunk) else 1
        chunk = held[index] if index < len(held) else None
        if isinstance(chunk, Chunk) and chunk.offset < stop < chunk.stop:
            held[index] = Chunk(chunk.data[: stop - chunk.offset], chunk.offset)
            held.insert(index + 1, cut_front(chunk, stop))

    def _gap_before(self, offset: int) -> Gap:
        start = self._gap_start
        assert start is not None
        self._gap_start = None
        return Gap(start, offset)

    def _overtake(self) -> None:
        """Find out what a moving window has lost."""
        if self._loss is Loss.DROP_OLDEST:
            low = self._log.produced - self.buffer_bytes
        elif self._loss is Loss.LATEST_ONLY:
            low = self._log.last_offset
        else:
            return
        if self.position < low and self.position >= self._live_from:
            if self._gap_start is None:
                self._gap_start = self.position
            self.position = low

    def _drained(self) -> None:
        """Admit arrivals again, after everything that was buffered has been taken."""
        if not self._is_full:
            return
        self._is_full = False
        self._gap_start = self.position
        self.position = self._log.produced
        self._log.rejoin(self)

    def _moved(self, item: Chunk | Gap) -> Chunk | Gap:
        self._count(item)
        if self._settles:
            self._log.settle(item.stop)
        self._log.taken(self)
        return item

    def _moved_all(self, items: list[Chunk | Gap]) -> list[Chunk | Gap]:
        stop = items[-1].stop
        lost_bytes = 0
        for item in items:
            if isinstance(item, Gap):
                lost_bytes += item.stop - item.start
                self._tell_lost(item)
        first = items[0]
        start = first.start if isinstance(first, Gap) else first.offset
        self.lost_bytes += lost_bytes
        self._delivered += stop - start - lost_bytes
        if self._settles:
            self._log.settle(stop)
        self._log.taken(self)
        return items

    def _count(self, item: Chunk | Gap) -> None:
        if isinstance(item, Chunk):
            self._delivered += len(item.data)
        else:
            self.lost_bytes += item.stop - item.start
            self._tell_lost(item)

    def _tell_lost(self, gap: Gap) -> None:
        if self.on_lost is not None:
            self.on_lost(gap)
