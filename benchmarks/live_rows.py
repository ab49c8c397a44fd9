"""How soon the rows of a live run are there, and what they cost it."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.delays import percentile
from benchmarks.harness import Benchmark, Metric, Numbers, Params, run_async, timed
from benchmarks.ingest import events
from benchmarks.targets import Target
from procflow.record.recorder import Recorder
from procflow.record.sinks.files import FileSink
from procflow.record.store.live import DatabaseSink


async def recorded(directory: Path, count: int, burst: int) -> Numbers:
    """Record bursts of events, and wait each time until another connection sees the last of them."""
    recorder = Recorder([FileSink(str(directory / "events.jsonl")), DatabaseSink(directory / "runs.db", directory)])
    happening = events(count * burst)
    took: list[tuple[float, float]] = []
    recorder.emit(next(happening))
    seq = 0
    with (
        timed() as timing,
        contextlib.closing(sqlite3.connect(directory / "runs.db", isolation_level=None)) as connection,
    ):
        while not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'events'").fetchone():
            time.sleep(0.01)
        for _ in range(count):
            for _ in range(burst):
                recorder.emit(next(happening))
            seq += burst
            emitted_s = time.monotonic()
            while not connection.execute("SELECT 1 FROM events WHERE seq = ?", (seq,)).fetchone():
                time.sleep(0.001)
            took.append(((time.monotonic() - emitted_s) * 1000, 1.0))
    await recorder.aclose()
    return {
        "p50_ms": percentile(took, 0.5),
        "p95_ms": percentile(took, 0.95),
        "worst_ms": max(took)[0],
        "cpu_us": timing.cpu_s / (count * burst) * 1e6,
    }


def trial(params: Params) -> Numbers:
    with tempfile.TemporaryDirectory(prefix="procflow-bench-") as name:
        numbers: Numbers = run_async("asyncio", recorded, Path(name), params["count"], params["burst"])
        return numbers


NAME, ONE, MANY = "procflow", "one event at a time", "500 events at once"

BENCHMARK = Benchmark(
    title="Rows of a live run",
    about="Events are recorded into a file, and a thread of the same process keeps a database up to it; another connection polls every millisecond until the "
    "last event is there. CPU is that of the whole process, polling included.",
    variants={NAME: trial},
    metrics=(
        Metric(key="p50_ms", title="p50 ms", format=".0f"),
        Metric(key="p95_ms", title="p95 ms", format=".0f"),
        Metric(key="worst_ms", title="worst ms", format=".0f", is_worst=True),
        Metric(key="cpu_us", title="CPU µs an event", format=".0f"),
    ),
    cases={ONE: {"burst": 1, "count": 100}, MANY: {"burst": 500, "count": 40}},
    params={},
    quick={"count": 3},
    rounds=3,
    targets=(
        Target(promise="from `emit()` to the row that another connection sees (RR-63): p95", metric="p95_ms", of=NAME, case=ONE, at_most=250, unit="ms"),
        Target(promise="the same for the last of 500 events at once: p95", metric="p95_ms", of=NAME, case=MANY, at_most=250, unit="ms"),
    ),
)  # fmt: skip
