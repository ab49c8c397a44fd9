"""Line readers and the wait for a line, over sources that a test scripts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from procflow._streams.log import log as log_module
from procflow._streams.reading.source import FdSource
from procflow._streams.stream import open_stream
from procflow.errors import LinesLostError, LineTooLongError, NotReadyError, StallError, StreamClosedError
from procflow.events import Gap
from procflow.outcome import Outcome
from procflow.policies import BestEffort, Delivery, LineConfig, OnGap, Overflow, Reliable, Replay, StreamConfig
from tests.core.streams.sources import OUTCOME, ScriptedSource

pytestmark = pytest.mark.anyio
KEEP_ALL = StreamConfig(replay=Replay.all())

BAD_LINES: list[tuple[list[bytes], Delivery, LineConfig, OnGap | None, type[Exception]]] = [
    ([b"ok\n", b"\xff\n", b"a\n", b"b\n"], Reliable(), LineConfig(errors="strict"), None, UnicodeDecodeError),
    (
        [b"ok\n", b"x" * 50 + b"\n", b"a\n", b"b\n"],
        Reliable(),
        LineConfig(max_line_bytes=10, overflow=Overflow.ERROR),
        None,
        LineTooLongError,
    ),
    ([b"line\n"] * 20, BestEffort(buffer_bytes=10), LineConfig(), "raise", LinesLostError),
]


@pytest.mark.parametrize(("chunks", "delivery", "config", "on_gap", "error"), BAD_LINES)
async def test_a_line_error_ends_batches(
    chunks: list[bytes], delivery: Delivery, config: LineConfig, on_gap: OnGap | None, error: type[Exception]
) -> None:
    """C-43: a batch ends before a line that cannot be given, though more bytes are there; then the error is raised."""
    async with open_stream(ScriptedSource(*chunks, b""), KEEP_ALL) as stream:
        batches = stream.line_batches(delivery, config=config, on_gap=on_gap)
        await stream.wait_ended()

        if error is not LinesLostError:
            assert await anext(batches) == ["ok"]
        with pytest.raises(error):
            await anext(batches)
        assert stream.statistics().subscribers == ()


@pytest.mark.parametrize("kind", ["lines", "line_batches"])
@pytest.mark.parametrize(("chunks", "delivery", "config", "on_gap", "error"), BAD_LINES)
async def test_a_failed_reader_raises_a_new_error_each_time(
    chunks: list[bytes], delivery: Delivery, config: LineConfig, on_gap: OnGap | None, error: type[Exception], kind: str
) -> None:
    """C-40: a reader that has failed says so again, each time with an error of its own, whose traceback does not grow."""
    async with open_stream(ScriptedSource(*chunks, b""), KEEP_ALL) as stream:
        reader = getattr(stream, kind)(delivery, config=config, on_gap=on_gap)
        await stream.wait_ended()
        if error is not LinesLostError:
            await anext(reader)

        seen: list[BaseException] = []
        for _ in range(3):
            with pytest.raises(error) as caught:
                await anext(reader)
            seen.append(caught.value)
        assert len({id(one) for one in seen}) == 3
        assert len({str(one) for one in seen}) == 1
        assert len({len(pytest.ExceptionInfo.from_exception(one).traceback) for one in seen}) == 1


async def test_a_closed_stream_ends_readers_anew_each_time() -> None:
    """C-21: a reader of a stream that was closed gets the unterminated line, then StreamClosedError as often as it asks."""
    async with open_stream(ScriptedSource(b"a\nrest")) as stream:
        lines = stream.lines()
        assert await anext(lines) == "a"
        stream.close()
        assert await anext(lines) == "rest"
        errors = []
        for _ in range(2):
            with pytest.raises(StreamClosedError) as caught:
                await anext(lines)
            errors.append(caught.value)
        assert errors[0] is not errors[1]


async def test_a_reader_that_is_closed_while_it_waits_gives_out_nothing() -> None:
    """C-29: closing a reader from another task ends its wait with ClosedResourceError, not with half a line."""
    async with open_stream(ScriptedSource(b"half a line")) as stream, anyio.create_task_group() as tasks:
        lines = stream.lines()

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await anext(lines)

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        lines.close()


async def test_a_batch_costs_the_same_for_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """C-43: collecting a batch out of many small chunks is linear: a chunk costs no more because many came before."""
    monkeypatch.setattr(log_module, "JOIN_AT_CHUNKS", 1 << 30)

    async def cost_of_a_chunk(count: int) -> float:
        async with open_stream(ScriptedSource(*[b"\n" * 64] * count, b""), KEEP_ALL) as stream:
            await stream.wait_ended()
            batches = stream.line_batches()
            started = time.process_time()
            assert sum([len(batch) async for batch in batches]) == 64 * count
            return (time.process_time() - started) / count

    few = min([await cost_of_a_chunk(100) for _ in range(5)])
    assert await cost_of_a_chunk(16_000) < 10 * few  # it was 200 times as much


@pytest.mark.parametrize("on_gap", ["yield", "sometimes"])
async def test_an_unknown_way_to_see_gaps_is_refused(on_gap: str) -> None:
    """C-42: on_gap is one of three words."""
    async with open_stream(ScriptedSource(b"")) as stream:
        if on_gap == "yield":
            stream.lines(on_gap=on_gap).close()  # type: ignore[call-overload]  # a str here
            return
        with pytest.raises(ValueError, match="on_gap"):
            stream.lines(on_gap=on_gap)  # type: ignore[call-overload]  # the subject of the test
        with pytest.raises(TypeError, match="delivery"):
            stream.lines("reliable")  # type: ignore[call-overload]  # the subject of the test
        for start in (1.5, True, "sometime"):
            with pytest.raises(TypeError, match="start"):
                stream.subscribe(start=start)  # type: ignore[arg-type]  # the subject of the test
        assert stream.statistics().subscribers == ()


@pytest.mark.parametrize("on_gap", ["yield", "skip", "raise", None])
async def test_batches_show_gaps_as_lines_do(on_gap: OnGap | None) -> None:
    """C-42: in batches a gap stands between the lines of its two sides, is left out, or is raised after the lines before it."""
    source = ScriptedSource(b"first\nsec")
    async with open_stream(source) as stream:
        batches = stream.line_batches(BestEffort(buffer_bytes=25), on_gap=on_gap)
        assert await anext(batches) == ["first"]
        source.send(*[b"line %03d\n" % n for n in range(100)], b"")
        await stream.wait_ended()

        if on_gap == "raise":
            with pytest.raises(LinesLostError) as caught:
                await anext(batches)
            assert caught.value.lost_bytes == 875
            return
        items = [item for batch in [batch async for batch in batches] for item in batch]
        assert items == ([] if on_gap == "skip" else [Gap(6, 891)]) + ["line 098", "line 099"]


@pytest.mark.parametrize("kind", ["lines", "line_batches", "json_lines", "json_batches"])
async def test_every_reader_attaches_at_its_call(kind: str) -> None:
    """C-22: a reader is a subscriber from its call on, not from its first step, and none once it is closed or dropped."""
    async with open_stream(ScriptedSource(b"1\n2\n", b""), StreamConfig(replay=Replay.none())) as stream:
        arguments = (object,) if kind.startswith("json") else ()
        readers = [getattr(stream, kind)(*arguments) for _ in range(3)]
        await stream.wait_ended()
        assert len(stream.statistics().subscribers) == 3
        readers.pop()
        readers[1].close()
        assert len(stream.statistics().subscribers) == 1
        first = [item async for item in readers[0]]
        assert len(first) == (1 if kind.endswith("batches") else 2)
        assert stream.statistics().subscribers == ()


# --- byte order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_the_next_reader_keeps_the_byte_order(codec: str, size: int) -> None:
    """C-40: a byte order mark at the start of a stream holds for readers that begin later, whoever read it."""
    data = "\ufeffone\ntwo\nthree\n".encode(codec)
    config = LineConfig(encoding=codec[:6])
    source = ScriptedSource(*[data[i : i + size] for i in range(0, len(data), size)], b"")
    async with open_stream(source, KEEP_ALL) as stream:
        assert (await stream.wait_for_line("one", config=config)).text == "one"
        assert [line async for line in stream.lines(config=config)] == ["two", "three"]
        middle = len("\ufeffone\n".encode(codec))
        assert [line async for line in stream.lines(config=config, start=middle)] == ["two", "three"]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
async def test_a_reader_that_lost_the_byte_order_mark_knows_it(codec: str) -> None:
    """C-42: a best-effort reader whose gap covers the beginning still reads with the order that the beginning told."""
    data = ["\ufefffirst\n".encode(codec), "second\n".encode(codec), "third\n".encode(codec)]
    async with open_stream(ScriptedSource(*data, b"")) as stream:
        lines = stream.lines(BestEffort(buffer_bytes=len(data[1]) + len(data[2])), config=LineConfig(encoding="utf-16"))
        await stream.wait_ended()
        assert [line async for line in lines] == [Gap(0, len(data[0]) + len(data[1])), "third"]


# --- waiting for a line ---------------------------------------------------------------------------------------------


async def ended() -> Outcome:
    return OUTCOME


async def test_a_wait_searches_all_that_an_ended_stream_holds() -> None:
    """C-45: a line that the stream holds is found, however long the search takes, though the process has ended."""
    async with open_stream(ScriptedSource(*[b"\n" * 1000] * 200, b"READY\n", b""), KEEP_ALL) as stream:
        stream.describe_ending = ended
        await stream.wait_ended()

        def slowly(line: str) -> bool:
            if not line and stream.statistics().subscribers[0].delivered_bytes == 1000:
                time.sleep(0.0002)  # the subject is a search that outlasts every patience: 0.2 s for the first chunk
            return line == "READY"

        assert (await stream.wait_for_line(slowly)).text == "READY"


async def test_a_wait_searches_what_an_ended_process_left_in_its_pipe() -> None:
    """C-45: bytes that the process wrote, but that were not read when its exit was seen, are searched; later ones are not."""
    reader, writer = os.pipe()
    exited = anyio.Event()

    async def exit_seen() -> Outcome:
        await exited.wait()
        os.write(writer, b"x" * 60_000 + b"\nREADY\n")  # the loop has not seen it when it sees the exit
        return OUTCOME

    async with open_stream(FdSource(reader, read_bytes=1000)) as stream, anyio.create_task_group() as tasks:
        stream.describe_ending = exit_seen

        async def wait() -> None:
            assert (await stream.wait_for_line("READY")).text == "READY"

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        exited.set()
    os.close(writer)


async def test_a_wait_ends_though_somebody_goes_on_writing() -> None:
    """C-45: a grandchild that holds the pipe and writes for ever does not keep a wait alive after the process has ended."""
    source = ScriptedSource()
    async with open_stream(source, StreamConfig(replay=Replay.none())) as stream, anyio.create_task_group() as tasks:
        stream.describe_ending = ended

        async def chatter() -> None:
            while True:
                source.send(b"chatter\n")
                await checkpoint()

        tasks.start_soon(chatter)
        with anyio.fail_after(20), pytest.raises(NotReadyError) as caught:
            await stream.wait_for_line("never")
        assert caught.value.outcome is OUTCOME
        assert stream.ending is None
        tasks.cancel_scope.cancel()


async def test_a_wait_does_not_wait_for_another_subscriber() -> None:
    """C-45: when the process has ended and another subscriber holds back what is left in its pipe, the wait gives up."""
    reader, writer = os.pipe()
    os.write(writer, b"line\n" * 1000)
    async with open_stream(FdSource(reader, read_bytes=1000)) as stream:
        blocker = stream.subscribe(Reliable(buffer_bytes=1000))
        stream.describe_ending = ended
        with anyio.fail_after(20), pytest.raises(NotReadyError) as caught:
            await stream.wait_for_line("never")
        assert caught.value.outcome is OUTCOME
        blocker.close()
    os.close(writer)


@pytest.mark.parametrize("make", [lambda: SystemExit(3), KeyboardInterrupt, lambda: ValueError("no")])
async def test_what_a_predicate_raises_leaves_the_wait_as_it_is(make: Callable[[], BaseException]) -> None:
    """C-45: an exception of the predicate is not wrapped, and the wait leaves no subscriber."""
    exception = make()

    def fail(line: str) -> bool:
        raise exception

    async with open_stream(ScriptedSource(b"line\n")) as stream:
        stream.describe_ending = anyio.sleep_forever  # type: ignore[assignment]  # never returns, as for a running process
        caught: BaseException | None = None
        try:
            await stream.wait_for_line(fail)
        except BaseException as error:
            caught = error
        assert caught is exception
        assert stream.statistics().subscribers == ()


async def test_a_reader_that_is_detached_gives_no_beginning_of_a_line() -> None:
    """C-40, C-23: half a line is not a line: whoever is detached for stalling gets its error, and the line is the next one's."""
    source = ScriptedSource(b"1\n234")
    delivery = Reliable(buffer_bytes=6, stall_timeout_s=0.001)
    async with open_stream(source, KEEP_ALL) as stream:
        async with stream.lines(delivery) as lines, stream.json_lines(int, delivery) as values:
            with anyio.fail_after(20):
                assert await anext(lines) == "1"
                assert await anext(values) == 1
                source.send(b"56\n", b"78\n", b"")
                await stream.wait_ended()
                with pytest.raises(StallError):
                    await anext(lines)
                with pytest.raises(StallError):
                    await anext(values)
        with anyio.fail_after(20):
            assert [line async for line in stream.lines()] == ["23456", "78"]
