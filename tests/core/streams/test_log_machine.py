"""The log and its cursors against a model that keeps every byte for every subscriber."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from procflow._streams.log import chunks as chunks_module
from procflow._streams.log import log as log_module
from procflow._streams.log.cursor import Cursor
from procflow._streams.log.log import StreamLog
from procflow._streams.log.terminal import Terminal
from procflow.errors import HistoryLostError
from procflow.events import Chunk, Gap, StreamEnding
from procflow.policies import BestEffort, Delivery, Loss, Reliable, Replay, Retention, Start


def content(start: int, stop: int) -> bytes:
    return bytes(offset % 251 for offset in range(start, stop))


class NaiveCursor:
    """A queue of single bytes, filled at every append."""

    def __init__(self, delivery: Delivery, start: int, floor: int, produced: int) -> None:
        self.delivery = delivery
        self.start = self.next = start
        self.reserved: list[int] = []
        self.history = list(range(max(start, floor), produced))
        self.live: list[int] = []
        self.live_from = produced
        self.is_full = False
        self.is_laggard = False
        self.settles = True
        self.is_waiter = False

    def append(self, offset: int, size: int) -> None:
        new = list(range(offset, offset + size))
        if isinstance(self.delivery, Reliable):
            self.live += new
            return
        bound = self.delivery.buffer_bytes
        if self.delivery.loss is Loss.DROP_OLDEST:
            self.live = (self.live + new)[-bound:]
        elif self.delivery.loss is Loss.LATEST_ONLY:
            self.live = new
        elif not self.is_full:
            room = max(0, bound - len(self.live))
            self.is_full = len(new) > room
            self.live += new[:room]

    @property
    def available(self) -> list[int]:
        return self.reserved + self.history + self.live

    def give(self, offsets: list[int]) -> None:
        taken = set(offsets)
        self.reserved = [offset for offset in self.reserved if offset not in taken]
        self.history = [offset for offset in self.history if offset not in taken]
        self.live = [offset for offset in self.live if offset not in taken]
        self.next = offsets[-1] + 1
        if not self.available:
            self.is_full = False

    def reserve(self, size: int) -> None:
        self.reserved = self.available[: max(size, len(self.reserved))]
        kept = set(self.reserved)
        self.history = [offset for offset in self.history if offset not in kept]
        self.live = [offset for offset in self.live if offset not in kept]

    def live_lag(self, produced: int) -> int:
        position = self.available[0] if self.available else produced
        return produced - max(position, self.live_from)


def run_of(offsets: list[int]) -> list[int]:
    """The first stretch without a hole."""
    for index in range(1, len(offsets)):
        if offsets[index] != offsets[index - 1] + 1:
            return offsets[:index]
    return offsets


REPLAYS = st.one_of(
    st.just(Replay.none()),
    st.just(Replay.all()),
    st.integers(1, 40).map(Replay.last_bytes),
    st.integers(1, 5).map(Replay.last_chunks),
    st.integers(1, 40).map(Replay.while_unsubscribed),
)
DELIVERIES = st.one_of(
    st.builds(Reliable, buffer_bytes=st.integers(1, 30)),
    st.builds(BestEffort, buffer_bytes=st.integers(1, 30), loss=st.sampled_from(Loss)),
)


class LogMachine(RuleBasedStateMachine):
    """C-20 to C-27: one log, any replay, any number of cursors, any interleaving."""

    @initialize(replay=REPLAYS)
    def open(self, replay: Replay) -> None:
        self.replay = replay
        self.log = self.make_log(replay)
        self.produced = 0
        self.chunk_offsets: list[int] = []
        self.given = 0
        self.waited = 0
        self.is_sealed = False
        self.pairs: list[tuple[Cursor, NaiveCursor]] = []
        self.loans: dict[Cursor, Iterator[Chunk]] = {}
        self.is_blocked = False
        self.has_ended = False
        self.has_overrun = False
        self.largest_admitted = 0
        self.largest_chunk = 0

    def make_log(self, replay: Replay) -> StreamLog:
        return StreamLog(replay, name="log")

    def before_take(self, cursor: Cursor) -> None:
        """What must be done first for a take to give all that the model has."""

    def memory_start(self) -> int:
        """What is older than this is history outside of the memory."""
        return 0

    def everybody(self) -> list[tuple[Cursor, NaiveCursor]]:
        """The subscribers, and whoever else may hold the source back."""
        return self.pairs

    # --- the model's rules --------------------------------------------------------------------------------------

    def model_history_start(self) -> int:
        if self.is_sealed or self.replay.retention is Retention.NONE:
            return self.produced
        if self.replay.retention is Retention.ALL:
            return 0
        if self.replay.retention is Retention.LAST_BYTES:
            return max(0, self.produced - self.replay.bound)
        if self.replay.retention is Retention.LAST_CHUNKS:
            return self.chunk_offsets[-self.replay.bound :][0] if self.chunk_offsets else 0
        return max(self.given, self.produced - self.replay.bound)

    def model_has_room(self) -> bool:
        if not self.is_blocked:
            reliable = [(naive, naive.live_lag(self.produced)) for _, naive in self.everybody() if is_reliable(naive)]
            if any(lag >= naive.delivery.buffer_bytes for naive, lag in reliable):
                for naive, lag in reliable:
                    naive.is_laggard = lag > naive.delivery.buffer_bytes // 2
                self.is_blocked = True
        return not self.is_blocked

    def model_caught_up(self, naive: NaiveCursor) -> None:
        if naive.live_lag(self.produced) <= naive.delivery.buffer_bytes // 2:
            naive.is_laggard = False
        self.is_blocked = any(naive.is_laggard for _, naive in self.everybody())

    def note_given(self, naive: NaiveCursor, stop: int) -> None:
        if naive.settles:
            self.given = max(self.given, stop)

    # --- steps --------------------------------------------------------------------------------------------------

    def append(self, size: int) -> None:
        offset = self.produced
        self.log.append(content(offset, offset + size))
        self.produced += size
        self.chunk_offsets.append(offset)
        self.largest_chunk = max(self.largest_chunk, size)
        for _, naive in self.everybody():
            naive.append(offset, size)

    @precondition(lambda self: not self.has_ended)
    @rule(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4))
    def append_with_room(self, sizes: list[int]) -> None:
        for size in sizes:
            expected = self.model_has_room()
            assert self.log.has_room() == expected
            if expected:
                self.append(size)

    @precondition(lambda self: not self.has_ended)
    @rule(size=st.integers(1, 20))
    def append_without_asking(self, size: int) -> None:
        self.has_overrun = True
        self.append(size)

    @rule(
        delivery=DELIVERIES,
        start=st.one_of(st.sampled_from(["unread", "start", "live"]), st.integers(0, 200)),
        last_bytes=st.one_of(st.none(), st.integers(0, 60)),
        settles=st.booleans(),
    )
    def attach(self, delivery: Delivery, start: Start, last_bytes: int | None, settles: bool) -> None:
        floor = self.model_history_start()
        if last_bytes is not None:
            start, offset = "unread", max(0, self.produced - last_bytes)
        elif isinstance(start, int):
            start = offset = min(start, self.produced)
        elif start == "unread":
            has_none = self.is_sealed or self.replay.retention is Retention.NONE
            offset = self.produced if has_none else self.given
        else:
            offset = 0 if start == "start" else self.produced

        if offset < floor and isinstance(delivery, Reliable):
            with pytest.raises(HistoryLostError) as caught:
                self.log.attach(delivery, start, last_bytes=last_bytes)
            assert caught.value.lost_bytes == floor - offset
            return
        cursor = self.log.attach(delivery, start, last_bytes=last_bytes)
        naive = self.admit(cursor, delivery, offset)
        if not settles:  # as line readers do
            cursor.defer_settling()
            naive.settles = False

    def admit(self, cursor: Cursor, delivery: Delivery, offset: int) -> NaiveCursor:
        assert cursor.start == cursor.offset == offset
        naive = NaiveCursor(delivery, offset, self.model_history_start(), self.produced)
        self.largest_admitted = max(self.largest_admitted, len(naive.history) + delivery.buffer_bytes)
        self.pairs.append((cursor, naive))
        return naive

    @rule(delivery=st.builds(Reliable, buffer_bytes=st.integers(1, 30)))
    def attach_waiter(self, delivery: Reliable) -> None:
        floor = self.model_history_start()
        has_none = self.is_sealed or self.replay.retention is Retention.NONE
        offset = max(self.waited, floor if has_none else min(self.given, floor))
        if offset < floor:
            with pytest.raises(HistoryLostError) as caught:
                self.log.attach_waiter(delivery)
            assert (caught.value.start, caught.value.stop) == (offset, floor)
            return
        cursor = self.log.attach_waiter(delivery)
        cursor.defer_settling()
        naive = self.admit(cursor, delivery, offset)
        naive.settles, naive.is_waiter = False, True

    @precondition(lambda self: any(not naive.settles for _, naive in self.pairs))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A line reader has given out what it took up to some byte; a wait has matched there, and leaves."""
        cursor, naive = data.draw(st.sampled_from([pair for pair in self.pairs if not pair[1].settles]))
        offset = data.draw(st.one_of(st.just(naive.next), st.integers(naive.start, naive.next)))
        # What was history until now may be held until the next step of the log.
        self.largest_admitted = max(self.largest_admitted, self.produced - self.model_history_start())
        self.given = max(self.given, offset)
        if naive.is_waiter:
            self.waited = max(self.waited, offset)
            self.log.settle_wait(offset)
            self.leave((cursor, naive))
        else:
            cursor.settle(offset)

    @precondition(lambda self: self.pairs)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        cursor, naive = data.draw(st.sampled_from(self.pairs))
        self.before_take(cursor)
        available = naive.available
        assert cursor.has_items == (bool(available) or (self.has_ended and naive.next < self.produced))
        item = cursor.take()
        if item is None:
            assert not available
            return
        if isinstance(item, Gap):
            assert item.start == naive.next
            assert item.lost_bytes > 0
            assert item.stop == (available[0] if available else self.produced)
            naive.next = item.stop
            if available:
                reserved = cursor._held[0]
                assert isinstance(reserved, Chunk)
                assert run_of(available)[: len(reserved.data)] == list(range(reserved.offset, reserved.stop))
                naive.reserve(len(reserved.data))
            else:
                assert self.has_ended
        else:
            assert item.offset == naive.next
            offsets = run_of(available)[: len(item.data)]
            assert offsets == list(range(item.offset, item.stop))
            assert item.data == content(item.offset, item.stop)
            naive.give(offsets)
        self.note_given(naive, item.stop)
        self.model_caught_up(naive)

    @precondition(lambda self: self.pairs)
    @rule(data=st.data())
    def take_batch(self, data: st.DataObject) -> None:
        cursor, naive = data.draw(st.sampled_from(self.pairs))
        self.before_take(cursor)
        items = cursor.take_batch()
        gaps = 0
        while naive.available:
            first = naive.available[0]
            if first != naive.next:
                if gaps:
                    break
                gaps = 1
                assert items.pop(0) == Gap(naive.next, first)
            stretch = run_of(naive.available)
            got = b""
            while items and isinstance(items[0], Chunk) and len(got) < len(stretch):
                chunk = items.pop(0)
                assert isinstance(chunk, Chunk)
                assert chunk.offset == stretch[0] + len(got)
                got += chunk.data
            assert got == content(stretch[0], stretch[-1] + 1)
            naive.give(stretch)
        if items:
            assert self.has_ended
            assert items == [Gap(naive.next, self.produced)]
            naive.next = self.produced
        self.note_given(naive, naive.next if cursor.delivered_bytes + cursor.lost_bytes else 0)
        self.model_caught_up(naive)

    @precondition(lambda self: self.pairs)
    @rule(data=st.data(), max_chunks=st.integers(1, 6), draws=st.integers(0, 6))
    def borrow(self, data: st.DataObject, max_chunks: int, draws: int) -> None:
        """C-23, C-25: chunks drawn from a loan count as taken; the others come next, whoever asks, and in whatever way."""
        cursor, naive = data.draw(st.sampled_from(self.pairs))
        self.before_take(cursor)
        has_loan = cursor in self.loans and cursor.has_loan
        loan = self.loans[cursor] if has_loan and draws else cursor.lend(max_chunks)
        if loan is None:
            assert not naive.available or not is_reliable(naive) or naive.is_laggard
            return
        assert is_reliable(naive)
        assert not naive.is_laggard
        self.loans[cursor] = loan
        for chunk in islice(loan, draws):
            self.drawn(naive, chunk)

    def drawn(self, naive: NaiveCursor, chunk: Chunk) -> None:
        assert chunk.offset == naive.next
        assert chunk.data == content(chunk.offset, chunk.stop)
        naive.give(list(range(chunk.offset, chunk.stop)))
        self.note_given(naive, chunk.stop)

    @precondition(lambda self: self.pairs)
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.pairs)))

    def leave(self, pair: tuple[Cursor, NaiveCursor]) -> None:
        self.pairs = [other for other in self.pairs if other[0] is not pair[0]]
        self.log.detach(pair[0])
        self.log.detach(pair[0])
        self.is_blocked = any(naive.is_laggard for _, naive in self.everybody())

    @precondition(lambda self: any(is_reliable(naive) for _, naive in self.pairs))
    @rule(data=st.data())
    def downgrade(self, data: st.DataObject) -> None:
        cursor, naive = data.draw(st.sampled_from([pair for pair in self.pairs if is_reliable(pair[1])]))
        delivery = BestEffort(buffer_bytes=naive.delivery.buffer_bytes)
        cursor.downgrade(delivery)
        naive.delivery = delivery
        naive.live = naive.live[-delivery.buffer_bytes :]
        naive.is_laggard = False
        self.is_blocked = any(naive.is_laggard for _, naive in self.everybody())

    @rule()
    def seal(self) -> None:
        self.log.seal()
        self.is_sealed = True

    @precondition(lambda self: self.produced > 30)
    @rule()
    def end(self) -> None:
        assert self.log.end(Terminal(StreamEnding.EOF)) != self.has_ended
        self.has_ended = True
        assert self.log.terminal == Terminal(StreamEnding.EOF)
        assert not self.log.end(Terminal(StreamEnding.CLOSED))

    # --- always -------------------------------------------------------------------------------------------------

    @invariant()
    def every_byte_is_accounted_for(self) -> None:
        for cursor, naive in self.pairs:
            assert cursor.delivered_bytes + cursor.lost_bytes == naive.next - naive.start
            assert cursor.delivered_bytes + cursor.lost_bytes + cursor.lag_bytes == self.produced - cursor.start

    @invariant()
    def history_is_what_the_replay_promises(self) -> None:
        start = self.model_history_start()
        assert self.log.history_start == start
        assert self.log.history() == content(max(start, self.memory_start()), self.produced)
        assert self.log.tail(5) == content(max(0, self.produced - 5), self.produced)

    @invariant()
    def memory_is_bounded(self) -> None:
        held = sum(len(chunk.data) for chunk in self.log._chunks[self.log._head :])
        assert held == self.log.retained_bytes
        if not self.has_overrun:
            history = self.produced - self.model_history_start()
            bound = max(history, self.largest_admitted, log_module.TAIL_BYTES)
            assert self.log.retained_bytes <= bound + 2 * self.largest_chunk

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        self.log.end(Terminal(StreamEnding.EOF))
        for cursor, _ in self.pairs:
            self.before_take(cursor)
            while cursor.take() is not None:
                self.before_take(cursor)
            assert cursor.delivered_bytes + cursor.lost_bytes == self.produced - cursor.start


def is_reliable(naive: NaiveCursor) -> bool:
    return isinstance(naive.delivery, Reliable)


class JoiningLogMachine(LogMachine):
    """The same where chunks are joined, and nothing is kept for error messages, at every opportunity."""

    @contextmanager
    def patched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log_module, "JOIN_AT_CHUNKS", 2)
            patch.setattr(log_module, "COMPACT_AT_SLOTS", 1)
            patch.setattr(log_module, "TAIL_BYTES", 5)
            patch.setattr(chunks_module, "SMALL_BYTES", 8)
            patch.setattr(chunks_module, "JOINED_BYTES", 16)
            yield

    @initialize(replay=REPLAYS)
    def open(self, replay: Replay) -> None:
        self.context = self.patched()
        self.context.__enter__()
        super().open(replay)
        self.largest_chunk = 16

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "context"):
                self.context.__exit__(None, None, None)


SETTINGS = settings(max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))


class TestLog(LogMachine.TestCase):  # type: ignore[misc, valid-type]  # Hypothesis makes the class at run time
    """C-25: delivered + lost == produced for each subscriber, after every step, under every policy and interleaving (TPT 69, 88, SV3)."""

    settings = SETTINGS


class TestJoiningLog(JoiningLogMachine.TestCase):  # type: ignore[misc, valid-type]  # as above
    """C-26: history then live, exactly once, also when small chunks are joined behind the subscribers' backs."""

    settings = SETTINGS
