"""What recording costs whoever is not recorded, and what a reader who has gone to sleep costs the event loop."""

from __future__ import annotations

import os
import tempfile
import time

import anyio

from benchmarks.delays import percentile
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async
from benchmarks.targets import Target
from procflow._process.recording import ACTIVE
from procflow.record import open_run

PULSE_S = 0.001


def trial(stalls: bool) -> Trial:  # noqa: FBT001 (the only thing that differs)
    """Return the trial that emits into a pipe that nobody reads, or only sleeps, and watches the loop."""

    async def beat(gaps: list[tuple[float, float]], stop: anyio.Event) -> None:
        before = time.perf_counter()
        while not stop.is_set():
            await anyio.sleep(PULSE_S)
            now = time.perf_counter()
            gaps.append(((now - before - PULSE_S) * 1e3, 1.0))
            before = now

    async def main(params: Params) -> Numbers:
        reader, writer = os.pipe()
        gaps: list[tuple[float, float]] = []
        stop = anyio.Event()
        try:
            with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
                async with (
                    open_run("x", record=directory, events=f"fd:{writer}") as run,
                    anyio.create_task_group() as tasks,
                ):
                    tasks.start_soon(beat, gaps, stop)
                    if stalls:
                        for number in range(params["count"]):
                            run.note("bench.note", number)
                            if number % 20 == 0:
                                await anyio.sleep(0)
                    else:
                        await anyio.sleep(params["count"] / 50_000)
                    stop.set()
                    os.close(reader)
                    reader = -1
        finally:
            for fd in (reader, writer):
                if fd >= 0:
                    os.close(fd)
        return {"p999_ms": percentile(gaps, 0.999), "read_ns": asking_ns()}

    return lambda params: run_async("asyncio", main, params)


def asking_ns() -> float:
    """Return how long it takes to ask whether there is a recording."""
    get = ACTIVE.get
    before = time.perf_counter()
    for _ in range(100_000):
        get()
    return (time.perf_counter() - before) * 1e4


QUIET, STALLED = "nothing is recorded", "procflow, nobody reads the events"

BENCHMARK = Benchmark(
    title="Beside a recording",
    about="Notes are recorded into a file and into a pipe that nobody reads, as fast as they come, while another task of the loop wakes every millisecond; the base line only sleeps. "
    "The delay is how much later than asked for that task wakes. Asking is what every call pays that is not recorded: one look at a context variable.",
    variants={QUIET: trial(stalls=False), STALLED: trial(stalls=True)},
    metrics=(
        Metric(key="p999_ms", title="delay p99.9 ms", format=".2f"),
        Metric(key="read_ns", title="asking ns", format=".0f"),
    ),
    cases={"": {}},
    params={"count": 50_000},
    quick={"count": 2_000},
    rounds=3,
    targets=(
        Target(promise="a reader that stalls does not hold up the loop (RR-33)", metric="p999_ms", of=STALLED, over=QUIET, at_most=5.0, is_difference=True, unit="ms"),
        Target(promise="a call that is not recorded asks once (RR-25)", metric="read_ns", of=QUIET, at_most=1000.0, unit="ns"),
    ),
)  # fmt: skip
