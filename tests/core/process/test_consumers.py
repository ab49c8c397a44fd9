"""Consumers of real children: what the end of their scope does for them and to them."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import warnings
from pathlib import Path

import anyio
import pytest

import procflow as pf

from .conftest import group_is_gone, is_alive, python

pytestmark = pytest.mark.anyio

NUMBERS = b"".join(b"%d\n" % number for number in range(1, 100_001))
SEQ = pf.Command("seq", "1", "100000")


async def test_one_child_feeds_every_kind_at_once(tmp_path: Path) -> None:
    """C-50, C-31: an archive, a tail, a count and a dashboard from one output, each with the delivery it needs (TPT 77, 78)."""
    seen: list[str] = []
    async with pf.spawn(SEQ) as child:
        archive = child.stdout.pipe_to(tmp_path / "all.log")
        tail = child.stdout.consume(pf.CollectLines.tail(2))
        count = child.stdout.consume(pf.Fold.batches(0, lambda total, lines: total + len(lines)))
        view = child.stdout.consume(pf.Inspect.batches(seen.extend), delivery=pf.BestEffort(buffer_bytes=1 << 16))
        found = child.stdout.consume(pf.WaitFor("^7777$"))
        await child.wait()
        results = [await consumer.wait() for consumer in (archive, tail, count, view, found)]

    assert (tmp_path / "all.log").read_bytes() == NUMBERS
    assert tail.result is not None
    assert tail.result.value.lines == ["99999", "100000"]
    assert count.result is not None
    assert count.result.value == 100_000
    assert found.result is not None
    assert isinstance(found.result.value, pf.LineMatch)
    for result in results[:4]:
        assert result.ending is pf.ConsumerEnding.EOF
        assert result.delivered_bytes + result.lost_bytes == len(NUMBERS)


async def test_leaving_the_block_of_an_ended_child_loses_nothing_of_a_slow_archive() -> None:
    """C-51: a slow reliable consumer gets all that the child wrote, what is still in the pipe too."""
    got = 0

    async def slowly(chunk: pf.Chunk) -> None:
        nonlocal got
        await anyio.sleep(0.001)
        got += len(chunk.data)

    async with pf.spawn(SEQ, stdout=pf.StreamConfig(read_bytes=4096)) as child:
        consumer = child.stdout.consume(pf.Inspect.chunks(slowly), delivery=pf.Reliable(buffer_bytes=4096), finish_s=60)
        await child.stdout.wait_for_line("^1$")

    assert got == child.stdout.produced_bytes
    assert consumer.result is not None
    assert consumer.result.delivered_bytes == got


async def test_what_an_ended_child_left_in_its_pipe_is_still_taken() -> None:
    """C-51: the pump is held back by a slow consumer when the child exits; leaving waits for both, up to finish_s."""
    go_on = anyio.Event()
    got = bytearray()

    async def callback(chunk: pf.Chunk) -> None:
        await go_on.wait()
        got.extend(chunk.data)

    async def open_later() -> None:
        await anyio.sleep(0.3)  # past the time that a pipe without consumers is given
        go_on.set()

    async with anyio.create_task_group() as tasks:
        stdout = pf.StreamConfig(read_bytes=4096)
        async with pf.spawn(python("import sys; sys.stdout.write('x' * 50_000)"), stdout=stdout) as child:
            consumer = child.stdout.consume(
                pf.Inspect.chunks(callback), delivery=pf.Reliable(buffer_bytes=4096), finish_s=60
            )
            with anyio.fail_after(20):
                await child.wait()
            assert child.stdout.produced_bytes < 50_000
            tasks.start_soon(open_later)

    assert len(got) == 50_000
    assert consumer.result is not None
    assert consumer.result.ending is pf.ConsumerEnding.EOF


async def test_an_escapee_that_holds_the_pipe_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """C-51, C-67: consumers of a pipe that somebody else keeps open end as closed, soon, and without an error."""
    pid_file = tmp_path / "pid"
    script = (
        "import os,sys,time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "    time.sleep(600)\n"
        "print('done', flush=True)\n"
    )
    pid = 0
    try:
        async with pf.spawn(python(script, str(pid_file))) as child:
            consumer = child.stdout.consume(pf.Collect.tail(99), finish_s=60)
            with anyio.fail_after(20):
                while not pid_file.exists():
                    await anyio.sleep(0.01)
                pid = int(pid_file.read_text())
                await child.wait()
            left_at = anyio.current_time()
        took_s = anyio.current_time() - left_at

        assert is_alive(pid)
        assert took_s < 5
        assert consumer.result is not None
        assert (consumer.result.ending, consumer.result.value.bytes) == (pf.ConsumerEnding.CLOSED, b"done\n")
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)


async def test_an_escapee_that_floods_the_pipe_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """C-51, C-67: what the tree wrote is waited for, what somebody else goes on to write is not."""
    pid_file = tmp_path / "pid"
    script = (
        "import os,sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "    while True: os.write(1, b'x' * 4096)\n"
        "while not os.path.exists(sys.argv[1]): pass\n"
    )
    pid = 0

    async def slowly(_chunk: pf.Chunk) -> None:
        await anyio.sleep(0.01)

    try:
        async with pf.spawn(python(script, str(pid_file)), stdout=pf.StreamConfig(read_bytes=4096)) as child:
            consumer = child.stdout.consume(
                pf.Inspect.chunks(slowly), delivery=pf.Reliable(buffer_bytes=4096), finish_s=60
            )
            with anyio.fail_after(20):
                await child.wait()
            pid = int(pid_file.read_text())
            left_at = anyio.current_time()
        took_s = anyio.current_time() - left_at
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)

    assert took_s < 20
    assert consumer.result is not None
    assert consumer.result.ending is pf.ConsumerEnding.CLOSED
    assert consumer.result.delivered_bytes == child.stdout.produced_bytes


async def test_a_failing_consumer_is_raised_when_the_block_is_left() -> None:
    """C-51: the child and the other consumers go on; the block raises the callback's error with the child long gone."""

    def explode(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(pf.ConsumerError) as caught:
        async with pf.spawn(SEQ) as child:
            child.stdout.consume(pf.Inspect.lines(explode), name="parser")
            good = child.stdout.consume(pf.Fold.batches(0, lambda total, lines: total + len(lines)))
            outcome = await child.wait()

    assert outcome.ok
    assert caught.value.consumer_name == "parser"
    assert isinstance(caught.value.__cause__, ValueError)
    assert good.result is not None
    assert good.result.value == 100_000


async def test_a_hanging_consumer_of_a_child_is_cut() -> None:
    """C-51, C-67: the tree is gone and the block is left although a callback hangs; that is an error that says so."""
    entered = anyio.Event()

    async def hang(_line: str) -> None:
        entered.set()
        await anyio.sleep_forever()

    with anyio.fail_after(20), pytest.raises(pf.ConsumerError) as caught:
        async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE, stderr=pf.NULL) as child:
            child.stdout.consume(pf.Inspect.lines(hang), finish_s=0.05)
            await child.stdin.send(b"1\n2\n")
            await entered.wait()

    assert caught.value.result.ending is pf.ConsumerEnding.CUT
    assert group_is_gone(child.pid)


async def test_a_cancelled_scope_keeps_the_end_of_the_log(tmp_path: Path) -> None:
    """C-51: a cancellation ends the child; what it had written reaches the file first."""
    path = tmp_path / "out.log"
    script = "import sys,time\nfor n in range(1000): print(n)\nsys.stdout.flush(); time.sleep(600)"
    with anyio.CancelScope() as scope:
        async with pf.spawn(python(script)) as child:
            consumer = child.stdout.pipe_to(path)
            await child.stdout.wait_for_line("^999$")
            scope.cancel()
            await anyio.sleep_forever()

    assert path.read_text().splitlines()[-1] == "999"
    assert consumer.result is not None
    assert consumer.result.value.bytes_written == path.stat().st_size
    assert group_is_gone(child.pid)


async def test_cancelling_the_scope_at_every_step_leaks_nothing(tmp_path: Path) -> None:
    """C-51, C-3: wherever a cancellation falls, child, consumers and descriptors are gone (the fixture looks)."""
    for step in range(0, 30, 3):
        path = tmp_path / f"{step}.log"
        with anyio.CancelScope() as scope:
            async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE) as child:
                writer = child.stdout.pipe_to(path)
                tail = child.stdout.consume(pf.CollectLines.tail(5))
                for count in range(40):
                    if count == step:
                        scope.cancel()
                    if count == 2:
                        await child.stdin.send(b"line\n")
                    await anyio.lowlevel.checkpoint()
        assert writer.result is not None
        assert tail.result is not None
        assert writer.result.value.bytes_written == writer.result.stop == path.stat().st_size
        assert group_is_gone(child.pid)


async def test_detach_closes_the_streams_and_with_them_the_consumers() -> None:
    """C-68, C-51: a child that lives on is not waited for by its consumers."""
    async with pf.spawn(pf.Command("sleep", "600")) as child:
        consumer = child.stdout.consume(pf.Collect.tail(9), finish_s=60)
        await child.detach()

    try:
        assert consumer.result is not None
        assert consumer.result.ending is pf.ConsumerEnding.CLOSED
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)


async def test_consumers_of_both_outputs_share_the_end() -> None:
    """C-51: stdout and stderr each have consumers, and both are whole."""
    async with pf.spawn(pf.shell("seq 1 1000; seq 1 1000 >&2")) as child:
        outs = [stream.consume(pf.CollectLines.tail(1)) for stream in (child.stdout, child.stderr)]
        await child.wait()

    assert [consumer.result.value.lines for consumer in outs if consumer.result] == [["1000"], ["1000"]]


async def test_a_tee_at_full_speed_is_exact(tmp_path: Path) -> None:
    """C-31, C-25: 64 MiB through a rotating file and a best-effort collector: every byte is in one of the books."""
    command = pf.Command("head", "-c", str(64 << 20), "/dev/zero")
    async with pf.spawn(command) as child:
        written = child.stdout.pipe_to(tmp_path / "zeros", rotation=pf.Rotation(max_bytes=10 << 20, max_files=3))
        tail = child.stdout.consume(pf.Collect.tail(1000), delivery=pf.BestEffort())
        await child.wait()
        await written.wait()
        await tail.wait()

    assert written.result is not None
    assert tail.result is not None
    assert written.result.value.bytes_written == written.result.delivered_bytes == 64 << 20
    assert [file.stat().st_size for file in written.result.value.files] == [4 << 20, 10 << 20, 10 << 20]
    assert tail.result.delivered_bytes + tail.result.lost_bytes == 64 << 20
    assert (len(tail.result.value.bytes), tail.result.value.lost_bytes) == (1000, (64 << 20) - 1000)


async def test_run_says_where_its_bound_cut() -> None:
    """C-50, C-62: what run() keeps is the same kind of value as what a collector keeps, offsets included."""
    done = await pf.run(SEQ, stdout=pf.StreamConfig(replay=pf.Replay.last_bytes(10)))

    lost = len(NUMBERS) - 10
    assert done.stdout.gaps == (pf.Gap(0, lost),)
    assert done.stdout.pieces == (pf.Chunk(NUMBERS[-10:], lost),)
    assert (done.stdout.lost_bytes, done.stdout.truncated) == (lost, True)


async def test_a_second_forced_cancel_aborts_the_consumers(anyio_backend_name: str) -> None:
    """C-51, C-67: an asyncio task that is cancelled again while its block waits for a consumer waits no longer."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio cancels once")
    entered = anyio.Event()
    consumers: list[pf.Consumer[int]] = []
    pids: list[int] = []

    async def hang(_line: str) -> None:
        entered.set()
        await anyio.sleep_forever()

    async def main() -> None:
        async with pf.spawn(pf.shell("echo 1; sleep 600")) as child:
            pids.append(child.pid)
            consumers.append(child.stdout.consume(pf.Inspect.lines(hang), finish_s=600))
            await anyio.sleep_forever()

    task = asyncio.get_running_loop().create_task(main())
    with anyio.fail_after(20):
        await entered.wait()
        task.cancel()
        while not group_is_gone(pids[0]):
            await anyio.sleep(0.01)
        await anyio.sleep(0.2)  # any moment of the wait will do; this is in the midst of it
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert consumers[0].result is not None
    assert consumers[0].result.ending is pf.ConsumerEnding.ABORTED


async def test_a_block_dropped_in_another_thread_tells_who_waits_for_its_consumers(anyio_backend_name: str) -> None:
    """C-51, C-68: nobody closes such a block, yet its consumers end, and say aborted."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio forbids to leave a task group open")
    blocks = [pf.spawn(pf.shell("echo 1; exec sleep 600"))]
    consumers: list[pf.Consumer[int]] = []
    ready, leave = anyio.Event(), anyio.Event()

    async def hang(_line: str) -> None:
        ready.set()
        await anyio.sleep_forever()

    async def enter() -> None:
        child = await blocks[0].__aenter__()
        consumers.append(child.stdout.consume(pf.Inspect.lines(hang)))
        consumers.append(child.stderr.consume(pf.Inspect.lines(hang)))
        await leave.wait()

    def drop() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            blocks.clear()
            gc.collect()

    task = asyncio.get_running_loop().create_task(enter())
    with anyio.fail_after(20):
        await ready.wait()
        await anyio.to_thread.run_sync(drop)
        endings = [(await consumer.wait()).ending for consumer in consumers]
        leave.set()
        await task

    assert endings[0] is pf.ConsumerEnding.ABORTED
    assert endings[1] in (pf.ConsumerEnding.ABORTED, pf.ConsumerEnding.EOF)  # the kill of the group ends its pipes too
