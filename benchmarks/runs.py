"""A thousand short runs, two hundred at a time: how fast, and what is left behind."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.calls import CALLS, Call
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, timed
from benchmarks.loops import loop_sleep, run_on, task_count, together
from benchmarks.targets import Target

ARGV = ["/bin/true"]
WARM_UP = 2
WARM_UP_S = 0.3
"""For whatever a library starts beside its first child."""
SETTLE_S = 1.0
POLL_S = 0.02
SLOW = "sh"
KINDS = ("zombies", "descriptors", "threads", "tasks")


def descendants(pid: int | str = "self") -> Iterator[int]:
    """Yield every descendant of a process, zombies included."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def inventory(backend: str | None) -> Counter[str]:
    """Count what could leak."""
    return Counter(
        {
            "zombies": sum(is_zombie(pid) for pid in descendants()),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "tasks": task_count(backend) if backend is not None else 0,
        }
    )


def leaked(before: Counter[str], backend: str | None) -> dict[str, float]:
    now = inventory(backend)
    return {kind: max(0, now[kind] - before[kind]) for kind in KINDS}


def numbers(call: Call, count: int, wall_s: float, cpu_s: float, left: dict[str, float]) -> Numbers:
    if call.backend is None:
        del left["tasks"]
    return {"runs_s": count / wall_s, "cpu_us": cpu_s / count * 1e6, **left, "left": sum(left.values())}


def in_tasks(call: Call, backend: str) -> Trial:
    async def main(count: int, at_once: int) -> Numbers:
        sleep = loop_sleep(backend)

        async def several() -> None:
            for _ in range(count // at_once):
                await call.run(ARGV, None)

        for _ in range(WARM_UP):
            await call.run(ARGV, None)
        await sleep(WARM_UP_S)
        before = inventory(backend)
        with timed() as timing:
            await together(backend, [several] * at_once)
        deadline = time.perf_counter() + SETTLE_S
        while any((left := leaked(before, backend)).values()) and time.perf_counter() < deadline:
            await sleep(POLL_S)
        return numbers(call, count, timing.wall_s, timing.cpu_s, left)

    def measured(params: Params) -> Numbers:
        found: Numbers = run_on(backend, call.watcher, main, params["count"], params["at_once"])
        return found

    return measured


def in_threads(call: Call, *, is_slow: bool) -> Trial:
    def measured(params: Params) -> Numbers:
        count, at_once = params["slow_count" if is_slow else "count"], params["at_once"]

        def several() -> None:
            for _ in range(count // at_once):
                call.run(ARGV, None)

        for _ in range(WARM_UP):
            call.run(ARGV, None)
        time.sleep(WARM_UP_S)
        before = inventory(None)
        threads = [threading.Thread(target=several) for _ in range(at_once)]
        with timed() as timing:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        deadline = time.perf_counter() + SETTLE_S
        while any((left := leaked(before, None)).values()) and time.perf_counter() < deadline:
            time.sleep(POLL_S)
        return numbers(call, count, timing.wall_s, timing.cpu_s, left)

    return measured


BENCHMARK = Benchmark(
    title="1 000 short runs, 200 at a time",
    about="`/bin/true` with captured output, five times in each of 200 tasks (threads, where the call blocks). What is there 1 s later that was not "
    "there before the first of them: zombies among all descendants, descriptors, threads, tasks. "
    "Worker threads that a loop keeps for later count as threads. sh is given 200 runs: 1 000 of them would take as long as everything else.",
    variants={
        name: in_threads(call, is_slow=name == SLOW) if call.backend is None else in_tasks(call, call.backend)
        for name, call in CALLS.items()
    },
    metrics=(
        Metric(key="runs_s", title="runs/s", format=".0f", has_ratio=True),
        Metric(key="cpu_us", title="CPU µs each", format=".0f", has_ratio=True),
        Metric(key="zombies", title="zombies left", format=".0f", is_worst=True),
        Metric(key="descriptors", title="descriptors", format=".0f", is_worst=True),
        Metric(key="threads", title="threads", format=".0f", is_worst=True),
        Metric(key="tasks", title="tasks", format=".0f", is_worst=True),
        Metric(key="left", title="all of them", format=".0f", is_worst=True),
    ),
    cases={"": {}},
    params={"count": 1000, "slow_count": 200, "at_once": 200},
    quick={"count": 40, "slow_count": 20, "at_once": 20},
    rounds=2,
    targets=tuple(
        Target(
            promise=f"1 000 short runs, {name.rpartition(' ')[2]}: zombies, descriptors, threads and tasks left (C-69)",
            metric="left",
            of=name,
            at_most=0,
        )
        for name in CALLS
        if name.startswith("procflow")
    ),
)
