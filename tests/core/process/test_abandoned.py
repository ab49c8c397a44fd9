"""The last resort keeps the books: whoever waits is told, whatever was left is gone."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator

import anyio
import pytest

import procflow as pf
from procflow._process.scope import SpawnScope
from procflow._streams.waking import LoopDoor
from tests.patience import FairClock

from .conftest import ON_ONE_BACKEND, PATIENT_LAST_RESORT, group_is_gone, is_alive

pytestmark = pytest.mark.anyio

TERM_IGNORER = "trap '' TERM; sleep 60 & echo ready; while :; do sleep 60 & wait; done"


@pytest.fixture
def native(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only: tasks of trio have no second cancellation")


def test_second_cancellation_keeps_the_books(patient_last_resort: None) -> None:
    """C-60, C-67: the tear-down is cut short by a second native cancel: waiters get the outcome, phases name the kill."""

    async def owner() -> None:
        async with pf.spawn(pf.shell(TERM_IGNORER), shutdown=pf.Shutdown.sigterm(60)) as child:
            await child.stdout.wait_for_line("ready")
            children.append(child)
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(owner())  # noqa: TID251 (native cancellation is the point)
        while not children:
            await asyncio.sleep(0)
        child = children[0]
        waiter = asyncio.create_task(child.wait())  # noqa: TID251
        stopper = asyncio.create_task(child.terminate())  # noqa: TID251
        await asyncio.sleep(0)
        task.cancel()
        while child.state.value != "stopping":
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert group_is_gone(child.pid)
        assert child.state is pf.ProcessState.ENDED
        outcome = await asyncio.wait_for(waiter, 10)
        assert (await asyncio.wait_for(stopper, 10)).signal == 9
        assert outcome.signal == 9
        assert outcome.ended_by in (pf.EndedBy.CANCEL, pf.EndedBy.TERMINATE)
        assert [str(phase).split(":")[0] for phase in outcome.phases][-1] == "SIGKILL to the tree"

    children: list[pf.Process] = []
    asyncio.run(main())


async def test_left_in_another_task_tells_waiters(native: None, patient_last_resort: None) -> None:
    """C-60, C-68: a block left in another task is killed; wait() elsewhere returns, the warning says what happened."""
    block = pf.spawn(pf.Command("sleep", "60"))
    ready, leave = asyncio.Event(), asyncio.Event()
    entered: list[pf.Process] = []

    async def enter() -> None:
        entered.append(await block.__aenter__())
        ready.set()
        await leave.wait()

    task = asyncio.get_running_loop().create_task(enter())
    await ready.wait()
    child = entered[0]
    waiter = asyncio.get_running_loop().create_task(child.wait())
    await asyncio.sleep(0)

    with pytest.warns(ResourceWarning, match="left in another task than it was entered in"):
        await block.__aexit__(None, None, None)

    assert (await asyncio.wait_for(waiter, 10)).signal == 9
    assert child.state is pf.ProcessState.ENDED
    assert group_is_gone(child.pid)
    leave.set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await task


async def test_dropped_in_another_thread_tells_waiters(native: None, patient_last_resort: None) -> None:
    """C-60, C-68: the last reference goes in another thread: the loop itself tells those who wait."""
    blocks = [pf.spawn(pf.Command("sleep", "60"))]
    ready, leave = asyncio.Event(), asyncio.Event()
    entered: list[pf.Process] = []

    async def enter() -> None:
        entered.append(await blocks[0].__aenter__())
        ready.set()
        await leave.wait()

    def drop() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            blocks.clear()
            gc.collect()

    task = asyncio.get_running_loop().create_task(enter())
    await ready.wait()
    waiter = asyncio.get_running_loop().create_task(entered[0].wait())
    await asyncio.sleep(0)

    await anyio.to_thread.run_sync(drop)

    assert (await asyncio.wait_for(waiter, 10)).signal == 9
    assert not is_alive(entered[0].pid)
    leave.set()
    await task


async def test_survivor_of_the_last_resort_is_told(native: None, immortal: pf.Command) -> None:
    """C-60: what outlives even that has no outcome: wait() raises TerminationError instead of waiting for ever."""
    block = pf.spawn(immortal, shutdown=pf.Shutdown.now())
    assert isinstance(block, SpawnScope)
    child = await block.__aenter__()
    assert block.core is not None

    block.core.abandon()

    with anyio.fail_after(10):
        with pytest.raises(pf.TerminationError, match="outlived") as caught:
            await child.wait()
    assert str(child.pid) in caught.value.survivors[0]
    assert child.state is pf.ProcessState.SURVIVED
    with pytest.raises(pf.TerminationError):
        await block.__aexit__(None, None, None)


async def test_survivor_of_a_block_is_told_to_waiters(immortal: pf.Command) -> None:
    """C-60: wait() after a block that could not end its leader raises, and does not speak of a detachment."""
    with pytest.raises(pf.TerminationError):
        async with pf.spawn(immortal, shutdown=pf.Shutdown.now(kill_wait_s=0.05)) as child:
            pass
    with pytest.raises(pf.TerminationError):
        await child.wait()


@ON_ONE_BACKEND
async def test_warnings_as_errors_kill_all_the_same() -> None:
    """C-68: with -W error the escaped group is killed before the warning is raised."""
    script = """
import asyncio, gc, os, sys
import procflow as pf
async def main():
    block = pf.spawn(pf.Command("sleep", "60"))
    child = await block.__aenter__()
    del block
    gc.collect()
    print(os.path.exists("/proc/%d" % child.pid), flush=True)
    os._exit(0)
asyncio.run(main())
"""
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}
    host = pf.Command(sys.executable, "-c", PATIENT_LAST_RESORT + script, env=env, name="host")
    done = await pf.run(host, check=False)
    assert done.stdout.text == "False\n", done.stderr.text
    assert "dropped without being left" in done.stderr.text


async def test_loop_door_is_called_from_any_thread() -> None:
    """C-6: a call from another thread runs in the loop's own; once the loop is gone the caller is told so."""
    home, here, done = LoopDoor(), threading.get_ident(), anyio.Event()
    seen: list[int] = []

    def note() -> None:
        seen.append(threading.get_ident())
        done.set()

    assert await anyio.to_thread.run_sync(home.run_soon, note)
    with anyio.fail_after(10):
        await done.wait()
    assert seen == [here]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_loop_door_that_is_over_says_so(backend: str) -> None:
    """C-6: nothing is handed to a loop that will never call it."""

    async def make() -> LoopDoor:
        return LoopDoor()

    assert not anyio.run(make, backend=backend).run_soon(lambda: None)


@pytest.fixture
def stubborn() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


async def test_protocol_shutdown_that_cannot_be_cancelled_is_left_behind(
    stubborn: threading.Event, clock: FairClock
) -> None:
    """C-64: the bound holds always: a first that refuses to end is not waited for, and the attempt says so."""

    async def first() -> None:
        await anyio.to_thread.run_sync(stubborn.wait, 60)

    begun = time.monotonic()
    async with pf.spawn(
        pf.Command("sleep", "60"), shutdown=pf.Shutdown(first=first, first_wait_s=0.1, kill_wait_s=0.5)
    ) as child:
        pass

    assert clock.since(begun) < 8
    assert child.outcome is not None
    assert [phase.error for phase in child.outcome.phases] == ["had not returned after 0.1 s", None]
    stubborn.set()


async def test_protocol_shutdown_is_cancelled_when_its_time_is_over() -> None:
    """C-64: a first that can be cancelled is, before the block is left."""
    endings: list[str] = []

    async def first() -> None:
        try:
            await anyio.sleep(60)
        finally:
            endings.append("cancelled")

    async with pf.spawn(pf.Command("sleep", "60"), shutdown=pf.Shutdown(first=first, first_wait_s=0.05, kill_wait_s=5)):
        pass

    assert endings == ["cancelled"]
