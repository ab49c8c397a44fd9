"""What it costs to record one event, on a real file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable

from benchmarks.delays import percentile
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, timed
from benchmarks.redaction import ARGV, SECRETS, redactor
from benchmarks.targets import Target
from procflow.record import JobStarted, RecordCodec, RecordEvent, ShFinished, ShStarted
from procflow.record.recorder import Recorder
from procflow.record.sinks.files import FileSink

EVENTS: dict[str, RecordEvent] = {
    "a command": ShStarted(job_id="build", attempt=1, sh=1, argv=tuple(ARGV), cmd="", cwd="/srv/repositories/project", env_set=("LANG", "PATH")),
    "its end": ShFinished(job_id="build", attempt=1, sh=1, outcome="exited", exit_code=0, duration_ns=10**9, stdout_bytes=1234, stderr_bytes=0),
    "a job": JobStarted(job_id="build", attempt=1),
}  # fmt: skip


def trial(make: Callable[[str], Callable[[RecordEvent], object]]) -> Trial:
    """Return the trial that calls what ``make`` gives for a path, with one event again and again."""

    def measured(params: Params) -> Numbers:
        event = EVENTS[params["event"]]
        with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
            emit = make(f"{directory}/events.jsonl")
            took: list[tuple[float, float]] = []
            for _ in range(200):
                emit(event)
            with timed() as timing:
                for _ in range(params["count"]):
                    before = time.perf_counter()
                    emit(event)
                    took.append(((time.perf_counter() - before) * 1e6, 1.0))
        return {
            "p50_us": percentile(took, 0.5),
            "p99_us": percentile(took, 0.99),
            "cpu_us": timing.cpu_s / params["count"] * 1e6,
        }

    return measured


def bare(path: str) -> Callable[[RecordEvent], object]:
    """Encode and write, and nothing else."""
    codec, fd = RecordCodec(), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda event: os.write(fd, codec.encode(event))


def recorded(secrets: int) -> Callable[[str], Callable[[RecordEvent], object]]:
    return lambda path: Recorder([FileSink(path)], redactor=redactor(secrets)).emit


NONE, MANY = "procflow, no secrets", f"procflow, {SECRETS} secrets"

BENCHMARK = Benchmark(
    title="Recording an event",
    about="One event is recorded again and again into a file on the local disk, nothing is synced: a command of 10 words, its end, and the begin of a job; "
    "with all rules of redaction, and 20 secrets (80 forms) or none. The base line encodes the event and writes the line.",
    variants={"encode and write": trial(bare), NONE: trial(recorded(0)), MANY: trial(recorded(SECRETS))},
    metrics=(
        Metric(key="p50_us", title="p50 µs", format=".1f", has_ratio=True),
        Metric(key="p99_us", title="p99 µs", format=".0f", has_ratio=True),
        Metric(key="cpu_us", title="CPU µs", format=".1f", has_ratio=True),
    ),
    cases={name: {"event": name} for name in EVENTS},
    params={"count": 20_000},
    quick={"count": 500},
    rounds=3,
    targets=(
        Target(promise="recording a command with 20 secrets (RR-101): p50", metric="p50_us", of=MANY, case="a command", at_most=60, unit="µs"),
        Target(promise="recording the end of a call with 20 secrets: p50", metric="p50_us", of=MANY, case="its end", at_most=15, unit="µs"),
        Target(promise="recording the begin of a job with 20 secrets: p50", metric="p50_us", of=MANY, case="a job", at_most=15, unit="µs"),
        Target(promise="recording a command with 20 secrets: p99", metric="p99_us", of=MANY, case="a command", at_most=500, unit="µs"),
        Target(promise="recording the end of a call with 20 secrets: p99", metric="p99_us", of=MANY, case="its end", at_most=500, unit="µs"),
    ),
)  # fmt: skip
