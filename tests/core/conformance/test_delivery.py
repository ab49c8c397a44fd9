"""What the reference checks of reading and delivery, and the defects it has there, held against ours."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

import procflow as pf
from procflow.policies import Loss, Replay
from tests.core.streams.sources import EndlessSource, ScriptedSource

pytestmark = pytest.mark.anyio

ALL = pf.StreamConfig(replay=Replay.all())
NONE = pf.StreamConfig(replay=Replay.none())
WAIT_S = 20.0

Item = pf.Chunk | pf.Gap


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(WAIT_S):
        while not condition():
            await checkpoint()


async def produced(stream: pf.OutputStream, count: int) -> None:
    await until(lambda: stream.produced_bytes >= count)


async def drain(events: pf.Subscription) -> list[Item]:
    """Everything up to EOF; chunks that follow each other are one."""
    items: list[Item] = []
    async for item in events:
        before = items[-1] if items else None
        if isinstance(item, pf.Chunk) and isinstance(before, pf.Chunk):
            assert item.offset == before.stop
            items[-1] = pf.Chunk(before.data + item.data, before.offset)
        else:
            items.append(item)
    return items


def text(items: list[Item]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, pf.Chunk))


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("delivery", [pf.Reliable(), pf.BestEffort()])
@pytest.mark.parametrize("replay", [Replay.none(), Replay.last_chunks(3)])
async def test_long_input_arrives_in_reads_of_the_size(delivery: pf.Delivery, replay: Replay) -> None:
    """C-20: no chunk is longer than ``read_bytes``, the last one is what is left, then EOF (TPT 30 to 32)."""
    reader, writer = os.pipe()
    os.write(writer, b"abcdefghij")
    os.close(writer)
    config = pf.StreamConfig(replay=replay, read_bytes=4)
    async with (
        pf.open_stream(pf.FdSource(reader, read_bytes=4), config) as stream,
        stream.subscribe(delivery) as events,
    ):
        chunks = [event async for event in events]

        assert chunks == [pf.Chunk(b"abcd", 0), pf.Chunk(b"efgh", 4), pf.Chunk(b"ij", 8)]
        assert stream.ending is pf.StreamEnding.EOF
        assert stream.retained() == ((b"", 10) if replay == Replay.none() else (b"abcdefghij", 0))


@pytest.mark.parametrize("failure", [None, OSError(5, "boom")])
async def test_the_ending_is_known_while_a_buffer_is_full(failure: OSError | None) -> None:
    """C-21: a subscriber that takes nothing delays no ending; it gets its data, the gap, then EOF or the error (TPT 33 to 35, 72)."""
    async with pf.open_stream(ScriptedSource(*one_by_one(b"abcd"), failure or b""), NONE) as stream:
        events = stream.subscribe(pf.BestEffort(buffer_bytes=1, loss=Loss.DROP_NEWEST))
        with anyio.fail_after(WAIT_S):
            await stream.wait_ended()

        assert await events.receive() == pf.Chunk(b"a", 0)
        assert await events.receive() == pf.Gap(1, 4)
        for _ in range(2):
            with pytest.raises(pf.StreamReadError if failure else anyio.EndOfStream):
                await events.receive()
        events.close()


async def test_a_source_that_is_always_ready_starves_nobody() -> None:
    """C-24: a best-effort subscriber gets its first chunk long before an always ready source is exhausted (TPT 36)."""
    source = EndlessSource(b"x" * 1000, 1 << 40)
    async with pf.open_stream(source, NONE) as stream, stream.subscribe(pf.BestEffort(buffer_bytes=1000)) as events:
        with anyio.fail_after(WAIT_S):
            assert isinstance((await events.receive_batch())[-1], pf.Chunk)
        assert stream.produced_bytes < 1 << 30
        assert source.left > 0


async def test_drop_newest_keeps_what_it_has() -> None:
    """C-24: two chunks that fit, a gap for the third, and the fourth, which came after a take (TPT 37)."""
    source = ScriptedSource(*one_by_one(b"abc"))
    async with pf.open_stream(source, NONE) as stream:
        events = stream.subscribe(pf.BestEffort(buffer_bytes=2, loss=Loss.DROP_NEWEST))
        await produced(stream, 3)
        assert text([await events.receive(), await events.receive()]) == b"ab"
        source.send(b"d", b"")

        assert await drain(events) == [pf.Gap(2, 3), pf.Chunk(b"d", 3)]
        events.close()


async def test_a_slow_line_reader_is_told_what_it_lost() -> None:
    """C-42: under drop-newest a slow reader gets its oldest lines, a gap with the size of the loss, and the end (TPT 38)."""
    source = ScriptedSource(*[b"line %d\n" % n for n in range(10)], b"")
    async with pf.open_stream(source, NONE) as stream:
        lines = stream.lines(pf.BestEffort(buffer_bytes=14, loss=Loss.DROP_NEWEST))
        await stream.wait_ended()

        assert [item async for item in lines] == ["line 0", "line 1", pf.Gap(14, 70)]


async def test_a_reader_that_left_holds_nothing_back() -> None:
    """C-29: what comes while nobody is attached is read and, without replay, gone; the next one gets what follows (TPT 40, 46, 62)."""
    source = ScriptedSource(b"first")
    async with pf.open_stream(source, NONE) as stream:
        async with stream.subscribe(pf.Reliable(buffer_bytes=1)) as events:
            assert await events.receive() == pf.Chunk(b"first", 0)
        source.send(*[b"x" * 512] * 8)
        await produced(stream, 5 + 4096)
        later = stream.subscribe()
        source.send(b"tail", b"")

        assert await drain(later) == [pf.Chunk(b"tail", 4101)]
        later.close()


async def test_any_number_may_wait_for_lines() -> None:
    """C-45: waits do not exclude each other: each gets its own line, two may get the same (TPT 42)."""
    source = ScriptedSource()
    async with pf.open_stream(source) as stream:
        waits = [stream.wait_for_line("b"), stream.wait_for_line("b"), stream.wait_for_line("c")]
        source.send(b"a\nb\nc\n")
        assert [(await wait).text for wait in waits] == ["b", "b", "c"]


@pytest.mark.parametrize("replay", [Replay.none(), Replay.all()])
async def test_closing_the_stream_wakes_everybody(replay: Replay) -> None:
    """C-21: a wait for a line and a subscriber end when the stream is closed, each with its own error (TPT 58, 75, 76)."""
    woken: list[str] = []
    async with pf.open_stream(ScriptedSource(), pf.StreamConfig(replay=replay)) as stream:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(pf.NotReadyError) as caught:
                    await stream.wait_for_line("never")
                assert isinstance(caught.value.__cause__, pf.StreamClosedError)
                woken.append("wait")

            async def receive() -> None:
                async with stream.subscribe(pf.BestEffort()) as events:
                    with pytest.raises(pf.StreamClosedError):
                        await events.receive()
                woken.append("subscriber")

            tasks.start_soon(wait)
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            stream.close()
    assert sorted(woken) == ["subscriber", "wait"]


@pytest.mark.parametrize(
    ("replay", "expected"),
    [
        (Replay.none(), b"new"),
        (Replay.all(), b"abcdnew"),
        (Replay.last_chunks(1), b"dnew"),
        (Replay.last_chunks(2), b"cdnew"),
        (Replay.last_bytes(3), b"bcdnew"),
        (Replay.while_unsubscribed(3), b"bcdnew"),
    ],
)
async def test_what_a_late_subscriber_gets(replay: Replay, expected: bytes) -> None:
    """C-26: each replay gives its history, to the byte, then live data; the first offset is right (TPT 59, 60, 64, 69, 70, 80, 81)."""
    source = ScriptedSource(*one_by_one(b"abcd"))
    async with pf.open_stream(source, pf.StreamConfig(replay=replay)) as stream:
        await produced(stream, 4)
        start = "live" if replay == Replay.none() else stream.retained()[1]
        late = stream.subscribe(start=start)  # type: ignore[arg-type]  # a literal or an offset
        assert late.statistics().start == 7 - len(expected)
        source.send(b"new", b"")

        assert text(await drain(late)) == expected
        late.close()


async def test_attaching_leaves_history_as_it_is() -> None:
    """C-26: history is neither consumed nor grown by those that read it (TPT 61)."""
    async with pf.open_stream(ScriptedSource(b"abc", b""), ALL) as stream:
        await stream.wait_ended()
        before = stream.statistics().retained_bytes
        for _ in range(3):
            async with stream.subscribe(start="start") as events:
                assert text(await drain(events)) == b"abc"
            assert (stream.retained(), stream.statistics().retained_bytes) == ((b"abc", 0), before)


@pytest.mark.parametrize("failure", [None, OSError(5, "boom")])
async def test_who_comes_after_the_end_without_replay(failure: OSError | None) -> None:
    """C-21: the ending alone, at once and as often as asked, though nothing is retained (TPT 65, 66, 71, 86)."""
    async with pf.open_stream(ScriptedSource(b"gone", failure or b""), NONE) as stream:
        await stream.wait_ended()
        async with stream.subscribe() as events:
            for _ in range(2):
                with pytest.raises(pf.StreamReadError if failure else anyio.EndOfStream):
                    events.receive_nowait()


async def test_sealing_makes_late_ones_begin_live() -> None:
    """C-27: after sealing nothing old is given to anybody new, a wait for an old line included (TPT 67, 68, 90 to 92)."""
    source = ScriptedSource(b"old\n")
    async with pf.open_stream(source, ALL) as stream:
        await produced(stream, 4)
        stream.seal_replay()
        assert stream.retained() == (b"", 4)
        late = stream.subscribe()
        with anyio.move_on_after(0.05) as scope:
            await stream.wait_for_line("old")
        assert scope.cancelled_caught
        wait = stream.wait_for_line("live")
        source.send(b"live\n", b"")

        assert (await wait).text == "live"
        assert await drain(late) == [pf.Chunk(b"live\n", 4)]
        late.close()


async def test_a_wait_from_before_sealing_keeps_its_history() -> None:
    """C-27: a wait that was asked for before still finds the old line; a reader beside it sees that line once (TPT 93, 94)."""
    source = ScriptedSource(b"old\n")
    async with pf.open_stream(source, ALL) as stream:
        await produced(stream, 4)
        wait, log = stream.wait_for_line("old"), stream.lines()
        stream.seal_replay()

        assert (await wait).text == "old"
        source.send(b"new\n", b"")
        assert [line async for line in log] == ["old", "new"]


async def test_tiny_reads_and_a_tiny_buffer_lose_nothing() -> None:
    """C-23: two bytes a read and a buffer of one: every line arrives (TPT 77)."""
    data = b"".join(b"line %d\n" % n for n in range(50))
    source = ScriptedSource(*[data[i : i + 2] for i in range(0, len(data), 2)], b"")
    async with pf.open_stream(source, NONE) as stream:
        lines = stream.lines(pf.Reliable(buffer_bytes=1))
        with anyio.fail_after(WAIT_S):
            assert [line async for line in lines] == [f"line {n}" for n in range(50)]


async def test_two_readers_get_every_byte() -> None:
    """C-23: 512 KiB in small reads, two subscribers that begin at the same moment: both get all of it (TPT 78)."""
    data = bytes(range(256)) * 2048
    source = ScriptedSource(*[data[i : i + 4096] for i in range(0, len(data), 4096)], b"")
    got: list[bytes] = []

    async def read(events: pf.Subscription) -> None:
        async with events:
            got.append(text(await drain(events)))

    with anyio.fail_after(WAIT_S):
        async with pf.open_stream(source, NONE) as stream, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(read, stream.subscribe(pf.Reliable(buffer_bytes=8192)))
    assert got == [data, data]


@pytest.mark.parametrize("replay", [Replay.none(), Replay.all()])
@pytest.mark.parametrize(
    ("loss", "buffer_bytes", "data", "expected"),
    [
        (Loss.DROP_OLDEST, 2, b"abc", [pf.Gap(0, 1), pf.Chunk(b"bc", 1)]),
        (Loss.DROP_OLDEST, 2, b"abcde", [pf.Gap(0, 3), pf.Chunk(b"de", 3)]),
        (Loss.DROP_OLDEST, 1, b"ab", [pf.Gap(0, 1), pf.Chunk(b"b", 1)]),
        (Loss.LATEST_ONLY, 2, b"abc", [pf.Gap(0, 2), pf.Chunk(b"c", 2)]),
        (Loss.DROP_NEWEST, 2, b"abcde", [pf.Chunk(b"ab", 0), pf.Gap(2, 5)]),
    ],
)
async def test_what_an_overflow_leaves(
    replay: Replay, loss: Loss, buffer_bytes: int, data: bytes, expected: list[Item]
) -> None:
    """C-24: the same loss on every stream, with replay or without: exactly the buffer, one gap, then EOF (TPT 83, 84, 95, 96, D6)."""
    async with pf.open_stream(ScriptedSource(*one_by_one(data), b""), pf.StreamConfig(replay=replay)) as stream:
        async with stream.subscribe(pf.BestEffort(buffer_bytes=buffer_bytes, loss=loss)) as events:
            await stream.wait_ended()
            assert await drain(events) == expected


@pytest.mark.parametrize("loss", Loss)
async def test_history_is_whole_although_somebody_lost_data(loss: Loss) -> None:
    """C-26: what a best-effort subscriber lost is in the history all the same (TPT 97, SV1)."""
    async with pf.open_stream(ScriptedSource(*one_by_one(b"abcdefgh"), b""), ALL) as stream:
        async with stream.subscribe(pf.BestEffort(buffer_bytes=2, loss=loss)) as slow:
            await stream.wait_ended()
            assert text(await drain(slow)) != b"abcdefgh"
        async with stream.subscribe(start="start") as late:
            assert await drain(late) == [pf.Chunk(b"abcdefgh", 0)]


@pytest.mark.parametrize("replay", [Replay.all(), Replay.last_bytes(100)])
async def test_a_chunk_in_flight_comes_once(replay: Replay) -> None:
    """C-26: a reliable subscriber that blocks the source leaves; its successor gets every byte once (TPT SV2)."""
    source = ScriptedSource(*one_by_one(b"abcd"), b"")
    async with pf.open_stream(source, pf.StreamConfig(replay=replay)) as stream:
        blocker = stream.subscribe(pf.Reliable(buffer_bytes=1))
        await anyio.wait_all_tasks_blocked()
        assert stream.statistics().stalled_by == (blocker.name,)
        blocker.close()
        successor = stream.subscribe(start="start")

        assert await drain(successor) == [pf.Chunk(b"abcd", 0)]
        successor.close()


@pytest.mark.parametrize("replay", [Replay.none(), Replay.all()])
@pytest.mark.parametrize(("loss", "chunks"), list(itertools.product(Loss, [1, 2, 8, 64])))
async def test_sustained_overload_never_starves_a_subscriber(replay: Replay, loss: Loss, chunks: int) -> None:
    """C-24: four times faster than its subscriber, for 400 takes: every take returns data (TPT SV4, FV1, BV1)."""
    source = ScriptedSource()
    async with pf.open_stream(source, pf.StreamConfig(replay=replay)) as stream:
        async with stream.subscribe(pf.BestEffort(buffer_bytes=chunks, loss=loss), start="live") as events:
            delivered = lost = 0
            for take in range(1, 401):
                source.send(*one_by_one(b"abcd"))
                await produced(stream, 4 * take)
                item = events.receive_nowait()
                if isinstance(item, pf.Gap):
                    lost += item.lost_bytes
                    item = events.receive_nowait()
                assert isinstance(item, pf.Chunk)
                assert item.offset == delivered + lost
                delivered += len(item.data)
            numbers = events.statistics()
            assert (numbers.delivered_bytes, numbers.lost_bytes) == (delivered, lost)
            assert delivered >= 400
            assert delivered + lost + numbers.lag_bytes == 1600
