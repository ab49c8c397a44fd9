"""Starting a child with two pipes, and waiting for its end."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async, timed

ARGV = ["/bin/true"]
WARM_UP = 5
Pair = tuple[float, float]
"""Seconds until the call returned, and until the child was reaped."""


def numbers(pairs: list[Pair], cpu_s: float) -> Numbers:
    return {
        "spawn_us": statistics.median(pair[0] for pair in pairs) * 1e6,
        "reaped_us": statistics.median(pair[1] for pair in pairs) * 1e6,
        "cpu_us": cpu_s / len(pairs) * 1e6,
    }


def trial(backend: str, once: Callable[[], Awaitable[Pair]]) -> Trial:
    def measured(params: Params) -> Numbers:
        async def main() -> Numbers:
            for _ in range(WARM_UP):
                await once()
            with timed() as timing:
                pairs = [await once() for _ in range(params["count"])]
            return numbers(pairs, timing.cpu_s)

        found: Numbers = run_async(backend, main)
        return found

    return measured


async def ours() -> Pair:
    before = time.perf_counter()
    async with pf.spawn(pf.Command(*ARGV)) as child:
        spawned = time.perf_counter()
        await child.wait()
    return spawned - before, time.perf_counter() - before


async def asyncio_process() -> Pair:
    before = time.perf_counter()
    process = await asyncio.create_subprocess_exec(  # noqa: TID251  # a peer
        *ARGV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    spawned = time.perf_counter()
    await process.wait()
    return spawned - before, time.perf_counter() - before


async def anyio_process() -> Pair:
    before = time.perf_counter()
    async with await anyio.open_process(ARGV, stdin=subprocess.DEVNULL) as process:
        spawned = time.perf_counter()
        await process.wait()
    return spawned - before, time.perf_counter() - before


async def trio_process() -> Pair:
    before = time.perf_counter()
    process: Any = await trio.lowlevel.open_process(
        ARGV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    spawned = time.perf_counter()
    await process.wait()
    await process.stdout.aclose()
    await process.stderr.aclose()
    return spawned - before, time.perf_counter() - before


def popen_once() -> Pair:
    before = time.perf_counter()
    with subprocess.Popen(ARGV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        spawned = time.perf_counter()
        process.wait()
    return spawned - before, time.perf_counter() - before


def popen(params: Params) -> Numbers:
    for _ in range(WARM_UP):
        popen_once()
    with timed() as timing:
        pairs = [popen_once() for _ in range(params["count"])]
    return numbers(pairs, timing.cpu_s)


BENCHMARK = Benchmark(
    title="Spawn",
    about="`/bin/true` with pipes for stdout and stderr, one after the other: time until the handle is there, until the child is reaped "
    "and everything closed, and CPU for both. The base line is blocking `Popen`.",
    variants={
        "blocking Popen": popen,
        "asyncio": trial("asyncio", asyncio_process),
        "uvloop": trial("uvloop", asyncio_process),
        "anyio on asyncio": trial("asyncio", anyio_process),
        "anyio on trio": trial("trio", anyio_process),
        "trio": trial("trio", trio_process),
        "procflow on asyncio": trial("asyncio", ours),
        "procflow on uvloop": trial("uvloop", ours),
        "procflow on trio": trial("trio", ours),
    },
    metrics=(
        Metric(key="spawn_us", title="spawn µs", format=".0f", has_ratio=True),
        Metric(key="reaped_us", title="to reaped µs", format=".0f", has_ratio=True),
        Metric(key="cpu_us", title="CPU µs", format=".0f", has_ratio=True),
    ),
    cases={"": {}},
    params={"count": 100},
    quick={"count": 20},
)
