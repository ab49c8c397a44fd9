"""Streams over sources that a test scripts."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from procflow._streams.consumers.kinds import WaitFor
from procflow._streams.stream import OutputStream, open_stream
from procflow.errors import (
    HistoryLostError,
    LinesLostError,
    LineTooLongError,
    NotReadyError,
    StallError,
    StreamClosedError,
    StreamReadError,
)
from procflow.events import Chunk, Gap, StreamEnding
from procflow.outcome import Outcome
from procflow.policies import BestEffort, LineConfig, Loss, OnGap, OnStall, Overflow, Reliable, Replay, StreamConfig
from tests.core.streams.sources import OUTCOME, EndlessSource, ScriptedSource
from tests.patience import FairClock, Growing

pytestmark = pytest.mark.anyio
KEEP_ALL = StreamConfig(replay=Replay.all())


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await checkpoint()


async def collect(stream: OutputStream, **options: object) -> bytes:
    data = b""
    async with stream.subscribe(**options) as events:  # type: ignore[arg-type]  # passed through
        async for event in events:
            assert isinstance(event, Chunk)
            assert event.offset == len(data) or options
            data += event.data
    return data


async def test_every_subscriber_gets_the_exact_bytes_in_order() -> None:
    """C-20: the chunks of each of several subscribers concatenate to the bytes of the source, with absolute offsets (TPT 41)."""
    chunks = [bytes([n]) * (n % 7 + 1) for n in range(200)]
    results: list[bytes] = []

    async def read(stream: OutputStream) -> None:
        results.append(await collect(stream, start="start"))

    async with open_stream(ScriptedSource(*chunks, b""), KEEP_ALL) as stream, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read, stream)

    assert results == [b"".join(chunks)] * 5


async def test_the_source_is_read_without_subscribers() -> None:
    """C-20: the pump reads to the end though nobody listens."""
    source = ScriptedSource(*[b"x" * 1000] * 5000, b"")
    async with open_stream(source) as stream:
        with anyio.fail_after(20):
            await stream.wait_ended()

        assert stream.ending is StreamEnding.EOF
        assert stream.produced_bytes == 5_000_000
        assert stream.statistics().retained_bytes <= 1024 * 1024 + 64 * 1024


async def test_eof_is_sticky_and_reaches_late_subscribers() -> None:
    """C-21: after EOF each receive says so again, and a subscriber that attaches later gets the data and then EOF (TPT 65, 71, 85)."""
    async with open_stream(ScriptedSource(b"data", b""), KEEP_ALL) as stream:
        await stream.wait_ended()
        for start in ("start", "live"):
            events = stream.subscribe(start=start)
            if start == "start":
                assert await events.receive() == Chunk(b"data", 0)
            for _ in range(3):
                with pytest.raises(anyio.EndOfStream):
                    await events.receive()
                with pytest.raises(anyio.EndOfStream):
                    await events.receive_batch()
            await events.aclose()


async def test_a_read_failure_comes_after_all_data() -> None:
    """C-21: bytes read before a failure come first, the failure is no EOF, and its cause is kept (TPT 39, 87)."""
    cause = OSError(5, "boom")
    async with open_stream(ScriptedSource(b"one", b"two", cause), KEEP_ALL) as stream:
        await stream.wait_ended()
        assert stream.ending is StreamEnding.READ_FAILED
        events = stream.subscribe(start="start")
        assert [chunk.data for chunk in await events.receive_batch() if isinstance(chunk, Chunk)] == [b"one", b"two"]
        for _ in range(2):
            with pytest.raises(StreamReadError, match="boom") as caught:
                await events.receive()
            assert caught.value.__cause__ is cause
        events.close()


async def test_closing_is_told_apart_from_eof() -> None:
    """C-21: a stream closed by its owner gives what was read, then says that it was closed (TPT D8)."""
    source = ScriptedSource(b"data")
    async with open_stream(source) as stream:
        await until(lambda: stream.produced_bytes == 4)
        events = stream.subscribe()
        stream.close()
        stream.close()

        assert stream.ending is StreamEnding.CLOSED
        assert await events.receive() == Chunk(b"data", 0)
        for _ in range(2):
            with pytest.raises(StreamClosedError):
                await events.receive()
        events.close()
    assert source.is_closed


async def test_closing_wakes_a_waiting_subscriber() -> None:
    """C-21: a subscriber that waits when the stream is closed is told so (TPT 75)."""
    async with open_stream(ScriptedSource()) as stream, anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(StreamClosedError):
                await stream.subscribe().receive()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        stream.close()


async def test_attaching_is_synchronous() -> None:
    """C-22: what is produced after the call of subscribe() or lines() is never missed, whenever reading starts (TPT 57)."""
    source = ScriptedSource()
    async with open_stream(source, StreamConfig(replay=Replay.none())) as stream:
        events = stream.subscribe()
        lines = stream.lines()
        batches = stream.line_batches()
        match = stream.wait_for_line("b")
        source.send(b"a\nb\n", b"")
        await stream.wait_ended()

        assert await events.receive() == Chunk(b"a\nb\n", 0)
        assert [line async for line in lines] == ["a", "b"]
        assert [batch async for batch in batches] == [["a", "b"]]
        assert (await match).text == "b"
        events.close()


async def test_a_reliable_subscriber_pauses_the_source() -> None:
    """C-23: the source is not read further once a reliable subscriber is its buffer behind, and goes on when it caught up (TPT 79, D5)."""
    source = ScriptedSource(*[b"x" * 10] * 100, b"")
    async with open_stream(source) as stream:
        slow = stream.subscribe(Reliable(buffer_bytes=50), name="slow")
        fast = stream.subscribe(BestEffort(buffer_bytes=10))
        await anyio.wait_all_tasks_blocked()

        assert source.reads == 5
        assert stream.statistics().stalled_by == ("slow",)
        total = 0
        async for event in slow:
            assert isinstance(event, Chunk)
            total += len(event.data)
            assert stream.produced_bytes - total <= 50 + 10
        assert total == 1000
        assert stream.statistics().stalled_by == ()
        slow.close()
        fast.close()


async def test_a_stalled_subscriber_is_detached_after_its_time() -> None:
    """C-23: with DETACH the subscriber gets StallError and everybody else goes on (TPT D5)."""
    source = ScriptedSource(*[b"x" * 10] * 20, b"")
    async with open_stream(source, KEEP_ALL) as stream:
        stalled = stream.subscribe(Reliable(buffer_bytes=30, stall_timeout_s=0.02))
        other = stream.subscribe(Reliable(buffer_bytes=1000))
        with anyio.fail_after(20):
            await stream.wait_ended()

        for _ in range(2):
            with pytest.raises(StallError):
                await stalled.receive()
        assert sum(len(chunk.data) for chunk in await other.receive_batch() if isinstance(chunk, Chunk)) == 200
        stalled.close()
        other.close()


async def test_a_waiting_reader_learns_that_it_was_detached() -> None:
    """C-23: a line reader that is detached for a stall raises StallError at its next step."""
    async with open_stream(ScriptedSource(*[b"line\n"] * 20, b"")) as stream:
        lines = stream.lines(Reliable(buffer_bytes=10, stall_timeout_s=0.02))
        with anyio.fail_after(20):
            await stream.wait_ended()
        with pytest.raises(StallError):
            await anext(lines)


async def test_a_stalled_subscriber_is_downgraded_on_request() -> None:
    """C-23: with DOWNGRADE the subscriber loses what is beyond its buffer, visibly, and the stream goes on."""
    async with open_stream(ScriptedSource(*[b"x" * 10] * 20, b"")) as stream:
        stalled = stream.subscribe(Reliable(buffer_bytes=30, stall_timeout_s=0.02, on_stall=OnStall.DOWNGRADE))
        with anyio.fail_after(20):
            await stream.wait_ended()
        items = await stalled.receive_batch()

        assert items[0] == Gap(0, 170)
        assert sum(len(item.data) for item in items if isinstance(item, Chunk)) == 30
        stalled.close()


async def test_a_stalled_subscriber_fails_the_stream_on_request() -> None:
    """C-23: with FAIL_STREAM everybody gets what was read, then StallError."""
    async with open_stream(ScriptedSource(*[b"x" * 10] * 20, b"")) as stream:
        stalled = stream.subscribe(Reliable(buffer_bytes=30, stall_timeout_s=0.02, on_stall=OnStall.FAIL_STREAM))
        with anyio.fail_after(20):
            await stream.wait_ended()

        assert len(await stalled.receive_batch()) == 3
        with pytest.raises(StallError):
            await stalled.receive()
        assert stream.ending is StreamEnding.CLOSED
        stalled.close()


async def test_a_subscriber_that_stops_half_way_is_stalled_too() -> None:
    """C-23: one that takes a little and then stops, so that it still holds the source back, runs out of time as well."""
    stall_timeout = Growing(0.05)
    while True:
        first: object = None
        async with open_stream(ScriptedSource(*[b"x" * 10] * 20, b"")) as stream:
            stalled = stream.subscribe(Reliable(buffer_bytes=100, stall_timeout_s=stall_timeout.seconds))
            await anyio.wait_all_tasks_blocked()
            with contextlib.suppress(StallError):  # a machine that was busy for so long left no time to take anything
                first = await stalled.receive()
            was_holding = stream.statistics().stalled_by
            with anyio.fail_after(20):
                await stream.wait_ended()
            with pytest.raises(StallError):
                await stalled.receive()
            stalled.close()
        if was_holding or not stall_timeout.grow():
            break
    assert was_holding == (stalled.name,)
    assert first == Chunk(b"x" * 10, 0)


async def test_a_line_reader_refuses_a_second_task() -> None:
    """C-40: two tasks that step one reader at once would tear its lines apart: the second gets BusyResourceError."""
    async with open_stream(ScriptedSource()) as stream, anyio.create_task_group() as tasks:
        lines = stream.lines()
        tasks.start_soon(lines.__anext__)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await anext(lines)
        tasks.cancel_scope.cancel()


async def test_a_slow_subscriber_that_moves_is_not_stalled() -> None:
    """C-23: the stall timeout runs from the last take, not from when the stream began to wait."""
    stall_timeout = Growing(0.3)
    while True:
        async with open_stream(ScriptedSource(*[b"x" * 10] * 12, b"")) as stream:
            slow = stream.subscribe(Reliable(buffer_bytes=100, stall_timeout_s=stall_timeout.seconds))
            total = 0
            with contextlib.suppress(StallError):  # a machine that was busy for so long has stalled it
                async for event in slow:
                    total += len(event.data) if isinstance(event, Chunk) else 0
                    # The subject is time itself: slower than the buffer allows, faster than the timeout.
                    await anyio.sleep(stall_timeout.seconds / 5)
            slow.close()
        if total == 120 or not stall_timeout.grow():
            break
    assert total == 120


@pytest.mark.parametrize("loss", Loss)
async def test_an_overtaken_subscriber_always_gets_data(loss: Loss) -> None:
    """C-24: under sustained overload every take returns data, with at most one Gap before it, and the sums agree (TPT SV4, D6)."""
    source = ScriptedSource()
    async with open_stream(source) as stream:
        events = stream.subscribe(BestEffort(buffer_bytes=25, loss=loss))
        delivered = lost = 0

        async def overload() -> None:
            source.send(*[b"x" * 10] * 10)
            await until(lambda: not source.items)
            await anyio.wait_all_tasks_blocked()

        for round_ in range(40):
            await overload()
            if round_ % 2:
                items = await events.receive_batch()
            else:
                items = [await events.receive()]
                if isinstance(items[0], Gap):
                    await overload()  # cannot overtake the reserved chunk
                    items.append(await events.receive())
                    assert isinstance(items[1], Chunk)
                    assert items[1].offset == items[0].stop
            assert sum(isinstance(item, Gap) for item in items) <= 1
            assert isinstance(items[-1], Chunk)
            delivered += sum(len(item.data) for item in items if isinstance(item, Chunk))
            lost += sum(item.lost_bytes for item in items if isinstance(item, Gap))
        source.send(b"")
        async for event in events:
            delivered += len(event.data) if isinstance(event, Chunk) else 0
            lost += event.lost_bytes if isinstance(event, Gap) else 0

        assert delivered + lost == stream.produced_bytes
        numbers = events.statistics()
        assert (numbers.delivered_bytes, numbers.lost_bytes, numbers.lag_bytes) == (delivered, lost, 0)
        events.close()


async def test_trailing_loss_is_reported_before_the_end() -> None:
    """C-24: when the last bytes were dropped, one Gap comes before the terminal (TPT 33)."""
    async with open_stream(ScriptedSource(*[b"x" * 10] * 5, b"")) as stream:
        events = stream.subscribe(BestEffort(buffer_bytes=15, loss=Loss.DROP_NEWEST))
        await stream.wait_ended()

        assert [event async for event in events] == [Chunk(b"x" * 10, 0), Chunk(b"x" * 5, 10), Gap(15, 50)]
        events.close()


async def test_late_subscribers_get_history_then_live() -> None:
    """C-26: a subscriber that attaches late sees each byte once, under every delivery, also while the pump is blocked (TPT 60, 70, 88)."""
    source = ScriptedSource(*[bytes([n]) * 10 for n in range(20)])
    async with open_stream(source, KEEP_ALL) as stream:
        blocker = stream.subscribe(Reliable(buffer_bytes=200))
        await until(lambda: stream.produced_bytes == 200)
        await anyio.wait_all_tasks_blocked()
        late = [
            stream.subscribe(Reliable(buffer_bytes=500), start="start"),
            *[stream.subscribe(BestEffort(buffer_bytes=500, loss=loss), start="start") for loss in Loss],
        ]
        source.send(b"new", b"")
        blocker.close()
        await stream.wait_ended()

        expected = b"".join(bytes([n]) * 10 for n in range(20)) + b"new"
        for events in late:
            assert b"".join([event.data async for event in events if isinstance(event, Chunk)]) == expected
            events.close()


async def test_lost_history_is_never_silent() -> None:
    """C-26: bytes that are gone are an error for a reliable subscriber, one leading Gap for a best-effort one."""
    async with open_stream(ScriptedSource(b"x" * 100, b""), StreamConfig(replay=Replay.last_bytes(30))) as stream:
        await stream.wait_ended()
        for take in (stream.subscribe, stream.lines, stream.line_batches):
            with pytest.raises(HistoryLostError) as caught:
                take(start="start")
            assert caught.value.lost_bytes == 70
        events = stream.subscribe(BestEffort(), start="start")
        assert await events.receive_batch() == [Gap(0, 70), Chunk(b"x" * 30, 70)]
        assert await collect(stream, last_bytes=20) == b"x" * 20
        assert await collect(stream, start=75) == b"x" * 25
        with pytest.raises(ValueError, match="101"):
            stream.subscribe(start=101)
        events.close()


async def test_the_next_subscriber_begins_where_the_last_one_left() -> None:
    """C-26: the default start is the byte after the furthest one that anybody was given (TPT 63)."""
    async with open_stream(ScriptedSource(b"one", b"two", b"three", b"")) as stream:
        await stream.wait_ended()
        async with stream.subscribe() as first:
            assert await first.receive() == Chunk(b"one", 0)
        rest = stream.subscribe()
        assert await rest.receive_batch() == [Chunk(b"two", 3), Chunk(b"three", 6)]
        rest.close()


async def test_sealing_frees_history_but_not_what_was_promised() -> None:
    """C-27: seal_replay() is idempotent, frees memory at once, keeps attached subscribers whole and the terminal known (TPT 82, 92, 93)."""
    async with open_stream(ScriptedSource(b"x" * 10_000, b"y" * 10_000, b""), KEEP_ALL) as stream:
        await stream.wait_ended()
        early = stream.subscribe(start="start")
        stream.seal_replay()
        stream.seal_replay()
        late = stream.subscribe()

        assert (
            b"".join([event.data async for event in early if isinstance(event, Chunk)]) == b"x" * 10_000 + b"y" * 10_000
        )
        with pytest.raises(anyio.EndOfStream):
            await late.receive()
        early.close()
        late.close()
        assert stream.statistics().retained_bytes <= 10_000
        assert stream.retained() == (b"", 20_000)


@pytest.mark.parametrize("how", ["leave", "cancel", "drop", "drop in a cycle", "drop in a thread", "lines", "close"])
async def test_detaching_resumes_the_source(how: str) -> None:
    """C-29: leaving, cancelling, closing or dropping a subscriber that blocks the pump lets it go on at once (TPT 51, 73)."""
    async with open_stream(ScriptedSource(*[b"x" * 10] * 10, b"")) as stream:
        held: list[object] = [stream.lines(Reliable(buffer_bytes=20))] if how == "lines" else []
        if not held:
            held = [stream.subscribe(Reliable(buffer_bytes=20))]
        await anyio.wait_all_tasks_blocked()
        assert stream.ending is None
        events = held[0]

        if how == "leave":
            async with events:  # type: ignore[attr-defined]
                pass
        elif how == "close":
            await events.aclose()  # type: ignore[attr-defined]
        elif how == "cancel":
            with anyio.CancelScope() as scope:
                async with events:  # type: ignore[attr-defined]
                    scope.cancel()
                    await checkpoint()
        elif how == "drop in a cycle":
            events.itself = events  # type: ignore[attr-defined]
            held.clear()
            del events
            gc.collect()
        elif how == "drop in a thread":
            del events
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
        else:
            held.clear()
            del events

        with anyio.fail_after(20):
            await stream.wait_ended()
        assert stream.statistics().subscribers == ()


async def test_a_closed_subscription_says_so() -> None:
    """C-29: closing twice is fine; using a closed subscription or reader raises ClosedResourceError."""
    async with open_stream(ScriptedSource(b"data\n", b"")) as stream:
        events, lines, batches = stream.subscribe(), stream.lines(), stream.line_batches()
        for one in (events, lines, batches):
            await one.aclose()
            await one.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await events.receive()
        with pytest.raises(anyio.ClosedResourceError):
            events.receive_batch_nowait()
        for reader in (lines, batches):
            with pytest.raises(anyio.ClosedResourceError):
                await anext(reader)


async def test_closing_a_subscription_wakes_its_reader() -> None:
    """C-29: a task that waits in receive() when its subscription is closed gets ClosedResourceError."""
    async with open_stream(ScriptedSource()) as stream, anyio.create_task_group() as tasks:
        events = stream.subscribe()

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await events.receive()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        events.close()


async def test_lines_cost_no_turn_of_the_loop_when_ready() -> None:
    """C-43: reading ten thousand lines that are there lets other tasks run only a few times."""
    async with open_stream(ScriptedSource(b"line\n" * 10_000, b"")) as stream, anyio.create_task_group() as tasks:
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
        count_ = 0
        begun = anyio.current_time()
        async for _ in stream.lines():
            count_ += 1
        took_s = anyio.current_time() - begun
        tasks.cancel_scope.cancel()

        assert count_ == 10_000
        assert turns < 100 + took_s / 0.001  # one a millisecond there may be


async def test_ready_items_let_other_tasks_run() -> None:
    """C-43: a reader whose data never ends still lets other tasks run, at least every millisecond or so."""
    async with open_stream(EndlessSource(b"line\n" * 1000, 1 << 40), StreamConfig(replay=Replay.none())) as stream:
        ticks = 0
        deadline = anyio.current_time() + 20
        async with anyio.create_task_group() as tasks:

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await anyio.sleep(0.001)

            tasks.start_soon(tick)
            async for _ in stream.lines():
                if ticks > 5 or anyio.current_time() > deadline:
                    break
            tasks.cancel_scope.cancel()
        assert ticks > 5


async def test_line_batches_are_all_lines_that_are_complete() -> None:
    """C-43: each list has every line that is complete now; the unterminated one comes at the end, once (TPT 120)."""
    source = ScriptedSource(b"a\nb\nc", b"d\ne\nf")
    async with open_stream(source) as stream:
        await until(lambda: stream.produced_bytes == 10)
        batches = stream.line_batches()
        assert await anext(batches) == ["a", "b", "cd", "e"]
        source.send(b"")
        assert await anext(batches) == ["f"]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


async def test_an_unterminated_line_comes_before_a_failure() -> None:
    """C-40: the tail appears once, whatever the ending, and then the ending is raised."""
    async with open_stream(ScriptedSource(b"a\nrest", OSError("boom"))) as stream:
        lines = stream.lines()
        assert [await anext(lines), await anext(lines)] == ["a", "rest"]
        with pytest.raises(StreamReadError):
            await anext(lines)


@pytest.mark.parametrize("on_gap", ["yield", "skip", "raise", None])
async def test_line_readers_choose_how_they_see_gaps(on_gap: OnGap | None) -> None:
    """C-42: a gap is yielded (the default for best effort), skipped, or raised after the lines before it."""
    source = ScriptedSource(*[b"line %03d\n" % n for n in range(100)], b"")
    async with open_stream(source) as stream:
        lines = stream.lines(BestEffort(buffer_bytes=25), on_gap=on_gap)
        await stream.wait_ended()

        if on_gap == "raise":
            with pytest.raises(LinesLostError) as caught:
                await anext(lines)
            assert caught.value.lost_bytes == 875
            return
        items = [item async for item in lines]
        assert items == ([] if on_gap == "skip" else [Gap(0, 882)]) + ["line 098", "line 099"]


async def test_an_overlong_line_is_an_error_on_request() -> None:
    """C-41: with the error policy lines before it come first, then LineTooLongError with its offset."""
    async with open_stream(ScriptedSource(b"ok\n" + b"x" * 50 + b"\nnext\n", b"")) as stream:
        lines = stream.lines(config=LineConfig(max_line_bytes=10, overflow=Overflow.ERROR))
        assert await anext(lines) == "ok"
        with pytest.raises(LineTooLongError) as caught:
            await anext(lines)
        assert caught.value.offset == 3


async def test_leaving_a_line_reader_leaves_its_unread_lines() -> None:
    """C-26: lines that a reader took but never yielded belong to the next subscriber, however the reader is left (TPT 122)."""
    async with open_stream(ScriptedSource(b"1\n2\n3\n4\n5\n6", b"")) as stream:
        async for line in stream.lines():
            assert line == "1"
            break
        async with stream.lines() as lines:
            assert await anext(lines) == "2"
        lines = stream.lines()
        assert await anext(lines) == "3"
        lines.close()
        lines.close()
        async with stream.subscribe() as events:
            assert await events.receive() == Chunk(b"4\n5\n6", 6)


async def test_a_wait_finds_replayed_lines_and_takes_none_from_others() -> None:
    """C-45: groups are returned, other subscribers see every line, waits follow each other, the next reader goes on (TPT 89, 154, D9)."""
    async with open_stream(ScriptedSource(b"boot\nport 80 up\nport 81 up\nbye\n", b"")) as stream:
        other = stream.lines()
        await stream.wait_ended()
        first = await stream.wait_for_line(r"port (?P<port>\d+)( down)?")
        second = await stream.wait_for_line(lambda line: line.startswith("port"))

        assert (first.text, first.groups, first.named) == ("port 80 up", ("80", None), {"port": "80"})
        assert (second.text, second.groups) == ("port 81 up", ())
        async with stream.lines() as rest:
            assert [line async for line in rest] == ["bye"]
        assert [line async for line in other] == ["boot", "port 80 up", "port 81 up", "bye"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", b""), ("utf-8-sig", b"\xef\xbb\xbf"), ("utf-16", b"\xff\xfe")]
)
async def test_a_match_tells_where_its_line_is(encoding: str, mark: bytes, size: int) -> None:
    """C-45: start and stop are the line and its delimiter, CRLF too, however the bytes were cut; so for a consumer."""
    plain = "utf-16-le" if encoding == "utf-16" else "utf-8"
    first, second = "one\r\n".encode(plain), "two\r\n".encode(plain)
    data = mark + first + second + "end".encode(plain)
    starts = {"one": len(mark), "two": len(mark + first), "end": len(mark + first + second)}
    config = LineConfig(encoding=encoding)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    async with open_stream(ScriptedSource(*parts, b""), KEEP_ALL) as stream:
        for word, start in starts.items():
            consumer = stream.consume(WaitFor(word, config=config), start="start")
            match = await stream.wait_for_line(word, config=config)
            assert (match.start, match.stop) == (
                start,
                starts.get({"one": "two", "two": "end"}.get(word, ""), len(data)),
            )
            assert (await consumer.wait()).value == match


async def test_a_failed_wait_takes_nothing() -> None:
    """C-45: a wait that times out leaves every line to the next one (TPT 56, 160)."""
    async with open_stream(ScriptedSource(b"a\nb\n")) as stream:
        with anyio.move_on_after(0.05) as scope:
            await stream.wait_for_line("never")
        assert scope.cancelled_caught
        assert (await stream.wait_for_line("a")).stop == 2
        assert stream.statistics().subscribers == ()


async def test_the_end_of_the_stream_ends_a_wait() -> None:
    """C-45: a stream without a process ends the wait with NotReadyError, the tail, and no outcome (TPT 156)."""
    async with open_stream(ScriptedSource(b"some\nlast words", b"")) as stream:
        with pytest.raises(NotReadyError) as caught:
            await stream.wait_for_line("never")
        assert caught.value.tail == b"some\nlast words"
        assert caught.value.outcome is None


async def test_the_end_of_the_process_ends_a_wait(clock: FairClock) -> None:
    """C-45: when the process ends first, the wait ends within 100 ms, though somebody still holds the pipe."""
    ended = anyio.Event()

    outcome = OUTCOME

    async def describe_ending() -> Outcome:
        await ended.wait()
        return outcome

    async with open_stream(ScriptedSource(b"started\n")) as stream, anyio.create_task_group() as tasks:
        stream.describe_ending = describe_ending

        async def wait() -> None:
            with pytest.raises(NotReadyError) as caught:
                await stream.wait_for_line("never")
            assert caught.value.outcome is outcome

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        started = time.monotonic()
        ended.set()
        while stream.statistics().subscribers:
            await anyio.sleep(0.001)
        assert clock.since(started) < 1


async def test_an_error_in_the_block_is_raised_as_it_is() -> None:
    """C-30: what the block of open_stream() raises leaves it unchanged, and the source is closed."""
    source = ScriptedSource()
    with pytest.raises(ZeroDivisionError):
        async with open_stream(source):
            raise ZeroDivisionError
    assert source.is_closed


async def test_cancelling_the_pump_closes_the_stream() -> None:
    """C-21: a pump that is cancelled leaves a terminal, awake subscribers and a closed source."""
    source = ScriptedSource(b"data")
    stream = OutputStream(source, KEEP_ALL, name="x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.pump)
        await until(lambda: stream.produced_bytes == 4)
        tasks.cancel_scope.cancel()
    assert stream.ending is StreamEnding.CLOSED
    assert source.is_closed
    assert stream.retained() == (b"data", 0)


Step = Callable[[OutputStream], Coroutine[Any, Any, object]]


async def read_items(stream: OutputStream) -> list[bytes]:
    async with stream.subscribe() as events:
        return [event.data async for event in events if isinstance(event, Chunk)]


async def read_batches(stream: OutputStream) -> None:
    async with stream.subscribe() as events:
        while True:
            try:
                await events.receive_batch()
            except anyio.EndOfStream:
                return


async def read_lines(stream: OutputStream) -> list[str]:
    async with stream.lines() as lines:
        return [line async for line in lines]


async def wait_line(stream: OutputStream) -> object:
    return await stream.wait_for_line("line 29")


@pytest.mark.parametrize("step", [read_items, read_batches, read_lines, wait_line])
async def test_cancelling_at_any_step_leaves_no_subscriber_and_a_working_stream(step: Step) -> None:
    """C-29: cancelled after any number of turns, a reader is detached, loses nobody's bytes, and the stream ends as ever."""
    finished = False
    for turns in range(60):
        source = ScriptedSource(*[b"line %d\n" % n for n in range(30)], b"")
        async with open_stream(source, KEEP_ALL) as stream:
            witness = stream.subscribe(Reliable(buffer_bytes=10_000), start="start")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step, stream)
                for _ in range(turns):
                    await checkpoint()
                tasks.cancel_scope.cancel()
            with anyio.fail_after(20):
                await stream.wait_ended()
            assert len(stream.statistics().subscribers) == 1
            data = b"".join([event.data async for event in witness if isinstance(event, Chunk)])
            assert data == b"".join(b"line %d\n" % n for n in range(30))
            witness.close()
            finished = True
    assert finished


async def test_many_subscribers_come_and_go() -> None:
    """C-22: subscribers that attach and leave at random under load never miss or repeat a byte between (TPT 88, SV3)."""
    total = 3000
    async with open_stream(ScriptedSource(*[bytes([n % 256]) for n in range(total)], b""), KEEP_ALL) as stream:

        async def read(pause: int) -> None:
            for _ in range(pause):
                await checkpoint()
            async with stream.subscribe(Reliable(buffer_bytes=64), start="live") as events:
                expected = None
                for _ in range(pause * 3):
                    try:
                        item = await events.receive()
                    except anyio.EndOfStream:
                        return
                    assert isinstance(item, Chunk)
                    assert expected is None or item.offset == expected
                    assert item.data == bytes((item.offset + i) % 256 for i in range(len(item.data)))
                    expected = item.stop

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for pause in range(40):
                    tasks.start_soon(read, pause)
        await stream.wait_ended()
        assert stream.produced_bytes == total
