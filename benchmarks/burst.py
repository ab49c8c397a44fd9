"""Two hundred spawns at once: how long the event loop stands still."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, timed
from benchmarks.launchers import LAUNCHERS, LOOPS, OURS, Launcher, start_popen
from benchmarks.loops import loop_sleep, together
from benchmarks.targets import Target

ARGV = ["/bin/true"]
BARE = "blocking Popen, one a turn"


class Beat:
    """A task that wakes in every turn of the loop, and keeps the longest turn."""

    def __init__(self, backend: str) -> None:
        self._sleep = loop_sleep(backend)
        self._is_over = False
        self.longest_s = 0.0

    async def run(self) -> None:
        before = time.perf_counter()
        while not self._is_over:
            await self._sleep(0)
            now = time.perf_counter()
            self.longest_s = max(self.longest_s, now - before)
            before = now

    def stop(self) -> None:
        self._is_over = True


def trial(launcher: Launcher) -> Trial:
    async def main(count: int) -> Numbers:
        beat = Beat(launcher.backend)
        warm = await launcher.start(ARGV)
        await warm.wait()
        await warm.close()
        started, spawning_s, stall_s = 0, 0.0, 0.0
        begun = time.perf_counter()

        async def one() -> None:
            nonlocal started, spawning_s, stall_s
            child = await launcher.start(ARGV)
            started += 1
            if started == count:
                spawning_s, stall_s = time.perf_counter() - begun, beat.longest_s
            await child.wait()
            await child.close()

        async def all_of_them() -> None:
            await together(launcher.backend, [one] * count)
            beat.stop()

        with timed() as timing:
            await together(launcher.backend, [beat.run, all_of_them])
        return {
            "stall_ms": stall_s * 1e3,
            "whole_ms": beat.longest_s * 1e3,
            "spawns_s": count / spawning_s,
            "cpu_us": timing.cpu_s / count * 1e6,
        }

    def measured(params: Params) -> Numbers:
        found: Numbers = launcher.run(main, params["count"])
        return found

    return measured


def bare(params: Params) -> Numbers:
    """The least: a bare ``Popen`` in every turn of the loop, and nobody waits before all are there."""
    launcher = Launcher(start=start_popen)

    async def main(count: int) -> Numbers:
        beat = Beat("asyncio")
        sleep = loop_sleep("asyncio")
        begun, spawning_s = time.perf_counter(), 0.0

        async def all_of_them() -> None:
            nonlocal spawning_s
            children = []
            for _ in range(count):
                children.append(await start_popen(ARGV))
                await sleep(0)
            spawning_s = time.perf_counter() - begun
            beat.stop()
            for child in children:
                await child.wait()
                await child.close()

        with timed() as timing:
            await together("asyncio", [beat.run, all_of_them])
        return {
            "stall_ms": beat.longest_s * 1e3,
            "spawns_s": count / spawning_s,
            "cpu_us": timing.cpu_s / count * 1e6,
        }

    found: Numbers = launcher.run(partial(main, params["count"]))
    return found


BENCHMARK = Benchmark(
    title="A burst of spawns",
    about="200 tasks start `/bin/true` with two pipes at the same moment and wait for it, beside a task that wakes in every turn of the loop: the longest "
    "turn until the last handle is there, and until the last child has ended. `Popen` in every turn and nothing else is what the machine gives: "
    "the children want the same cores.",
    variants={BARE: bare} | {name: trial(LAUNCHERS[name]) for name in (*LOOPS, *OURS)},
    metrics=(
        Metric(key="stall_ms", title="longest turn ms"),
        Metric(key="whole_ms", title="until all ended"),
        Metric(key="spawns_s", title="spawns/s", format=".0f", has_ratio=True),
        Metric(key="cpu_us", title="CPU µs each", format=".0f", has_ratio=True),
    ),
    cases={"": {}},
    params={"count": 200},
    quick={"count": 20},
    rounds=5,
    targets=tuple(
        Target(
            promise=f"burst of 200 spawns, {ours.rpartition(' ')[2]}: longest stall of the loop",
            metric="stall_ms",
            of=ours,
            at_most=3,
            unit="ms",
            limit=BARE,
        )
        for ours in OURS
    ),
)
