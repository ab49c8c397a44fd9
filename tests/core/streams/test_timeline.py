"""Two outputs as one timeline, in the order they were read."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

import procflow as pf
from procflow._streams.log.log import StreamLog
from procflow._streams.stream import OutputStream
from procflow._streams.timeline import journal as journal_module
from procflow._streams.timeline.journal import Journal, Merge
from procflow._streams.timeline.readers import TimelineSubscription
from procflow._streams.timeline.timeline import Timeline
from procflow._streams.waking import running
from procflow.errors import HistoryLostError, LinesLostError, LineTooLongError, StallError, StreamReadError
from procflow.events import Chunk, Gap, OutputName, StreamEnding, Tagged
from procflow.policies import (
    BestEffort,
    Delivery,
    LineConfig,
    Loss,
    OnGap,
    Overflow,
    Reliable,
    Replay,
    StreamConfig,
)
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio


class Two:
    """A timeline of two scripted outputs; what is sent is read before the call returns."""

    def __init__(self, out: ScriptedSource, err: ScriptedSource, streams: dict[OutputName, OutputStream]) -> None:
        self.sources = {"stdout": out, "stderr": err}
        self.streams = streams
        self.timeline = Timeline(streams)

    async def send(self, *items: tuple[OutputName, bytes | Exception]) -> None:
        for name, item in items:
            self.sources[name].send(item)
            stream = self.streams[name]
            stop = stream.produced_bytes + len(item) if isinstance(item, bytes) and item else None
            with anyio.fail_after(10):
                while stream.ending is None if stop is None else stream.produced_bytes < stop:
                    await checkpoint()


@asynccontextmanager
async def two(replay: Replay | None = None) -> AsyncIterator[Two]:
    config = StreamConfig() if replay is None else StreamConfig(replay=replay)
    out, err = ScriptedSource(), ScriptedSource()
    streams: dict[OutputName, OutputStream] = {
        "stdout": OutputStream(out, config, name="stdout"),
        "stderr": OutputStream(err, config, name="stderr"),
    }
    made = Two(out, err, streams)
    async with running("pumps", streams["stdout"].pump, streams["stderr"].pump):
        yield made


def texts(items: list[Tagged[Chunk | Gap]]) -> list[tuple[str, object]]:
    return [(one.source, one.item.data if isinstance(one.item, Chunk) else one.item) for one in items]


async def rest_of(events: TimelineSubscription) -> list[tuple[str, object]]:
    return texts([item async for item in events])


ORDER: list[tuple[OutputName, bytes]] = [
    ("stdout", b"a1 "),
    ("stderr", b"b1 "),
    ("stdout", b"a2 "),
    ("stdout", b"a3 "),
    ("stderr", b"b2 "),
    ("stdout", b"a4 "),
]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    "delivery", [Reliable(), *[BestEffort(loss=loss) for loss in Loss if loss is not Loss.LATEST_ONLY]]
)
async def test_items_come_in_the_order_they_were_read(delivery: Delivery, batch: bool, late: bool) -> None:
    """C-32: tagged items of both outputs come in the order of the reads, live and replayed, then one ending."""
    async with two() as both:
        events = None if late else both.timeline.subscribe(delivery)
        await both.send(*ORDER, ("stdout", b""), ("stderr", b""))
        if events is None:
            events = both.timeline.subscribe(delivery)
        items = texts(await events.receive_batch()) if batch else await rest_of(events)
        assert items == ORDER
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await events.receive()
            with pytest.raises(anyio.EndOfStream):
                events.receive_batch_nowait()
        events.close()


async def test_joined_chunks_are_cut_where_the_other_output_came_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-32: chunks that the log has joined are cut again, so order and bytes are exact; what nothing came between stays whole."""
    from procflow._streams.log import log as log_module

    monkeypatch.setattr(log_module, "JOIN_AT_CHUNKS", 1)
    async with two() as both:
        await both.send(*ORDER, ("stdout", b"a5 "), ("stdout", b""), ("stderr", b""))
        async with both.timeline.subscribe() as events:
            got = await rest_of(events)
        assert got[2] == ("stdout", b"a2 a3 ")  # two reads, one chunk
        assert [(name, bytes([byte])) for name, data in got if isinstance(data, bytes) for byte in data] == [
            (name, bytes([byte])) for name, data in [*ORDER, ("stdout", b"a5 ")] for byte in data
        ]


async def test_waiting_wakes_for_either_output() -> None:
    """C-32: a subscriber that waits gets what comes first, whichever output it comes from."""
    async with two() as both, both.timeline.subscribe() as events:
        got: list[tuple[str, object]] = []

        async def read() -> None:
            got.extend(await rest_of(events))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for number in range(20):
                await anyio.wait_all_tasks_blocked()
                await both.send(("stderr" if number % 3 else "stdout", b"%d" % number))
            await both.send(("stderr", b""), ("stdout", b"last"), ("stdout", b""))
        assert got == [("stderr" if n % 3 else "stdout", b"%d" % n) for n in range(20)] + [("stdout", b"last")]


@pytest.mark.parametrize("loss", Loss)
async def test_gaps_are_tagged_and_accounted_for_each_output(loss: Loss) -> None:
    """C-32 and C-25: each output's delivered + lost == produced; a Gap is tagged, and data of that output follows it."""
    async with two() as both, both.timeline.subscribe(BestEffort(buffer_bytes=40, loss=loss)) as events:
        got: list[Tagged[Chunk | Gap]] = []
        for _ in range(20):
            for number in range(12):
                await both.send(("stdout", b"x" * (number + 1)), ("stderr", b"y" * 5))
            batch = await events.receive_batch()
            for name in ("stdout", "stderr"):
                mine = [one.item for one in batch if one.source == name]
                assert sum(isinstance(item, Gap) for item in mine) <= 1
                assert not mine or isinstance(mine[-1], Chunk)
            got += batch
        await both.send(("stdout", b""), ("stderr", b""))
        got += [item async for item in events]
        for name, numbers in events.statistics().items():
            mine = [one.item for one in got if one.source == name]
            delivered = sum(len(item.data) for item in mine if isinstance(item, Chunk))
            lost = sum(item.lost_bytes for item in mine if isinstance(item, Gap))
            assert (numbers.delivered_bytes, numbers.lost_bytes, numbers.lag_bytes) == (delivered, lost, 0)
            assert delivered + lost == both.streams[name].produced_bytes
            assert lost > 0


async def test_a_reliable_subscriber_holds_each_output_back() -> None:
    """C-32 and C-23: the buffer holds for each output; statistics of each name the subscriber."""
    async with two() as both, both.timeline.subscribe(Reliable(buffer_bytes=100), name="view") as events:
        both.sources["stdout"].send(*[b"x" * 10] * 50, b"")
        await both.send(("stderr", b"still read"), ("stderr", b""))
        await anyio.wait_all_tasks_blocked()
        assert both.streams["stdout"].produced_bytes == 100
        assert both.streams["stdout"].statistics().stalled_by == ("view",)
        assert both.streams["stderr"].statistics().stalled_by == ()
        assert sum(len(data) for _, data in await rest_of(events) if isinstance(data, bytes)) == 510


async def test_a_failure_of_one_output_comes_last() -> None:
    """C-32 and C-21: when one output fails, the other is read to its end; then the failure is raised, each time anew."""
    async with two(Replay.all()) as both, both.timeline.subscribe() as events:
        await both.send(("stdout", b"one"), ("stdout", OSError("boom")), ("stderr", b"two"), ("stderr", b""))
        assert [await events.receive() for _ in range(2)] == [
            Tagged("stdout", Chunk(b"one", 0)),
            Tagged("stderr", Chunk(b"two", 0)),
        ]
        errors = []
        for _ in range(2):
            with pytest.raises(StreamReadError) as caught:
                await events.receive()
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        lines = both.timeline.lines(start="start")
        assert [await anext(lines) for _ in range(2)] == [Tagged("stdout", "one"), Tagged("stderr", "two")]
        with pytest.raises(StreamReadError):
            await anext(lines)


async def test_a_stalled_subscriber_is_detached_from_both() -> None:
    """C-32 and C-23: who stalls one output is detached from all, and told so."""
    async with two() as both, both.timeline.subscribe(Reliable(buffer_bytes=10, stall_timeout_s=0.02)) as events:
        both.sources["stdout"].send(*[b"x" * 10] * 5, b"")
        with anyio.fail_after(10):
            await both.streams["stdout"].wait_ended()
        for _ in range(2):
            with pytest.raises(StallError):
                await events.receive()
        assert both.streams["stderr"].statistics().subscribers == ()
        both.sources["stderr"].send(*[b"x" * 10] * 5, b"")
        with anyio.fail_after(10):
            await both.streams["stderr"].wait_ended()


@pytest.mark.parametrize("how", ["leave", "close", "cancel", "drop", "lines", "drop lines"])
async def test_leaving_detaches_from_both(how: str) -> None:
    """C-32 and C-29: leaving, closing, cancelling or dropping a reader of a timeline releases every output at once."""
    async with two() as both:
        events: object = both.timeline.lines() if "lines" in how else both.timeline.subscribe()
        await both.send(("stdout", b"x"), ("stderr", b"y"))
        assert [len(stream.statistics().subscribers) for stream in both.streams.values()] == [1, 1]
        if how == "leave":
            async with events:  # type: ignore[attr-defined]
                pass
        elif how == "cancel":
            with anyio.CancelScope() as scope:
                async with events:  # type: ignore[attr-defined]
                    scope.cancel()
                    await checkpoint()
        elif how.startswith("drop"):
            del events
            gc.collect()
        else:
            await events.aclose()  # type: ignore[attr-defined]
            await events.aclose()  # type: ignore[attr-defined]
            with pytest.raises(anyio.ClosedResourceError):
                await anext(events)  # type: ignore[call-overload]
        assert [stream.statistics().subscribers for stream in both.streams.values()] == [(), ()]


async def test_closing_wakes_a_waiting_reader() -> None:
    """C-32: a task that waits in receive() or for a line when its reader is closed is told so."""
    async with two() as both:
        events, lines = both.timeline.subscribe(), both.timeline.lines()

        async def wait(reader: object) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await anext(reader)  # type: ignore[call-overload]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, events)
            tasks.start_soon(wait, lines)
            await anyio.wait_all_tasks_blocked()
            events.close()
            lines.close()


async def test_cancelled_waits_leave_nothing_behind() -> None:
    """C-32 and C-29: a receive that is cancelled has taken nothing, and no sleeper of it stays."""
    async with two() as both, both.timeline.subscribe() as events:
        for _ in range(50):
            with anyio.move_on_after(0):
                await events.receive()
        await both.send(("stderr", b"x"))
        assert await events.receive() == Tagged("stderr", Chunk(b"x", 0))
        with pytest.raises(anyio.WouldBlock):
            events.receive_nowait()
        with pytest.raises(anyio.WouldBlock):
            events.receive_batch_nowait()


async def test_attaching_is_for_both_or_none() -> None:
    """C-32 and C-26: if the history of one output is gone, the reliable subscriber is attached to neither."""
    async with two(Replay.last_bytes(10)) as both:
        await both.send(("stdout", b"x"), ("stderr", b"y" * 20))
        for attach in (both.timeline.subscribe, both.timeline.lines):
            with pytest.raises(HistoryLostError):
                attach(start="start")
        assert [stream.statistics().subscribers for stream in both.streams.values()] == [(), ()]
        async with both.timeline.subscribe(BestEffort(), start="start") as events:
            assert texts(await events.receive_batch()) == [
                ("stdout", b"x"),
                ("stderr", Gap(0, 10)),
                ("stderr", b"y" * 10),
            ]
        with pytest.raises(ValueError, match="start"):
            both.timeline.subscribe(start=3)  # type: ignore[arg-type]  # the subject


async def test_lines_come_when_they_are_complete() -> None:
    """C-32 and C-40: a line that is interrupted by lines of the other output comes after them; last lines come with the end."""
    async with two() as both:
        lines = both.timeline.lines()
        await both.send(
            ("stdout", b"one\ntw"),
            ("stderr", b"warn\nhal"),
            ("stdout", b"o\nthree\n"),
            ("stderr", b"f"),
            ("stderr", b""),
            ("stdout", b"end"),
            ("stdout", b""),
        )
        assert [(one.source, one.item) async for one in lines] == [
            ("stdout", "one"),
            ("stderr", "warn"),
            ("stdout", "two"),
            ("stdout", "three"),
            ("stderr", "half"),
            ("stdout", "end"),
        ]
        with pytest.raises(anyio.ClosedResourceError):
            await anext(lines)


async def test_the_last_line_of_an_ended_output_does_not_wait_for_the_other() -> None:
    """C-32: an unterminated last line comes as soon as its output has ended."""
    async with two() as both, both.timeline.lines() as lines:
        await both.send(("stderr", b"last words"), ("stderr", b""))
        with anyio.fail_after(10):
            assert await anext(lines) == Tagged("stderr", "last words")


async def test_lines_left_unread_belong_to_the_next_reader() -> None:
    """C-32 and C-26: lines that were taken and not yielded, of either output, come again for the next subscriber."""
    async with two() as both:
        await both.send(("stdout", b"1\n2\n3\n"), ("stderr", b"a\nb\n"), ("stdout", b"4\n"))
        async for line in both.timeline.lines():
            assert line == Tagged("stdout", "1")
            break
        async with both.timeline.lines() as lines:
            assert [(await anext(lines)).item for _ in range(3)] == ["2", "3", "a"]
        await both.send(("stdout", b""), ("stderr", b""))
        assert [line.item async for line in both.timeline.lines()] == ["b", "4"]


async def test_lines_of_both_outputs_count_as_given() -> None:
    """C-32 and C-26: once the reader has gone on, the lines of either output that it gave are nobody's any more."""
    async with two() as both, both.timeline.lines() as lines:
        await both.send(("stdout", b"1\n"), ("stderr", b"a\n"), ("stderr", b"b\n"))
        assert [(await anext(lines)).item for _ in range(2)] == ["1", "a"]
        await both.send(("stdout", b"2\n"))
        async with both.streams["stdout"].subscribe() as events:
            assert await events.receive() == Chunk(b"2\n", 2)


@pytest.mark.parametrize("on_gap", ["yield", "skip", "raise", None])
async def test_line_readers_choose_how_they_see_gaps(on_gap: OnGap | None) -> None:
    """C-32 and C-42: a gap between lines is tagged, left out, or raised."""
    async with two() as both:
        lines = both.timeline.lines(BestEffort(buffer_bytes=25), on_gap=on_gap)
        for number in range(100):
            await both.send(("stdout", b"line %03d\n" % number))
        await both.send(("stderr", b"fine\n"), ("stdout", b""), ("stderr", b""))
        if on_gap == "raise":
            with pytest.raises(LinesLostError):
                async for _ in lines:
                    pass
            return
        items = [(one.source, one.item) async for one in lines]
        gaps = [] if on_gap == "skip" else [("stdout", Gap(0, 882))]
        assert items == [*gaps, ("stdout", "line 098"), ("stdout", "line 099"), ("stderr", "fine")]


async def test_an_overlong_line_ends_the_reader_on_request() -> None:
    """C-32 and C-41: an error of one output's lines is raised in its turn, after the lines before it, and detaches from both."""
    async with two() as both:
        lines = both.timeline.lines(config=LineConfig(max_line_bytes=10, overflow=Overflow.ERROR))
        await both.send(("stderr", b"ok\n"), ("stdout", b"fine\n" + b"x" * 50 + b"\n"), ("stderr", b"later\n"))
        assert [(await anext(lines)).item for _ in range(2)] == ["ok", "fine"]
        with pytest.raises(LineTooLongError):
            await anext(lines)
        assert [stream.statistics().subscribers for stream in both.streams.values()] == [(), ()]


async def test_spilled_history_is_merged_too(tmp_path: Path) -> None:
    """C-32 and C-28: history that must be loaded from files comes in order as well."""
    async with two(Replay.all(spill=tmp_path)) as both:
        order: list[tuple[OutputName, bytes]] = []
        for number in range(40):
            order += [("stdout", b"%06d" % number * 10_000), ("stderr", b"%03d" % number * 3_000)]
        await both.send(*order, ("stdout", b""), ("stderr", b""))
        got: list[tuple[str, bytes]] = []
        async with both.timeline.subscribe() as events:
            async for one in events:
                assert isinstance(one.item, Chunk)
                if got and got[-1][0] == one.source:
                    got[-1] = (one.source, got[-1][1] + one.item.data)
                else:
                    got.append((one.source, one.item.data))
        assert got == order


async def test_a_process_has_one_timeline() -> None:
    """C-32: child.output tags what the child writes to either output, in order when it waits in between."""
    script = "for i in 1 2 3; do echo out$i; read x; echo err$i >&2; read x; done"
    async with pf.spawn(pf.Command("sh", "-c", script), stdin=pf.PIPE) as child:
        got = []
        async with child.output.lines() as lines:
            async for line in lines:
                got.append((line.source, line.item))
                await child.stdin.send(b"\n")
    assert got == [pair for n in (1, 2, 3) for pair in (("stdout", f"out{n}"), ("stderr", f"err{n}"))]


async def test_outputs_that_are_no_streams_are_left_out() -> None:
    """C-32: with one stream everything comes from it; with none there is no timeline; merged output comes from stdout."""
    both = pf.shell("echo out; echo err >&2")
    async with pf.spawn(both, stderr=pf.NULL) as child:
        assert child.output.sources == ("stdout",)
        assert [line async for line in child.output.lines()] == [Tagged("stdout", "out")]
    async with pf.spawn(both, stdout=pf.NULL) as child:
        assert [line async for line in child.output.lines()] == [Tagged("stderr", "err")]
    async with pf.spawn(both, merge_stderr=True) as child:
        assert [line async for line in child.output.lines()] == [Tagged("stdout", "out"), Tagged("stdout", "err")]
    async with pf.spawn(both, stdout=pf.NULL, stderr=pf.NULL) as child:
        with pytest.raises(pf.UsageError):
            child.output.subscribe()


async def test_two_outputs_at_full_speed_lose_nothing() -> None:
    """C-32 and C-25: a child that floods both outputs: every byte of each comes once, under every delivery accounted for."""
    script = "import os, sys\nfor n in range(3000):\n os.write(1 + n % 2, b'%06d\\n' % n * (1 + n % 50))"
    async with pf.spawn(pf.Command("python3", "-S", "-c", script)) as child:
        subscriptions = [child.output.subscribe(), child.output.subscribe(BestEffort(buffer_bytes=4096))]
        sums: list[dict[str, int]] = []

        async def read(events: TimelineSubscription) -> None:
            sums.append({"stdout": 0, "stderr": 0})
            mine = sums[-1]
            async for one in events:
                mine[one.source] += len(one.item.data) if isinstance(one.item, Chunk) else one.item.lost_bytes

        async with anyio.create_task_group() as tasks:
            for events in subscriptions:
                tasks.start_soon(read, events)
        expected = {"stdout": child.stdout.produced_bytes, "stderr": child.stderr.produced_bytes}
        assert sums == [expected, expected]
        assert child.stdout.ending is StreamEnding.EOF
        for numbers in subscriptions[0].statistics().values():
            assert numbers.lost_bytes == 0


# --- the journal ------------------------------------------------------------------------------------------------------


@given(
    appends=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 5)), max_size=60),
    takes=st.lists(st.integers(0, 60), max_size=10),
)
@settings(max_examples=300, deadline=None)
def test_a_merge_gives_the_order_of_appends(appends: list[tuple[int, int]], takes: list[int]) -> None:
    """C-32: whatever is appended between takes, the merged bytes are those of the appends, in their order."""
    journal = Journal()
    logs = [StreamLog(Replay.all(), name=str(source)) for source in (0, 1)]
    for source, log in enumerate(logs):
        log.journal = lambda produced, source=source: journal.note(source, produced)
    cursors = [log.attach(Reliable(buffer_bytes=1 << 20)) for log in logs]
    merge = Merge(journal, cursors)
    expected: list[int] = []
    got: list[int] = []

    def drain() -> None:
        while (source := merge.turn()) is not None:
            item = cursors[source].take()
            assert isinstance(item, Chunk)
            got.extend([source] * len(item.data))

    for number, (source, size) in enumerate(appends):
        logs[source].append(b"x" * size)
        expected += [source] * size
        if number in takes:
            drain()
            assert got == expected
    drain()
    assert got == expected
    assert journal.run_count <= max(1, len(appends))


def test_a_forgotten_order_loses_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-32: the journal is bounded; what is older than it comes in an approximate order, whole."""
    monkeypatch.setattr(journal_module, "MAX_RUNS", 10)
    journal = Journal()
    logs = [StreamLog(Replay.all(), name=str(source)) for source in (0, 1)]
    for number in range(1001):
        log = logs[number % 2]
        log.append(b"%03d" % (number % 1000))
        journal.note(number % 2, log.produced)
    assert len(journal._stops) < 20
    cursors = [log.attach(Reliable()) for log in logs]
    merge = Merge(journal, cursors)
    got: list[tuple[int, bytes]] = []
    while (source := merge.turn()) is not None:
        item = cursors[source].take()
        assert isinstance(item, Chunk)
        got.append((source, item.data))
    for source in (0, 1):
        assert b"".join(data for one, data in got if one == source) == logs[source].history()
    assert [source for source, _ in got[-5:]] == [0, 1, 0, 1, 0]  # the newest order is known


def test_a_journal_costs_little() -> None:
    """C-32 and C-28: the order of a million alternating reads takes at most 150 KiB, one source's reads nothing."""
    journal = Journal()
    for number in range(1_000_000):
        journal.note(number % 2, number)
    assert len(journal._stops) * 9 < 150 * 1024
    quiet = Journal()
    for number in range(1000):
        quiet.note(0, number)
    assert quiet.run_count == 1


async def test_a_reader_that_is_detached_gives_no_beginning_of_a_line() -> None:
    """C-32, C-40: half a line is not a line: whoever is detached for stalling gets its error, and the line is the next one's."""
    async with two(Replay.all()) as made:
        async with made.timeline.lines(Reliable(buffer_bytes=6, stall_timeout_s=0.001)) as lines:
            await made.send(("stdout", b"1\n234"))
            with anyio.fail_after(20):
                assert (await anext(lines)).item == "1"
                await made.send(("stdout", b"56\n"), ("stdout", b"78\n"), ("stdout", b""))
                with pytest.raises(StallError):
                    await anext(lines)
        with anyio.fail_after(20):
            assert [line async for line in made.streams["stdout"].lines()] == ["23456", "78"]
