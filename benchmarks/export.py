"""One table to Parquet: rows per second and memory, beside the loop that everybody writes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow.parquet

from benchmarks.harness import ROOT, Benchmark, Metric, Numbers, Params, Trial
from examples.three_databases.data import Size, connect_mariadb, fill_all
from tools.servers import binaries, running

SAMPLE_S = 0.02


class Source(NamedTuple):
    """The large table of one database, and its rows at scale 1."""

    type: str
    table: str
    rows: int


SOURCES = {
    "PostgreSQL": Source("postgres", "orders", 1_000_000),
    "MariaDB": Source("mysql", "stock_moves", 400_000),
    "SQLite": Source("sqlite", "measurements", 400_000),
}


@contextlib.contextmanager
def databases(params: Params) -> Iterator[Params]:
    """Start the servers and fill them as the example does."""
    with running("postgres", "mariadb") as servers, tempfile.TemporaryDirectory(prefix="procflow-bench-") as scratch:
        with connect_mariadb(servers["mariadb"]) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE warehouse")
        urls = {"postgres": servers["postgres"], "mariadb": servers["mariadb"].rpartition("/")[0] + "/warehouse"}
        sqlite = Path(scratch) / "factory.sqlite"
        fill_all(urls, sqlite, Size(scale=params["scale"]))
        yield {"url_PostgreSQL": urls["postgres"], "url_MariaDB": urls["mariadb"], "url_SQLite": f"sqlite:///{sqlite}"}


def row_count(params: Params) -> int:
    return Size(scale=params["scale"]).rows(SOURCES[params["source"]].rows)


def observed(argv: list[str], environ: dict[str, str], rows: int) -> Numbers:
    """Run a command and return its rates, and the most memory that its processes held together."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = [0]
    sampler = threading.Thread(target=sample_memory, args=(child.pid, peak))
    sampler.start()
    _, errors = child.communicate()
    wall_s = time.perf_counter() - started
    sampler.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode != 0:
        raise RuntimeError(errors.decode(errors="replace").strip().splitlines()[-1])
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"k_rows_s": rows / wall_s / 1e3, "cpu_us_row": cpu_s / rows * 1e6, "peak_mb": peak[0] / 1e6}


def sample_memory(pid: int, peak: list[int]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            peak[0] = max(peak[0], total)
            time.sleep(SAMPLE_S)


def ours(*options: str, parallel: int) -> Trial:
    def trial(params: Params) -> Numbers:
        source = SOURCES[params["source"]]
        with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
            export = {
                "name": "bench",
                "table": source.table,
                "mode": "chunked",
                "chunk_count": 4,
                "parallel": parallel,
                "format": "parquet",
                "destination": {"type": "local", "path": f"{directory}/out"},
            }
            config = {
                "source": {"type": source.type, "url_env": "PROCFLOW_BENCH_URL", "environment": "local"},
                "exports": [export],
            }
            path = Path(directory) / "bench.yaml"
            path.write_text(json.dumps(config))  # JSON is YAML
            argv = [sys.executable, "-m", "procflow_export", "run", str(path), "--quiet", *options]
            environ = {**os.environ, "PROCFLOW_BENCH_URL": params["url_" + params["source"]]}
            numbers = observed(argv, environ, row_count(params))
            parts = list(Path(directory).rglob("*.parquet"))
            written = sum(pyarrow.parquet.read_metadata(part).num_rows for part in parts)
            assert written == row_count(params), f"{written} rows written"
            return numbers

    return trial


def naive(params: Params) -> Numbers:
    with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
        source = SOURCES[params["source"]]
        environ = {**os.environ, "PROCFLOW_BENCH_URL": params["url_" + params["source"]]}
        path = Path(directory) / "naive.parquet"
        argv = [sys.executable, "-m", "benchmarks.naive", source.type, source.table, str(path)]
        numbers = observed(argv, environ, row_count(params))
        assert pyarrow.parquet.read_metadata(path).num_rows == row_count(params)
        return numbers


def psql(params: Params) -> Numbers:
    program = binaries("postgres") / "psql"
    found = str(program) if program.exists() else shutil.which("psql")
    if found is None:
        raise RuntimeError("psql is not installed")
    copy = f"COPY {SOURCES[params['source']].table} TO STDOUT (FORMAT csv)"
    argv = [found, params["url_" + params["source"]], "-c", copy]
    return observed(argv, dict(os.environ), row_count(params))


BENCHMARK = Benchmark(
    title="Export: one table to Parquet",
    about="The largest table of each database of the example, as zstd Parquet in a local directory, in four chunks; whole commands, "
    "their start included. CPU and memory (resident, summed over all processes, sampled every 20 ms) are the client's, without the server. "
    "The base line is a loop over the driver's own cursor (asyncpg, aiomysql, sqlite3) that makes a pyarrow batch of every "
    "10 000 rows; `psql COPY` writes nothing anywhere.",
    variants={
        "driver's cursor to pyarrow": naive,
        "psql COPY csv to nothing": psql,
        "procflow, in one process": ours("--engine", "in-process", parallel=1),
        "procflow, 1 child process": ours("--engine", "processes", "--processes", "1", parallel=1),
        "procflow, 2 child processes": ours("--engine", "processes", "--processes", "2", parallel=2),
    },
    metrics=(
        Metric(key="k_rows_s", title="1000 rows/s", format=".0f", has_ratio=True),
        Metric(key="cpu_us_row", title="CPU µs/row", has_ratio=True),
        Metric(key="peak_mb", title="peak MB", format=".0f", has_ratio=True),
    ),
    cases={name: {"source": name} for name in SOURCES},
    params={"scale": 0.4},
    quick={"scale": 0.02},
    prepare=databases,
    applies=lambda case, variant: "psql" not in variant or case == "PostgreSQL",
)
