"""PostgreSQL: one table to Parquet, beside everybody who does that."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from benchmarks.environments import versions
from benchmarks.export_targets import CHILD, CHILDREN, ONE, TWO, shared_targets
from benchmarks.export_trials import CASES, CHUNKS, METRICS, drain, install, ours, peer, rivet
from benchmarks.harness import Benchmark, Params, Trial, say
from benchmarks.table_servers import loaded
from benchmarks.targets import Target, Variants
from tools.servers import binaries

RIVET: Final = "rivet, full"
RIVETS: Final = (RIVET, "rivet, chunked, 2 workers", "rivet, chunked, 4 workers")
CONNECTORX: Final = "connectorx"
CONNECTORX_TWICE: Final = "connectorx, 2 connections"
ADBC: Final = "ADBC to pyarrow"
PANDAS: Final = "pandas and psycopg, a tenth of the rows"
LOOP: Final = "asyncpg cursor to pyarrow, a tenth of the rows"
CSV, TEXT, BINARY = (f"psql, {format_name} to nothing" for format_name in ("csv", "text", "binary"))
SOCKET: Final = "procflow, 1 worker, unix socket"
DRAINS: Final = {"csv": CSV, "text": TEXT, "binary": BINARY}
SAME_COPY: Final = {"lineitem": BINARY, "wide": BINARY, "narrow": BINARY}
"""The client's row in the format in which one worker reads the table; a test asks the server whether it does."""


@contextlib.contextmanager
def server(params: Params) -> Iterator[Params]:
    """Start a server, load the tables and install the peers."""
    if params["installs"]:
        install(("tpchgen", "rivet", "connectorx", "adbc", "pandas"), say)
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
    return {"source": "postgres", "url": url, "server_pid": pid, "socket_url": socket_url}


def psql(format_name: str) -> Trial:
    """Return the trial of `psql` that drains the table to nothing."""

    def command(url: str, table: str) -> list[str]:
        own = binaries("postgres") / "psql"
        found = str(own) if own.exists() else shutil.which("psql")
        if found is None:
            raise RuntimeError("psql is not installed")
        return [found, "-X", url, "-c", f"COPY {table} TO STDOUT (FORMAT {format_name})"]

    return drain(command)


def over_rivet(what: str, ours: Variants, rivets: Variants, ratios: Mapping[str, float]) -> list[Target]:
    """Return the targets against rivet, by table the largest ratio of wall times."""
    return [
        Target(
            promise=f"PostgreSQL, {case}: {what}", metric="wall_s", case=case, of=ours, over=rivets, at_most=ratio,
            limit=tuple(DRAINS.values()) if ours == ONE else None,
        )
        for case, ratio in ratios.items()
    ]  # fmt: skip


BENCHMARK = Benchmark(
    title="Export from PostgreSQL",
    about="Whole commands, their start included: one table to zstd-3 Parquet files on the local disk. "
    "The tables are TPC-H's `lineitem` at scale 0.5 (2,999,671 rows of 16 columns, 4 of them decimals), `wide` (500,000 × 20: integers, doubles, "
    "decimals, instants, dates, booleans, UUIDs, JSON, texts, bytes, half of them nullable) and `narrow` (5,000,000 × 2 integers). "
    "Everybody reads the same server (that of the tests, with shared_buffers of 3 GB, so that all of it is in memory) over TCP on the loopback, but for one row. "
    f"Chunks are {CHUNKS} ranges of the key. Peers are installed from the registry, each into an environment of its own "
    f"({versions('rivet-cli', 'connectorx', 'adbc-driver-postgresql', 'pandas', 'psycopg')}); rivet has its profile *fast*. DuckDB is not among them: what reads "
    "PostgreSQL there is an extension that it would have to download. "
    "Who gets a tenth of the rows: the numbers are in proportion, less what its start takes; its memory is what that tenth took. "
    "CPU is that of all processes of the client, or of the server; memory is resident, all processes together. "
    "*Columns not exact* counts those in which the first 2,000 rows are not what was loaded: a decimal that became a float or a text. "
    "`psql` throws the rows away; the base line is rivet with one worker.",
    variants={
        RIVET: rivet(),
        RIVETS[1]: rivet(parallel=2),
        RIVETS[2]: rivet(parallel=4),
        CONNECTORX: peer("connectorx", environment="connectorx"),
        CONNECTORX_TWICE: peer("connectorx-2", environment="connectorx"),
        ADBC: peer("adbc", environment="adbc"),
        PANDAS: peer("pandas-psycopg", environment="pandas", share=0.1),
        LOOP: peer("asyncpg", share=0.1),
        CSV: psql("csv"),
        TEXT: psql("text"),
        BINARY: psql("binary"),
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
    targets=(
        *over_rivet("one worker over rivet's", ONE, RIVET, {"lineitem": 0.30, "wide": 0.45, "narrow": 0.45}),
        *over_rivet(
            "our best of two workers over rivet's best", (TWO, CHILDREN), RIVETS, {"lineitem": 0.40, "wide": 0.70}
        ),
        *shared_targets(
            "PostgreSQL",
            drains=SAME_COPY,
            drain_ratio=1.15,
            peers=(*RIVETS, CONNECTORX, CONNECTORX_TWICE, ADBC, PANDAS, LOOP),
            one_worker_peers=(RIVET, CONNECTORX, ADBC, PANDAS, LOOP),
        ),
    ),
)
