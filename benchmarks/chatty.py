"""32 children that write without end, in one loop: total throughput, and how late everything else is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from benchmarks.children import BLOCK, zeros
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed
from benchmarks.loops import loop_sleep
from benchmarks.targets import Target

BEAT_S = 0.001
WARM_UP_S = 0.2
ARGV = zeros(None)


class Counter:
    """What all readers have received together."""

    def __init__(self) -> None:
        self.total = 0


Crowd = Callable[[int, Counter], AbstractAsyncContextManager[None]]


def trial(backend: str, crowd: Crowd) -> Trial:
    def measured(params: Params) -> Numbers:
        sleep = loop_sleep(backend)

        async def main() -> Numbers:
            late_s: list[float] = []
            counter = Counter()
            async with crowd(params["children"], counter):
                await sleep(WARM_UP_S)
                before = counter.total
                with timed() as timing:
                    ends = time.perf_counter() + params["window_s"]
                    while (now := time.perf_counter()) < ends:
                        await sleep(BEAT_S)
                        late_s.append(time.perf_counter() - now - BEAT_S)
                total = counter.total - before
            late_s.sort()
            return {
                "gb_s": total / timing.wall_s / 1e9,
                "cpu_s_gb": timing.cpu_s / (total / 1e9),
                "late_p50_ms": late_s[len(late_s) // 2] * 1e3,
                "late_p99_ms": late_s[int(len(late_s) * 0.99)] * 1e3,
            }

        found: Numbers = run_async(backend, main)
        return found

    return measured


@asynccontextmanager
async def ours(children: int, counter: Counter) -> AsyncIterator[None]:
    import anyio

    import procflow as pf

    async def read() -> None:
        async with pf.spawn(pf.Command(*ARGV)) as child:
            assert child.stdout is not None
            async with child.stdout.subscribe() as events:
                async for event in events:
                    assert isinstance(event, pf.Chunk)
                    counter.total += len(event.data)

    async with anyio.create_task_group() as tasks:
        for _ in range(children):
            tasks.start_soon(read)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def stream_readers(children: int, counter: Counter) -> AsyncIterator[None]:
    async def read(process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(BLOCK):
            counter.total += len(data)
        await process.wait()

    processes = [
        await asyncio.create_subprocess_exec(*ARGV, stdout=subprocess.PIPE)  # noqa: TID251  # a peer
        for _ in range(children)
    ]
    async with asyncio.TaskGroup() as tasks:
        for process in processes:
            tasks.create_task(read(process))
        yield
        for process in processes:
            process.kill()


@asynccontextmanager
async def anyio_processes(children: int, counter: Counter) -> AsyncIterator[None]:
    import anyio

    async def read(process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        async for data in process.stdout:
            counter.total += len(data)
        await process.wait()

    processes = [
        await anyio.open_process(ARGV, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(children)
    ]
    async with anyio.create_task_group() as tasks:
        for process in processes:
            tasks.start_soon(read, process)
        yield
        for process in processes:
            process.kill()


@asynccontextmanager
async def trio_processes(children: int, counter: Counter) -> AsyncIterator[None]:
    import trio

    async def read(process: Any) -> None:
        while data := await process.stdout.receive_some(BLOCK):
            counter.total += len(data)
        await process.wait()

    processes = [cast(Any, await trio.lowlevel.open_process(ARGV, stdout=subprocess.PIPE)) for _ in range(children)]
    async with trio.open_nursery() as tasks:
        for process in processes:
            tasks.start_soon(read, process)
        yield
        for process in processes:
            process.kill()


@asynccontextmanager
async def threads(children: int, counter: Counter) -> AsyncIterator[None]:
    """A thread each with a blocking read: what the machine gives when the loop has nothing to do with it."""

    def read(process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), BLOCK):
            counter.total += len(data)

    processes = [subprocess.Popen(ARGV, stdout=subprocess.PIPE, bufsize=0) for _ in range(children)]
    readers = [threading.Thread(target=read, args=(process,)) for process in processes]
    for reader in readers:
        reader.start()
    yield
    for process in processes:
        process.kill()
        process.wait()
    for reader in readers:
        reader.join()


BENCHMARK = Benchmark(
    title="32 chatty children in one loop",
    about="32 endless `dd` with blocks of 64 KiB, a reader each; measured for 0.7 s once all are there. "
    "Beside them a task sleeps 1 ms over and over: how late it wakes. 34 processes share the cores: what the children get, the reader lacks. "
    "The base line is asyncio's `StreamReader`.",
    variants={
        "asyncio StreamReader": trial("asyncio", stream_readers),
        "uvloop StreamReader": trial("uvloop", stream_readers),
        "anyio on asyncio": trial("asyncio", anyio_processes),
        "trio": trial("trio", trio_processes),
        "blocking os.read, a thread each": trial("asyncio", threads),
        "procflow on asyncio": trial("asyncio", ours),
        "procflow on uvloop": trial("uvloop", ours),
        "procflow on trio": trial("trio", ours),
    },
    metrics=(
        Metric(key="gb_s", title="GB/s", has_ratio=True),
        Metric(key="cpu_s_gb", title="CPU s/GB", has_ratio=True),
        Metric(key="late_p50_ms", title="late p50 ms"),
        Metric(key="late_p99_ms", title="late p99 ms"),
    ),
    cases={"": {}},
    params={"children": 32, "window_s": 0.7},
    quick={"children": 4, "window_s": 0.1},
    targets=(
        Target(promise="32 chatty children: total throughput over asyncio", metric="gb_s", of="procflow on asyncio", over="asyncio StreamReader", limit="blocking os.read, a thread each", at_least=4),
        Target(promise="32 chatty children: heartbeat late, p50", metric="late_p50_ms", of="procflow on asyncio", at_most=5, unit="ms"),
        Target(promise="32 chatty children: heartbeat late, p99", metric="late_p99_ms", of="procflow on asyncio", at_most=30, unit="ms"),
    ),
)  # fmt: skip
