"""Scripted processes in virtual time: hours pass in milliseconds, and are reported as hours.

On trio only: its ``MockClock`` jumps to the next deadline when nothing else is left to be done.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import pytest
import trio
import trio.testing

import procflow as pf
from procflow import ready
from procflow.testing import FakeSpawner

T = TypeVar("T")

HOUR_S: Final = 3600.0
REAL_S: Final = 60.0
"""Far above the milliseconds that it takes, and far below every duration that is scripted."""


def in_virtual_time(work: Callable[[], Awaitable[T]], fake: FakeSpawner) -> T:
    async def main() -> T:
        async with fake.installed():
            return await work()

    begun_s = time.monotonic()
    result = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert time.monotonic() - begun_s < REAL_S
    return result


def test_child_that_takes_an_hour() -> None:
    """C-93: an hour of a scripted child is an hour in its outcome."""
    fake = FakeSpawner()
    fake.on("backup").prints("begun\n").prints("done\n", after_s=HOUR_S).exits(0)

    done = in_virtual_time(lambda: pf.run(pf.Command("backup")), fake)

    assert done.stdout.lines == ["begun", "done"]
    assert done.outcome.duration_s == pytest.approx(HOUR_S, abs=1)


def test_timeout_of_an_hour() -> None:
    """C-93: ``timeout_s`` runs on the clock of the event loop; the child's output so far is kept."""
    fake = FakeSpawner()
    fake.on("backup").prints("begun\n").stays()

    with pytest.raises(pf.TimedOut) as caught:
        in_virtual_time(lambda: pf.run(pf.Command("backup"), timeout_s=HOUR_S), fake)

    assert caught.value.stdout.text == "begun\n"
    assert caught.value.outcome.signal == signal.SIGTERM
    assert caught.value.outcome.duration_s == pytest.approx(HOUR_S, abs=1)


def test_child_that_is_ready_just_in_time() -> None:
    """C-93: a child that ends a second before its deadline is not stopped."""
    fake = FakeSpawner()
    fake.on("backup").exits(0, after_s=HOUR_S - 1)

    assert in_virtual_time(lambda: pf.run(pf.Command("backup"), timeout_s=HOUR_S), fake).outcome.ok


def test_idle_timeout() -> None:
    """C-93: the clock of an idle timeout begins anew with every output."""
    fake = FakeSpawner()
    script = fake.on("download")
    for _ in range(10):
        script.prints(".", after_s=50.0)
    script.stays()

    with pytest.raises(pf.TimedOut) as caught:
        in_virtual_time(lambda: pf.run(pf.Command("download"), idle_timeout_s=60.0), fake)

    assert caught.value.clock == "idle"
    assert caught.value.stdout.text == "." * 10
    assert 560.0 - 4.0 <= caught.value.outcome.duration_s <= 560.0 + 4.0


def test_phases_of_a_stop() -> None:
    """C-93: phases last as long as they are allowed to, and end when the child does."""
    fake = FakeSpawner()
    fake.on("server").ignores(signal.SIGINT).on_signal(signal.SIGTERM, after_s=30.0, prints="bye").stays()
    shutdown = pf.Shutdown(
        phases=(pf.Phase(signal=signal.SIGINT, wait_s=200.0), pf.Phase(signal=signal.SIGTERM, wait_s=600.0))
    )

    async def work() -> pf.Outcome:
        async with pf.spawn(pf.Command("server")) as child:
            return await child.terminate(shutdown)

    outcome = in_virtual_time(work, fake)

    first, second = outcome.phases[:2]
    assert (first.ended, second.ended) == (False, True)
    assert first.took_s == pytest.approx(200.0, abs=1)
    assert second.took_s == pytest.approx(30.0, abs=1)
    assert outcome.stdout_tail == b"bye"
    assert outcome.duration_s == pytest.approx(230.0, abs=1)


def test_kill_wait_of_a_child_that_cannot_be_killed() -> None:
    """C-93: the wait after SIGKILL is virtual as well."""
    fake = FakeSpawner()
    fake.on("stuck").survives_everything()
    shutdown = pf.Shutdown.sigterm(100.0, kill_wait_s=200.0)

    async def work() -> float:
        begun_s = trio.current_time()
        with pytest.raises(pf.TerminationError):
            async with pf.spawn(pf.Command("stuck"), shutdown=shutdown):
                pass
        return trio.current_time() - begun_s

    assert in_virtual_time(work, fake) == pytest.approx(300.0, abs=2)


def test_drain() -> None:
    """C-93: the drain ends when the pipe does, before its time."""
    fake = FakeSpawner()
    fake.on("leader").leaves_behind(for_s=50.0).prints("out")

    async def work() -> tuple[pf.Completed, float]:
        begun_s = trio.current_time()
        done = await pf.run(pf.Command("leader"), drain_s=100.0)
        return done, trio.current_time() - begun_s

    done, took_s = in_virtual_time(work, fake)

    assert done.outcome.output_complete
    assert took_s == pytest.approx(50.0, abs=1)


def test_readiness_after_an_hour() -> None:
    """C-93: a line that comes after an hour is waited for."""
    fake = FakeSpawner()
    fake.on("server").prints("listening on :80\n", after_s=HOUR_S).stays()

    async def work() -> float:
        begun_s = trio.current_time()
        async with pf.spawn(pf.Command("server")) as child:
            assert child.stdout is not None
            await child.stdout.wait_for_line("listening")
            return trio.current_time() - begun_s

    assert in_virtual_time(work, fake) == pytest.approx(HOUR_S, abs=1)


@pytest.mark.parametrize("after_s", [0.0, HOUR_S / 6])
def test_readiness_by_a_file(tmp_path: Path, after_s: float) -> None:
    """C-93, C-63: ``ready.file()`` sees the file at its next look; a look takes no virtual time."""
    fake = FakeSpawner()
    fake.on("server").stays()
    path = tmp_path / "ready"

    async def work() -> float:
        begun_s = trio.current_time()

        async def write() -> None:
            await trio.sleep(after_s)
            path.write_text("ready")

        async with trio.open_nursery() as nursery:
            async with pf.spawn(pf.Command("server")) as child:
                nursery.start_soon(write)
                await child.wait_ready(ready.file(path), timeout_s=2 * HOUR_S)
        return trio.current_time() - begun_s

    assert after_s <= in_virtual_time(work, fake) < after_s + 0.5  # far below the bound of one look


def test_many_children_share_the_clock() -> None:
    """C-93: children that run side by side take the time of the longest."""
    fake = FakeSpawner()
    for hours in range(1, 6):
        fake.on("work", str(hours)).exits(0, after_s=hours * HOUR_S)

    async def work() -> float:
        begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for hours in range(1, 6):
                nursery.start_soon(pf.run, pf.Command("work", str(hours)))
        return trio.current_time() - begun_s

    assert in_virtual_time(work, fake) == pytest.approx(5 * HOUR_S, abs=5)
