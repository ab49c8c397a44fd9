"""A group of fifty and SIGKILL: when the last of them is gone."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async
from benchmarks.targets import Target
from benchmarks.watch import Watched

SCRIPT = 'n=1; while [ $n -lt "$0" ]; do sleep 60 & n=$((n+1)); done; echo ready; wait'
BY_HAND = "Popen and killpg by hand"


def members(group: int) -> Sequence[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def summary(took: list[float], left: list[int]) -> Numbers:
    return {"gone_ms": statistics.median(took) * 1e3, "left": max(left)}


def ours(backend: str) -> Trial:
    async def once(count: int) -> tuple[float, int]:
        async with pf.spawn(pf.Command("/bin/sh", "-c", SCRIPT, str(count))) as child:
            assert child.stdout is not None
            await child.stdout.wait_for_line("ready")
            with Watched(members(child.pid)) as watched:
                assert watched.count_alive(0) == count
                before = time.perf_counter()
                await child.kill()
                # That it has returned says that all are gone: checked, but not waited for.
                took_s = time.perf_counter() - before
                left = watched.count_alive(0)
        return took_s, left

    async def main(count: int, times: int) -> Numbers:
        found = [await once(count) for _ in range(times)]
        return summary([took_s for took_s, _ in found], [left for _, left in found])

    def measured(params: Params) -> Numbers:
        found: Numbers = run_async(backend, main, params["count"], params["times"])
        return found

    return measured


def by_hand(params: Params) -> Numbers:
    """The system call, and waiting for every single one."""
    took, left = [], []
    for _ in range(params["times"]):
        argv = ["/bin/sh", "-c", SCRIPT, str(params["count"])]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with Watched(members(process.pid)) as watched:
                before = time.perf_counter()
                os.killpg(process.pid, signal.SIGKILL)
                left.append(watched.count_alive(5))
                took.append(time.perf_counter() - before)
    return summary(took, left)


BENCHMARK = Benchmark(
    title="A group of 50",
    about="A shell with 49 `sleep`s, all in its group, is killed: until `kill()` has returned, which means that all are gone. Each is watched through a "
    "pidfd: how many were alive at that moment. By hand: `killpg`, until the last pidfd tells of an end.",
    variants={
        BY_HAND: by_hand,
        "procflow on asyncio": ours("asyncio"),
        "procflow on uvloop": ours("uvloop"),
        "procflow on trio": ours("trio"),
    },
    metrics=(
        Metric(key="gone_ms", title="all gone ms", has_ratio=True),
        Metric(key="left", title="alive then (most of all rounds)", format=".0f", is_worst=True),
    ),
    cases={"": {}},
    params={"count": 50, "times": 7},
    quick={"times": 2},
    rounds=5,
    targets=tuple(
        target
        for backend in ("asyncio", "uvloop", "trio")
        for target in (
            Target(promise=f"group of 50 after SIGKILL, {backend}: all gone", metric="gone_ms", of=f"procflow on {backend}", at_most=10, unit="ms", limit=BY_HAND),
            Target(promise=f"group of 50 after SIGKILL, {backend}: alive when `kill()` returns", metric="left", of=f"procflow on {backend}", at_most=0),
        )
    ),
)  # fmt: skip
