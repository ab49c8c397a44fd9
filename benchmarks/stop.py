"""Ending a child that obeys: from the call until it is reaped, and what it takes to know that nobody else is left."""

from __future__ import annotations

import statistics
import time

from benchmarks.crowd import crowd
from benchmarks.delays import percentile
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial
from benchmarks.launchers import LAUNCHERS, OURS, Launcher
from benchmarks.loops import loop_sleep
from benchmarks.targets import Target

ARGV = ["/bin/sleep", "60"]
WARM_UP = 3
SETTLE_S = 0.003
FEW, MANY = "as it is", "1 000 processes"
CROWDED = ("blocking Popen", "asyncio, thread watcher", *OURS)
CHECK = "procflow, the check alone"


def trial(launcher: Launcher) -> Trial:
    async def once() -> float:
        sleep = loop_sleep(launcher.backend)
        child = await launcher.start(ARGV)
        await sleep(SETTLE_S)
        before = time.perf_counter()
        await child.stop()
        took_s = time.perf_counter() - before
        await child.close()
        return took_s

    async def main(count: int) -> Numbers:
        for _ in range(WARM_UP):
            await once()
        took = [(await once() * 1e3, 1.0) for _ in range(count)]
        return {"p50_ms": percentile(took, 0.5), "p90_ms": percentile(took, 0.9)}

    def measured(params: Params) -> Numbers:
        with crowd(params["processes"]) as processes:
            found: Numbers = launcher.run(main, params["count"])
        return {**found, "processes": processes}

    return measured


def check_alone(params: Params) -> Numbers:
    """The pass over ``/proc`` that finds out whether a group has members besides its leader."""
    from procflow._containment.scan import group_members

    def once() -> float:
        before = time.perf_counter()
        group_members(1, newer_than_mono_s=time.monotonic())
        return time.perf_counter() - before

    with crowd(params["processes"]) as processes:
        took_s = statistics.median(once() for _ in range(params["count"]))
    return {"p50_ms": took_s * 1e3, "processes": processes}


def targets() -> list[Target]:
    found = []
    for ours in OURS:
        backend = ours.rpartition(" ")[2]
        found += [
            Target(promise=f"`terminate()` of an obeying child, {backend}: p50", metric="p50_ms", of=ours, case=FEW, at_most=1, unit="ms", limit="blocking Popen"),
            Target(promise=f"`terminate()` of an obeying child, {backend}: p50, 1 000 processes on the machine", metric="p50_ms", of=ours, case=MANY, at_most=1, unit="ms", limit="blocking Popen"),
            Target(promise=f"`terminate()`, {backend}: what 1 000 processes add", metric="p50_ms", of=ours, case=MANY, over=ours, over_case=FEW, is_difference=True, is_stated=True, unit="ms"),
        ]  # fmt: skip
    found += [
        Target(promise=f"the emptiness check alone, {case}", metric="p50_ms", of=CHECK, case=case, is_stated=True, unit="ms")
        for case in (FEW, MANY)
    ]  # fmt: skip
    return found


BENCHMARK = Benchmark(
    title="Ending a child that obeys",
    about="`sleep` is sent SIGTERM: from the call until it is known to have ended. Peers wait for the child they started. "
    "procflow's `terminate()` returns when its whole group is gone: that takes a pass over `/proc`, whose price grows with the processes "
    "on the machine, so it is measured on this machine as it is and with as many sleepers as make it 1 000.",
    variants={name: trial(launcher) for name, launcher in LAUNCHERS.items()} | {CHECK: check_alone},
    metrics=(
        Metric(key="p50_ms", title="p50 ms", has_ratio=True),
        Metric(key="p90_ms", title="p90 ms", has_ratio=True),
        Metric(key="processes", title="processes", format=".0f"),
    ),
    cases={FEW: {"processes": 0}, MANY: {"processes": 1000}},
    params={"count": 40},
    quick={"count": 5},
    rounds=3,
    applies=lambda case, variant: case == FEW or variant in (*CROWDED, CHECK),
    targets=tuple(targets()),
)
