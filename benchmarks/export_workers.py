"""What child processes cost an export, and what two of them gain: the same plan in one process and in several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from benchmarks.export_postgres import server
from benchmarks.export_targets import CHILD, CHILDREN, ONE, TWO
from benchmarks.export_trials import CASES, CHUNKS, METRICS, ours
from benchmarks.harness import Benchmark, Metric, Numbers, Params, Trial
from benchmarks.table_files import row_count
from benchmarks.tables import TABLES
from benchmarks.targets import Target

TABLE_NAMES: Final = ("wide", "narrow")
SPREAD: Final = 1.15
KEPT: Final = ("wall_s", "client_us_row", "server_us_row", "peak_mib")


def counted(trial: Trial) -> Trial:
    """Return a trial with the CPU of everybody, and how far its time is from that CPU on every core."""

    def measured(params: Params) -> Numbers:
        numbers = trial(params)
        rows = row_count(TABLES[params["table"]], params["scale"])
        cpu_s = (numbers["client_us_row"] + numbers["server_us_row"]) * rows / 1e6
        cores = os.cpu_count() or 1
        return {**numbers, "cpu_s": cpu_s, "spread": numbers["wall_s"] * cores / cpu_s}

    return measured


def targets() -> Iterator[Target]:
    for case in TABLE_NAMES:
        for what, children, tasks in (("one child over one task", CHILD, ONE), ("two over two", CHILDREN, TWO)):
            promise = f"Fan-out, {case}: CPU of server, workers and parent, {what}"
            yield Target(promise=promise, metric="cpu_s", case=case, of=children, over=tasks, is_stated=True)
        yield Target(
            promise=f"Fan-out, {case}: two children, time over CPU of all on every core",
            metric="spread",
            case=case,
            of=CHILDREN,
            at_most=SPREAD,
            unit="times",
        )


BENCHMARK = Benchmark(
    title="Export by child processes",
    about="Whole commands, their start included: one table of PostgreSQL to zstd-3 Parquet files, by tasks of one process or by child processes, "
    f"each pair with the same plan: the whole table by one reader, or {CHUNKS} ranges of its key by two. "
    "*CPU s* is that of the server, of all workers and of the parent together; *over CPU* is the wall time divided by that CPU spread over every core: "
    "1 means that nobody waited, and what else the machine does counts against it. The server is that of the export from PostgreSQL; the tables have four times "
    "its rows, since starting takes a third of a second for each process, one after the other: with a quarter of the rows two children take 1.19 (wide) and 1.27 "
    "(narrow).",
    variants={
        ONE: counted(ours("--engine", "in-process")),
        CHILD: counted(ours("--engine", "processes", "--processes", "1")),
        TWO: counted(ours("--engine", "in-process", parallel=2)),
        CHILDREN: counted(ours("--engine", "processes", "--processes", "2", parallel=2)),
    },
    metrics=(
        *(replace(metric, has_ratio=metric.key == "wall_s") for metric in METRICS if metric.key in KEPT),
        Metric(key="cpu_s", title="CPU s", has_ratio=True),
        Metric(key="spread", title="over CPU"),
    ),
    cases={name: CASES[name] for name in TABLE_NAMES},
    params={"scale": 4, "installs": False},
    quick={"scale": 0.002, "installs": False},
    rounds=3,
    prepare=server,
    targets=tuple(targets()),
)
