"""What measures and limits time for other tests is right itself."""

from __future__ import annotations

import time

from tests.patience import LATE_S, TICK_S, FairClock, Growing


def test_a_wait_counts_and_what_the_machine_took_does_not() -> None:
    """A clock whose ticks are given: two of them came late."""
    clock = FairClock()
    clock._ticked_at_s = 1000.0
    clock._late = [(100.0, 103.0), (110.0, 111.0)]

    assert clock.since(90.0, 99.0) == 9.0
    assert clock.since(90.0, 105.0) == 12.0
    assert clock.since(102.0, 110.5) == 7.0


def test_a_tick_that_is_late_now_does_not_count_either() -> None:
    """Who is let run first after a pause of the whole machine may be the one that asks."""
    now = time.monotonic()
    clock = FairClock()
    clock._ticked_at_s = now - 100.0

    assert clock.since(now - 100.0) < TICK_S + LATE_S


def test_a_wait_beside_a_running_clock_counts() -> None:
    """On a machine that is let run at all: one of a few short waits was measured in full."""
    took_s: list[float] = []
    with FairClock() as clock:
        while not took_s or (took_s[-1] < 0.09 and len(took_s) < 20):
            begun = time.monotonic()
            time.sleep(0.1)  # the subject
            took_s.append(clock.since(begun))

    assert took_s[-1] >= 0.09


def test_a_limit_grows_tenfold_and_a_few_times_only() -> None:
    """The last trial counts."""
    limit = Growing(0.5, times=3)
    seen = [limit.seconds]
    while limit.grow():
        seen.append(limit.seconds)

    assert seen == [0.5, 5.0, 50.0]
    assert limit.seconds == 50.0
