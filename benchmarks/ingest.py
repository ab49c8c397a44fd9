"""What it costs to put a record into a database, and who is in whose way."""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, timed
from benchmarks.targets import Target
from procflow import record

CALLS_OF_A_JOB = 12
READER = """
import sqlite3, sys, time
from contextlib import closing
took = []
with closing(sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)) as connection:
    print("ready", flush=True)
    while not took or time.monotonic() < asked + 3600:
        asked = time.monotonic()
        connection.execute("SELECT count(*) FROM sh WHERE outcome IS NULL").fetchone()
        connection.execute("SELECT outcome FROM runs").fetchall()
        took.append(time.monotonic() - asked)
        print(max(took) * 1000, flush=True)
        time.sleep(0.002)
"""


def events(count: int) -> Iterator[record.RecordEvent]:
    """Yield the events of a run: jobs one after the other, each with calls one after the other."""
    yield record.RunStarted(
        format=record.FORMAT, run_id="01890000-0000-7000-8000-000000000000", name="nightly", procflow="0", python="3", platform="linux",
        host="h", pid=1, redaction=record.RedactionInfo(enabled=True, rules=()),
    )  # fmt: skip
    argv = ("cc", "-O2", "-c", "source.c", "-o", "source.o", "-Iinclude", "-Wall")
    for number in itertools.count(1):
        job_id = f"job-{number}"
        yield record.JobStarted(job_id=job_id, attempt=1)
        for sh in range(1, CALLS_OF_A_JOB + 1):
            log = f"jobs/{job_id}/sh-{sh:04}.log"
            yield record.ShStarted(
                job_id=job_id, attempt=1, sh=sh, argv=argv, cmd=" ".join(argv), cwd="/srv/repositories/project", log=log
            )
            yield record.ShSpawned(job_id=job_id, attempt=1, sh=sh, pid=1000 + sh, pid_start=123456)
            yield record.ShFinished(
                job_id=job_id, attempt=1, sh=sh, outcome="exited", exit_code=0, duration_ns=10**9, stdout_bytes=1234, stderr_bytes=0,
                usage=record.Usage(user_us=800_000, sys_us=90_000, max_rss_kb=50_000),
            )  # fmt: skip
        yield record.JobFinished(job_id=job_id, attempt=1, outcome="succeeded", duration_ns=10**10)
        if number * (CALLS_OF_A_JOB * 3 + 2) >= count:
            return


def write_record(path: Path, count: int) -> int:
    """Write a record of about ``count`` events that has crashed; return how many there are."""
    codec = record.RecordCodec()
    with path.open("wb") as file:
        for seq, event in enumerate(events(count)):
            file.write(codec.encode(record.stamped(event, seq=seq, at_ms=1_767_225_600_000 + seq, mono_ns=seq * 10**6)))
    return seq + 1


def lines_only(path: Path, database: Path) -> None:
    """Decode each line and keep it, and nothing else."""
    decode = msgspec.json.Decoder(record.Head).decode
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection, path.open("rb") as file:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE sh (outcome TEXT) STRICT")
        connection.execute("CREATE TABLE runs (outcome TEXT) STRICT")
        connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, type TEXT, at_ms INTEGER, raw TEXT) STRICT")
        while batch := list(itertools.islice(file, 1000)):
            heads = [(decode(line), line.decode()) for line in batch]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                [(head.seq, head.type, head.at_ms, raw) for head, raw in heads],
            )
            connection.execute("COMMIT")


def trial(ingest: Callable[[Path, Path], object], *, is_read: bool = False) -> Trial:
    """Return the trial that measures ``ingest``, alone or while another process reads the database again and again."""

    def measured(params: Params) -> Numbers:
        with tempfile.TemporaryDirectory(prefix="procflow-bench-") as name:
            directory = Path(name)
            count = write_record(directory / "events.jsonl", params["count"])
            write_record(directory / "first.jsonl", 100)
            ingest(directory / "first.jsonl", directory / "runs.db" if is_read else directory / "first.db")
            if is_read:
                record.forget(directory / "runs.db", record.runs_in(directory / "runs.db")[0].run_id)
            with reader(directory / "runs.db") if is_read else contextlib.nullcontext(dict) as slowest:
                before_mib = forget_peak_mib()
                with timed() as timing:
                    ingest(directory / "events.jsonl", directory / "runs.db")
                growth_mib = memory_mib("VmHWM") - before_mib
                return {
                    "events_s": count / timing.wall_s,
                    "cpu_us": timing.cpu_s / count * 1e6,
                    "growth_mib": growth_mib,
                    **slowest(),
                }

    return measured


@contextlib.contextmanager
def reader(database: Path) -> Iterator[Callable[[], Numbers]]:
    """Read ``database`` in another process; what is yielded ends that and says how long its slowest reading took."""
    with subprocess.Popen([sys.executable, "-c", READER, database], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def slowest() -> Numbers:
            assert process.stdout is not None
            process.terminate()
            return {"reader_ms": float(re.findall(r"^[\d.]+$", process.stdout.read(), re.MULTILINE)[-1])}

        yield slowest


def forget_peak_mib() -> float:
    """Let the peak of memory begin anew (``proc(5)``, ``clear_refs``); return what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mib("VmRSS")


def memory_mib(name: str) -> float:
    return int(re.findall(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[0]) / 1024


NAME, READ = "procflow", "procflow, while another process reads"
SHORT, LONG = "100,000 events", "300,000 events"

BENCHMARK = Benchmark(
    title="Ingesting a record",
    about="A record of a crashed run with 12 calls a job, three events a call, goes into a new database on the local disk, once alone and once while another "
    "process asks for the open calls and the outcome every 2 ms. The base line decodes the envelope of each line and inserts the line into one table, 1,000 a "
    "transaction. Memory is the peak above what was resident before.",
    variants={"envelopes and lines": trial(lines_only), NAME: trial(record.ingest), READ: trial(record.ingest, is_read=True)},
    metrics=(
        Metric(key="events_s", title="events/s", format=",.0f", has_ratio=True),
        Metric(key="cpu_us", title="CPU µs an event", format=".1f", has_ratio=True),
        Metric(key="growth_mib", title="growth MiB", format=".1f"),
        Metric(key="reader_ms", title="slowest reading ms", format=".1f"),
    ),
    cases={SHORT: {"count": 100_000}, LONG: {"count": 300_000}},
    params={},
    quick={"count": 2_000},
    rounds=2,
    applies=lambda case, variant: case == SHORT or variant == NAME,
    targets=(
        Target(promise="ingesting a record (RR-61)", metric="events_s", of=NAME, case=SHORT, at_least=15_000, unit="events/s"),
        Target(promise="memory for a record of 300,000 events (RR-61)", metric="growth_mib", of=NAME, case=LONG, at_most=64, unit="MiB"),
        Target(promise="the longest that a batch keeps a reader waiting (RR-57)", metric="reader_ms", of=READ, case=SHORT, at_most=50, unit="ms"),
    ),
)  # fmt: skip
