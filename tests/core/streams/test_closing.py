"""Descriptors, however and from wherever a stream is closed."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from procflow._streams.pacing import LARGE_PIPE_BYTES
from procflow._streams.reading import pipes
from procflow._streams.reading.source import FdSource
from procflow._streams.stream import OutputStream, open_stream
from procflow.errors import StreamClosedError, StreamReadError
from procflow.events import Chunk, StreamEnding
from procflow.policies import Reliable, StreamConfig
from tests.core.streams.sources import ScriptedSource

pytestmark = pytest.mark.anyio


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def in_thread(function: Callable[[], None]) -> list[BaseException]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors


async def test_a_stream_can_be_closed_from_another_thread() -> None:
    """C-21: closing from a foreign thread, as a garbage collector does, ends the stream on its loop and frees the descriptor (TPT 18)."""
    reader, writer = os.pipe()
    source = FdSource(reader)
    async with open_stream(source) as stream:
        events = stream.subscribe()
        await anyio.wait_all_tasks_blocked()

        assert in_thread(stream.close) == []
        with anyio.fail_after(20), pytest.raises(StreamClosedError):
            await events.receive()
        events.close()
        with anyio.fail_after(20):
            while is_open(reader):
                await checkpoint()
        assert stream.ending is StreamEnding.CLOSED
    os.close(writer)


async def test_the_number_of_a_descriptor_is_taken_until_its_reader_has_let_go() -> None:
    """C-21: while a task still waits on a descriptor, its number cannot come back as that of another pipe."""
    reader, writer = os.pipe()
    source = FdSource(reader)
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await source.receive()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        source.close_nowait()
        source.close_nowait()
        others = os.pipe()
        assert reader not in others
    assert not is_open(reader)
    for fd in (writer, *others):
        os.close(fd)


async def test_a_source_that_is_dropped_closes_its_descriptor() -> None:
    """C-30: the last reference to a source takes its descriptor along, also after close() from a loop that never ran again."""
    reader, writer = os.pipe()
    source = FdSource(reader)
    assert is_open(reader)

    del source
    gc.collect()

    assert not is_open(reader)
    os.close(writer)


def test_a_stream_whose_loop_is_gone_can_be_closed(anyio_backend: tuple[str, dict[str, object]]) -> None:
    """C-21: after the end of the event loop close() still frees the descriptor and says how the stream ended."""
    reader, writer = os.pipe()
    stream = OutputStream(FdSource(reader), StreamConfig(), name="x")

    async def use() -> None:
        stream.subscribe()

    name, options = anyio_backend
    anyio.run(use, backend=name, backend_options=options)
    stream.close()
    stream.close()

    assert stream.ending is StreamEnding.CLOSED
    assert not is_open(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "exception", [SystemExit(3), KeyboardInterrupt(), ZeroDivisionError(), BaseExceptionGroup("x", [SystemExit()])]
)
async def test_the_block_of_open_stream_raises_its_own_exception(exception: BaseException) -> None:
    """C-30: what the block raises leaves it as it is, exits of the program included, and the source is closed."""
    source = ScriptedSource()

    caught: BaseException | None = None
    try:
        async with open_stream(source):
            raise exception
    except BaseException as error:
        caught = error

    assert caught is exception
    assert source.is_closed


async def test_cancelling_the_block_of_open_stream_is_a_cancellation() -> None:
    """C-29: a cancellation passes through the block and ends at the scope that asked for it."""
    source = ScriptedSource()
    with anyio.CancelScope() as scope:
        async with open_stream(source):
            scope.cancel()
            await checkpoint()
    assert scope.cancelled_caught
    assert source.is_closed


async def test_a_close_method_of_a_source_is_not_called() -> None:
    """C-30: a ByteSource has two methods; one that is called close(), async or not, is not taken for more."""

    class Source(ScriptedSource):
        closes = 0

        async def close(self) -> None:
            self.closes += 1

    source = Source(b"x", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with open_stream(source) as stream:
            await stream.wait_ended()
    assert source.is_closed
    assert source.closes == 0


async def test_a_descriptor_that_somebody_else_closed_is_a_read_failure() -> None:
    """C-21: the next read of a number that is no descriptor any more fails the stream for its subscribers, and nobody else."""
    reader, writer = os.pipe()
    left = pipes.BUDGET.left_bytes
    async with open_stream(FdSource(reader, pipe_bytes=LARGE_PIPE_BYTES)) as stream:
        events = stream.subscribe(Reliable(buffer_bytes=1))
        os.write(writer, b"12")
        with anyio.fail_after(20):
            while not stream.produced_bytes:
                await checkpoint()
            os.write(writer, b"34")
            while not stream.statistics().subscribers[0].is_blocking:
                await checkpoint()
            os.close(reader)
            assert await events.receive() == Chunk(b"12", 0)
            with pytest.raises(StreamReadError) as caught:
                await events.receive()
        assert isinstance(caught.value.__cause__, OSError)
        assert stream.ending is StreamEnding.READ_FAILED
    assert pipes.BUDGET.left_bytes == left
    os.close(writer)


class BrokenSource(ScriptedSource):
    """A local source whose closing fails."""

    def close_nowait(self) -> None:
        raise OSError("broken")

    def pending_bytes(self) -> int:
        return 0


async def test_a_source_that_cannot_be_closed_ends_all_the_same() -> None:
    """C-21: the terminal reaches every subscriber although closing the source fails."""
    async with open_stream(BrokenSource(b"1", b"")) as stream:
        with anyio.fail_after(20):
            assert [chunk async for chunk in stream.subscribe()] == [Chunk(b"1", 0)]


class StraySource(ScriptedSource):
    """A source that lets the cancellation of a task of its own escape, when it is read and when it is closed."""

    async def receive(self) -> bytes:
        if not self.items:
            raise asyncio.CancelledError
        return await super().receive()

    async def aclose(self) -> None:
        raise asyncio.CancelledError


@pytest.mark.parametrize("anyio_backend", [pytest.param(("asyncio", {}), id="asyncio")])
async def test_a_stray_cancellation_of_a_source_is_a_read_failure(anyio_backend: object) -> None:
    """C-21: a source that raises a cancellation which nobody asked for has failed; the owner's block is not cancelled."""
    steps = 0
    async with open_stream(StraySource(b"1")) as stream:
        events = stream.subscribe()
        with anyio.fail_after(20):
            await stream.wait_ended()
            for steps in range(1, 11):  # noqa: B007 (told below)
                await checkpoint()
            assert await events.receive() == Chunk(b"1", 0)
            with pytest.raises(StreamReadError):
                await events.receive()
    assert stream.ending is StreamEnding.READ_FAILED
    assert steps == 10
