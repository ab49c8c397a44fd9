"""From the end of a child until whoever waits for it knows."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.delays import percentile
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial
from benchmarks.launchers import LAUNCHERS, OURS, Launcher
from benchmarks.loops import loop_sleep
from benchmarks.targets import Target

ARGV = ["/bin/sleep", "60"]
WARM_UP = 3
SETTLE_S = 0.003
BASE = "asyncio, thread watcher"


def trial(launcher: Launcher) -> Trial:
    async def once() -> float:
        sleep = loop_sleep(launcher.backend)
        child = await launcher.start(ARGV)
        # Until the program runs and the loop has nothing else to do.
        await sleep(SETTLE_S)
        before = time.perf_counter()
        # Behind the back of the library: an end like any other, whose beginning is known to the microsecond.
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        took_s = time.perf_counter() - before
        await child.close()
        return took_s

    async def main(count: int) -> Numbers:
        for _ in range(WARM_UP):
            await once()
        took = [(await once() * 1e6, 1.0) for _ in range(count)]
        return {"p50_us": percentile(took, 0.5), "p90_us": percentile(took, 0.9)}

    def measured(params: Params) -> Numbers:
        found: Numbers = launcher.run(main, params["count"])
        return found

    return measured


BENCHMARK = Benchmark(
    title="Exit notice",
    about="`sleep` is killed from outside, so that its end has a known beginning: from there until `wait()` has returned. "
    "The kernel's part is in it, which is most of what blocking `Popen.wait()` takes; the base line is asyncio with a thread a child.",
    variants={BASE: trial(LAUNCHERS[BASE])} | {name: trial(launcher) for name, launcher in LAUNCHERS.items()},
    metrics=(
        Metric(key="p50_us", title="p50 µs", format=".0f", has_ratio=True),
        Metric(key="p90_us", title="p90 µs", format=".0f", has_ratio=True),
    ),
    cases={"": {}},
    params={"count": 60},
    quick={"count": 5},
    rounds=5,
    targets=tuple(
        Target(
            promise=f"exit to `wait()` returning, {ours.rpartition(' ')[2]}: p50 over the thread watcher",
            metric="p50_us",
            of=ours,
            over=BASE,
            at_most=0.65,
            limit="blocking Popen",
        )
        for ours in OURS
    ),
)
