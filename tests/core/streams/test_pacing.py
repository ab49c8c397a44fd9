"""How often a stream reads and wakes, and how large its pipe is: pure decisions."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow._streams.pacing import (
    FEW_SLEEPERS,
    FLOOD_PIPE_BYTES,
    FULL_ROW,
    INTERVAL_S,
    LARGE_PIPE_BYTES,
    LOAN_CHUNKS,
    LOAN_S,
    READS_PER_TURN,
    SILENCE_S,
    SMALL_PIPE_BYTES,
    TINY_BYTES,
    TINY_ROW,
    PipeGrowth,
    ReadPace,
    TurnBudget,
    WakePace,
    loan_chunks,
)
from procflow._streams.reading import pipes
from procflow._streams.reading.source import FdSource

STEPS = st.lists(st.tuples(st.floats(0, 0.01), st.integers(0, 1 << 21)), max_size=60)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40))
def test_the_streams_of_a_turn_share_its_reads(ready_by_turn: list[int]) -> None:
    """C-23, C-24: every ready stream may read at least once a turn; all together little more than a turn's reads once known."""
    budget = TurnBudget()
    turns = [-1] * 41
    before = 0
    for ready in ready_by_turn:
        shares = []
        for number in range(ready):
            shares.append(budget.reads(turns[number]))
            turns[number] = budget.turn
        assert all(share >= 1 for share in shares)
        if ready and before >= ready:
            assert sum(shares) <= max(ready, READS_PER_TURN)
        before = ready


def test_a_stream_alone_has_all_reads() -> None:
    """C-23: one ready stream is not slowed down by what others did some turns ago."""
    budget = TurnBudget()
    turns = [-1] * 32
    for _ in range(3):
        for number in range(32):
            budget.reads(turns[number])
            turns[number] = budget.turn
    shares = []
    for _ in range(3):
        shares.append(budget.reads(turns[0]))
        turns[0] = budget.turn
    assert shares[-1] == READS_PER_TURN


def flooded(pipe_bytes: int = FLOOD_PIPE_BYTES) -> tuple[ReadPace, float]:
    pace, now = ReadPace(), 0.0
    for _ in range(TINY_ROW + 1):
        assert not pace.by_clock
        now += SILENCE_S / 10
        pace.note(now, 80, pipe_bytes)
    return pace, now


def test_a_flood_of_tiny_writes_is_read_by_the_clock_until_it_ends() -> None:
    """C-20: tiny wake-ups in quick succession switch to the clock, one look that finds nothing switches back."""
    pace, now = flooded()
    assert pace.by_clock
    pace.note(now + INTERVAL_S, 50_000, FLOOD_PIPE_BYTES)
    assert pace.by_clock
    pace.note(now + 2 * INTERVAL_S, 0, FLOOD_PIPE_BYTES)
    assert not pace.by_clock


def test_a_pipe_too_small_for_the_clock_is_read_when_it_is_ready() -> None:
    """C-20: where one interval fills the pipe the writer would wait for the clock, so the clock is left, for long."""
    pace, now = flooded(SMALL_PIPE_BYTES)
    pace.note(now + INTERVAL_S, SMALL_PIPE_BYTES, SMALL_PIPE_BYTES)
    for number in range(10 * TINY_ROW):
        assert not pace.by_clock
        pace.note(now + INTERVAL_S + number * SILENCE_S / 10, 80, SMALL_PIPE_BYTES)


@given(STEPS)
def test_slow_or_large_writes_are_never_read_by_the_clock(steps: list[tuple[float, int]]) -> None:
    """C-20: a line now and then, and bulk, are read as soon as they come."""
    pace, now = ReadPace(), 0.0
    for pause_s, read_bytes in steps:
        now += pause_s
        if pause_s <= SILENCE_S * 1.01:
            read_bytes = max(read_bytes, TINY_BYTES)
        pace.note(now, read_bytes, LARGE_PIPE_BYTES)
        assert not pace.by_clock


def test_what_is_no_pipe_is_never_read_by_the_clock() -> None:
    """C-20: a terminal or a socket may hold too little for an interval."""
    pace = ReadPace()
    for number in range(100):
        pace.note(number * SILENCE_S / 10, 80, 0)
    assert not pace.by_clock


@given(STEPS, st.integers(1, 1 << 23), st.integers(1, 100))
def test_nobody_sleeps_longer_than_an_interval(steps: list[tuple[float, int]], window: int, sleepers: int) -> None:
    """C-22: whatever comes, bytes are announced within one interval, at once at a third of a window, to few, or if they are few."""
    wakes, now, unread = WakePace(), 0.0, 0
    due: float | None = None
    for pause_s, read_bytes in steps:
        now += pause_s
        if due is not None and now >= due:
            wakes.rung()
            unread, due = 0, None
        unread += read_bytes
        wait_s = wakes.wait_s(now, unread, window, sleepers)
        assert 0 <= wait_s <= INTERVAL_S + 1e-9
        if due is not None:
            assert wait_s == 0 or now + wait_s <= due + 1e-9
        if unread * 3 >= window or sleepers <= FEW_SLEEPERS or unread < TINY_BYTES:
            assert wait_s == 0
        if wait_s == 0:
            wakes.rung()
            unread, due = 0, None
        elif due is None:
            due = now + wait_s


def test_the_first_bytes_after_a_silence_are_announced_at_once() -> None:
    """C-22: a subscriber of a stream that was silent waits for nothing, however much comes."""
    wakes = WakePace()
    assert wakes.wait_s(0.0, 1 << 16, 1 << 30, 64) == 0
    assert wakes.wait_s(1.0, 1 << 16, 1 << 30, 64) == 0
    assert wakes.wait_s(1.0 + SILENCE_S, 1 << 17, 1 << 30, 64) == pytest.approx(INTERVAL_S)


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=60))
def test_a_loan_lasts_no_longer_than_the_last_one_foretells(steps: list[float]) -> None:
    """C-24: a subscriber who takes so long for a chunk is lent what it draws in that time, and never twice as much as before."""
    last = 0
    for a_chunk_s in steps:
        drawn_s = a_chunk_s * last
        chunks = loan_chunks(last, drawn_s)
        assert 1 <= chunks <= max(1, min(2 * last, LOAN_CHUNKS))
        assert chunks == 1 or chunks * a_chunk_s <= LOAN_S * (1 + 1e-9)
        last = chunks


def test_a_quick_subscriber_soon_draws_a_window_at_once() -> None:
    """C-24: nobody pays for a call a chunk, and one pause of the machine does not put a subscriber back to where it began."""
    last, loans = 0, 0
    while last < LOAN_CHUNKS:
        last, loans = loan_chunks(last, last * 1e-6), loans + 1
    assert loans <= 7
    assert loan_chunks(LOAN_CHUNKS, LOAN_S * 4) == LOAN_CHUNKS // 4


def test_a_pipe_grows_after_full_ones_in_quick_succession_only() -> None:
    """C-28: kernel memory is claimed for a stream that fills its pipe, not for a large message now and then."""
    growth = PipeGrowth()
    assert not any(growth.is_due(number * 1.0, SMALL_PIPE_BYTES, SMALL_PIPE_BYTES) for number in range(10))
    due = [growth.is_due(10 + number * INTERVAL_S / 2, SMALL_PIPE_BYTES, SMALL_PIPE_BYTES) for number in range(5)]
    assert due.index(True) == FULL_ROW - 1
    assert due.count(True) == 1


def test_pipes_share_a_budget_and_give_it_back() -> None:
    """C-28: a claim is all or nothing, never beyond the budget, and returned when the descriptor is closed or dropped."""
    left = pipes.BUDGET.left_bytes
    reader, writer = os.pipe()
    born_bytes = pipes.capacity(reader)
    source = FdSource(reader, pipe_bytes=LARGE_PIPE_BYTES)
    assert source.pipe_bytes == LARGE_PIPE_BYTES
    assert pipes.BUDGET.left_bytes == left - (LARGE_PIPE_BYTES - born_bytes)
    source.grow_pipe(FLOOD_PIPE_BYTES)
    assert source.pipe_bytes == LARGE_PIPE_BYTES  # what was asked for stays
    source.close_nowait()
    source.close_nowait()
    assert pipes.BUDGET.left_bytes == left
    os.close(writer)

    reader, writer = os.pipe()
    source = FdSource(reader)
    source.grow_pipe(LARGE_PIPE_BYTES)
    source.grow_pipe(FLOOD_PIPE_BYTES)
    assert source.pipe_bytes == FLOOD_PIPE_BYTES
    del source
    assert pipes.BUDGET.left_bytes == left
    os.close(writer)


def test_a_pipe_stays_as_it_is_when_budget_or_system_say_no() -> None:
    """C-28: no budget, a size that the system refuses and a descriptor that is no pipe leave everything as it was."""
    reader, writer = os.pipe()
    poor = pipes.PipeBudget(1000)
    assert pipes.grow(reader, LARGE_PIPE_BYTES, poor) == 0
    rich = pipes.PipeBudget(1 << 50)
    assert pipes.grow(reader, 3 << 30, rich) == 0
    with open(os.devnull, "rb") as no_pipe:
        assert pipes.grow(no_pipe.fileno(), LARGE_PIPE_BYTES, rich) == pipes.capacity(no_pipe.fileno()) == 0
    assert (poor.left_bytes, rich.left_bytes) == (1000, 1 << 50)
    os.close(reader)
    os.close(writer)


def test_claims_of_several_threads_add_up() -> None:
    """C-28: loops in several threads share the budget without losing a byte of it."""
    budget = pipes.PipeBudget(1000)

    def claim_and_return() -> None:
        for _ in range(2000):
            if budget.claim(300):
                budget.give_back(300)

    threads = [threading.Thread(target=claim_and_return) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.left_bytes == 1000
