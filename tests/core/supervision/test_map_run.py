"""Many commands, a few at a time."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

import procflow as pf
from tests.core.process.conftest import is_alive, process_state, python
from tests.patience import Growing

pytestmark = pytest.mark.anyio

OK = pf.Command("true")
BAD = pf.Command("false")
HANG = pf.shell("echo $$; exec sleep 1000", name="hang")


def echo(number: int) -> pf.Command:
    return pf.Command("echo", str(number))


def when_open(gate: Path, text: str) -> pf.Command:
    """Ends once ``gate`` can be opened: a FIFO that the test opens for writing."""
    return pf.Command("sh", "-c", 'read line < "$0"; echo "$1"', str(gate), text, name="gated")


def open_gate(gate: Path) -> None:
    fd = os.open(gate, os.O_WRONLY)
    os.write(fd, b"\n")
    os.close(fd)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("order", ["completed", "submitted"])
async def test_every_command_gives_one_result(order: pf.MapOrder) -> None:
    """C-90: each command is run once, at most max_running at a time, and gives one result with its index."""
    commands = [echo(number) for number in range(20)]
    seen = {}
    async with pf.map_run(commands, max_running=3, order=order) as results:
        async for done in results:
            assert results.running_count <= 3
            assert done.command is commands[done.index]
            seen[done.index] = done.result().stdout.text

    assert seen == {number: f"{number}\n" for number in range(20)}
    assert order == "completed" or list(seen) == list(range(20))


async def test_results_come_as_they_complete_or_as_they_were_submitted(gate: Path) -> None:
    """C-90: a slow command holds back nobody, or under "submitted" those after it."""
    commands = [when_open(gate, "slow"), echo(1), echo(2)]
    async with pf.map_run(commands, max_running=3) as results:
        first, second = await anext(results), await anext(results)
        await anyio.to_thread.run_sync(open_gate, gate)
        last = [done.index async for done in results]
    assert {first.index, second.index} == {1, 2}
    assert last == [0]

    async with pf.map_run(commands, max_running=3, order="submitted") as results:
        with anyio.move_on_after(0.2):
            await anext(results)
            raise AssertionError("it overtook")
        await anyio.to_thread.run_sync(open_gate, gate)
        assert [done.index async for done in results] == [0, 1, 2]


async def test_failures_are_values_under_continue() -> None:
    """C-90: ExitError, SpawnError and TimedOut arrive as values, with outcome and output, and the rest goes on."""
    commands = [
        BAD,
        pf.Command("procflow-no-such-program"),
        pf.shell("echo partial; exec sleep 1000"),
        OK,
    ]
    results: dict[int, pf.MapResult] = {}
    timeout = Growing(1.0, times=2)
    while True:
        results.clear()
        async with pf.map_run(commands, max_running=4, timeout_s=timeout.seconds) as block:
            async for done in block:
                results[done.index] = done
        timed_out = [done.error for done in results.values() if isinstance(done.error, pf.TimedOut)]
        if [error.stdout.text for error in timed_out] == ["partial\n"] or not timeout.grow():
            break  # else those that end by themselves had no time to do so

    assert [type(results[number].error) for number in range(4)] == [
        pf.ExitError,
        pf.SpawnError,
        pf.TimedOut,
        type(None),
    ]
    assert [error.stdout.text for error in timed_out] == ["partial\n"]
    assert results[0].outcome is not None
    assert results[0].outcome.exit_code == 1
    assert results[1].outcome is None
    assert results[3].result().outcome.ok
    with pytest.raises(pf.ExitError):
        results[0].result()


async def test_without_check_an_exit_is_no_failure() -> None:
    """C-90: the keyword arguments of run() are passed on."""
    async with pf.map_run(
        [BAD], max_running=1, check=False, stdin="x", stdout=pf.NULL, on_error="cancel_rest"
    ) as results:
        done = [done async for done in results]

    assert done[0].error is None
    assert done[0].result().outcome.exit_code == 1
    assert not done[0].result().stdout.is_streamed


@pytest.mark.parametrize("order", ["completed", "submitted"])
async def test_cancel_rest_gives_the_failure_then_raises_it(order: pf.MapOrder, gate: Path) -> None:
    """C-90: what had finished is given, then the failing one, then its error is raised; the rest is ended, and starts no more."""
    pulled = []
    failing = pf.Command("sh", "-c", 'read line < "$0"; exit 7', str(gate))

    def commands() -> Iterator[pf.Command]:
        for number, command in enumerate([OK, HANG, failing, HANG, HANG, OK, OK]):
            pulled.append(number)
            yield command

    given: list[pf.MapResult] = []
    shutdown = pf.Shutdown.sigterm(5)
    with pytest.raises(pf.ExitError) as caught:
        async with pf.map_run(
            commands(), max_running=3, order=order, on_error="cancel_rest", max_waiting=1, shutdown=shutdown
        ) as results:
            async for done in results:
                given.append(done)
                if done.index == 0:
                    await anyio.to_thread.run_sync(open_gate, gate)

    assert [done.index for done in given] == [0, 2]
    assert caught.value is given[-1].error
    assert caught.value.outcome.exit_code == 7
    assert len(pulled) <= 5


@pytest.mark.parametrize("way", ["break", "error", "cancel", "timeout"])
async def test_leaving_the_block_ends_every_child(way: str, tmp_path: Path) -> None:
    """C-90: however the block is left, no child of it is alive afterwards, grandchildren included."""
    pids: list[int] = []
    script = f"sleep 1000 & echo $! > {tmp_path}/$$.pid; echo $$ >> {tmp_path}/$$.pid; wait"

    async def body() -> None:
        async with pf.map_run([pf.shell(script)] * 3, max_running=3) as results:
            while len(pids) != 6:
                await anyio.sleep(0.01)
                pids[:] = [int(pid) for path in tmp_path.glob("*.pid") for pid in path.read_text().split()]
            if way == "break":
                return
            if way == "error":
                raise LookupError("mine")
            if way == "timeout":
                scope.deadline = anyio.current_time() + 0.1
            await anext(results)

    if way == "error":
        with pytest.raises(LookupError, match="mine"):
            await body()
    elif way == "timeout":
        with anyio.move_on_after(None) as scope:
            await body()
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(body)
            while len(pids) < 6:
                await anyio.sleep(0.01)
            if way == "cancel":
                tasks.cancel_scope.cancel()

    assert len(pids) == 6
    assert not any(is_alive(pid) for pid in pids)


async def test_an_endless_iterator_is_pulled_only_when_there_is_room() -> None:
    """C-90: with a reader that takes nothing, no more is pulled than the bounds say; under either order."""
    pulled = 0

    def endless() -> Iterator[pf.Command]:
        nonlocal pulled
        for number in itertools.count():
            pulled += 1
            yield echo(number)

    async with pf.map_run(endless(), max_running=2, max_waiting=3) as results:
        while results.waiting_count < 5:
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        assert pulled <= 6
        for _ in range(20):
            await anext(results)
        assert pulled <= 26


async def test_a_slow_head_of_line_bounds_what_is_pulled(gate: Path) -> None:
    """C-90: under "submitted" results wait behind the first, but never more of them than the bound."""
    pulled = 0

    def endless() -> Iterator[pf.Command]:
        nonlocal pulled
        for number in itertools.count():
            pulled += 1
            yield when_open(gate, "head") if number == 0 else echo(number)

    async with pf.map_run(endless(), max_running=3, order="submitted") as results:
        while results.waiting_count < 5:
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        assert pulled == 6
        await anyio.to_thread.run_sync(open_gate, gate)
        assert [(await anext(results)).index for _ in range(10)] == list(range(10))


async def test_results_that_were_taken_are_not_kept() -> None:
    """C-90: memory is bounded however many commands there are."""
    most = 0
    gc.collect()
    gc.freeze()  # what was there before is looked at no more, which takes most of the time
    try:
        async with pf.map_run((OK for _ in range(60)), max_running=4, max_waiting=2) as results:
            async for _ in results:
                gc.collect()
                most = max(most, sum(isinstance(thing, pf.MapResult) for thing in gc.get_objects()))
    finally:
        gc.unfreeze()

    assert 1 <= most <= 4 + 2 + 1


async def test_async_iterators_are_pulled_too() -> None:
    """C-90: commands may come from an async iterator."""

    async def commands() -> AsyncIterator[pf.Command | pf.Pipeline]:
        yield echo(1)
        await anyio.sleep(0)
        yield pf.Command("echo", "a b") | pf.Command("wc", "-w")

    async with pf.map_run(commands(), max_running=2, order="submitted") as results:
        texts = [done.result().stdout.text.strip() async for done in results]

    assert texts == ["1", "2"]


@pytest.mark.parametrize("kind", ["sync", "async", "type"])
async def test_errors_of_the_iterator_are_raised_after_the_results(kind: str) -> None:
    """C-90: what the iterator raises comes out of the iteration as it is, once all that runs was given."""

    def sync() -> Iterator[pf.Command]:
        yield echo(0)
        raise LookupError("from the iterator")

    async def asynchronous() -> AsyncIterator[pf.Command]:
        yield echo(0)
        raise LookupError("from the iterator")

    commands = {"sync": sync(), "async": asynchronous(), "type": iter([echo(0), "ls -l"])}[kind]
    given = []
    error = TypeError if kind == "type" else LookupError
    with pytest.raises(error):
        async with pf.map_run(commands, max_running=2) as results:  # type: ignore[arg-type]
            async for done in results:
                given.append(done.result().stdout.text)
    assert given == ["0\n"]


async def test_an_error_of_the_iterator_ends_the_rest_under_cancel_rest() -> None:
    """C-90: then nothing that runs is waited for."""

    def commands() -> Iterator[pf.Command]:
        yield HANG
        raise LookupError("from the iterator")

    with pytest.raises(LookupError):
        async with pf.map_run(commands(), max_running=2, on_error="cancel_rest") as results:
            await anext(results)


async def test_several_tasks_may_take_results() -> None:
    """C-90: each result goes to one of them, and each of them ends."""
    taken: list[int] = []

    async def take(results: pf.MapResults) -> None:
        async for done in results:
            taken.append(done.index)
            await anyio.sleep(0.001)

    async with pf.map_run(map(echo, range(20)), max_running=3, order="submitted") as results:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(take, results)

    assert taken == list(range(20))


async def test_a_left_block_gives_nothing() -> None:
    """C-90: results of a block that was left raise ClosedResourceError."""
    async with pf.map_run([OK], max_running=1) as results:
        pass
    with pytest.raises(anyio.ClosedResourceError):
        await anext(results)


async def test_nothing_to_run_is_no_error() -> None:
    """C-90: an empty iterator gives an empty iteration."""
    async with pf.map_run([], max_running=1) as results:
        assert [done async for done in results] == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_running": 0}, ValueError),
        ({"max_running": 1, "order": "random"}, ValueError),
        ({"max_running": 1, "on_error": "ignore"}, ValueError),
        ({"max_running": 1, "max_waiting": -1}, ValueError),
        ({"max_running": 1, "stdin": iter([b"x"])}, TypeError),
        ({"max_running": 1, "terminal": "shared"}, TypeError),
    ],
)
async def test_what_makes_no_sense_is_refused_at_the_call(arguments: dict[str, object], error: type[Exception]) -> None:
    """C-90: a wrong argument fails where it is given."""
    with pytest.raises(error):
        pf.map_run([OK], **arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pf.map_run(OK, max_running=1)  # type: ignore[arg-type]


# --- descriptors ------------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys, threading, time
import anyio
import procflow as pf

limit, backend, count, threads = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
options = {"use_uvloop": True} if backend == "uvloop" else {}
peak = [0]
results = []
# The first ones run until several do at once, for as long as it takes to start them.
command = pf.shell(f"until [ -e {sys.argv[5]} ]; do sleep 0.01; done; echo hi", name="s")

async def look(block):
    while peak[0] < 3:
        peak[0] = max(peak[0], block.running_count)
        await anyio.sleep(0.001)
    open(sys.argv[5], "w").close()

async def main():
    async with pf.map_run((command for _ in range(count)), max_running=200) as block, anyio.create_task_group() as tasks:
        tasks.start_soon(look, block)
        async for done in block:
            results.append((done.error, done.completed and done.completed.stdout.text))
        tasks.cancel_scope.cancel()

def work():
    anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)

async def warm(): pass
anyio.run(warm, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
workers = [threading.Thread(target=work) for _ in range(threads - 1)]
for worker in workers: worker.start()
work()
for worker in workers: worker.join()
errors = [repr(error) for error, _ in results if error is not None]
print(len(results), len(errors), peak[0], errors[:3], sum(text == "hi\\n" for _, text in results))
"""


def limited(folder: Path, limit: int, backend: str, count: int, threads: int = 1) -> pf.Command:
    environ = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    arguments = [str(limit), backend, str(count), str(threads), str(folder / "several")]
    return pf.Command(sys.executable, "-c", LIMITED, *arguments, env=environ, name="limited")


@pytest.mark.parametrize("threads", [1, 3])
async def test_a_low_limit_of_open_files_makes_starts_wait(backend: str, threads: int, tmp_path: Path) -> None:
    """C-90: 60 commands, 200 at a time, below a limit of 64 (110 for three loops): nobody fails with EMFILE, several run."""
    limit = 64 if threads == 1 else 110

    done = await pf.run(limited(tmp_path, limit, backend, 60, threads), timeout_s=100)

    count, errors, peak, rest = done.stdout.text.split(maxsplit=3)
    assert (int(count), int(errors)) == (60 * threads, 0), rest
    assert int(peak) >= 3
    assert rest.strip().endswith(str(60 * threads))


async def test_a_limit_without_room_for_one_child_is_an_error(tmp_path: Path) -> None:
    """C-90: if not even one child fits and none of ours runs, the iteration says so instead of waiting for ever."""
    done = await pf.run(limited(tmp_path, 16, "asyncio", 3), check=False, timeout_s=60)

    assert done.outcome.exit_code == 1
    assert "DescriptorLimitError" in done.stderr.text


EMFILE = """
import os, resource, sys
import anyio
import procflow as pf
from procflow._supervision import descriptors

backend = sys.argv[1]
descriptors.ACCOUNT._count_open = lambda: 3  # as if nobody had taken anything meanwhile
hoard = []

async def main():
    started = []
    def hoard_all():
        try:
            while True: hoard.append(os.dup(0))
        except OSError: pass
    async def commands():
        for number in range(1, int(sys.argv[2]) + 1):
            # None of them ends before all of them are there.
            yield pf.shell(f"until [ -e {sys.argv[3]} ]; do sleep 0.01; done; sleep {number * 0.1}; echo {number}")
        while sum(claim._has_started for claim in block._claims.values()) < int(sys.argv[2]):
            await anyio.sleep(0.001)
        hoard_all()
        os.mkdir(sys.argv[3])  # which needs no descriptor
        yield pf.shell("echo last")
    texts = []
    async with pf.map_run(commands(), max_running=20) as block:
        async for done in block:
            texts.append(done.result().stdout.text)
    print("".join(texts))

options = {"use_uvloop": True} if backend == "uvloop" else {}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
"""


def hoarding(folder: Path, backend: str, children: int) -> pf.Command:
    environ = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return pf.Command(
        sys.executable, "-c", EMFILE, backend, str(children), str(folder / "hoarded"), env=environ, name="hoarding"
    )


async def test_emfile_is_retried_when_one_of_ours_ends(backend: str, tmp_path: Path) -> None:
    """C-90: descriptors that somebody else took after all are waited for, as long as children of ours run."""
    done = await pf.run(hoarding(tmp_path, backend, 6), timeout_s=60)

    texts = done.stdout.text.split()
    assert sorted(texts) == ["1", "2", "3", "4", "5", "6", "last"]
    assert texts.index("last") >= 3  # that many ends give back what a start takes


async def test_emfile_is_an_error_once_nobody_is_left_who_could_end(backend: str, tmp_path: Path) -> None:
    """C-90: the only child gives back fewer descriptors than a start takes: then waiting would be for ever."""
    done = await pf.run(hoarding(tmp_path, backend, 1), timeout_s=60, check=False)

    assert "DescriptorLimitError" in done.stderr.text
    assert "SpawnError" in done.stderr.text


async def test_maps_in_several_threads_share_one_account() -> None:
    """C-6, C-90: loops in other threads run maps at the same time; claims come back to nothing."""
    texts: list[str] = []

    async def main() -> None:
        async with pf.map_run(map(echo, range(10)), max_running=4) as results:
            async for done in results:
                texts.append(done.result().stdout.text)

    threads = [threading.Thread(target=anyio.run, args=[main]) for _ in range(3)]
    for thread in threads:
        thread.start()
    await main()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert sorted(texts) == sorted(f"{number}\n" for number in range(10) for _ in range(4))


@pytest.mark.parametrize("moment", range(0, 24, 2))
async def test_cancelling_at_any_step_leaves_nothing(moment: int) -> None:
    """C-3, C-90: a map that is cancelled after any number of turns of the loop leaves no child, claim or task."""
    async with anyio.create_task_group() as tasks:

        async def body() -> None:
            async with pf.map_run([HANG, OK, BAD] * 3, max_running=3, shutdown=pf.Shutdown.now()) as results:
                async for _ in results:
                    pass

        tasks.start_soon(body)
        for _ in range(moment):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_run_gives_the_handle_when_it_has_started() -> None:
    """C-60: on_start is called once with the running process; what it raises ends it and goes on."""
    children: list[pf.Process] = []

    done = await pf.run(python("import sys; sys.exit(4)"), check=False, on_start=children.append)

    assert [child.pid for child in children] == [done.outcome.pid]

    def refuse(child: pf.Process) -> None:
        children.append(child)
        raise LookupError("no")

    began = time.monotonic()
    with pytest.raises(LookupError, match="no"):
        await pf.run(HANG, on_start=refuse)
    assert time.monotonic() - began < 50
    assert process_state(children[1].pid) is None


async def test_what_run_has_started_cannot_be_detached() -> None:
    """C-60, C-68: run() is there to see it end; the error says what lets a child live on."""
    refusals: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def detach(child: pf.Process) -> None:
            with pytest.raises(pf.UsageError) as caught:
                await child.detach()
            refusals.append(str(caught.value))
            await child.kill()

        done = await pf.run(HANG, check=False, on_start=lambda child: tasks.start_soon(detach, child))

    assert done.outcome.ended_by is pf.EndedBy.KILL
    assert refusals == [
        f"{done.outcome.name}: cannot be detached: run() waits for its end; start it with spawn() to let it live on"
    ]
