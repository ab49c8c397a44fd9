"""Children that ignore SIGTERM: how much later than their grace they are gone."""

from __future__ import annotations

import statistics
import time
from functools import partial

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial
from benchmarks.launchers import LAUNCHERS, OURS, Handle, Launcher
from benchmarks.loops import together
from benchmarks.targets import Target

STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo ready; exec sleep 60"]
ONE, MANY = "1 child", "100 children"
SHOWN = ("blocking Popen", "asyncio, thread watcher", "asyncio, pidfd watcher", "uvloop", "anyio on asyncio", *OURS)


def trial(launcher: Launcher) -> Trial:
    async def once(count: int, grace_s: float) -> float:
        children: list[Handle] = []

        async def start() -> None:
            child = await launcher.start(STUBBORN)
            await child.read()
            children.append(child)

        for _ in range(count):
            await start()
        before = time.perf_counter()
        await together(launcher.backend, [partial(child.stop_within, grace_s) for child in children])
        over_s = time.perf_counter() - before - grace_s
        for child in reversed(children):
            await child.close()
        return over_s

    async def main(count: int, grace_s: float, times: int) -> Numbers:
        over = [await once(count, grace_s) for _ in range(times)]
        return {"over_ms": statistics.median(over) * 1e3}

    def measured(params: Params) -> Numbers:
        found: Numbers = launcher.run(main, params["children"], params["grace_s"], params["times"])
        return found

    return measured


def targets() -> list[Target]:
    found = []
    for ours in OURS:
        backend = ours.rpartition(" ")[2]
        found += [
            Target(promise=f"child ignores SIGTERM, {backend}: gone after its grace", metric="over_ms", of=ours, case=ONE, at_most=2, unit="ms", limit="blocking Popen"),
            Target(promise=f"100 children ignore SIGTERM at once, {backend}: the last is gone after its grace", metric="over_ms", of=ours, case=MANY, at_most=15, unit="ms"),
        ]  # fmt: skip
    return found


BENCHMARK = Benchmark(
    title="Children that ignore SIGTERM",
    about="Each is given 100 ms between SIGTERM and SIGKILL: how much later than that it has ended; of 100 that are stopped at the same moment, the last. "
    "Peers: terminate, wait with a limit, kill, wait. Blocking `Popen` can do that for one child only.",
    variants={name: trial(LAUNCHERS[name]) for name in SHOWN},
    metrics=(Metric(key="over_ms", title="over its grace ms", has_ratio=True),),
    cases={ONE: {"children": 1, "times": 5}, MANY: {"children": 100, "times": 2}},
    params={"grace_s": 0.1},
    quick={"times": 1},
    rounds=3,
    applies=lambda case, variant: case == ONE or variant != "blocking Popen",
    targets=tuple(targets()),
)
