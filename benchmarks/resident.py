"""Spawning out of a large host: that its memory does not matter, and how long the event loop stands still (C-4)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial
from benchmarks.launchers import LAUNCHERS, OURS, Handle, Launcher
from benchmarks.targets import Target

ARGV = ["/bin/true"]
WARM_UP = 5
SLOW = "uvloop"
SHOWN = ("blocking Popen", "asyncio, thread watcher", SLOW, "anyio on asyncio", *OURS)


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


def as_coroutine(started: Awaitable[Handle]) -> Coroutine[Any, Any, Handle]:
    async def run() -> Handle:
        return await started

    return run()


def trial(launcher: Launcher) -> Trial:
    async def once() -> tuple[float, float]:
        starting = Stepped(as_coroutine(launcher.start(ARGV)))
        before = time.perf_counter()
        child: Handle = await starting
        took_s = time.perf_counter() - before
        await child.wait()
        await child.close()
        return took_s, starting.longest_s

    async def main(count: int, resident_mib: int) -> Numbers:
        for _ in range(WARM_UP):
            await once()
        small_us = statistics.median([(await once())[0] for _ in range(count)]) * 1e6
        resident = bytearray(resident_mib << 20)
        # Every page is touched: untouched ones are not resident and cost a fork nothing.
        resident[::4096] = b"x" * len(range(0, len(resident), 4096))
        found = [await once() for _ in range(count)]
        large_us = statistics.median(pair[0] for pair in found) * 1e6
        blocked = sorted(pair[1] for pair in found)
        return {
            "small_us": small_us,
            "large_us": large_us,
            "ratio": large_us / small_us,
            "p50_ms": statistics.median(blocked) * 1e3,
            "p99_ms": blocked[min(len(blocked) - 1, int(len(blocked) * 0.99))] * 1e3,
        }

    def measured(params: Params) -> Numbers:
        count = params["slow_count" if launcher is LAUNCHERS[SLOW] else "count"]
        found: Numbers = launcher.run(main, count, params["resident_mib"])
        return found

    return measured


def targets() -> list[Target]:
    found = []
    for ours in OURS:
        backend = ours.rpartition(" ")[2]
        found += [
            Target(promise=f"spawn out of 2 GiB resident, {backend}: over the same host before", metric="ratio", of=ours, at_most=1.15, unit="×", limit="blocking Popen"),
            Target(promise=f"spawn out of 2 GiB resident, {backend}: loop stands still, p99 (C-4)", metric="p99_ms", of=ours, at_most=5, unit="ms"),
        ]  # fmt: skip
    return found


BENCHMARK = Benchmark(
    title="Spawning out of a large host",
    about="`/bin/true` with two pipes out of a small host, and again once it has 2 GiB of memory in use: the call until the handle; for the large "
    "host also how long it keeps the event loop from doing anything else, which is the longest stretch without a suspension (promise C-4: below 5 ms at the 99th percentile). "
    "A host that forks copies its page tables; one that uses vfork does not. trio spawns in a thread and is not shown.",
    variants={name: trial(LAUNCHERS[name]) for name in SHOWN},
    metrics=(
        Metric(key="small_us", title="small host: spawn µs", format=".0f"),
        Metric(key="large_us", title="2 GiB: spawn µs", format=".0f"),
        Metric(key="ratio", title="large over small"),
        Metric(key="p50_ms", title="stands still ms p50"),
        Metric(key="p99_ms", title="p99"),
        Metric(key="p99_ms", title="worst p99", is_worst=True),
    ),
    cases={"": {}},
    params={"count": 100, "slow_count": 15, "resident_mib": 2048},
    quick={"count": 20, "slow_count": 5, "resident_mib": 256},
    rounds=3,
    targets=tuple(targets()),
)
