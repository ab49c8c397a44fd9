"""What line readers may cost: memory, turns of the event loop, time after the end of a process."""

from __future__ import annotations

import sys
import time
import tracemalloc

import anyio
import pytest
from anyio.lowlevel import checkpoint

import procflow as pf
from procflow._streams import subscription as subscription_module
from procflow._streams.lines import readers as lines_module
from procflow._streams.stream import open_stream
from procflow.errors import NotReadyError
from procflow.events import Cut, CutLine
from procflow.policies import LineConfig, Overflow, Replay, StreamConfig
from tests.core.streams.sources import EndlessSource, ScriptedSource
from tests.patience import FairClock

pytestmark = pytest.mark.anyio
KIB = 1024
MIB = 1024 * KIB
KEEP_ALL = StreamConfig(replay=Replay.all())


@pytest.mark.parametrize("overflow", [Overflow.SPLIT, Overflow.TRUNCATE])
async def test_an_endless_line_costs_memory_for_one_line(overflow: Overflow) -> None:
    """C-41: 100 MiB without a newline: a reader needs memory for its bound and its chunks, and every byte is given or counted."""
    count, max_line_bytes = 1600, 256 * KIB
    source = EndlessSource(b"x" * 64 * KIB, count)
    given = lost = 0
    last = None
    is_traced = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        async with open_stream(source, StreamConfig(replay=Replay.none())) as stream:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            config = LineConfig(max_line_bytes=max_line_bytes, overflow=overflow)
            async for line in stream.lines(pf.Reliable(buffer_bytes=256 * KIB), config=config):
                assert isinstance(line, CutLine)
                assert len(line) <= max_line_bytes
                given += len(line)
                lost += line.lost_bytes
                last = line.cut
            peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not is_traced:
            tracemalloc.stop()

    assert given + lost == count * 64 * KIB
    assert (lost == 0) == (overflow is Overflow.SPLIT)
    assert last is (Cut.REST if overflow is Overflow.SPLIT else Cut.TRUNCATED)
    assert peak < 4 * MIB  # the log's buffer and, for a moment, some copies of one line; not 100 MiB


async def test_a_giant_chunk_is_split_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-43: other tasks run within a chunk, however long it is: every 64 KiB, unless a millisecond has not passed."""
    monkeypatch.setattr(lines_module, "TURN_S", 0.0)
    monkeypatch.setattr(subscription_module, "TURN_S", 0.0)
    data = b"".join(b"line %010d\n" % number for number in range(65_536))  # 1 MiB
    for read in ("lines", "line_batches", "json_lines"):
        async with open_stream(ScriptedSource(data, b""), KEEP_ALL) as stream, anyio.create_task_group() as tasks:
            await stream.wait_ended()
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await checkpoint()

            tasks.start_soon(count)
            await checkpoint()
            turns = 0
            sizes: list[int] = []
            reader = stream.json_lines(object) if read == "json_lines" else getattr(stream, read)()
            async for item in reader:
                sizes.append(len(item) if isinstance(item, list) else 1)
            tasks.cancel_scope.cancel()

        assert sum(sizes) == 65_536
        if read == "line_batches":
            assert max(sizes) < 2 * 16 * KIB  # as many as take a millisecond, and the rest of a slice
            assert turns >= 3
        else:
            assert 15 <= turns < 100  # the slices, not the lines


@pytest.mark.parametrize("size", [16, 160, 4096])
async def test_ready_lines_cost_no_turn(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-43: as long as a millisecond does not pass, ready lines in however many chunks cost no turn of the event loop."""
    monkeypatch.setattr(lines_module, "TURN_S", 1e9)
    monkeypatch.setattr(subscription_module, "TURN_S", 1e9)
    data = b"line of 16 bytes\n" * 10_000
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    async with open_stream(ScriptedSource(*chunks, b""), KEEP_ALL) as stream, anyio.create_task_group() as tasks:
        await stream.wait_ended()
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        tasks.start_soon(count)
        await checkpoint()
        turns = 0
        assert len([line async for line in stream.lines()]) == 10_000
        tasks.cancel_scope.cancel()

        assert turns < 10


# --- waits, with real children --------------------------------------------------------------------------------------


async def test_a_wait_ends_with_its_process_though_a_grandchild_holds_the_pipe(clock: FairClock) -> None:
    """C-45: NotReadyError comes within 100 ms of the exit, with the outcome and the tail, whoever still has the pipe."""
    async with pf.spawn(pf.Command("sh", "-c", "sleep 60 & echo starting; read line; exit 3"), stdin=pf.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        await child.stdout.wait_for_line("starting")
        await child.stdin.aclose()
        await child.wait()
        started = time.monotonic()
        with pytest.raises(NotReadyError) as caught:
            await child.stdout.wait_for_line("never")
        assert clock.since(started) < 1
        assert caught.value.outcome is not None
        assert caught.value.outcome.exit_code == 3
        assert caught.value.tail == b"starting\n"


async def test_a_wait_searches_a_large_backlog_in_time() -> None:
    """C-45: a megabyte of lines that nobody has read is searched to its end, within the same 100 ms."""
    program = "import sys; sys.stdout.write(('x' * 79 + '\\n') * 13000 + 'last words\\n')"
    async with pf.spawn(pf.Command(sys.executable, "-c", program)) as child:
        assert child.stdout is not None
        await child.stdout.wait_ended()
        outcome = await child.wait()
        started = time.process_time()
        with pytest.raises(NotReadyError) as caught:
            await child.stdout.wait_for_line(r"listening on :(\d+)")
        assert time.process_time() - started < 1
        assert caught.value.outcome == outcome
        assert caught.value.tail.endswith(b"last words\n")
        assert (await child.stdout.wait_for_line("last (w)")).groups == ("w",)
