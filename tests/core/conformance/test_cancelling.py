"""Every public call that awaits, cancelled at every step."""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

import procflow as pf
import procflow.record
import procflow.testing
from procflow._process.leader import reap_abandoned

from . import cases_of_processes as _cases  # noqa: F401 (registers them)
from . import cases_of_records as _more_cases  # noqa: F401 (likewise)
from .cancelling import (
    CASES,
    COVERED,
    LINES,
    WHOLE,
    Attempt,
    How,
    Trickle,
    cancel_at_every_step,
    cancels,
    check_accounts,
    rest_of,
    trickling,
)

NOW = pf.Shutdown.now()


# --- streams ---------------------------------------------------------------------------------------------------------


@cancels("Subscription.receive", "Subscription.__anext__")
async def receive(attempt: Attempt) -> None:
    async with trickling() as stream:
        got: list[bytes] = []
        async with stream.subscribe() as events:

            async def call() -> None:
                async for event in events:
                    assert isinstance(event, pf.Chunk)
                    got.append(event.data)

            await attempt(call)
            check_accounts(stream)
            assert b"".join(got) == WHOLE[: events.statistics().delivered_bytes]
        assert b"".join(got) + await rest_of(stream) == WHOLE


@cancels("Subscription.receive", "Subscription.wait_ready")
async def receive_again(attempt: Attempt) -> None:
    """The same subscription goes on after its receive() was cancelled."""
    async with trickling() as stream, stream.subscribe() as events:
        got: list[bytes] = []

        async def call() -> None:
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    event = await events.receive()
                    assert isinstance(event, pf.Chunk)
                    got.append(event.data)

        await attempt(call)
        got += [event.data async for event in events if isinstance(event, pf.Chunk)]
        assert b"".join(got) == WHOLE
        events.close()


@cancels("Subscription.receive", "Subscription.receive_batch")
async def receive_lossily(attempt: Attempt) -> None:
    """Under best effort what was given and what was lost are all there is, whenever the reader was cancelled."""
    async with trickling() as stream, stream.subscribe(pf.BestEffort(buffer_bytes=4)) as events:
        items: list[pf.Chunk | pf.Gap] = []

        async def call() -> None:
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    items.append(await events.receive())
                    items.extend(await events.receive_batch())

        await attempt(call)
        check_accounts(stream)
        items += [event async for event in events]
        position = 0
        for item in items:
            if isinstance(item, pf.Chunk):
                assert (item.offset, item.data) == (position, WHOLE[item.offset : item.stop])
                position = item.stop
            else:
                assert item.start == position
                position = item.stop
        assert position == len(WHOLE)
        events.close()


@cancels("Subscription.receive_batch")
async def receive_batch(attempt: Attempt) -> None:
    async with trickling() as stream:
        got: list[bytes] = []
        async with stream.subscribe() as events:

            async def call() -> None:
                with contextlib.suppress(anyio.EndOfStream):
                    while True:
                        got.extend(e.data for e in await events.receive_batch() if isinstance(e, pf.Chunk))

            await attempt(call)
        assert b"".join(got) + await rest_of(stream) == WHOLE


@cancels(
    "Subscription.__aenter__",
    "Subscription.__aexit__",
    "Subscription.aclose",
    "LineReader.__aenter__",
    "LineReader.__aexit__",
    "LineReader.aclose",
    "LineBatchReader.__aenter__",
    "LineBatchReader.__aexit__",
    "LineBatchReader.aclose",
)
async def leave_readers(attempt: Attempt) -> None:
    async with trickling() as stream:
        readers = [stream.subscribe(), stream.lines(), stream.line_batches()]

        async def call() -> None:
            for reader in readers:
                async with reader:
                    await checkpoint()
                await reader.aclose()

        await attempt(call)
        for reader in readers:
            await reader.aclose()
        assert await rest_of(stream) == WHOLE


@cancels("LineReader.__anext__")
async def lines(attempt: Attempt) -> None:
    async with trickling() as stream:
        got: list[str] = []
        async with stream.lines() as reader:

            async def call() -> None:
                async for line in reader:
                    got.append(line)

            await attempt(call)
        async with stream.lines() as rest:
            assert [*got, *[line async for line in rest]] == list(LINES)


@cancels("LineBatchReader.__anext__")
async def line_batches(attempt: Attempt) -> None:
    async with trickling() as stream:
        got: list[str] = []
        async with stream.line_batches() as reader:

            async def call() -> None:
                async for batch in reader:
                    got.extend(batch)

            await attempt(call)
        async with stream.lines() as rest:
            assert [*got, *[line async for line in rest]] == list(LINES)


@cancels("LineReader.__anext__")
async def json_lines(attempt: Attempt) -> None:
    """Each line is decoded once, by this reader or by the next."""
    async with trickling() as stream:
        got: list[str] = []
        async with stream.json_lines(int) as reader:

            async def call() -> None:
                async for value in reader:
                    assert isinstance(value, pf.UndecodedLine)  # none of them is JSON
                    got.append(value.text)

            await attempt(call)
        async with stream.lines() as rest:
            assert [*got, *[line async for line in rest]] == list(LINES)


@cancels("OutputStream.wait_for_line")
async def wait_for_line(attempt: Attempt) -> None:
    async with trickling() as stream:
        matches: list[pf.LineMatch] = []

        async def call() -> None:
            matches.append(await stream.wait_for_line(r"line (\d)"))
            matches.append(await stream.wait_for_line("line 4"))

        await attempt(call)
        assert await rest_of(stream) == WHOLE[matches[-1].stop if matches else 0 :]


@cancels("OutputStream.wait_ended", "OutputStream.pump", "open_stream")
async def open_and_leave(attempt: Attempt) -> None:
    """The stream is closed however its block is left; what was read can still be received."""
    opened: list[pf.OutputStream] = []

    async def call() -> None:
        async with pf.open_stream(Trickle()) as stream:
            opened.append(stream)
            await stream.wait_ended()

    await attempt(call)
    for stream in opened:
        assert stream.ending in (pf.StreamEnding.EOF, pf.StreamEnding.CLOSED)
        data = b""
        async with stream.subscribe() as events:
            with contextlib.suppress(pf.StreamClosedError):
                async for event in events:
                    assert isinstance(event, pf.Chunk)
                    data += event.data
        assert data == WHOLE[: stream.produced_bytes]
        assert stream.ending is pf.StreamEnding.CLOSED or data == WHOLE
        assert stream.statistics().subscribers == ()


@cancels("FdSource.receive", "FdSource.wait_readable", "FdSource.aclose")
async def read_descriptor(attempt: Attempt) -> None:
    reader, writer = os.pipe()
    source = pf.FdSource(reader, read_bytes=4)
    os.write(writer, WHOLE)
    got: list[bytes] = []

    async def call() -> None:
        with contextlib.suppress(anyio.EndOfStream):
            await source.wait_readable()
            while data := await source.receive():
                got.append(data)
                if len(b"".join(got)) == len(WHOLE):
                    os.close(writer)
        await source.aclose()

    await attempt(call)
    if source.fileno() >= 0:
        if b"".join(got) != WHOLE:
            os.close(writer)
        with contextlib.suppress(anyio.EndOfStream):
            while data := await source.receive():
                got.append(data)
        await source.aclose()
    assert b"".join(got) == WHOLE


# --- consumers -------------------------------------------------------------------------------------------------------


@cancels("Consumer.wait")
async def wait_for_consumer(attempt: Attempt) -> None:
    """Who waits is cancelled, the consumer is not."""
    async with trickling() as stream:
        consumer = stream.consume(pf.Collect.head(1000))

        async def call() -> None:
            await consumer.wait()

        await attempt(call)
        result = await consumer.wait()
        assert (result.value.bytes, result.ending) == (WHOLE, pf.ConsumerEnding.EOF)


@cancels("Consumer.cancel")
async def cancel_consumer(attempt: Attempt) -> None:
    """What it had taken is in the result, the rest is for the next subscriber."""
    async with trickling() as stream:
        consumer = stream.consume(pf.Collect.head(1000))

        async def call() -> None:
            await checkpoint()
            await checkpoint()
            await consumer.cancel()

        await attempt(call)
        result = await consumer.cancel()
        assert result.ending is pf.ConsumerEnding.CANCELLED
        assert result.value.bytes + await rest_of(stream) == WHOLE


@cancels("Consumer.cancel")
async def cancel_lines_consumer(attempt: Attempt) -> None:
    """The same with lines, of which a callback is in the middle when the consumer is cancelled."""
    got: list[str] = []

    async def slowly(line: str) -> None:
        got.append(line)
        await checkpoint()

    async with trickling() as stream:
        consumer = stream.consume(pf.Inspect.lines(slowly))

        async def call() -> None:
            for _ in range(4):
                await checkpoint()
            await consumer.cancel()

        await attempt(call)
        await consumer.cancel()
        async with stream.lines() as rest:
            assert [*got, *[line async for line in rest]] == list(LINES)


@cancels("Consumer.run", "Consumer.wait_done")
async def write_in_a_block(attempt: Attempt) -> None:
    """Whatever was read is in the file, whenever the block that owns the writer was cancelled."""
    opened: list[tuple[pf.OutputStream, pf.Consumer[pf.Written]]] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"

        async def call() -> None:
            async with pf.open_stream(Trickle()) as stream:
                opened.append((stream, stream.pipe_to(path)))
                await stream.wait_ended()

        await attempt(call)
        for stream, writer in opened:
            assert writer.result is not None
            assert writer.result.ending in (pf.ConsumerEnding.EOF, pf.ConsumerEnding.CLOSED)
            assert path.read_bytes() == WHOLE[: stream.produced_bytes]
            assert stream.statistics().subscribers == ()


# --- processes -------------------------------------------------------------------------------------------------------


@cancels("spawn")
async def spawn_and_stop(attempt: Attempt) -> None:
    async def call() -> None:
        async with pf.spawn(pf.shell("sleep 60 & echo ready; wait"), shutdown=NOW) as child:
            await child.stdout.wait_for_line("ready")
            await child.terminate(NOW)

    await attempt(call)


@cancels("spawn")
async def spawn_with_everything(attempt: Attempt) -> None:
    """Input that is fed, an output that is read, another that nobody reads."""

    async def call() -> None:
        async with pf.spawn(pf.shell("cat; echo err >&2"), stdin=b"one\ntwo\n", shutdown=NOW) as child:
            async with child.stdout.lines() as reader:
                assert [line async for line in reader] == ["one", "two"]

    await attempt(call)


@cancels("run")
async def run(attempt: Attempt) -> None:
    async def call() -> None:
        done = await pf.run(pf.shell("cat; sleep 60 & exit 0"), stdin=b"hello", drain_s=0.01, shutdown=NOW)
        assert done.stdout.text == "hello"

    await attempt(call)


@cancels("run")
async def run_pipeline(attempt: Attempt) -> None:
    async def call() -> None:
        done = await pf.run(pf.shell("echo 1; echo 2 >&2") | pf.Command("cat"), shutdown=NOW)
        assert done.stdout.text == "1\n"

    await attempt(call)


@cancels("spawn", "ChildStdin.send")
async def spawn_on_terminal(attempt: Attempt) -> None:
    """A child on a terminal of its own: nothing of the terminal is left either."""

    async def call() -> None:
        async with pf.spawn(pf.shell("read x; echo got $x"), pty=pf.Pty(echo=False), shutdown=NOW) as child:
            await child.stdin.send(b"hello\n")
            assert (await child.stdout.wait_for_line("got (.*)")).groups[0] == "hello"
            await child.wait()

    await attempt(call)


@cancels("run")
async def run_with_files_and_pieces(attempt: Attempt) -> None:
    """Input from an async iterable, one output into a file, both merged."""
    closed: list[bool] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            for number in range(3):
                await checkpoint()
                yield b"%d\n" % number
        finally:
            closed.append(True)

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "out"

        async def call() -> None:
            await pf.run(pf.shell("cat; echo err >&2"), stdin=pieces(), stdout=path, merge_stderr=True, shutdown=NOW)
            assert path.read_text() == "0\n1\n2\nerr\n"

        await attempt(call)


@cancels("open_stream", "Subscription.receive_batch")
async def read_spilled_history(attempt: Attempt) -> None:
    """A history in a file: a cancelled reader loses nothing that is only on disk."""
    with tempfile.TemporaryDirectory() as directory:
        await _read_spilled(attempt, pf.StreamConfig(replay=pf.Replay.all(spill=directory)))
        gc.collect()  # the file is open as long as its stream


async def _read_spilled(attempt: Attempt, config: pf.StreamConfig) -> None:
    async with pf.open_stream(Trickle(), config) as stream:
        got: list[bytes] = []
        async with stream.subscribe(start="start") as events:

            async def call() -> None:
                with contextlib.suppress(anyio.EndOfStream):
                    while True:
                        got.extend(e.data for e in await events.receive_batch() if isinstance(e, pf.Chunk))

            await attempt(call)
            got += [event.data async for event in events if isinstance(event, pf.Chunk)]
        assert b"".join(got) == WHOLE


@cancels("Process.wait")
async def wait(attempt: Attempt) -> None:
    config = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(pf.shell("read x; echo bye; exit 7"), stdin=pf.PIPE, stdout=config, shutdown=NOW) as child:
        await child.stdin.send(b"\n")

        async def call() -> None:
            assert (await child.wait()).exit_code == 7

        await attempt(call)
        assert (await child.wait()).exit_code == 7
        assert await rest_of(child.stdout) == b"bye\n"


@cancels("spawn", "Stage.wait")
async def spawn_pipeline(attempt: Attempt) -> None:
    """C-9: three stages, of which one ends early and one needs a signal."""
    pipeline = pf.shell("echo one; sleep 60") | pf.Command("cat") | pf.shell("read x; echo got $x; exit 3")

    async def call() -> None:
        async with pf.spawn(pipeline, shutdown=NOW) as child:
            assert (await child.stages[2].wait()).exit_code == 3
            async with child.stdout.lines() as reader:
                assert [line async for line in reader] == ["got one"]

    await attempt(call)


@cancels("run")
async def run_on_pty(attempt: Attempt) -> None:
    """C-10: on a terminal of its own."""

    async def call() -> None:
        done = await pf.run(pf.Command("cat"), pty=pf.Pty(echo=False), stdin=b"hello\n", shutdown=NOW)
        assert done.stdout.text == "hello\r\n"

    await attempt(call)


@cancels("Process.terminate", "Process.kill")
async def stop_twice(attempt: Attempt) -> None:
    async with pf.spawn(pf.Command("sleep", "60"), shutdown=NOW) as child:

        async def call() -> None:
            await child.terminate(pf.Shutdown.sigterm(60))
            await child.kill()

        await attempt(call)
        outcome = await child.kill()
        assert outcome.signal in (signal.SIGTERM, signal.SIGKILL)
        assert await child.terminate() == outcome


@cancels("Process.detach")
async def detach(attempt: Attempt) -> None:
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE, stdout=pf.NULL, stderr=pf.NULL, shutdown=NOW) as child:
        await attempt(child.detach)
    if child.state is pf.ProcessState.DETACHED:  # its input has ended with the block
        with contextlib.suppress(ChildProcessError):  # it was quick, and is reaped already
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        reap_abandoned()
    else:
        assert child.outcome is not None


@cancels("ChildStdin.send", "ChildStdin.aclose", "ChildStdin.__aenter__", "ChildStdin.__aexit__")
async def feed(attempt: Attempt) -> None:
    """What arrives is a beginning of what was sent, whenever the sender was cancelled."""
    data = b"".join(b"%07d\n" % n for n in range(40_000))
    config = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(pf.Command("cat"), stdin=pf.PIPE, stdout=config, shutdown=NOW) as child:
        stdin = child.stdin
        sent = 0

        async def call() -> None:
            nonlocal sent
            async with stdin:
                for part in (data[:100_000], data[100_000:]):
                    await stdin.send(part)
                    sent += len(part)

        await attempt(call)
        await stdin.aclose()
        received = await rest_of(child.stdout)
        assert received == data[: len(received)]
        assert len(received) >= sent
        assert (await child.wait()).ok


# --- both outputs as one ---------------------------------------------------------------------------------------------

TALK = pf.shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done")


@cancels(
    "TimelineSubscription.receive",
    "TimelineSubscription.receive_batch",
    "TimelineSubscription.aclose",
    "TimelineSubscription.__aenter__",
    "TimelineSubscription.__aexit__",
    "TimelineSubscription.__anext__",
)
async def timeline(attempt: Attempt) -> None:
    """Each output is whole, for a reader of both that goes on and for the next subscriber of either."""
    config = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(TALK, stdout=config, stderr=config, shutdown=NOW) as child:
        got: dict[str, bytes] = {"stdout": b"", "stderr": b""}

        def take(tagged: pf.Tagged[pf.Chunk | pf.Gap]) -> None:
            assert isinstance(tagged.item, pf.Chunk)
            assert tagged.item.offset == len(got[tagged.source])
            got[tagged.source] += tagged.item.data

        async with child.output.subscribe() as events:

            async def call() -> None:
                with contextlib.suppress(anyio.EndOfStream):
                    take(await events.receive())
                    for tagged in await events.receive_batch():
                        take(tagged)
                async with events:
                    async for tagged in events:
                        take(tagged)
                await events.aclose()

            await attempt(call)
            for source, numbers in events.statistics().items():
                assert numbers.delivered_bytes == len(got[source])
        rest = {"stdout": await rest_of(child.stdout), "stderr": await rest_of(child.stderr)}
        for source, word in (("stdout", "out"), ("stderr", "err")):
            assert (got[source] + rest[source]).decode() == "".join(f"{word} {i}\n" for i in (1, 2, 3))


@cancels("TimelineLines.__anext__", "TimelineLines.__aenter__", "TimelineLines.__aexit__", "TimelineLines.aclose")
async def timeline_lines(attempt: Attempt) -> None:
    config = pf.StreamConfig(replay=pf.Replay.all())
    async with pf.spawn(TALK, stdout=config, stderr=config, shutdown=NOW) as child:
        got: dict[str, list[str]] = {"stdout": [], "stderr": []}
        reader = child.output.lines()

        async def call() -> None:
            async with reader:
                async for tagged in reader:
                    got[tagged.source].append(str(tagged.item))

        await attempt(call)
        await reader.aclose()
        for source, stream, word in (("stdout", child.stdout, "out"), ("stderr", child.stderr, "err")):
            async with stream.lines() as rest:
                assert [*got[source], *[line async for line in rest]] == [f"{word} {i}" for i in (1, 2, 3)]


# --- the package's own helpers ---------------------------------------------------------------------------------------


@cancels("testing.assert_no_leaks.__aenter__", "testing.assert_no_leaks.__aexit__")
async def check_for_leaks(attempt: Attempt) -> None:
    async def call() -> None:
        async with procflow.testing.assert_no_leaks():
            await checkpoint()

    await attempt(call)


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("name", CASES)
async def test_cancelled_at_every_step(name: str, how: How, anyio_backend_name: str) -> None:
    """C-3, C-25, C-29, C-60, C-66, C-67: nothing is left, no byte is lost to the next subscriber, the sums agree (TPT N8, N12)."""
    if how.is_native and anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own way")
    assert await cancel_at_every_step(CASES[name], how) > 1


AWAITED = ("Coroutine[", "Awaitable[", "AsyncIterator[", "AbstractAsyncContextManager[", "AsyncGenerator[")
ASYNC_DUNDERS = ("__aenter__", "__aexit__", "__anext__")
NO_CALL = {
    "ByteSource.receive": "a protocol",
    "ByteSource.aclose": "a protocol",
    "record.Sink.aclose": "a protocol",
}


def public_calls() -> Iterator[str]:
    """Every coroutine function, every function that returns something to await or to enter, of every public class and module."""
    for prefix, module in (("", pf), ("testing.", procflow.testing), ("record.", procflow.record)):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                for attribute, member in inspect.getmembers(value, is_awaited):
                    if is_ours(member, attribute):
                        yield f"{prefix}{name}.{attribute}"
            elif inspect.isroutine(value) and is_awaited(value):
                yield prefix + name


def is_ours(member: object, attribute: str) -> bool:
    module = getattr(member, "__module__", "") or ""
    is_public = not attribute.startswith("_") or attribute in ASYNC_DUNDERS
    return is_public and (module.startswith("procflow") or attribute == "__anext__")


def is_awaited(member: object) -> bool:
    if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member):
        return True
    returned = str(getattr(member, "__annotations__", {}).get("return", ""))
    return inspect.isroutine(member) and returned.startswith(AWAITED)


def test_every_public_call_is_cancelled() -> None:
    """C-52: what is added to the public face and awaits is added to these cases."""
    calls = set(public_calls())

    assert {"run", "spawn", "open_stream", "OutputStream.wait_for_line", "Subscription.receive"} <= calls
    missing = calls - COVERED.keys() - NO_CALL.keys()
    assert not missing, f"no case cancels {sorted(missing)}: add one in {__name__}"
    # Dunders of anyio's base classes need no case of their own, but may have one.
    stale = {name for name in COVERED if name not in calls and not name.endswith(ASYNC_DUNDERS)}
    assert not stale, f"these calls do not exist: {sorted(stale)}"
