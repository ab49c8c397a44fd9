"""A log whose history lies in an archive against the same model: where the bytes are must make no difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from procflow._streams.history import archive as archive_module
from procflow._streams.history.archive import ArchivedCursor, ArchivedLog, Stretch
from procflow._streams.log import log as log_module
from procflow._streams.log.cursor import Cursor
from procflow._streams.log.log import StreamLog
from procflow.errors import HistoryLostError, SpillError
from procflow.events import Chunk, Gap
from procflow.policies import BestEffort, Delivery, Loss, Reliable, Replay
from tests.core.streams.test_log_machine import SETTINGS, LogMachine, NaiveCursor, content, run_of

MEMORY_BYTES = 12


class ArchiveMachine(LogMachine):
    """C-25, C-26, C-28: the archive lags, cursors load while others move, it is sealed, it fails, at any moment."""

    @initialize(replay=st.just(Replay.all()))
    def open(self, replay: Replay) -> None:
        self.context = self.patched()
        self.context.__enter__()
        self.archive = bytearray()
        self.has_failed = False
        self.loads: list[tuple[ArchivedCursor, Stretch]] = []
        super().open(replay)
        assert isinstance(self.log, ArchivedLog)
        self.archived = self.log
        delivery = Reliable(buffer_bytes=MEMORY_BYTES)
        self.writers = [(self.log.archivist, NaiveCursor(delivery, 0, 0, 0))]

    @contextmanager
    def patched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(archive_module, "MEMORY_BYTES", MEMORY_BYTES)
            patch.setattr(log_module, "TAIL_BYTES", 5)
            yield

    def make_log(self, replay: Replay) -> StreamLog:
        return ArchivedLog(replay, name="log")

    def everybody(self) -> list[tuple[Cursor, NaiveCursor]]:
        return [*self.pairs, *self.writers]

    def memory_start(self) -> int:
        return self.archived.held_from

    def model_history_start(self) -> int:
        if self.has_failed and not self.is_sealed:
            return max(0, self.produced - MEMORY_BYTES)
        return super().model_history_start()

    def admit(self, cursor: Cursor, delivery: Delivery, offset: int) -> NaiveCursor:
        naive = super().admit(cursor, delivery, offset)
        if self.has_failed:
            self.cap(naive)
        return naive

    # --- steps --------------------------------------------------------------------------------------------------

    def before_take(self, cursor: Cursor) -> None:
        """Load until a take gives something; while it is behind, it gives nothing and says so."""
        assert isinstance(cursor, ArchivedCursor)
        while (stretch := self.reserve(cursor, 7)) is not None:
            assert not cursor.has_items
            assert cursor.take() is None
            assert cursor.take_batch() == []
            self.finish(cursor, stretch)

    def reserve(self, cursor: ArchivedCursor, max_bytes: int) -> Stretch | None:
        stretch = cursor.reserve_stretch(max_bytes)
        self.reserve_in_model(cursor)
        return stretch

    def reserve_in_model(self, cursor: ArchivedCursor) -> None:
        naive = next((naive for other, naive in self.pairs if other is cursor), None)
        if naive is not None and cursor._held:
            held = [item for item in cursor._held if isinstance(item, (Chunk, Stretch))]
            naive.reserve(sum(item.stop - (item.offset if isinstance(item, Chunk) else item.start) for item in held))

    def finish(self, cursor: ArchivedCursor, stretch: Stretch) -> None:
        assert stretch.stop <= len(self.archive)
        cursor.load(Chunk(bytes(self.archive[stretch.start : stretch.stop]), stretch.start))

    @precondition(lambda self: self.pairs)
    @rule(data=st.data())
    def take_batch(self, data: st.DataObject) -> None:
        """A batch ends before what must be loaded."""
        cursor, naive = data.draw(st.sampled_from(self.pairs))
        self.before_take(cursor)
        items = cursor.take_batch()
        assert sum(isinstance(item, Gap) for item in items) <= 1
        assert items or not naive.available
        for item in items:
            if isinstance(item, Gap):
                assert item == Gap(naive.next, naive.available[0] if naive.available else self.produced)
                naive.next = item.stop
            else:
                offsets = run_of(naive.available)[: len(item.data)]
                assert offsets == list(range(item.offset, item.stop))
                assert item.data == content(item.offset, item.stop)
                naive.give(offsets)
        if items:
            assert isinstance(items[-1], Chunk) or self.has_ended
            self.note_given(naive, items[-1].stop)
        self.model_caught_up(naive)

    @precondition(lambda self: self.pairs)
    @rule(data=st.data(), max_chunks=st.integers(1, 6), draws=st.integers(0, 6))
    def borrow(self, data: st.DataObject, max_chunks: int, draws: int) -> None:
        """Nothing is lent where the next bytes may have to be loaded."""
        cursor, _ = data.draw(st.sampled_from(self.pairs))
        assert cursor.lend(max_chunks) is None

    @precondition(lambda self: self.pairs)
    @rule(data=st.data(), max_bytes=st.integers(1, 30))
    def begin_load(self, data: st.DataObject, max_bytes: int) -> None:
        cursor = data.draw(st.sampled_from(self.pairs))[0]
        assert isinstance(cursor, ArchivedCursor)
        stretch = self.reserve(cursor, max_bytes)
        if stretch is not None:
            self.loads.append((cursor, stretch))

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def finish_load(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.loads) - 1))
        self.finish(*self.loads.pop(index))

    @rule(max_bytes=st.integers(1, 30))
    def write(self, max_bytes: int) -> None:
        archivist = self.archived.archivist
        if not archivist.is_attached:
            return
        chunks = archivist.peek(max_bytes)
        data = b"".join(chunk.data for chunk in chunks)
        assert len(data) == min(max_bytes, self.produced - len(self.archive))
        if data:
            self.archive += data
            archivist.wrote(len(self.archive))
            naive = self.writers[0][1]
            naive.give(naive.available[: len(data)])
            self.model_caught_up(naive)

    @rule()
    def seal(self) -> None:
        super().seal()
        self.give_up()

    @precondition(lambda self: self.produced > 30)
    @rule()
    def fail(self) -> None:
        was_archiving = self.archived.is_archiving
        self.archived.fail(SpillError(stream_name="log", path="/full", reason="full"))
        if was_archiving:
            self.has_failed = True
            for _, naive in self.pairs:
                self.cap(naive)
            self.give_up()

    def give_up(self) -> None:
        assert not self.archived.is_archiving
        self.writers = []
        for cursor, naive in self.pairs:
            assert isinstance(cursor, ArchivedCursor)
            if isinstance(naive.delivery, BestEffort) and naive.delivery.loss is Loss.DROP_OLDEST:
                naive.live = naive.live[-naive.delivery.buffer_bytes :]
            self.reserve_in_model(cursor)
        self.is_blocked = any(naive.is_laggard for _, naive in self.pairs)

    def cap(self, naive: NaiveCursor) -> None:
        naive.delivery = replace(naive.delivery, buffer_bytes=min(naive.delivery.buffer_bytes, MEMORY_BYTES))

    # --- always -------------------------------------------------------------------------------------------------

    @invariant()
    def the_newest_bytes_are_in_memory(self) -> None:
        if self.archived.is_archiving:
            assert self.archived.held_from <= max(0, self.produced - MEMORY_BYTES)

    @invariant()
    def memory_and_archive_have_everything(self) -> None:
        assert self.archive == content(0, len(self.archive))
        if self.archived.is_archiving:
            assert self.archived.archived_bytes == len(self.archive)
            assert self.archived.held_from <= len(self.archive) or not self.archive

    @invariant()
    def memory_is_bounded(self) -> None:
        held = sum(len(chunk.data) for chunk in self.log._chunks[self.log._head :])
        assert held == self.log.retained_bytes
        if not self.has_overrun:
            bound = MEMORY_BYTES
            if not self.archived.is_archiving:
                bound += max((naive.delivery.buffer_bytes for _, naive in self.pairs), default=0)
            if not self.has_been_given_up_with_pairs:
                assert self.log.retained_bytes <= bound + 2 * self.largest_chunk

    @property
    def has_been_given_up_with_pairs(self) -> bool:
        return not self.archived.is_archiving and bool(self.pairs)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "context"):
                self.context.__exit__(None, None, None)


class TestArchive(ArchiveMachine.TestCase):  # type: ignore[misc, valid-type]  # Hypothesis makes the class at run time
    """C-25 and C-28: delivered + lost == produced for each subscriber, after every step, wherever the bytes are."""

    settings = SETTINGS


def test_a_failed_archive_says_why_history_is_gone() -> None:
    """C-28: after a failure the error of a late subscriber is caused by the failure, and the newest bytes are kept."""
    log = ArchivedLog(Replay.all(), name="log")
    failure = SpillError(stream_name="log", path="/full", reason="no space")
    log.fail(failure)
    for _ in range(3):
        log.append(b"x" * archive_module.MEMORY_BYTES)

    with pytest.raises(HistoryLostError) as caught:
        log.attach(Reliable())
    assert caught.value.__cause__ is failure
    assert caught.value.lost_bytes == 2 * archive_module.MEMORY_BYTES
    assert log.attach(Reliable(), last_bytes=archive_module.MEMORY_BYTES).offset == 2 * archive_module.MEMORY_BYTES


def test_a_buffer_meant_for_the_disk_is_cut_when_the_disk_fails() -> None:
    """C-28: a subscriber may lag by terabytes on disk; when the archive fails, it may lag by one window in memory."""
    log = ArchivedLog(Replay.all(), name="log")
    cursor = log.attach(Reliable(buffer_bytes=1 << 40))
    log.fail(SpillError(stream_name="log", path="/full", reason="no space"))
    log.append(b"x" * archive_module.MEMORY_BYTES)

    assert not log.has_room()
    assert log.awaited() == [cursor]


def test_what_a_subscriber_has_admitted_survives_the_failure_of_the_disk() -> None:
    """C-24, C-28: DROP_NEWEST keeps what is buffered, also when its buffer is cut because the archive fails."""
    log = ArchivedLog(Replay.all(), name="log")
    window = archive_module.MEMORY_BYTES
    cursor = log.attach(BestEffort(buffer_bytes=4 * window, loss=Loss.DROP_NEWEST))
    for _ in range(2):
        log.append(b"x" * window)

    log.fail(SpillError(stream_name="log", path="/full", reason="full"))
    log.append(b"y" * window)

    assert (
        b"".join(item.data for item in cursor.take_batch() if isinstance(item, Chunk))[: 2 * window]
        == b"x" * 2 * window
    )
