"""How bytes of a child are read: by us, and by everybody else.

Each reader runs a command and gives every chunk to ``take``, as soon as it has it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any, cast

from benchmarks.children import BLOCK

LARGE_BYTES = 2 << 20

Take = Callable[[bytes], object]
Reader = Callable[[list[str], Take], Awaitable[None]]


async def ours(argv: list[str], take: Take) -> None:
    import procflow as pf

    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        async with child.stdout.subscribe() as events:
            async for event in events:
                assert isinstance(event, pf.Chunk)
                take(event.data)
        await child.wait()


async def ours_batches(argv: list[str], take: Take) -> None:
    import anyio

    import procflow as pf

    async with pf.spawn(pf.Command(*argv)) as child:
        assert child.stdout is not None
        async with child.stdout.subscribe() as events:
            try:
                while True:
                    for event in await events.receive_batch():
                        assert isinstance(event, pf.Chunk)
                        take(event.data)
            except anyio.EndOfStream:
                pass
        await child.wait()


async def stream_reader(argv: list[str], take: Take, **options: Any) -> None:
    process = await asyncio.create_subprocess_exec(  # noqa: TID251  # a peer
        *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options
    )
    assert process.stdout is not None
    while data := await process.stdout.read(BLOCK):
        take(data)
    await process.wait()


async def stream_reader_warm_heap(argv: list[str], take: Take) -> None:
    """In a program that has let go of a large object before, as importing a large module does."""
    bytes(LARGE_BYTES)
    await stream_reader(argv, take)


async def stream_reader_large_pipe(argv: list[str], take: Take) -> None:
    await stream_reader(argv, take, pipesize=256 * 1024)


class _Taking(asyncio.SubprocessProtocol):
    def __init__(self, take: Take) -> None:
        self._take = take
        self.is_read = asyncio.Event()
        self.has_ended = asyncio.Event()

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        self._take(data)

    def pipe_connection_lost(self, _fd: int, _exc: Exception | None) -> None:
        self.is_read.set()

    def process_exited(self) -> None:
        self.has_ended.set()


async def transport(argv: list[str], take: Take) -> None:
    """The loop's own transport, without the StreamReader on top."""
    _, protocol = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Taking(take), *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=None
    )
    await protocol.is_read.wait()
    await protocol.has_ended.wait()


async def bare_callback(argv: list[str], take: Take) -> None:
    """What is left of an event loop when nothing is built on it: a callback that reads once."""
    loop = asyncio.get_running_loop()
    is_over = loop.create_future()

    def read() -> None:
        if data := os.read(fd, BLOCK):
            take(data)
        else:
            loop.remove_reader(fd)
            is_over.set_result(None)

    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        loop.add_reader(fd, read)
        await is_over


async def bare_task(argv: list[str], take: Take) -> None:
    """The same with the least that brings bytes into a task: a future for each wait."""
    loop = asyncio.get_running_loop()
    arrived: list[bytes] = []
    sleeper: asyncio.Future[None] | None = None

    def read() -> None:
        arrived.append(os.read(fd, BLOCK))
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        loop.add_reader(fd, read)
        while True:
            while not arrived:
                sleeper = loop.create_future()
                await sleeper
            data = arrived.pop(0)
            if not data:
                break
            take(data)
        loop.remove_reader(fd)


async def anyio_process(argv: list[str], take: Take) -> None:
    import anyio

    async with await anyio.open_process(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        async for data in process.stdout:
            take(data)


async def trio_process(argv: list[str], take: Take) -> None:
    import trio

    process = cast(Any, await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE))
    while data := await process.stdout.receive_some(BLOCK):
        take(data)
    await process.wait()


def blocking(argv: list[str], take: Take, *, pipe_bytes: int = -1) -> None:
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0, pipesize=pipe_bytes) as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        while data := os.read(fd, BLOCK):
            take(data)
