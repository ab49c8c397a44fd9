"""What streams take in memory: a child that does nothing, and history."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

import procflow as pf
from benchmarks.children import small_writes
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async
from benchmarks.sources import Chunks
from benchmarks.targets import Target

ARGV = ["sleep", "60"]
IDLE = "idle child"
SETTLE_S = 0.1
KIB = 1024
Idle = Callable[[int], AbstractAsyncContextManager[None]]


def traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def idle(backend: str, hold: Idle) -> Trial:
    """Measure children that are kept until the end; a few come and go before, so that what is made once is there."""

    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            async with hold(5):
                await anyio.sleep(SETTLE_S)
            tracemalloc.start()
            before = traced_bytes()
            async with hold(params["children"]):
                await anyio.sleep(SETTLE_S)
                each = (traced_bytes() - before) / params["children"]
                tracemalloc.stop()
            return {"kib": each / KIB}

        found: Numbers = run_async(backend, main)
        return found

    return measured


@asynccontextmanager
async def ours(children: int) -> AsyncIterator[None]:
    command = pf.Command(*ARGV)
    shutdown = pf.Shutdown.now()
    scopes = [pf.spawn(command, shutdown=shutdown) for _ in range(children)]
    held = [await scope.__aenter__() for scope in scopes]
    try:
        yield
    finally:
        for child in held:
            await child.kill()
        while scopes:
            await scopes.pop().__aexit__(None, None, None)


@asynccontextmanager
async def asyncio_processes(children: int) -> AsyncIterator[None]:
    held = [
        await asyncio.create_subprocess_exec(  # noqa: TID251  # a peer
            *ARGV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(children)
    ]
    yield
    for process in held:
        process.kill()
        await process.wait()


@asynccontextmanager
async def anyio_processes(children: int) -> AsyncIterator[None]:
    held = [await anyio.open_process(ARGV, stdin=subprocess.DEVNULL) for _ in range(children)]
    yield
    for process in held:
        process.kill()
        await process.aclose()


def history(chunk_bytes: int) -> Trial:
    """Twice as many bytes as the replay keeps, in chunks of this size, out of memory."""

    def chunks(total: int) -> Iterator[bytes]:
        for _ in range(total // chunk_bytes):
            yield b"x" * chunk_bytes

    async def fill(params: Params, config: pf.StreamConfig) -> Numbers:
        async with pf.open_stream(Chunks(chunks(2 * params["replay_bytes"])), config) as stream:
            await stream.wait_ended()
            return held(stream, params["replay_bytes"])

    return replay(fill)


async def fill_from_child(params: Params, config: pf.StreamConfig) -> Numbers:
    """The same bytes from a child that writes 80 at a time."""
    writes = 2 * params["replay_bytes"] // 80
    async with pf.spawn(pf.Command(*small_writes(writes)), stdout=config) as child:
        assert child.stdout is not None
        await child.stdout.wait_ended()
        return held(child.stdout, params["replay_bytes"])


def held(stream: pf.OutputStream, replay_bytes: int) -> Numbers:
    kept, _ = stream.retained()
    assert len(kept) == replay_bytes
    del kept
    return {"traced": traced_bytes()}


def config_of(params: Params) -> pf.StreamConfig:
    return pf.StreamConfig(replay=pf.Replay.last_bytes(params["replay_bytes"]))


def replay(fill: Callable[[Params, pf.StreamConfig], Awaitable[Numbers]]) -> Trial:
    def measured(params: Params) -> Numbers:
        small = {"replay_bytes": 80 * KIB}

        async def main() -> Numbers:
            await fill(small, config_of(small))  # whatever is made once
            tracemalloc.start()
            before = traced_bytes()
            found = await fill(params, config_of(params))
            taken = found["traced"] - before
            # What is allowed above n is 0.1 n + 64 KiB.
            return {"kib": taken / KIB, "per_byte": (taken - 64 * KIB) / params["replay_bytes"]}

        numbers: Numbers = run_async("asyncio", main)
        return numbers

    return measured


def target(case: str, promise: str, of: str) -> Target:
    return Target(promise=promise, metric="per_byte", of=of, case=case, at_most=1.1, unit="bytes a byte")


REPLAY = "replay of 5 MiB"
FROM_64K = "procflow, 64 KiB chunks in memory"
FROM_80 = "procflow, 80-byte chunks in memory"
FROM_CHILD = "procflow, a child's 80-byte writes"
BENCHMARK = Benchmark(
    title="Memory",
    about="What Python objects take, by tracemalloc. First: each of 100 children that do nothing, with pipes for both streams; "
    "descriptors, and what C libraries hold, are not counted. "
    "Then a stream with a replay of 5 MiB through which twice as much has passed: all that it takes, and how many bytes for each one "
    "kept after 64 KiB for the stream itself.",
    variants={
        "asyncio": idle("asyncio", asyncio_processes),
        "anyio on asyncio": idle("asyncio", anyio_processes),
        "procflow on asyncio": idle("asyncio", ours),
        "procflow on uvloop": idle("uvloop", ours),
        "procflow on trio": idle("trio", ours),
        FROM_64K: history(64 * KIB),
        FROM_80: history(80),
        FROM_CHILD: replay(fill_from_child),
    },
    metrics=(
        Metric(key="kib", title="KiB", format=".1f"),
        Metric(key="per_byte", title="bytes a byte", format=".3f"),
    ),
    cases={IDLE: {}, REPLAY: {}},
    params={"children": 100, "replay_bytes": 80 * 64 * KIB},
    quick={"children": 5, "replay_bytes": 80 * KIB},
    applies=lambda case, variant: (case == REPLAY) == (variant in {FROM_64K, FROM_80, FROM_CHILD}),
    targets=(
        Target(promise="idle child: Python objects above its descriptors", metric="kib", of="procflow on asyncio", case=IDLE, at_most=4, unit="KiB"),
        target(REPLAY, "replay of n bytes less 64 KiB, of 64 KiB chunks", FROM_64K),
        target(REPLAY, "replay of n bytes less 64 KiB, of 80-byte chunks", FROM_80),
        target(REPLAY, "replay of n bytes less 64 KiB, of a child's 80-byte writes", FROM_CHILD),
    ),
)  # fmt: skip
