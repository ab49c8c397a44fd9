"""The log and its cursors at exact borders, where a random walk seldom stands."""

from __future__ import annotations

import sys

import pytest

from procflow._streams.log.log import StreamLog
from procflow.errors import HistoryLostError
from procflow.events import Chunk, Gap
from procflow.policies import BestEffort, Loss, Reliable, Replay


def test_drop_newest_drops_from_the_first_byte_that_does_not_fit() -> None:
    """C-24: a DROP_NEWEST subscriber keeps exactly its buffer, also when a single byte is too much."""
    log = StreamLog(Replay.none())
    cursor = log.attach(BestEffort(buffer_bytes=10, loss=Loss.DROP_NEWEST))
    log.append(b"x" * 10)
    log.append(b"y")

    assert cursor.take_batch() == [Chunk(b"x" * 10, 0)]
    log.append(b"z")
    assert cursor.take_batch() == [Gap(10, 11), Chunk(b"z", 11)]


def test_waits_follow_each_other_though_history_is_kept() -> None:
    """C-45: a wait begins after the match of the one before, also where everything is retained."""
    log = StreamLog(Replay.all())
    log.append(b"one\ntwo\n")
    log.settle_wait(4)

    assert log.attach_waiter(Reliable()).take() == Chunk(b"two\n", 4)


def test_a_wait_needs_no_history_where_there_is_none_by_decision() -> None:
    """C-45: without a replay a wait begins now, and bytes that passed before are no error."""
    log = StreamLog(Replay.none())
    log.append(b"gone")

    cursor = log.attach_waiter(Reliable())
    log.append(b"new")

    assert cursor.take() == Chunk(b"new", 4)


def test_a_wait_is_told_of_bytes_that_nobody_saw() -> None:
    """C-26: a wait whose first bytes are gone raises, unless an earlier wait has passed them."""
    log = StreamLog(Replay.while_unsubscribed(10))
    for _ in range(10):
        log.append(b"x" * 1000)
    with pytest.raises(HistoryLostError) as caught:
        log.attach_waiter(Reliable())
    assert (caught.value.start, caught.value.stop) == (0, 9990)

    log.settle_wait(9995)
    assert log.attach_waiter(Reliable()).offset == 9995


@pytest.mark.parametrize("size", [10, 5000, 100_000])
def test_the_last_read_is_always_there_whole(size: int) -> None:
    """C-24: whatever the replay, the newest chunk stays for error messages and for a LATEST_ONLY subscriber."""
    log = StreamLog(Replay.none())
    latest = log.attach(BestEffort(loss=Loss.LATEST_ONLY))
    log.append(b"a" * size)
    log.append(b"b" * size)

    assert log.tail(size) == b"b" * size
    assert log.retained_bytes <= size + max(size, 4096)
    assert latest.take_batch() == [Gap(0, size), Chunk(b"b" * size, size)]


def test_sealing_frees_history_at_once() -> None:
    """C-27: what only the replay kept is gone when seal() returns; what a subscriber needs stays until it has it (TPT D11)."""
    log = StreamLog(Replay.all())
    for _ in range(10):
        log.append(b"x" * 10_000)
    reader = log.attach(Reliable(buffer_bytes=1 << 20), start=50_000)

    log.seal()

    assert log.retained_bytes == 50_000
    log.detach(reader)
    assert log.retained_bytes == 10_000


def test_drop_newest_loses_nothing_while_its_buffer_is_just_full() -> None:
    """C-24: a buffer that was filled to the last byte and then taken has lost nothing."""
    log = StreamLog(Replay.none())
    cursor = log.attach(BestEffort(buffer_bytes=10, loss=Loss.DROP_NEWEST))
    log.append(b"x" * 10)

    assert cursor.take_batch() == [Chunk(b"x" * 10, 0)]
    log.append(b"z")
    assert cursor.take_batch() == [Chunk(b"z", 10)]


def test_drop_newest_keeps_what_arrives_after_it_was_emptied() -> None:
    """C-24: once all that was buffered has been taken, the log keeps what arrives for the subscriber again."""
    log = StreamLog(Replay.none())
    cursor = log.attach(BestEffort(buffer_bytes=10_000, loss=Loss.DROP_NEWEST))
    log.append(b"x" * 10_001)

    assert cursor.take_batch() == [Chunk(b"x" * 10_000, 0)]
    log.append(b"y" * 5000)
    log.append(b"z" * 5000)
    assert cursor.take_batch() == [Gap(10_000, 10_001), Chunk(b"y" * 5000, 10_001), Chunk(b"z" * 5000, 15_001)]


def test_a_batch_has_one_gap_though_two_losses_are_known() -> None:
    """C-24: history with a gap before it that was overtaken behind it too takes two batches."""
    log = StreamLog(Replay.last_bytes(20))
    for _ in range(5):
        log.append(b"x" * 10)
    cursor = log.attach(BestEffort(buffer_bytes=10), start=0)
    for _ in range(5):
        log.append(b"y" * 10)

    assert cursor.take_batch() == [Gap(0, 30), Chunk(b"x" * 10, 30), Chunk(b"x" * 10, 40)]
    assert cursor.take_batch() == [Gap(50, 90), Chunk(b"y" * 10, 90)]


def test_history_does_not_count_against_the_buffer() -> None:
    """C-23: a source is not held back by a subscriber that still reads history, only by what came after it attached."""
    log = StreamLog(Replay.all())
    full = log.attach(Reliable(buffer_bytes=50))
    log.append(b"x" * 40)
    late = log.attach(Reliable(buffer_bytes=50), start=0)
    log.append(b"x" * 10)

    assert not log.has_room()
    assert log.awaited() == [full]
    full.take_batch()
    assert log.has_room()
    assert late.lag_bytes == 50


def test_subscribers_at_one_place_are_lent_the_same_and_draw_on_their_own() -> None:
    """C-20, C-25: what is shared for speed is shared by nobody who stands elsewhere, came later, or was lent to before."""
    log = StreamLog(Replay.none())
    cursors = [log.attach(Reliable()) for _ in range(3)]
    log.append(b"ab")
    log.append(b"cd")
    first, second = cursors[0].lend(8), cursors[1].lend(8)
    assert first is not None
    assert second is not None
    assert [next(first), next(second), next(first)] == [Chunk(b"ab", 0), Chunk(b"ab", 0), Chunk(b"cd", 2)]

    log.append(b"ef")
    third, again = cursors[2].lend(8), cursors[1].lend(8)
    assert third is not None
    assert again is not None
    assert list(third) == [Chunk(b"ab", 0), Chunk(b"cd", 2), Chunk(b"ef", 4)]
    assert list(second) == []
    assert list(again) == [Chunk(b"cd", 2), Chunk(b"ef", 4)]
    assert [cursor.delivered_bytes for cursor in cursors] == [4, 6, 6]


@pytest.mark.parametrize("has_history", [False, True])
def test_the_log_keeps_no_chunk_that_was_only_lent(has_history: bool) -> None:
    """C-26: once everybody has taken a chunk and the history is done with it, its bytes are free."""
    log = StreamLog(Replay.last_bytes(8192) if has_history else Replay.none())
    cursors = [log.attach(Reliable()) for _ in range(2)]
    data = b"x" * 8192
    references = sys.getrefcount(data)
    log.append(data)
    for cursor in cursors:
        lent = cursor.lend(8)
        assert lent is not None
        assert next(lent).data is data
        cursor.take_back()
    for _ in range(3):
        log.append(b"y" * 8192)
        for cursor in cursors:
            cursor.take_batch()

    assert sys.getrefcount(data) == references
