"""Starting a child with two pipes, and waiting for its end."""

from __future__ import annotations

import statistics
import time

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, timed
from benchmarks.launchers import LAUNCHERS, OURS, Launcher
from benchmarks.targets import Target

ARGV = ["/bin/true"]
WARM_UP = 5
Pair = tuple[float, float]
"""Seconds until the call returned, and until the child was reaped."""


def trial(launcher: Launcher) -> Trial:
    async def once() -> Pair:
        before = time.perf_counter()
        child = await launcher.start(ARGV)
        spawned = time.perf_counter()
        await child.wait()
        await child.close()
        return spawned - before, time.perf_counter() - before

    async def main(count: int) -> Numbers:
        for _ in range(WARM_UP):
            await once()
        with timed() as timing:
            pairs = [await once() for _ in range(count)]
        return {
            "spawn_us": statistics.median(pair[0] for pair in pairs) * 1e6,
            "reaped_us": statistics.median(pair[1] for pair in pairs) * 1e6,
            "cpu_us": timing.cpu_s / len(pairs) * 1e6,
        }

    def measured(params: Params) -> Numbers:
        found: Numbers = launcher.run(main, params["count"])
        return found

    return measured


def targets() -> list[Target]:
    found = []
    for ours in OURS:
        backend = ours.rpartition(" ")[2]
        anyio = "anyio on trio" if backend == "trio" else "anyio on asyncio"
        found += [
            Target(promise=f"spawn with two pipes, {backend}: call over bare `Popen`", metric="spawn_us", of=ours, over="blocking Popen", at_most=1.25),
            Target(promise=f"spawn with two pipes, {backend}: call over `anyio.open_process`", metric="spawn_us", of=ours, over=anyio, at_most=0.6),
        ]  # fmt: skip
    return found


BENCHMARK = Benchmark(
    title="Spawn",
    about="`/bin/true` with pipes for stdout and stderr, one after the other: time until the handle is there, until the child is reaped "
    "and everything closed, and CPU for both. The base line is blocking `Popen`; `sh` and `plumbum` block too. "
    "Everybody with default settings, so procflow with its guard.",
    variants={name: trial(launcher) for name, launcher in LAUNCHERS.items()},
    metrics=(
        Metric(key="spawn_us", title="spawn µs", format=".0f", has_ratio=True),
        Metric(key="reaped_us", title="to reaped µs", format=".0f", has_ratio=True),
        Metric(key="cpu_us", title="CPU µs", format=".0f", has_ratio=True),
    ),
    cases={"": {}},
    params={"count": 150},
    quick={"count": 20},
    rounds=5,
    targets=tuple(targets()),
)
