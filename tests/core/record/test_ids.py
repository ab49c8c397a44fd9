"""Ids of runs."""

from __future__ import annotations

import os
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from procflow.record.ids import IdMaker, new_run_id


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    """RR-13: RFC 9562: 48 bits of milliseconds, the version, the variant."""
    made = IdMaker(now_ms=lambda: 0x0199_AAAA_BBBB)()

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == 0x0199_AAAA_BBBB


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(min_value=-5, max_value=2**48 + 5) | st.integers(min_value=0, max_value=3), max_size=60))
def test_ids_sort_in_the_order_they_were_made_in(clock: list[int]) -> None:
    """RR-13: within one millisecond, when the wall clock steps back, and whatever it says: as numbers and as texts."""
    times = iter(clock)
    make = IdMaker(now_ms=lambda: next(times))

    made = [make() for _ in clock]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert [str(one) for one in made] == sorted(str(one) for one in made)


def test_a_counter_that_is_full_borrows_from_the_clock() -> None:
    """RR-13: the order holds where chance gives the largest numbers all the time."""
    make = IdMaker(now_ms=lambda: 5, random_bytes=lambda count: b"\xff" * count)
    make._begin(5)
    make._counter = 2**74 - 2

    first, second = make(), make()

    assert first < second
    assert first.int >> 80 == 6


def test_many_in_one_process() -> None:
    """RR-13: ids that are made in a row, and by threads at once, are all different; each thread's are in order."""
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into += [str(new_run_id()) for _ in range(500)]

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(ids == sorted(ids) for ids in made)
    assert len(set().union(*made)) == 2000


def test_a_fork_counts_for_itself() -> None:
    """RR-13: what a forked process makes is not what its parent makes next."""
    make = IdMaker(now_ms=lambda: 5)
    make()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, make().bytes)
        os._exit(0)
    os.close(writing)
    theirs = os.read(reading, 16)
    os.close(reading)
    os.waitpid(pid, 0)

    assert len(theirs) == 16
    assert theirs != make().bytes
