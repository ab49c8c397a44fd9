"""Spawning out of a large host: how long the event loop stands still (C-4)."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import anyio

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async

ARGV = ["/bin/true"]
WARM_UP = 5


class Stepped:
    """Await a coroutine and keep how long its longest stretch without a suspension took: the loop stands still in it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.longest_s = 0.0

    def __await__(self) -> Generator[Any, Any, Any]:
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            before = time.perf_counter()
            try:
                asked = self._coroutine.send(sent) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as exc:
                return exc.value
            finally:
                self.longest_s = max(self.longest_s, time.perf_counter() - before)
            sent = thrown = None
            try:
                sent = yield asked
            except BaseException as exc:  # passed into the coroutine, whatever it is
                thrown = exc


def trial(backend: str, once: Callable[[], Coroutine[Any, Any, float]]) -> Trial:
    def measured(params: Params) -> Numbers:
        resident = bytearray(params["resident_mib"] << 20)
        # Every page is touched: untouched ones are not resident and cost a fork nothing.
        resident[::4096] = b"x" * len(range(0, len(resident), 4096))

        async def main() -> Numbers:
            for _ in range(WARM_UP):
                await once()
            blocked = sorted([await once() for _ in range(params["count"])])
            return {
                "p50_ms": statistics.median(blocked) * 1e3,
                "p99_ms": blocked[min(len(blocked) - 1, int(len(blocked) * 0.99))] * 1e3,
            }

        found: Numbers = run_async(backend, main)
        return found

    return measured


async def ours() -> float:
    scope = pf.spawn(pf.Command(*ARGV))
    entering = Stepped(scope.__aenter__())
    child = await entering
    await child.wait()
    await scope.__aexit__(None, None, None)
    return entering.longest_s


async def asyncio_process() -> float:
    spawning = Stepped(
        asyncio.create_subprocess_exec(  # noqa: TID251  # a peer
            *ARGV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    )
    process = await spawning
    await process.wait()
    return spawning.longest_s


async def anyio_process() -> float:
    spawning = Stepped(anyio.open_process(ARGV, stdin=subprocess.DEVNULL))
    async with await spawning as process:
        await process.wait()
    return spawning.longest_s


BENCHMARK = Benchmark(
    title="Spawning out of a host with 1 GiB resident",
    about="How long one spawn keeps the event loop from doing anything else: the longest stretch without a suspension (promise C-4: "
    "below 5 ms at the 99th percentile). trio spawns in a thread and is not shown.",
    variants={
        "asyncio": trial("asyncio", asyncio_process),
        "uvloop": trial("uvloop", asyncio_process),
        "anyio on asyncio": trial("asyncio", anyio_process),
        "procflow on asyncio": trial("asyncio", ours),
        "procflow on uvloop": trial("uvloop", ours),
        "procflow on trio": trial("trio", ours),
    },
    metrics=(
        Metric(key="p50_ms", title="p50 ms"),
        Metric(key="p99_ms", title="p99 ms"),
        Metric(key="p99_ms", title="worst p99 ms", is_worst=True),
    ),
    cases={"": {}},
    params={"count": 100, "resident_mib": 1024},
    quick={"count": 20, "resident_mib": 256},
)
