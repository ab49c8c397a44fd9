"""One suite for streams over every kind of source: the promises do not depend on where the bytes come from."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from procflow._streams.stream import OutputStream
from procflow._streams.subscription import Subscription
from procflow.errors import HistoryLostError, StreamClosedError, StreamReadError
from procflow.events import Chunk, Gap, StreamEnding
from procflow.policies import BestEffort, Delivery, Loss, Reliable, Replay, Retention, Start, StreamConfig
from tests.core.streams.kinds import FAILING_KINDS, KINDS, LIVE_KINDS, Kind

pytestmark = pytest.mark.anyio

CONTENT = b"".join(b"%06d\n" % number for number in range(30_000))  # 210 KB, no two lines alike
DELIVERIES: tuple[Delivery, ...] = (
    Reliable(buffer_bytes=60_000),
    *[BestEffort(buffer_bytes=20_000, loss=loss) for loss in Loss],
)
REPLAYS = ("none", "last bytes", "last chunks", "all", "spill", "while unsubscribed")
STARTS: tuple[tuple[Start, int | None], ...] = (
    ("unread", None),
    ("start", None),
    ("live", None),
    (70_001, None),
    ("unread", 90_000),
    ("unread", 1 << 40),
)
any_kind = pytest.mark.parametrize("kind", KINDS)
live_kind = pytest.mark.parametrize("kind", LIVE_KINDS)


def make_config(replay: str, tmp_path: Path) -> StreamConfig:
    choices = {
        "none": Replay.none(),
        "last bytes": Replay.last_bytes(100_003),
        "last chunks": Replay.last_chunks(3),
        "all": Replay.all(),
        "spill": Replay.all(spill=tmp_path),
        "while unsubscribed": Replay.while_unsubscribed(150_000),
    }
    return StreamConfig(replay=choices[replay], read_bytes=16_384)


KEEP_ALL = StreamConfig(replay=Replay.all(), read_bytes=16_384)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.001)


async def finish(source: Kind) -> None:
    await source.end()
    with anyio.fail_after(30):
        await source.stream.wait_ended()


async def take_all(events: Subscription, *, batch: bool) -> list[Chunk | Gap]:
    items: list[Chunk | Gap] = []
    while True:
        try:
            taken = await events.receive_batch() if batch else [await events.receive()]
        except anyio.EndOfStream:
            return items
        assert sum(isinstance(item, Gap) for item in taken) <= 1
        items += taken


def check_items(items: list[Chunk | Gap], start: int, *, loses: bool) -> None:
    """Each byte from ``start`` on is delivered, as it was sent, or reported lost, once, in order."""
    offset = start
    for item in items:
        if isinstance(item, Gap):
            assert loses
            assert item.start == offset
            assert item.lost_bytes > 0
        else:
            assert item.offset == offset
            assert item.data
            assert item.data == CONTENT[offset : item.stop]
        offset = item.stop
    assert offset == len(CONTENT)


@any_kind
@pytest.mark.parametrize("replay", REPLAYS)
async def test_subscribers_get_the_exact_bytes(kind: type[Kind], replay: str, tmp_path: Path) -> None:
    """C-30, C-20, C-24 and C-25: live, under every delivery, item by item and in batches: exact bytes and offsets, each loss counted."""
    async with kind().open(make_config(replay, tmp_path), b"" if kind.is_live else CONTENT, tmp_path) as source:
        subscriptions = [source.stream.subscribe(delivery) for delivery in DELIVERIES * 2]

        async def read(number: int, events: Subscription) -> None:
            items = await take_all(events, batch=number < len(DELIVERIES))
            check_items(items, 0, loses=isinstance(DELIVERIES[number % len(DELIVERIES)], BestEffort))
            numbers = events.statistics()
            assert numbers.delivered_bytes + numbers.lost_bytes == len(CONTENT)
            assert numbers.lag_bytes == 0
            events.close()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number, events in enumerate(subscriptions):
                    tasks.start_soon(read, number, events)
                if kind.is_live:
                    for start in range(0, len(CONTENT), 9_999):
                        await source.send(CONTENT[start : start + 9_999])
                await source.end()
        assert source.stream.ending is StreamEnding.EOF
        assert source.stream.produced_bytes == len(CONTENT)


@any_kind
@pytest.mark.parametrize("replay", REPLAYS)
@pytest.mark.parametrize("has_been_read", [False, True])
async def test_late_subscribers_get_what_the_replay_promises(
    kind: type[Kind], replay: str, has_been_read: bool, tmp_path: Path
) -> None:
    """C-30 and C-26: every replay, start and delivery: history exactly once, or an error, or one leading Gap; never silently late."""
    config = make_config(replay, tmp_path)
    async with kind().open(config, b"" if kind.is_live else CONTENT, tmp_path) as source:
        stream = source.stream
        given = 0
        if kind.is_live:
            await source.send(CONTENT[:5000])
            if has_been_read:
                async with stream.subscribe(Reliable(), start="start" if replay != "none" else "live") as events:
                    if replay != "none":
                        given = (await events.receive()).stop
            async with anyio.create_task_group() as tasks:  # a source may hold less than all of it
                tasks.start_soon(source.send, CONTENT[5000:])
        await finish(source)

        total, floor = len(CONTENT), floor_of(stream, config.replay, given)
        attached: list[tuple[Subscription, int]] = []  # all before the first take, which may end what the replay keeps
        for delivery in DELIVERIES:
            for start, last_bytes in STARTS:
                unread = total if replay == "none" else given
                asked = start if isinstance(start, int) else {"unread": unread, "start": 0, "live": total}[start]
                if last_bytes is not None:
                    asked = max(0, total - last_bytes)
                if asked < floor and isinstance(delivery, Reliable):
                    with pytest.raises(HistoryLostError) as caught:
                        stream.subscribe(delivery, start=start, last_bytes=last_bytes)
                    assert caught.value.lost_bytes == floor - asked
                else:
                    attached.append((stream.subscribe(delivery, start=start, last_bytes=last_bytes), asked))
        for number, (events, asked) in enumerate(attached):
            items = await take_all(events, batch=number % 2 == 0)
            check_items(items, asked, loses=asked < floor)
            assert sum(item.lost_bytes for item in items if isinstance(item, Gap)) == max(0, floor - asked)
            events.close()


def floor_of(stream: OutputStream, replay: Replay, given: int) -> int:
    total = stream.produced_bytes
    match replay.retention:
        case Retention.NONE:
            return total
        case Retention.LAST_BYTES:
            return total - replay.bound
        case Retention.LAST_CHUNKS:
            assert stream.retained()[1] < total
            return stream.retained()[1]
        case Retention.ALL:
            return 0
        case Retention.WHILE_UNSUBSCRIBED:
            return max(given, total - replay.bound)


@live_kind
@pytest.mark.parametrize("replay", ["all", "spill", "while unsubscribed"])
async def test_late_subscribers_of_a_blocked_stream(kind: type[Kind], replay: str, tmp_path: Path) -> None:
    """C-30, C-23 and C-26: attached while a reliable subscriber blocks the pump, everyone gets history, then live, once."""
    config = make_config(replay, tmp_path)
    async with kind().open(config, b"", tmp_path) as source, anyio.create_task_group() as tasks:
        stream = source.stream
        blocker = stream.subscribe(Reliable(buffer_bytes=40_000), name="blocker")

        async def send() -> None:
            await source.send(CONTENT)
            await source.end()

        tasks.start_soon(send)
        await until(lambda: "blocker" in stream.statistics().stalled_by)
        assert stream.produced_bytes <= 40_000 + 50_000  # and one read
        late = [stream.subscribe(delivery, start="start") for delivery in DELIVERIES]
        late.append(stream.subscribe(Reliable(buffer_bytes=1 << 20), start="start"))
        blocker.close()

        async def read(events: Subscription, delivery: Delivery) -> None:
            check_items(await take_all(events, batch=True), 0, loses=isinstance(delivery, BestEffort))
            events.close()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as readers:
                for events, delivery in zip(late, [*DELIVERIES, Reliable()], strict=True):
                    readers.start_soon(read, events, delivery)


@any_kind
async def test_the_end_reaches_everybody_and_stays(kind: type[Kind], tmp_path: Path) -> None:
    """C-30 and C-21: EOF comes after all bytes, to early and late subscribers, as often as they ask."""
    async with kind().open(KEEP_ALL, b"some\nbytes", tmp_path) as source:
        early = source.stream.subscribe(start="start")
        await finish(source)
        late = source.stream.subscribe(start="start")
        for events in (early, late):
            assert b"".join(item.data for item in await take_all(events, batch=True) if isinstance(item, Chunk)) == (
                b"some\nbytes"
            )
            for _ in range(2):
                with pytest.raises(anyio.EndOfStream):
                    await events.receive()
            events.close()
        assert source.stream.ending is StreamEnding.EOF


@pytest.mark.parametrize("kind", FAILING_KINDS)
async def test_a_failure_is_no_end(kind: type[Kind], tmp_path: Path) -> None:
    """C-30 and C-21: bytes read before a failure come first; it is told to early and late subscribers with its cause, and is no EOF."""
    async with kind().open(KEEP_ALL, b"", tmp_path) as source:
        early = source.stream.subscribe()
        await source.send(b"some\nbytes")
        await until(lambda: source.stream.produced_bytes == 10)
        await source.fail()
        with anyio.fail_after(30):
            await source.stream.wait_ended()
        late = source.stream.subscribe(start="start")
        for events in (early, late):
            assert await events.receive() == Chunk(b"some\nbytes", 0)
            for _ in range(2):
                with pytest.raises(StreamReadError) as caught:
                    await events.receive()
                assert caught.value.__cause__ is not None
            events.close()
        assert source.stream.ending is StreamEnding.READ_FAILED


@live_kind
async def test_closing_while_everybody_waits(kind: type[Kind], tmp_path: Path) -> None:
    """C-30 and C-21: closing wakes who waits, gives what was read, and is told apart from an end."""
    async with kind().open(KEEP_ALL, b"some\nbytes", tmp_path) as source, anyio.create_task_group() as tasks:
        stream = source.stream

        async def read_items() -> None:
            with pytest.raises(StreamClosedError):
                async for item in stream.subscribe(start="start"):
                    assert item == Chunk(b"some\nbytes", 0)

        async def read_lines() -> None:
            lines: list[str] = []
            with pytest.raises(StreamClosedError):
                async for line in stream.lines(start="start"):
                    lines.append(line)
            assert lines == ["some", "bytes"]

        await until(lambda: stream.produced_bytes == 10)
        tasks.start_soon(read_items)
        tasks.start_soon(read_lines)
        await until(lambda: len(stream.statistics().subscribers) == 2)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(30):
            stream.close()
            stream.close()
            await stream.wait_ended()
        assert stream.ending is StreamEnding.CLOSED


@live_kind
@pytest.mark.parametrize("how", ["leave", "cancel", "drop", "drop lines"])
async def test_whoever_leaves_holds_nobody_back(kind: type[Kind], how: str, tmp_path: Path) -> None:
    """C-30 and C-29: a subscriber that blocked the source is gone at once however it leaves; the next one goes on without a hole."""
    async with kind().open(KEEP_ALL, b"", tmp_path) as source, anyio.create_task_group() as tasks:
        stream = source.stream
        delivery = Reliable(buffer_bytes=20_000)
        events: object = stream.lines(delivery) if how == "drop lines" else stream.subscribe(delivery)

        async def send() -> None:
            await source.send(CONTENT)
            await source.end()

        tasks.start_soon(send)
        await until(lambda: bool(stream.statistics().stalled_by))
        if how == "leave":
            async with events:  # type: ignore[attr-defined]  # a subscription or a reader
                pass
        elif how == "cancel":
            with anyio.CancelScope() as scope:
                async with events:  # type: ignore[attr-defined]  # as above
                    scope.cancel()
                    await anyio.sleep(1)
        else:
            del events
            gc.collect()
        with anyio.fail_after(30):
            await stream.wait_ended()
        assert stream.statistics().subscribers == ()
        async with stream.subscribe(start="start") as again:
            check_items(await take_all(again, batch=True), 0, loses=False)


@live_kind
async def test_a_cancelled_wait_takes_nothing(kind: type[Kind], tmp_path: Path) -> None:
    """C-30 and C-29: takes that are cancelled while they wait lose and repeat nothing."""
    async with kind().open(KEEP_ALL, b"", tmp_path) as source, source.stream.subscribe() as events:
        items: list[Chunk | Gap] = []
        for start in range(0, 50_000, 5_000):
            for _ in range(3):
                with anyio.move_on_after(0):
                    items.append(await events.receive())
            await source.send(CONTENT[start : start + 5_000])
        with anyio.fail_after(30):
            while not items or items[-1].stop < 50_000:
                items += await events.receive_batch()
        data = b"".join(item.data for item in items if isinstance(item, Chunk))
        assert data == CONTENT[:50_000]


@any_kind
async def test_lines_are_the_same(kind: type[Kind], tmp_path: Path) -> None:
    """C-30 and C-40: lines, batches of lines and the wait for a line do not depend on the source."""
    async with kind().open(KEEP_ALL, b"" if kind.is_live else CONTENT, tmp_path) as source:
        async with anyio.create_task_group() as tasks:
            if kind.is_live:

                async def send() -> None:
                    await source.send(CONTENT)
                    await source.end()

                tasks.start_soon(send)
            with anyio.fail_after(30):
                assert (await source.stream.wait_for_line("^029000$")).stop == 7 * 29_001
        await source.stream.wait_ended()
        lines = [line async for line in source.stream.lines(start="start")]
        assert lines == CONTENT.decode().splitlines()
        assert [line async for batch in source.stream.line_batches(start="start") for line in batch] == lines


@any_kind
@pytest.mark.parametrize("replay", REPLAYS)
async def test_sealing_keeps_who_is_there_whole(kind: type[Kind], replay: str, tmp_path: Path) -> None:
    """C-30 and C-27: after a seal, who was attached gets everything, who comes later gets live data and the ending."""
    config = make_config(replay, tmp_path)
    async with kind().open(config, b"" if kind.is_live else CONTENT, tmp_path) as source:
        stream = source.stream
        early = stream.subscribe(Reliable(buffer_bytes=1 << 20), start="live" if stream.produced_bytes else "unread")
        assert stream.produced_bytes == 0
        if kind.is_live:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(source.send, CONTENT)
                await until(lambda: stream.produced_bytes > 50_000)
                stream.seal_replay()
                stream.seal_replay()
        await finish(source)
        stream.seal_replay()
        with pytest.raises(HistoryLostError):
            stream.subscribe(start="start")
        async with stream.subscribe() as late:
            with pytest.raises(anyio.EndOfStream):
                await late.receive()
        check_items(await take_all(early, batch=False), 0, loses=False)
        early.close()
        assert stream.statistics().retained_bytes <= 20_000 + 50_000  # the newest read


@any_kind
async def test_no_descriptor_is_left(kind: type[Kind], tmp_path: Path) -> None:
    """C-30 and C-21: whatever the source is, leaving the block in the middle of it closes all that it had."""
    async with kind().open(KEEP_ALL, b"x\n", tmp_path):  # whatever a first use keeps for good
        pass
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    async with kind().open(KEEP_ALL, b"x\n", tmp_path) as source:
        async with source.stream.subscribe(start="start") as events:
            await events.receive()
    await anyio.wait_all_tasks_blocked()
    del source, events
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= len(before)
