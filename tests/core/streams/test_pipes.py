"""Streams over real descriptors and real children."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from procflow._streams.reading.source import FdSource
from procflow._streams.stream import OutputStream, open_stream
from procflow.errors import StreamClosedError, StreamReadError
from procflow.events import Chunk, Gap, StreamEnding
from procflow.policies import BestEffort, Loss, Reliable, Replay, StreamConfig

pytestmark = pytest.mark.anyio

CHATTY = """
import os, sys
block = bytes(range(256)) * 64
for size in [1, 80, 4096, 16384] * 200:
    os.write(1, block[:size])
"""
CHATTY_BYTES = 200 * (1 + 80 + 4096 + 16384)


def start(code: str) -> tuple[subprocess.Popen[bytes], FdSource]:
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=writer, stdin=subprocess.DEVNULL)
    os.close(writer)
    return process, FdSource(reader)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_the_output_of_a_child_arrives_exactly() -> None:
    """C-20: writes of every size arrive in order and in whole, then EOF, and the descriptor is closed."""
    process, source = start(CHATTY)
    data = b""
    async with open_stream(source) as stream, stream.subscribe() as events:
        async for event in events:
            assert isinstance(event, Chunk)
            assert event.offset == len(data)
            data += event.data
    process.wait()

    block = bytes(range(256)) * 64
    assert data == b"".join(block[:size] for size in [1, 80, 4096, 16384] * 200)
    assert source.fileno() == -1


async def test_sums_agree_for_every_subscriber_of_a_child() -> None:
    """C-25: with a real child under load, delivered + lost == produced for each subscriber, under every delivery."""
    process, source = start(CHATTY)

    async def read(stream: OutputStream, events_of: BestEffort | Reliable, pause: bool, batch: bool) -> None:
        async with stream.subscribe(events_of) as events:
            delivered = lost = 0
            while True:
                try:
                    items = await events.receive_batch() if batch else [await events.receive()]
                except anyio.EndOfStream:
                    break
                delivered += sum(len(item.data) for item in items if isinstance(item, Chunk))
                lost += sum(item.lost_bytes for item in items if isinstance(item, Gap))
                if pause:
                    await anyio.sleep(0.001)
            assert delivered + lost == stream.produced_bytes == CHATTY_BYTES
            assert lost == 0 or isinstance(events_of, BestEffort)

    async with open_stream(source) as stream, anyio.create_task_group() as tasks:
        for pause in (False, True):
            for batch in (False, True):
                tasks.start_soon(read, stream, Reliable(buffer_bytes=100_000), pause and batch, batch)
                for loss in Loss:
                    tasks.start_soon(read, stream, BestEffort(buffer_bytes=10_000, loss=loss), pause, batch)
    process.wait()


async def test_a_stopped_reliable_subscriber_blocks_the_writer() -> None:
    """C-23: the pipe fills and the writer blocks; nothing more is read than the buffer and one read (TPT N11)."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    async with open_stream(FdSource(reader)) as stream:
        events = stream.subscribe(Reliable(buffer_bytes=100_000))
        written = 0
        with anyio.fail_after(20):
            while True:
                try:
                    written += os.write(writer, b"x" * 4096)
                except BlockingIOError:
                    produced = stream.produced_bytes
                    await anyio.wait_all_tasks_blocked()
                    if stream.statistics().stalled_by and produced == stream.produced_bytes:
                        break
        assert 100_000 <= stream.produced_bytes <= 100_000 + 65536
        assert written > stream.produced_bytes
        events.close()
        with anyio.fail_after(20):
            await anyio.wait_writable(writer)
            while stream.produced_bytes < written:
                await checkpoint()
        os.close(writer)
        await stream.wait_ended()


async def test_closing_a_stream_that_waits_frees_its_descriptor_at_once() -> None:
    """C-21: close() ends a pump that waits for a silent writer, and no descriptor is left."""
    before = open_descriptors()
    reader, writer = os.pipe()
    source = FdSource(reader)
    async with open_stream(source) as stream:
        events = stream.subscribe()
        await anyio.wait_all_tasks_blocked()
        stream.close()
        assert source.fileno() == -1
        with pytest.raises(StreamClosedError):
            await events.receive()
        events.close()
    os.close(writer)
    assert open_descriptors() == before


async def test_a_descriptor_that_fails_is_a_read_failure() -> None:
    """C-21: an error of the operating system arrives as StreamReadError, not as EOF."""
    directory = os.open("/", os.O_RDONLY)
    async with open_stream(FdSource(directory)) as stream:
        with pytest.raises(StreamReadError) as caught:
            await stream.subscribe().receive()
        assert isinstance(caught.value.__cause__, IsADirectoryError)
        assert stream.ending is StreamEnding.READ_FAILED


async def test_the_end_of_a_pty_is_eof() -> None:
    """C-21: EIO of a pty whose other side is closed is EOF where the owner says so."""
    controller, terminal = os.openpty()
    os.write(terminal, b"last words")
    async with open_stream(FdSource(controller, eio_is_eof=True)) as stream:
        events = stream.subscribe()
        assert (await events.receive()) == Chunk(b"last words", 0)
        os.close(terminal)
        with pytest.raises(anyio.EndOfStream):
            await events.receive()
        events.close()


async def test_a_regular_file_is_a_source(tmp_path: os.PathLike[str]) -> None:
    """C-30: a file, which poll does not know, streams like a pipe."""
    path = os.path.join(tmp_path, "data")
    with open(path, "wb") as file:
        file.write(b"a line\n" * 50_000)
    async with open_stream(FdSource(os.open(path, os.O_RDONLY))) as stream:
        assert len([line async for line in stream.lines()]) == 50_000


async def test_any_anyio_byte_stream_is_a_source() -> None:
    """C-30: a socket of anyio is a ByteSource as it is."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def serve(client: anyio.abc.SocketStream) -> None:
        async with client:
            await client.send(b"hello\nworld\n" * 1000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        async with open_stream(await anyio.connect_tcp("127.0.0.1", port)) as stream:
            assert [line async for line in stream.lines()] == ["hello", "world"] * 1000
        tasks.cancel_scope.cancel()
    await listener.aclose()


async def test_tiny_writes_do_not_cost_more_memory_than_their_bytes() -> None:
    """C-20: what is kept of a million one-byte reads is joined into few chunks (TPT D11)."""

    class Drip:
        left = 300_000

        async def receive(self) -> bytes:
            self.left -= 1
            return b"x" if self.left >= 0 else b""

        async def aclose(self) -> None:
            return

    async with open_stream(Drip(), StreamConfig(replay=Replay.all())) as stream:
        await stream.wait_ended()
        async with stream.subscribe(start="start") as events:
            items = await events.receive_batch()
        assert sum(len(item.data) for item in items if isinstance(item, Chunk)) == 300_000
        assert len(items) < 5000


def test_streams_work_with_loops_in_several_threads() -> None:
    """C-6: each of several threads runs its own loop and its own streams at the same time."""
    results: list[int] = []

    async def count() -> None:
        process, source = start("for n in range(20000): print('line', n)")
        async with open_stream(source) as stream:
            results.append(len([line async for line in stream.lines()]))
        process.wait()

    threads = [
        threading.Thread(target=anyio.run, args=(count,), kwargs={"backend": backend})
        for backend in ("asyncio", "trio", "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [20_000] * 4
