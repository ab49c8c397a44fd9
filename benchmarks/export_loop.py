"""How long everybody else on an event loop waits while an export runs there."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
import asyncpg

from benchmarks.delays import percentile
from benchmarks.export_peers import URL_VARIABLE, Writer, asyncpg_loop
from benchmarks.export_postgres import server
from benchmarks.export_trials import CASES, configuration, first_part, scratch
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial, run_async
from benchmarks.tables import TABLES
from procflow_export import Exporter, InProcessEngine

TICK_S: Final = 0.001
PEER_SHARE: Final = 0.1


def beside(backend: str, job: Callable[[Params, Path], Awaitable[object]]) -> Trial:
    """Return the trial of a task that wants to run every millisecond, on the loop of a job."""

    async def ticking(params: Params, directory: Path) -> list[float]:
        late_s: list[float] = []

        async def tick() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(TICK_S)
                late_s.append(time.perf_counter() - began - TICK_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await job(params, directory)
            tasks.cancel_scope.cancel()
        return late_s

    def trial(params: Params) -> Numbers:
        with scratch() as directory:
            late_s = run_async(backend, ticking, params, directory)
        weighted = [(seconds * 1e3, 1.0) for seconds in late_s]
        return {
            "p50_ms": percentile(weighted, 0.5),
            "p99_ms": percentile(weighted, 0.99),
            "max_ms": max(late_s) * 1e3,
        }

    return trial


async def export(params: Params, directory: Path) -> None:
    """Export the table as a service would that embeds the package."""
    os.environ[URL_VARIABLE] = params["url"]
    path = directory / "bench.yaml"
    path.write_text(json.dumps(configuration(params, TABLES[params["table"]], directory)))
    async with Exporter(path, engine=InProcessEngine()) as exporter:
        async for _event in exporter.run():
            pass


async def loop_over_cursor(params: Params, directory: Path) -> None:
    """Export a share of the table as everybody does, and write the batches on the loop."""
    query, _rows = first_part(TABLES[params["table"]], params["scale"], PEER_SHARE)
    sink = Writer(query, str(directory / "peer.parquet"))
    await asyncpg_loop(params["url"], query, sink, asyncpg)
    sink.close()


BENCHMARK = Benchmark(
    title="An event loop on which an export runs",
    about="A service that embeds the package: beside one export from PostgreSQL in the same process and on the same loop, a task sleeps for "
    "a millisecond again and again, and notes how much later it wakes up. Python's switch interval is its default (5 ms), and the server "
    "has the same two cores. The base line is the loop over asyncpg's cursor that makes a pyarrow batch of every 10,000 rows and writes it "
    "there and then; it gets a tenth of the rows.",
    variants={
        "asyncpg cursor to pyarrow, a tenth of the rows": beside("asyncio", loop_over_cursor),
        "procflow, asyncio": beside("asyncio", export),
        "procflow, uvloop": beside("uvloop", export),
    },
    metrics=(
        Metric(key="p50_ms", title="later, p50 ms"),
        Metric(key="p99_ms", title="p99 ms", has_ratio=True),
        Metric(key="max_ms", title="most of all rounds, ms", format=".1f", is_worst=True),
    ),
    cases=CASES,
    params={"scale": 1, "installs": True},
    quick={"scale": 0.002, "installs": False},
    rounds=3,
    prepare=server,
)
