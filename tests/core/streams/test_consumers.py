"""The kinds of consumers, over scripted sources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import procflow as pf
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio

TEXT = b"one\ntwo\nthree"


async def consumed(
    kind: pf.ConsumerKind[Any], *items: bytes | Exception, delivery: pf.Delivery | None = None
) -> pf.Consumed[Any]:
    """Give ``items`` and the end of the source to a consumer."""
    async with pf.open_stream(ScriptedSource(*items, b"")) as stream:
        consumer = stream.consume(kind, delivery=delivery or pf.Reliable())
        with anyio.fail_after(20):
            return await consumer.wait()


def later(callback: Callable[[object], object]) -> Callable[[object], Awaitable[object]]:
    """The same callback, async."""

    async def call(item: object) -> object:
        await anyio.lowlevel.checkpoint()
        return callback(item)

    return call


@pytest.mark.parametrize("is_async", [False, True])
async def test_inspect_gives_every_line_and_the_unterminated_tail(is_async: bool) -> None:
    """C-50: a callback, sync or async, with state, sees each line once (TPT 138, 144)."""
    seen: list[object] = []
    callback = later(seen.append) if is_async else seen.append

    result = await consumed(pf.Inspect.lines(callback), b"o", b"ne\ntwo\nth", b"ree")

    assert seen == ["one", "two", "three"]
    assert (result.value, result.ending, result.is_complete) == (3, pf.ConsumerEnding.EOF, True)
    assert (result.start, result.stop, result.delivered_bytes, result.lost_bytes) == (0, 13, 13, 0)


@pytest.mark.parametrize("is_async", [False, True])
async def test_inspect_gives_every_chunk(is_async: bool) -> None:
    """C-50: a callback for chunks sees every byte once, in order (TPT 45, 136, 137)."""
    seen: list[object] = []
    callback = later(seen.append) if is_async else seen.append

    result = await consumed(pf.Inspect.chunks(callback), b"ab", b"c" * 5, b"d")

    assert b"".join(item.data for item in seen if isinstance(item, pf.Chunk)) == b"abcccccd"
    assert (result.value, result.delivered_bytes) == (len(seen), 8)


async def test_inspect_gives_batches_of_lines() -> None:
    """C-50: a batch holds what is complete together."""
    batches: list[list[str]] = []

    result = await consumed(pf.Inspect.batches(batches.append), TEXT)

    assert [line for batch in batches for line in batch] == ["one", "two", "three"]
    assert all(batches)
    assert (result.value, result.delivered_bytes) == (len(batches), 13)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("unit", ["chunks", "lines", "batches"])
async def test_stop_ends_a_consumer_and_leaves_the_rest_to_others(unit: str, is_async: bool) -> None:
    """C-50: the answer STOP ends it at once, though the source goes on; the next subscriber begins behind it (TPT 44, 122, 139, 142, 143)."""
    seen: list[object] = []

    def callback(item: object) -> object:
        seen.append(item)
        return pf.STOP if len(seen) == 2 else None

    source = ScriptedSource(b"1\n2\n3\n")
    async with pf.open_stream(source) as stream:
        kind = getattr(pf.Inspect, unit)(later(callback) if is_async else callback)
        consumer = stream.consume(kind)
        await anyio.wait_all_tasks_blocked()
        source.send(b"4\n5\n")
        await anyio.wait_all_tasks_blocked()
        source.send(b"6\n")
        with anyio.fail_after(20):
            result = await consumer.wait()

            assert (len(seen), result.ending) == (2, pf.ConsumerEnding.STOPPED)
            assert result.delivered_bytes == result.stop == (4 if unit == "lines" else 10)
            assert not stream.statistics().subscribers
            assert await anext(stream.lines()) == ("3" if unit == "lines" else "6")


async def test_other_answers_mean_to_go_on() -> None:
    """C-50: there is one way to stop; what append() or write() return is none."""
    result = await consumed(pf.Inspect.lines(str.upper), TEXT)

    assert result.value == 3


@pytest.mark.parametrize("unit", ["lines", "batches"])
async def test_a_gap_is_told_and_joins_no_lines(unit: str) -> None:
    """C-42, C-50: the lines on the two sides of a gap stay apart, and the gap is told between them (TPT 38, 121, 135, 141)."""
    seen: list[object] = []
    source = ScriptedSource()
    started, go_on = anyio.Event(), anyio.Event()

    async def first(item: object) -> None:
        seen.extend(item if isinstance(item, list) else [item])
        started.set()
        await go_on.wait()

    kind = getattr(pf.Inspect, unit)(first, on_gap=seen.append)
    async with pf.open_stream(source) as stream:
        consumer = stream.consume(kind, delivery=pf.BestEffort(buffer_bytes=8))
        source.send(b"one\n")
        with anyio.fail_after(20):
            await started.wait()
        source.send(b"half", b" lost\nand ", b"more\nlast\nend", b"")
        await stream.wait_ended()
        go_on.set()
        with anyio.fail_after(20):
            result = await consumer.wait()

    gap = seen[1]
    assert isinstance(gap, pf.Gap)
    assert (seen[0], seen[-1]) == ("one", "end")
    assert not [line for line in seen if isinstance(line, str) and "half" in line]
    assert result.gaps == 1
    assert result.lost_bytes == gap.lost_bytes
    assert result.delivered_bytes + result.lost_bytes == result.stop == stream.produced_bytes
    assert not result.is_complete


async def test_an_async_callback_that_waits_holds_a_reliable_child_back() -> None:
    """C-23, C-50: while a callback is awaited the source is not read beyond the buffer."""
    source = ScriptedSource(*[b"x" * 10] * 50, b"")
    go_on = anyio.Event()

    async def callback(_chunk: pf.Chunk) -> None:
        await go_on.wait()

    async with pf.open_stream(source) as stream:
        consumer = stream.consume(pf.Inspect.chunks(callback), delivery=pf.Reliable(buffer_bytes=20), name="slow")
        await anyio.wait_all_tasks_blocked()

        assert stream.statistics().stalled_by == ("slow",)
        assert consumer.is_finished is False
        assert source.reads < 10
        go_on.set()
        with anyio.fail_after(20):
            assert (await consumer.wait()).delivered_bytes == 500


async def test_fold_carries_a_value() -> None:
    """C-50: a fold over lines, chunks or batches gives what a loop would."""
    lines = await consumed(pf.Fold.lines(0, lambda total, line: total + len(line)), TEXT)
    chunks = await consumed(pf.Fold.chunks(b"", lambda data, chunk: data + chunk.data), TEXT)
    batches = await consumed(pf.Fold.batches(0, lambda count, batch: count + len(batch)), TEXT)

    assert (lines.value, chunks.value, batches.value) == (11, TEXT, 3)


async def test_wait_finds_a_line_and_its_groups() -> None:
    """C-50: the first line that matches ends it, the last unterminated one too; the value is the match (TPT 154, 155)."""
    middle = await consumed(pf.WaitFor(r"t(?P<rest>w.)"), TEXT)
    last = await consumed(pf.WaitFor(lambda line: line.startswith("th")), TEXT)

    assert isinstance(middle.value, pf.LineMatch)
    assert (middle.value.text, middle.value.named, middle.value.stop) == ("two", {"rest": "wo"}, 8)
    assert middle.ending is pf.ConsumerEnding.STOPPED
    assert isinstance(last.value, pf.LineMatch)
    assert (last.value.text, last.value.stop) == ("three", 13)


async def test_wait_without_a_match_ends_with_the_source() -> None:
    """C-50: no match is no error: the value is None (TPT 156, 160)."""
    result = await consumed(pf.WaitFor("none"), TEXT)

    assert (result.value, result.ending) == (None, pf.ConsumerEnding.EOF)


async def test_wait_sees_what_was_written_before_and_stays_out_of_the_way() -> None:
    """C-45, C-50: it may be made before the output and awaited after the end; others see the line as well (TPT 57)."""
    source = ScriptedSource()
    async with pf.open_stream(source) as stream:
        consumer = stream.consume(pf.WaitFor("two"))
        lines = stream.lines()
        source.send(TEXT, b"")
        with anyio.fail_after(20):
            assert [line async for line in lines] == ["one", "two", "three"]
            assert isinstance((await consumer.wait()).value, pf.LineMatch)


async def test_cut_lines_reach_every_kind() -> None:
    """C-41, C-50: a wait sees the cut line, a collector says how many there were (TPT 159)."""
    config = pf.LineConfig(max_line_bytes=3, overflow=pf.Overflow.TRUNCATE)

    found = await consumed(pf.WaitFor("^thr$", config=config), b"three\nx\n")
    kept = await consumed(pf.CollectLines.head(9, config=config), b"three\nx\n")

    assert isinstance(found.value, pf.LineMatch)
    assert isinstance(kept.value, pf.CapturedLines)
    assert (kept.value.lines, kept.value.cut_lines, kept.value.lost_bytes) == (["thr", "x"], 1, 2)
    assert kept.value.truncated


async def test_collect_keeps_both_ends_with_offsets() -> None:
    """C-50: head, tail and what is missing between them, to the byte."""
    result = await consumed(pf.Collect.ends(head_bytes=3, tail_bytes=4), b"abc", b"defg", b"hij")

    assert isinstance(result.value, pf.Captured)
    assert (result.value.bytes, result.value.gaps, result.value.lost_bytes) == (b"abcghij", (pf.Gap(3, 6),), 3)
    assert result.value.is_complete
    assert (result.lost_bytes, result.delivered_bytes) == (0, 10)


async def test_a_collector_under_best_effort_counts_what_it_never_got() -> None:
    """C-25, C-50: bytes lost by delivery and by the bound add up with those kept (TPT 5.2.4)."""
    source = ScriptedSource(*[b"0123456789"] * 20, b"")
    async with pf.open_stream(source, pf.StreamConfig(replay=pf.Replay.last_bytes(64))) as stream:
        await stream.wait_ended()
        consumer = stream.consume(pf.Collect.tail(7), delivery=pf.BestEffort(buffer_bytes=32), start=0)
        with anyio.fail_after(20):
            result = await consumer.wait()

    assert (result.gaps, result.lost_bytes) == (1, 200 - result.delivered_bytes)
    assert result.value.bytes == b"3456789"
    assert (result.value.lost_bytes, result.value.truncated) == (193, True)


@pytest.mark.parametrize(
    "kind",
    [
        pf.Inspect.chunks(print),
        pf.Inspect.lines(lambda _line: None),
        pf.Inspect.batches(lambda _lines: None),
        pf.Fold.lines(0, lambda count, _line: count + 1),
        pf.Collect.tail(99),
        pf.CollectLines.tail(99),
        pf.WaitFor("none"),
    ],
    ids=lambda kind: type(kind).__name__,
)
async def test_a_read_failure_is_raised_with_everything_before_it(kind: pf.ConsumerKind[Any]) -> None:
    """C-21, C-50: wait() raises what reading raised, and what was consumed before is in the error (TPT 39, 134, 140, 158)."""
    with pytest.raises(pf.ConsumerError) as caught:
        await consumed(kind, b"one\ntwo", OSError(5, "cable"))

    error = caught.value
    assert isinstance(error.__cause__, pf.StreamReadError)
    assert isinstance(error.__cause__.__cause__, OSError)
    assert (error.result.ending, error.result.delivered_bytes) == (pf.ConsumerEnding.FAILED, 7)
    assert error.stream_name == "stream"


async def test_a_stall_is_raised_by_the_consumer_that_stalled() -> None:
    """C-23, C-50: a reliable consumer that is detached for its stall says so."""
    source = ScriptedSource(*[b"x" * 10] * 10, b"")
    delivery = pf.Reliable(buffer_bytes=20, stall_timeout_s=0.05)
    go_on = anyio.Event()

    async def callback(_chunk: pf.Chunk) -> None:
        await go_on.wait()

    async with pf.open_stream(source) as stream:
        consumer = stream.consume(pf.Inspect.chunks(callback), delivery=delivery)
        with anyio.fail_after(20):
            await stream.wait_ended()
            go_on.set()
            with pytest.raises(pf.ConsumerError) as caught:
                await consumer.wait()

    assert isinstance(caught.value.__cause__, pf.StallError)


async def test_downgraded_consumers_are_told_of_gaps() -> None:
    """C-23, C-50: after a downgrade the accounts of lines still add up."""
    source = ScriptedSource(b"1\n")
    delivery = pf.Reliable(buffer_bytes=8, stall_timeout_s=0.05, on_stall=pf.OnStall.DOWNGRADE)
    started, go_on = anyio.Event(), anyio.Event()
    seen: list[str] = []

    async def callback(lines: list[str]) -> None:
        seen.extend(lines)
        started.set()
        await go_on.wait()

    async with pf.open_stream(source) as stream:
        consumer = stream.consume(pf.Inspect.batches(callback), delivery=delivery)
        with anyio.fail_after(20):
            await started.wait()
            source.send(*[b"222\n"] * 50, b"")
            await stream.wait_ended()
            go_on.set()
            result = await consumer.wait()

    assert result.gaps == 1
    assert result.delivered_bytes == 2 + 4 * (len(seen) - 1)
    assert result.delivered_bytes + result.lost_bytes == 202


@pytest.mark.parametrize(
    "make",
    [
        lambda: pf.Inspect.lines("no"),  # type: ignore[arg-type]  # that is the test
        lambda: pf.Inspect.lines(print, on_gap=1),  # type: ignore[arg-type]  # that is the test
        lambda: pf.Collect.tail(-1),
        lambda: pf.CollectLines.tail(1, max_bytes=-1),
        lambda: pf.CollectLines.head(True),
        lambda: pf.Fold.lines(0, None),  # type: ignore[arg-type]  # that is the test
        lambda: pf.Rotation(max_bytes=0),
        lambda: pf.Rotation(max_bytes=1, max_files=0),
        lambda: pf.Write(-1),
        lambda: pf.Write(3, append=True),
        lambda: pf.Write("log", on_error="never"),  # type: ignore[arg-type]  # that is the test
        lambda: pf.Write(True),
        lambda: pf.Write(None),  # type: ignore[arg-type]  # that is the test
    ],
)
def test_wrong_values_are_refused_where_they_are_given(make: Callable[[], object]) -> None:
    """C-50: a wrong value fails where it is made (TPT 119)."""
    with pytest.raises((TypeError, ValueError)):
        make()


async def test_a_stream_of_lines_needs_a_line_length() -> None:
    """C-41, C-50: no line consumer can be made without a bound (TPT 119)."""
    with pytest.raises(ValueError, match="max_line_bytes"):
        pf.WaitFor("x", config=pf.LineConfig(max_line_bytes=0))


async def test_consume_refuses_what_is_no_consumer() -> None:
    """C-50: a callback alone says nothing about what it wants."""
    async with pf.open_stream(ScriptedSource(b"")) as stream:
        with pytest.raises(TypeError, match="ConsumerKind"):
            stream.consume(print)  # type: ignore[arg-type]  # that is the test
        with pytest.raises(ValueError, match="finish_s"):
            stream.consume(pf.Collect.tail(1), finish_s=-1)
        assert not stream.statistics().subscribers


async def test_a_late_consumer_reads_a_history_that_was_spilled(tmp_path: Path) -> None:
    """C-28, C-50: lines, bytes and files come out of history on disk as out of memory."""
    data = b"".join(b"%07d\n" % number for number in range(400_000))
    source = ScriptedSource(*[data[start : start + 65536] for start in range(0, len(data), 65536)], b"")
    config = pf.StreamConfig(replay=pf.Replay.all(spill=tmp_path / "spill"))
    async with pf.open_stream(source, config) as stream:
        with anyio.fail_after(60):
            await stream.wait_ended()
            count = stream.consume(pf.Fold.batches(0, lambda total, lines: total + len(lines)), start="start")
            ends = stream.consume(pf.Collect.ends(head_bytes=8, tail_bytes=8), start="start")
            file = stream.pipe_to(tmp_path / "out", start="start")
            results = [await consumer.wait() for consumer in (count, ends, file)]

        assert (await count.wait()).value == 400_000
        assert (await ends.wait()).value.bytes == data[:8] + data[-8:]
        assert (tmp_path / "out").read_bytes() == data
        assert all(result.is_complete and result.delivered_bytes == len(data) for result in results)
