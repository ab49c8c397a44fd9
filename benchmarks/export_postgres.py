"""PostgreSQL: one table to Parquet, beside everybody who does that."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from benchmarks.export_trials import CASES, METRICS, drain, install, ours, peer, rivet
from benchmarks.harness import Benchmark, Params, Trial, say
from benchmarks.table_servers import loaded
from tools.servers import binaries

RIVET: Final = "rivet, full"
ONE: Final = "procflow, 1 worker"
TWO: Final = "procflow, 2 workers"
CHILD: Final = "procflow, 1 child process"
CHILDREN: Final = "procflow, 2 child processes"
SOCKET: Final = "procflow, 1 worker, unix socket"
CONNECTORX: Final = "connectorx"
ADBC: Final = "ADBC to pyarrow"
PANDAS: Final = "pandas and psycopg, a tenth of the rows"
LOOP: Final = "asyncpg cursor to pyarrow, a tenth of the rows"


@contextlib.contextmanager
def server(params: Params) -> Iterator[Params]:
    """Start a server, load the tables and install the peers."""
    if params["installs"]:
        install(("rivet", "connectorx", "adbc", "pandas"), say)
    with loaded("postgres", scale=params["scale"], say=say) as urls:
        yield asyncio.run(_facts(urls["postgres"]))


async def _facts(url: str) -> Params:
    connection = await asyncpg.connect(url)
    directory, sockets = (
        await connection.fetchval("SHOW data_directory"),
        await connection.fetchval("SHOW unix_socket_directories"),
    )
    await connection.close()
    parts = urlsplit(url)
    pid = int((Path(directory) / "postmaster.pid").read_text().splitlines()[0])
    socket_url = f"postgresql://{parts.username}@{parts.path}?host={sockets.partition(',')[0]}&port={parts.port}"
    return {"server": "postgres", "url": url, "server_pid": pid, "socket_url": socket_url}


def psql(format_name: str) -> Trial:
    """Return the trial of `psql` that drains the table to nothing."""

    def command(url: str, table: str) -> list[str]:
        own = binaries("postgres") / "psql"
        found = str(own) if own.exists() else shutil.which("psql")
        if found is None:
            raise RuntimeError("psql is not installed")
        return [found, "-X", url, "-c", f"COPY {table} TO STDOUT (FORMAT {format_name})"]

    return drain(command)


BENCHMARK = Benchmark(
    title="Export from PostgreSQL",
    about="",
    variants={
        RIVET: rivet(),
        "rivet, chunked, 2 workers": rivet(parallel=2),
        "rivet, chunked, 4 workers": rivet(parallel=4),
        CONNECTORX: peer("connectorx", environment="connectorx"),
        "connectorx, 2 connections": peer("connectorx-2", environment="connectorx"),
        ADBC: peer("adbc", environment="adbc"),
        PANDAS: peer("pandas", environment="pandas", share=0.1),
        LOOP: peer("asyncpg", share=0.1),
        "psql, csv to nothing": psql("csv"),
        "psql, text to nothing": psql("text"),
        "psql, binary to nothing": psql("binary"),
        ONE: ours("--engine", "in-process"),
        SOCKET: ours("--engine", "in-process", url="socket_url"),
        TWO: ours("--engine", "in-process", parallel=2),
        CHILD: ours("--engine", "processes", "--processes", "1"),
        CHILDREN: ours("--engine", "processes", "--processes", "2", parallel=2),
    },
    metrics=METRICS,
    cases=CASES,
    params={"scale": 1, "installs": True},
    quick={"scale": 0.002, "installs": False},
    rounds=3,
    prepare=server,
    targets=(),
)
