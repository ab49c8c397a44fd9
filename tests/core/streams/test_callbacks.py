"""Streams over descriptors that are read without tasks, and chunks that are drawn without takes."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from procflow._streams.pacing import FLOOD_PIPE_BYTES, SMALL_PIPE_BYTES
from procflow._streams.reading import pipes
from procflow._streams.reading.source import FdSource
from procflow._streams.stream import OutputStream, open_stream
from procflow.errors import StallError, StreamClosedError, StreamReadError
from procflow.events import Chunk, StreamEnding
from procflow.policies import BestEffort, OnStall, Reliable, Replay, StreamConfig
from tests.core.streams.sources import EndlessSource, ScriptedSource

pytestmark = pytest.mark.anyio

LIMIT_S = 30


@pytest.fixture
def pipe() -> Iterator[tuple[FdSource, int]]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    source = FdSource(reader)
    yield source, writer
    source.close_nowait()
    os.close(writer)


def write_all(writer: int, data: bytes) -> threading.Thread:
    def run() -> None:
        with open(os.dup(writer), "wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
            os.set_blocking(file.fileno(), True)
            view = memoryview(data)
            while view:
                view = view[os.write(file.fileno(), view[: 1 << 20]) :]

    thread = threading.Thread(target=run)
    thread.start()
    return thread


async def test_a_pipe_that_is_filled_again_and_again_grows_and_gives_back(pipe: tuple[FdSource, int]) -> None:
    """C-28: bulk grows the pipe within the budget of all streams; the end of the stream returns the claim."""
    source, writer = pipe
    left = pipes.BUDGET.left_bytes
    data = os.urandom(1 << 16) * 64
    written = 0
    with anyio.fail_after(LIMIT_S):
        async with open_stream(source, StreamConfig(replay=Replay.all())) as stream:
            # Only looks in quick succession tell bulk, and a busy machine may look too seldom: write on until it did.
            while source.pipe_bytes <= SMALL_PIPE_BYTES:
                written += 1
                thread = write_all(writer, data)
                while stream.produced_bytes < written * len(data):
                    await anyio.sleep(0.001)  # the subject is a pump that nobody wakes for
                thread.join()
            assert pipes.BUDGET.left_bytes < left
            assert stream.retained()[0] == data * written
    assert pipes.BUDGET.left_bytes == left


async def test_a_flood_of_tiny_writes_arrives_whole_and_then_lines_are_prompt_again() -> None:
    """C-20: whatever is read by the clock arrives in order; a single line after the flood arrives as well."""
    reader, writer = os.pipe()
    count = 60_000

    def flood() -> None:
        for number in range(count):
            os.write(writer, b"%09d\n" % number)

    source = FdSource(reader)
    with anyio.fail_after(LIMIT_S):
        async with open_stream(source) as stream, stream.subscribe() as events:
            thread = threading.Thread(target=flood)
            thread.start()
            data = b""
            while len(data) < 10 * count:
                event = await events.receive()
                assert isinstance(event, Chunk)
                data += event.data
            thread.join()
            assert data == b"".join(b"%09d\n" % number for number in range(count))
            for line in (b"one", b"two"):
                os.write(writer, line)
                assert (await events.receive()).stop == len(data) + len(line)
                data += line
            os.close(writer)
            with pytest.raises(anyio.EndOfStream):
                await events.receive()


async def test_a_stream_that_is_read_by_the_clock_can_be_closed(pipe: tuple[FdSource, int]) -> None:
    """C-21: closing, from here or from another thread, finds a stream that waits for the clock just the same."""
    for from_thread in (False, True):
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        stream = OutputStream(FdSource(reader), StreamConfig(), name="x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.pump)
            events = stream.subscribe(BestEffort())
            with anyio.fail_after(LIMIT_S):
                for _ in range(200):
                    os.write(writer, b"x" * 80)
                    await checkpoint()
                if from_thread:
                    thread = threading.Thread(target=stream.close)
                    thread.start()
                    thread.join()
                else:
                    stream.close()
                with pytest.raises(StreamClosedError):
                    while True:
                        await events.receive()
            assert stream.ending is StreamEnding.CLOSED
        os.close(writer)


@pytest.mark.parametrize("on_stall", OnStall)
async def test_patience_ends_for_a_stream_over_a_pipe(pipe: tuple[FdSource, int], on_stall: OnStall) -> None:
    """C-23: the stall timeout acts where no task reads: the stream goes on, or fails, as its subscriber was told to."""
    source, writer = pipe
    data = bytes(300_000)
    with anyio.fail_after(LIMIT_S):
        async with open_stream(source) as stream:
            stalled = stream.subscribe(Reliable(buffer_bytes=10_000, stall_timeout_s=0.05, on_stall=on_stall))
            thread = write_all(writer, data)
            if on_stall is OnStall.FAIL_STREAM:
                await stream.wait_ended()
                assert stream.ending is StreamEnding.CLOSED
                with pytest.raises(StallError):
                    while True:
                        await stalled.receive()
            else:
                while stream.produced_bytes < len(data):
                    await anyio.sleep(0.001)  # the subject is a pump that nobody wakes for
                if on_stall is OnStall.DETACH:
                    with pytest.raises(StallError):
                        await stalled.receive()
                else:
                    assert not stalled.statistics().is_reliable
            stalled.close()
            thread.join()


async def test_what_fails_in_a_callback_is_the_terminal(
    pipe: tuple[FdSource, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-21: an exception where no task runs is not lost: every subscriber is told."""
    source, writer = pipe

    def fail(_self: FdSource) -> bytes:
        raise ZeroDivisionError("a bug")

    with anyio.fail_after(LIMIT_S):
        async with open_stream(source) as stream, stream.subscribe() as events:
            monkeypatch.setattr(FdSource, "read_nowait", fail)
            os.write(writer, b"x")
            with pytest.raises(StreamReadError) as caught:
                await events.receive()
            assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_cancelled_sleeper_leaves_nothing_behind(pipe: tuple[FdSource, int]) -> None:
    """C-29: whoever gives up waiting on a silent stream, over and over, costs nothing."""
    source, _ = pipe
    async with open_stream(source) as stream, stream.subscribe() as events:
        for _ in range(50):
            with anyio.move_on_after(0):
                await events.receive()
        assert stream._core.data_bell.sleepers <= 1


# --- loans ----------------------------------------------------------------------------------------------------------


async def drawing(stream: OutputStream, count: int) -> int:
    """Draw ``count`` chunks of a new subscription, then leave it."""
    async with stream.subscribe(start="start") as events:
        async for _ in events:
            count -= 1
            if not count:
                break
        return events.statistics().delivered_bytes


@pytest.mark.parametrize("count", [1, 2, 3, 5, 17, 40])
async def test_what_was_not_drawn_is_the_next_subscribers(count: int) -> None:
    """C-26: leaving a loop in the middle settles exactly what it has seen, however much was ready."""
    async with open_stream(EndlessSource(b"0123456789", 50), StreamConfig(replay=Replay.all())) as stream:
        await stream.wait_ended()
        assert await drawing(stream, count) == 10 * count
        async with stream.subscribe() as events:
            assert events.statistics().start == 10 * count
            assert (await events.receive()) == Chunk(b"0123456789", 10 * count)


@pytest.mark.parametrize("drops", [False, True])
async def test_a_dropped_loop_settles_what_it_has_seen(drops: bool) -> None:
    """C-29: a subscription that is garbage collected in the middle of a loan has taken what it gave out, no more."""
    async with open_stream(EndlessSource(b"0123456789", 50), StreamConfig(replay=Replay.all())) as stream:
        await stream.wait_ended()
        events = stream.subscribe()
        for _ in range(7):
            await anext(events)
        if drops:
            del events
            gc.collect()
        else:
            events.close()
            with pytest.raises(anyio.ClosedResourceError):
                await anext(events)
        assert stream.subscribe().statistics().start == 70


async def test_all_ways_to_receive_mix() -> None:
    """C-25: iteration, receive(), receive_nowait() and batches take turns on one subscription and miss or repeat nothing."""
    async with open_stream(EndlessSource(b"0123456789", 400), StreamConfig(replay=Replay.all())) as stream:
        await stream.wait_ended()
        expected = 0
        async with stream.subscribe(start="start") as events:
            for step in range(300):
                item = (
                    events.receive_nowait()
                    if step % 17 == 3
                    else await (anext(events) if step % 3 else events.receive())
                )
                assert isinstance(item, Chunk)
                assert item.offset == expected
                expected = item.stop
                if step % 5 == 0:
                    numbers = events.statistics()
                    assert (numbers.delivered_bytes, numbers.lag_bytes) == (expected, 4000 - expected)
            batch = await events.receive_batch()
            assert batch[0] == Chunk(b"0123456789", expected)
            assert batch[-1].stop == 4000
            with pytest.raises(StopAsyncIteration):
                await anext(events)


async def test_a_source_goes_on_when_half_of_the_buffer_was_drawn() -> None:
    """C-23: a subscriber that draws one chunk at a time lets a blocked source go on at half of its buffer, not at the end of a loan."""
    source = ScriptedSource(*[b"x" * 10] * 40)
    async with open_stream(source) as stream:
        events = stream.subscribe(Reliable(buffer_bytes=100))
        for _ in range(4):
            await anext(events)  # so that chunks are lent
        await anyio.wait_all_tasks_blocked()
        assert stream.statistics().stalled_by
        while events.statistics().lag_bytes > 50:
            assert stream.statistics().stalled_by
            await anext(events)
        assert not stream.statistics().stalled_by
        events.close()


async def test_a_slow_reader_lets_others_run() -> None:
    """C-24: whoever works long on each chunk passes a checkpoint for each, however many are ready."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await checkpoint()

    async with open_stream(EndlessSource(b"x" * 100, 100), StreamConfig(replay=Replay.all())) as stream:
        await stream.wait_ended()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            chunks = 0
            async for _ in stream.subscribe(start="start"):
                chunks += 1
                deadline = anyio.current_time() + 0.002
                while anyio.current_time() < deadline:
                    pass
            tasks.cancel_scope.cancel()
    assert chunks == 100
    assert ticks >= 80


def test_a_flood_pipe_is_what_a_user_may_have() -> None:
    """C-28: no pipe is asked to be larger than Linux lets an ordinary user have."""
    assert FLOOD_PIPE_BYTES <= 1 << 20
