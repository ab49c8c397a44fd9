"""How old an event is when a tail in another process gives it, and what a tail costs while nothing comes."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time

import anyio

from benchmarks.delays import percentile
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async
from benchmarks.targets import Target
from procflow.record import Note, tail

WRITER = """
import sys, time
from procflow.record import Note
from procflow.record.recorder import Recorder
from procflow.record.sinks.files import FileSink

recorder = Recorder([FileSink(sys.argv[1])])
print("ready", flush=True)
for order in sys.stdin:
    time.sleep(float(order))
    recorder.emit(Note(key="bench.written", value=time.monotonic_ns()))
"""
WARM_UP = 3
LOOPS = ("asyncio", "uvloop", "trio")


def trial(backend: str) -> Trial:
    async def main(count: int, window_s: float) -> Numbers:
        with (
            tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory,
            subprocess.Popen(
                [sys.executable, "-c", WRITER, f"{directory}/events.jsonl"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as writer,
        ):
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdout.readline()
            took: list[tuple[float, float]] = []
            async with tail(directory) as lines:
                chance = random.Random(count)
                for number in range(-WARM_UP, count):
                    # Moments that have nothing to do with those of the looks.
                    writer.stdin.write(f"{chance.uniform(0, 0.3)}\n")
                    writer.stdin.flush()
                    event = (await lines.receive()).event
                    assert isinstance(event, Note)
                    assert isinstance(event.value, int)
                    if number >= 0:
                        took.append(((time.monotonic_ns() - event.value) / 1e6, 1.0))
                before_s, before_cpu_s = time.perf_counter(), time.process_time()
                with anyio.move_on_after(window_s):
                    await lines.receive()
                share = (time.process_time() - before_cpu_s) / (time.perf_counter() - before_s)
            writer.kill()
        return {"p50_ms": percentile(took, 0.5), "p95_ms": percentile(took, 0.95), "idle_percent": share * 100}

    def measured(params: Params) -> Numbers:
        found: Numbers = run_async(backend, main, params["count"], params["window_s"])
        return found

    return measured


BENCHMARK = Benchmark(
    title="Following a record",
    about="A recorder in another process emits single events at random moments, and a tail gives them: how long after `emit` began. "
    "Then the writer lives on in silence, and the share of a core is taken that the tail needs meanwhile.",
    variants={f"procflow, {backend}": trial(backend) for backend in LOOPS},
    metrics=(
        Metric(key="p50_ms", title="p50 ms", format=".0f"),
        Metric(key="p95_ms", title="p95 ms", format=".0f"),
        Metric(key="idle_percent", title="idle, % of a core", format=".2f"),
    ),
    cases={"": {}},
    params={"count": 100, "window_s": 10.0},
    quick={"count": 5, "window_s": 0.5},
    rounds=3,
    targets=tuple(
        target
        for backend in LOOPS
        for target in (
            Target(promise=f"an event of a live run (RR-63), {backend}: p95", metric="p95_ms", of=f"procflow, {backend}", at_most=250, unit="ms"),
            Target(promise=f"a tail of a quiet run (RR-63), {backend}", metric="idle_percent", of=f"procflow, {backend}", at_most=1, unit="% of a core"),
        )
    ),
)  # fmt: skip
