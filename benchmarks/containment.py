"""What a level of containment adds to a spawn.

Problem: one per cent of a spawn is a few microseconds, and spawns scatter by ten times that.  So the kinds that are compared take
turns within one process, thousands of times, and only their medians are compared.

A guarded child carries a token in its environment, so that environment must be made anew for it where a plain child inherits.
Anything that sets a variable pays that: group level with a variable against group level without is the price of the token, and
guarded against group level, both with a variable, is that of the guard.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import procflow as pf
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async
from benchmarks.levels import at_level
from benchmarks.targets import Target

PLAIN = pf.Command("/bin/true")
WITH_VARIABLE = pf.Command("/bin/true", env={"PROCFLOW_BENCH": "0123456789abcdef0123456789abcdef"})
WARM_UP = 5
BACKENDS = ("asyncio", "uvloop", "trio")
Kind = Callable[[], Any]


def group(command: pf.Command) -> Kind:
    return lambda: pf.spawn(command, containment="group")


async def spawned_us(kind: Kind) -> float:
    """Start a child, wait for its end; return how long its start took."""
    scope = kind()
    before = time.perf_counter()
    child = await scope.__aenter__()
    took_s = time.perf_counter() - before
    await child.wait()
    await scope.__aexit__(None, None, None)
    return took_s * 1e6


async def medians(kinds: dict[str, Kind], turns: int) -> dict[str, float]:
    """Return the median of each kind; in every turn each comes once, in random order."""
    order, found = random.Random(1), {name: list[float]() for name in kinds}
    for _ in range(WARM_UP):
        for kind in kinds.values():
            await spawned_us(kind)
    for _ in range(turns):
        for name in order.sample(list(kinds), len(kinds)):
            found[name].append(await spawned_us(kinds[name]))
    return {name: statistics.median(values) for name, values in found.items()}


def percent(new: float, old: float) -> float:
    return (new / old - 1) * 100


def trial(backend: str, level: str) -> Trial:
    async def main(turns: int) -> Numbers:
        async with at_level(level) as spawn:
            us = await medians(
                {
                    "group": group(PLAIN),
                    "group with variable": group(WITH_VARIABLE),
                    "level": lambda: spawn(PLAIN),
                    "level with variable": lambda: spawn(WITH_VARIABLE),
                },
                turns,
            )
        return {
            "group_us": us["group"],
            "level_us": us["level"],
            "ratio": us["level"] / us["group"],
            "helper_percent": percent(us["level with variable"], us["group with variable"]),
            "variable_percent": percent(us["group with variable"], us["group"]),
        }

    def measured(params: Params) -> Numbers:
        found: Numbers = run_async(backend, main, params["turns"])
        return found

    return measured


def targets() -> list[Target]:
    found = []
    for backend in BACKENDS:
        guarded, strict = f"procflow guarded, {backend}", f"procflow strict, {backend}"
        found += [
            Target(promise=f"guard, {backend}: what it adds to a spawn", metric="helper_percent", of=guarded, at_most=1, unit="%"),
            Target(promise=f"token, {backend}: what a variable in the environment adds to a spawn", metric="variable_percent", of=guarded, is_stated=True, unit="%"),
            Target(promise=f"guarded spawn over group spawn, {backend} (C-85)", metric="ratio", of=guarded, at_most=1.3, unit="×"),
            Target(promise=f"strict spawn over group spawn, {backend}", metric="ratio", of=strict, at_most=2.5, unit="×"),
        ]  # fmt: skip
    return found


BENCHMARK = Benchmark(
    title="What a level of containment costs",
    about="`/bin/true` with two pipes, call until the handle, median: group level and another level in turns in one process. "
    "The guard alone: guarded against group level, both with a variable of their own in the environment. "
    "The token alone: group level with such a variable against group level without.",
    variants={
        f"procflow {level}, {backend}": trial(backend, level) for level in ("guarded", "strict") for backend in BACKENDS
    },
    metrics=(
        Metric(key="group_us", title="group µs", format=".0f"),
        Metric(key="level_us", title="level µs", format=".0f"),
        Metric(key="ratio", title="level over group"),
        Metric(key="helper_percent", title="helper alone %", format="+.1f"),
        Metric(key="variable_percent", title="variable alone %", format="+.1f"),
    ),
    cases={"": {}},
    params={"turns": 250},
    quick={"turns": 10},
    rounds=5,
    targets=tuple(targets()),
)
