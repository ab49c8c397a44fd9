"""Five hundred children that do nothing: what they cost their host, and how soon they are gone."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial
from benchmarks.launchers import LOOPS, OURS, Launcher
from benchmarks.loops import loop_sleep, make_event, together
from benchmarks.targets import Target

ARGV = ["/bin/sleep", "600"]
SETTLE_S = 0.3


def resident_kib() -> float:
    """Return how much memory this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


def allow_descriptors() -> None:
    """Take as many descriptors as are allowed: three a child."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def trial(launcher: Launcher) -> Trial:
    async def main(count: int, window_s: float) -> Numbers:
        sleep = loop_sleep(launcher.backend)
        leaving, all_there = make_event(launcher.backend), make_event(launcher.backend)
        started = 0

        async def one() -> None:
            nonlocal started
            child = await launcher.start(ARGV)
            started += 1
            if started == count:
                all_there.set()
            await leaving.wait()
            await child.leave()

        async def watch() -> None:
            await all_there.wait()
            await sleep(SETTLE_S)
            found["threads"] = len(os.listdir("/proc/self/task"))
            found["descriptors"] = len(os.listdir("/proc/self/fd"))
            found["kib_each"] = (resident_kib() - before_kib) / count
            before_s, before_cpu_s = time.perf_counter(), time.process_time()
            await sleep(window_s)
            share = (time.process_time() - before_cpu_s) / (time.perf_counter() - before_s)
            found["cpu_percent"] = share * 100
            found["left_at_s"] = time.perf_counter()
            leaving.set()

        found: Numbers = {}
        warm = await launcher.start(ARGV)
        await warm.leave()
        before_kib = resident_kib()
        await together(launcher.backend, [watch, *[one] * count])
        found["gone_s"] = time.perf_counter() - found.pop("left_at_s")
        return found

    def measured(params: Params) -> Numbers:
        allow_descriptors()
        found: Numbers = launcher.run(main, params["count"], params["window_s"])
        return found

    return measured


def targets() -> list[Target]:
    found = []
    for ours in OURS:
        backend = ours.rpartition(" ")[2]
        found += [
            Target(promise=f"500 idle children, {backend}: threads of the host", metric="threads", of=ours, at_most=1),
            Target(promise=f"500 idle children, {backend}: CPU of the host", metric="cpu_percent", of=ours, at_most=0.1, unit="%"),
            Target(promise=f"500 idle children, {backend}: leaving the scope ends all", metric="gone_s", of=ours, at_most=1, unit="s"),
        ]  # fmt: skip
    return found


BENCHMARK = Benchmark(
    title="500 idle children",
    about="500 `sleep`s with two pipes each, in a task each: threads and descriptors of the host, its resident memory a child, its CPU while nothing "
    "happens, and how long it takes until all have ended once all tasks are told to leave: procflow leaves its blocks, peers send SIGTERM and wait.",
    variants={name: trial(launcher) for name, launcher in {**LOOPS, **OURS}.items()},
    metrics=(
        Metric(key="threads", title="threads", format=".0f"),
        Metric(key="descriptors", title="descriptors", format=".0f"),
        Metric(key="kib_each", title="KiB a child", format=".1f"),
        Metric(key="cpu_percent", title="idle CPU %", format=".3f"),
        Metric(key="gone_s", title="all ended s"),
    ),
    cases={"": {}},
    params={"count": 500, "window_s": 1.0},
    quick={"count": 20, "window_s": 0.2},
    rounds=3,
    targets=tuple(targets()),
)
