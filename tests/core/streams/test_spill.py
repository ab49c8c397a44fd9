"""History in a file: every byte stays available, memory stays one window, and a disk that fails is never silent."""

from __future__ import annotations

import copy
import errno
import gc
import itertools
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from procflow._streams.history import spill as spill_module
from procflow._streams.history.archive import MEMORY_BYTES
from procflow._streams.history.spill import SpillFile
from procflow._streams.stream import OutputStream, open_stream
from procflow.errors import HistoryLostError, SpillError
from procflow.events import Chunk, Gap, StreamEnding
from procflow.policies import BestEffort, Delivery, Loss, Reliable, Replay, StreamConfig
from tests.core.streams.sources import EndlessSource, ScriptedSource

pytestmark = pytest.mark.anyio
BLOCK = b"".join(b"%07d\n" % number for number in range(8192))  # 64 KiB, no two lines alike


def spilling(path: Path | str) -> StreamConfig:
    return StreamConfig(replay=Replay.all(spill=path))


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.001)


async def read_all(stream: OutputStream, delivery: Delivery | None = None, *, batch: bool = False) -> bytes:
    data: list[bytes] = []
    delivery = delivery if delivery is not None else Reliable()
    async with stream.subscribe(delivery, start="start") as events:
        while True:
            try:
                items = await events.receive_batch() if batch else [await events.receive()]
            except anyio.EndOfStream:
                return b"".join(data)
            assert all(isinstance(item, Chunk) for item in items)
            data += [item.data for item in items if isinstance(item, Chunk)]


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets files have so many bytes only: a write takes what fits, and the next one finds the disk full."""
    pwritev = os.pwritev

    def limit(max_bytes: int) -> None:
        def write(fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
            data = b"".join(buffers)[: max(0, max_bytes - offset)]
            if not data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return pwritev(fd, [data], offset)

        monkeypatch.setattr(os, "pwritev", write)
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, [data], offset))

    return limit


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("delivery", [Reliable(), *[BestEffort(loss=loss) for loss in Loss]])
async def test_a_late_subscriber_gets_every_byte(delivery: Reliable | BestEffort, batch: bool, tmp_path: Path) -> None:
    """C-28: long after the memory has forgotten them, every byte comes from the file, once, then the ending, under every delivery."""
    async with open_stream(EndlessSource(BLOCK, 100), spilling(tmp_path / "log")) as stream:
        with anyio.fail_after(60):
            await stream.wait_ended()
            assert stream.statistics().retained_bytes <= MEMORY_BYTES + len(BLOCK)
            assert await read_all(stream, delivery, batch=batch) == BLOCK * 100


async def test_history_turns_into_live_data_without_a_hole(tmp_path: Path) -> None:
    """C-26: subscribers that attach while the source goes on get file, then memory, then live data, each byte once."""
    source = ScriptedSource(*[BLOCK] * 40)
    results: list[bytes] = []

    async def read(stream: OutputStream, delivery: Reliable | BestEffort) -> None:
        results.append(await read_all(stream, delivery))

    async with open_stream(source, spilling(tmp_path)) as stream:
        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(read, stream, Reliable(buffer_bytes=1 << 18))
                source.send(*[BLOCK] * 5)
                await until(lambda number=number: stream.produced_bytes >= len(BLOCK) * (40 + 5 * number))  # type: ignore[misc]  # bound
            source.send(b"")
    assert results == [BLOCK * 100] * 12


async def test_the_file_holds_exactly_the_bytes_of_the_stream(tmp_path: Path) -> None:
    """C-28: the file is made anew for its owner alone, holds what was read when the block is left, and stays."""
    path = tmp_path / "log"
    async with open_stream(ScriptedSource(BLOCK, b"tail", b""), spilling(path)) as stream:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await stream.wait_ended()

    assert path.read_bytes() == BLOCK + b"tail"
    with pytest.raises(SpillError) as caught:
        async with open_stream(ScriptedSource(b""), spilling(path)):
            pass
    assert isinstance(caught.value.__cause__, FileExistsError)
    assert path.read_bytes() == BLOCK + b"tail"


async def test_a_directory_gets_no_name_and_gives_its_space_back(tmp_path: Path) -> None:
    """C-28: in a directory the file has no name, so nothing is left of it, however the host ends."""
    before = len(os.listdir("/proc/self/fd"))
    async with open_stream(EndlessSource(BLOCK, 50), spilling(tmp_path)) as stream:
        await stream.wait_ended()
        assert list(tmp_path.iterdir()) == []
        assert await read_all(stream) == BLOCK * 50
    assert await read_all(stream) == BLOCK * 50  # also after the block
    del stream
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_directory_whose_file_system_knows_no_nameless_files_works_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-28: without O_TMPFILE the file is made under a name of its own and unlinked at once."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    async with open_stream(EndlessSource(BLOCK, 50), spilling(tmp_path)) as stream:
        await stream.wait_ended()
        assert list(tmp_path.iterdir()) == []
        assert await read_all(stream) == BLOCK * 50


async def test_nothing_is_given_at_once_that_is_only_on_disk(tmp_path: Path) -> None:
    """C-28: receive_nowait() and receive_batch_nowait() say WouldBlock for what must be loaded; they never block the loop."""
    async with open_stream(EndlessSource(BLOCK, 50), spilling(tmp_path)) as stream:
        await stream.wait_ended()
        await until(lambda: stream.statistics().spilled_bytes == len(BLOCK) * 50)
        async with stream.subscribe(start="start") as events:
            for take in (events.receive_nowait, events.receive_batch_nowait):
                with pytest.raises(anyio.WouldBlock):
                    take()
            assert isinstance(await events.receive(), Chunk)
            numbers = events.statistics()
            assert numbers.delivered_bytes + numbers.lag_bytes == stream.produced_bytes


async def test_lines_and_waits_read_from_the_file(tmp_path: Path) -> None:
    """C-28: line readers, batches of lines and waits for a line work on spilled history as on any other."""
    async with open_stream(
        ScriptedSource(b"first line\n", *[BLOCK] * 40, b"last line", b""), spilling(tmp_path)
    ) as stream:
        await stream.wait_ended()
        assert (await stream.wait_for_line("first")).text == "first line"
        assert (await stream.wait_for_line("last")).text == "last line"
        lines = [line async for line in stream.lines(start="start")]
        batches = [line async for batch in stream.line_batches(start="start") for line in batch]
    assert lines == batches == ["first line", *BLOCK.decode().splitlines() * 40, "last line"]


async def test_a_lag_on_disk_costs_no_memory_and_does_not_stall(tmp_path: Path) -> None:
    """C-28: a reliable subscriber with a large buffer lags on disk: the source is not held back and memory stays one window."""
    async with open_stream(EndlessSource(BLOCK, 100), spilling(tmp_path)) as stream:
        slow = stream.subscribe(Reliable(buffer_bytes=1 << 40))
        with anyio.fail_after(60):
            await stream.wait_ended()
        assert stream.statistics().retained_bytes <= MEMORY_BYTES + len(BLOCK)
        data = b"".join([event.data async for event in slow if isinstance(event, Chunk)])
        assert data == BLOCK * 100
        slow.close()


async def test_a_slow_disk_holds_the_source_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-28: while the disk does not take bytes, the source is not read beyond one window; statistics name the spill."""
    gate = threading.Event()
    write = SpillFile.write
    monkeypatch.setattr(SpillFile, "write", lambda *args: (gate.wait(), write(*args))[1])
    source = EndlessSource(BLOCK, 100)
    try:
        async with open_stream(source, spilling(tmp_path), name="out") as stream:
            await until(lambda: stream.statistics().stalled_by == ("out#spill",))
            assert stream.produced_bytes <= MEMORY_BYTES + len(BLOCK)
            async with stream.subscribe(start="live"):  # the loop is free
                pass
            gate.set()
            with anyio.fail_after(60):
                await stream.wait_ended()
            assert await read_all(stream) == BLOCK * 100
    finally:
        gate.set()


@pytest.mark.parametrize("early", [False, True])
async def test_sealing_gives_the_disk_space_back(early: bool, tmp_path: Path) -> None:
    """C-27: seal_replay() empties the file, but only after those who attached before it have everything."""
    path = tmp_path / "log"
    async with open_stream(EndlessSource(BLOCK, 60), spilling(path)) as stream:
        await stream.wait_ended()
        await until(lambda: path.stat().st_size == len(BLOCK) * 60)
        events = stream.subscribe(start="start") if early else None
        stream.seal_replay()
        stream.seal_replay()
        if events is not None:
            for _ in range(20):
                await checkpoint()
            assert path.stat().st_size == len(BLOCK) * 60
            assert b"".join([item.data async for item in events if isinstance(item, Chunk)]) == BLOCK * 60
        await until(lambda: path.stat().st_size == 0)
        with pytest.raises(anyio.EndOfStream):
            await stream.subscribe().receive()
        with pytest.raises(HistoryLostError):
            stream.subscribe(start="start")
        assert stream.statistics().spilled_bytes == 0
        if events is not None:
            events.close()


@pytest.mark.parametrize("how", ["sealed after the end", "dropped", "closed"])
async def test_a_seal_that_waits_for_a_subscriber_ends_with_it(how: str, tmp_path: Path) -> None:
    """C-27: a sealed file is emptied when the last subscriber that needs it leaves, also after the block."""
    path = tmp_path / "log"
    async with open_stream(EndlessSource(BLOCK, 60), spilling(path)) as stream:
        await stream.wait_ended()
        held = [stream.subscribe(start="start")]
        await until(lambda: path.stat().st_size == len(BLOCK) * 60)
        if how != "sealed after the end":
            stream.seal_replay()
    stream.seal_replay()
    assert path.stat().st_size == len(BLOCK) * 60
    if how == "dropped":
        held.clear()
        stream.statistics()
    else:
        held[0].close()
    await until(lambda: path.stat().st_size == 0)


async def test_a_full_disk_ends_the_history_not_the_stream(
    tmp_path: Path, small_disk: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """C-28: who is attached loses nothing; who comes later and asks for what is gone is told so, and why."""
    path = tmp_path / "log"
    source = ScriptedSource(*[BLOCK] * 20)
    async with open_stream(source, spilling(path)) as stream:
        early = stream.subscribe(Reliable(buffer_bytes=1 << 40))
        await until(lambda: stream.statistics().spilled_bytes == len(BLOCK) * 20)
        small_disk(len(BLOCK) * 25)
        with caplog.at_level(logging.WARNING, "procflow.stream"):
            source.send(*[BLOCK] * 60)
            data: list[bytes] = []
            with anyio.fail_after(30):
                while sum(map(len, data)) < len(BLOCK) * 80:
                    data += [item.data for item in await early.receive_batch() if isinstance(item, Chunk)]
        assert b"".join(data) == BLOCK * 80
        source.send(b"")
        await stream.wait_ended()

        assert stream.ending is StreamEnding.EOF
        assert stream.statistics().spill_failure is not None
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
        with pytest.raises(HistoryLostError) as caught:
            stream.subscribe(start="start")
        assert isinstance(caught.value.__cause__, SpillError)
        async with stream.subscribe(BestEffort(), start="start") as events:
            first = await events.receive()
            assert first == Gap(0, stream.produced_bytes - MEMORY_BYTES)
            rest = b"".join([item.data async for item in events if isinstance(item, Chunk)])
        assert rest == (BLOCK * 80)[-MEMORY_BYTES:]
        assert (BLOCK * 80).startswith(path.read_bytes())
        early.close()


async def test_a_disk_that_is_full_from_the_start(small_disk: Callable[[int], None], tmp_path: Path) -> None:
    """C-28: with no byte on disk the stream behaves like one that keeps its newest MiB, and says why it does."""
    small_disk(0)
    async with open_stream(ScriptedSource(*[BLOCK] * 10, b""), spilling(tmp_path)) as stream:
        await stream.wait_ended()
        await until(lambda: stream.statistics().spill_failure is not None)
        assert await read_all(stream) == BLOCK * 10


LIMITED = """
import resource, signal, sys
import anyio
import procflow as pf

async def main():
    config = pf.StreamConfig(replay=pf.Replay.all(spill=sys.argv[1]))
    async with pf.spawn(pf.Command("head", "-c", "5000000", "/dev/zero"), stdout=config) as child:
        early = child.stdout.subscribe()
        total = sum([len(event.data) async for event in early])
        while child.stdout.statistics().spill_failure is None:
            await anyio.sleep(0.001)
        try:
            child.stdout.subscribe(start="start")
        except pf.HistoryLostError as error:
            print(total, error.lost_bytes, type(error.__cause__).__name__, (await child.wait()).exit_code)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_limit_of_the_system_is_met_like_a_full_disk(backend: str, tmp_path: Path) -> None:
    """C-28: the same with a limit that the kernel enforces: the child ends well, and the loss is told."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", LIMITED, tmp_path, backend],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5000000", str(5_000_000 - MEMORY_BYTES), "SpillError", "0"]


async def test_a_file_that_somebody_has_cut_is_one_clear_error(tmp_path: Path) -> None:
    """C-28: a subscriber whose bytes are no longer in the file gets SpillError, each time anew; nobody else is hurt."""
    path = tmp_path / "log"
    async with open_stream(EndlessSource(BLOCK, 60), spilling(path)) as stream:
        await stream.wait_ended()
        await until(lambda: path.stat().st_size == len(BLOCK) * 60)
        os.truncate(path, 1000)
        live = stream.subscribe(start="live")
        events = stream.subscribe(start="start")
        errors = []
        for _ in range(2):
            with pytest.raises(SpillError, match="cut") as caught:
                await events.receive()
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert copy.copy(errors[0]).path == str(path)
        with pytest.raises(anyio.EndOfStream):
            await live.receive()
        assert [one.name for one in stream.statistics().subscribers] == ["stream#spill", live.name]
        live.close()
        events.close()


async def test_writing_goes_not_on_after_a_cut(tmp_path: Path) -> None:
    """C-28: a file that was cut is written no further: a hole of zeros is never taken for output."""
    path = tmp_path / "log"
    source = ScriptedSource(*[BLOCK] * 20)
    async with open_stream(source, spilling(path)) as stream:
        await until(lambda: path.stat().st_size == len(BLOCK) * 20)
        os.truncate(path, 0)
        source.send(BLOCK)
        await until(lambda: stream.statistics().spill_failure is not None)
        assert "cut" in (stream.statistics().spill_failure or "")
        assert path.stat().st_size == 0


async def test_cancelling_while_it_loads_loses_nothing(tmp_path: Path) -> None:
    """C-29: a take that is cancelled in the middle of a load has taken nothing; the next one goes on."""
    async with open_stream(EndlessSource(BLOCK, 40), spilling(tmp_path)) as stream:
        await stream.wait_ended()
        await until(lambda: stream.statistics().spilled_bytes == stream.produced_bytes)
        data = b""
        async with stream.subscribe(start="start") as events:
            deadline = anyio.current_time() + 60
            # A busy machine may need many of them: each waits for its load for a few turns only.
            for turns in itertools.count():
                assert anyio.current_time() < deadline
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:

                        async def cancel(scope: anyio.CancelScope, turns: int) -> None:
                            for _ in range(turns % 7):
                                await checkpoint()
                            scope.cancel()

                        tasks.start_soon(cancel, scope, turns)
                        try:
                            item = await events.receive()
                        except anyio.EndOfStream:
                            break
                        finally:
                            tasks.cancel_scope.cancel()
                        assert isinstance(item, Chunk)
                        data += item.data
                if len(data) == stream.produced_bytes:
                    break
            numbers = events.statistics()
            assert numbers.delivered_bytes == len(data)
        assert data == BLOCK * 40


async def test_closing_while_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-29: a subscription that is closed while it loads says so, and what was loaded for it is dropped."""
    gate = threading.Event()
    read = SpillFile.read
    monkeypatch.setattr(SpillFile, "read", lambda *args: (gate.wait(), read(*args))[1])
    try:
        async with open_stream(EndlessSource(BLOCK, 40), spilling(tmp_path)) as stream:
            await stream.wait_ended()
            await until(lambda: stream.statistics().spilled_bytes == stream.produced_bytes)
            events = stream.subscribe(start="start")
            async with anyio.create_task_group() as tasks:

                async def receive() -> None:
                    with pytest.raises(anyio.ClosedResourceError):
                        await events.receive()

                tasks.start_soon(receive)
                for _ in range(10):
                    await checkpoint()
                events.close()
                gate.set()
    finally:
        gate.set()


async def test_a_hung_disk_does_not_hang_the_end_of_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-28: leaving the block waits a bounded time for what the file lacks."""
    gate = threading.Event()
    write = SpillFile.write
    monkeypatch.setattr(SpillFile, "write", lambda *args: (gate.wait(), write(*args))[1])
    monkeypatch.setattr(spill_module, "FLUSH_S", 0.05)
    try:
        with anyio.fail_after(10):
            async with open_stream(ScriptedSource(BLOCK, b""), spilling(tmp_path)) as stream:
                await stream.wait_ended()
        assert await read_all(stream) == BLOCK
    finally:
        gate.set()


def test_only_all_can_spill(tmp_path: Path) -> None:
    """C-26: the path of a spill is a str or a PathLike, and belongs to Replay.all()."""
    assert Replay.all(spill=tmp_path) == Replay.all(spill=str(tmp_path))
    with pytest.raises(TypeError):
        Replay.all(spill=3)  # type: ignore[arg-type]  # the subject
    with pytest.raises(ValueError, match="spill"):
        Replay.all(spill="")


def test_a_place_that_does_not_exist_is_an_error_of_the_machine(tmp_path: Path) -> None:
    """C-28: a file that cannot be made is a SpillError with its path, raised where the stream is made."""
    with pytest.raises(SpillError) as caught:
        OutputStream(ScriptedSource(), spilling(tmp_path / "missing" / "log"), name="out")
    assert caught.value.path == str(tmp_path / "missing" / "log")
    assert caught.value.errno is not None


async def test_a_file_that_cannot_be_emptied_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-28, C-27: a disk that went read-only keeps the space of a sealed history; stream and subscribers go on."""

    def refuse(_fd: int, _length: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    source = ScriptedSource(b"1\n")
    with anyio.fail_after(20):
        async with open_stream(source, spilling(tmp_path / "log")) as stream:
            events = stream.subscribe(start="start")
            await until(lambda: stream.statistics().spilled_bytes == 2)
            monkeypatch.setattr(os, "ftruncate", refuse)
            stream.seal_replay()
            await until(lambda: stream.statistics().spilled_bytes == 0)
            source.send(b"2\n", b"")
            assert b"".join([event.data async for event in events if isinstance(event, Chunk)]) == b"1\n2\n"
        events.close()
