"""MariaDB: one table to Parquet, beside everybody who does that."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pymysql

from benchmarks.environments import versions
from benchmarks.export_targets import CHILD, CHILDREN, ONE, OURS, TWO, shared_targets
from benchmarks.export_trials import CASES, METRICS, drain, install, ours, peer, rivet
from benchmarks.harness import Benchmark, Params, say
from benchmarks.table_servers import loaded
from benchmarks.targets import Target

LOOP: Final = "aiomysql cursor to pyarrow, 5 % of the rows"
FETCHED: Final = "aiomysql cursor, fetched only, 5 % of the rows"
ASYNCMY: Final = "asyncmy cursor to pyarrow, 5 % of the rows"
CONNECTOR: Final = "mariadb's cursor (C) to pyarrow, a tenth of the rows"
PANDAS: Final = "pandas and PyMySQL, 5 % of the rows"
CONNECTORX: Final = "connectorx"
CONNECTORX_TWICE: Final = "connectorx, 2 connections"
RIVET: Final = "rivet, full"
CLIENT: Final = "mariadb -q to nothing"


@contextlib.contextmanager
def server(params: Params) -> Iterator[Params]:
    """Start a server, load the tables and install the peers."""
    if params["installs"]:
        install(("tpchgen", "rivet", "connectorx", "pandas", "asyncmy", "mariadb"), say)
    with loaded("mariadb", scale=params["scale"], say=say) as urls:
        yield {"source": "mysql", "url": urls["mariadb"], "server_pid": pid_of(urls["mariadb"])}


def pid_of(url: str) -> int:
    """Return the process of a server on this machine."""
    parts = urlsplit(url)
    connection = pymysql.connect(host=parts.hostname, port=parts.port or 3306, user=parts.username, password="")
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT @@pid_file")
        [(path,)] = cursor.fetchall()
    return int(Path(path).read_text())


def client(url: str, table: str) -> list[str]:
    """Return the command of the server's own client, which prints every row as it comes."""
    found = shutil.which("mariadb")
    if found is None:
        raise RuntimeError("mariadb is not installed")
    parts = urlsplit(url)
    address = [f"--host={parts.hostname}", f"--port={parts.port}", f"--user={parts.username}", parts.path[1:]]
    return [found, "--no-defaults", "-q", "-e", f"SELECT * FROM {table}", *address]


BENCHMARK = Benchmark(
    title="Export from MariaDB",
    about="The same tables and the same job as from PostgreSQL, with an InnoDB buffer pool of 3 GB. Peers: "
    f"{versions('connectorx', 'mariadb', 'asyncmy', 'pandas', 'pymysql')}, and the aiomysql that we use too. Who gets 5 % or a tenth of the rows: "
    "the numbers are in proportion, less what its start takes. rivet does not run on MariaDB: its row says why. "
    "`mariadb -q`, the server's own client, takes every row as it comes and prints it to nothing; the base line is a loop over an unbuffered aiomysql cursor.",
    variants={
        LOOP: peer("aiomysql", share=0.05),
        FETCHED: peer("aiomysql-fetch", share=0.05, writes=False),
        ASYNCMY: peer("asyncmy", environment="asyncmy", share=0.05),
        CONNECTOR: peer("mariadb", environment="mariadb", share=0.1),
        PANDAS: peer("pandas-pymysql", environment="pandas", share=0.05),
        CONNECTORX: peer("connectorx", environment="connectorx"),
        CONNECTORX_TWICE: peer("connectorx-2", environment="connectorx"),
        RIVET: rivet(),
        CLIENT: drain(client),
        ONE: ours("--engine", "in-process"),
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
        *(
            Target(
                promise=f"MariaDB, {case}: rows a second over the aiomysql loop's",
                metric="k_rows_s",
                case=case,
                of=OURS,
                over=LOOP,
                at_least=8,
            )
            for case in CASES
        ),
        *shared_targets(
            "MariaDB",
            drains=dict.fromkeys(CASES, CLIENT),
            drain_ratio=1.5,
            peers=(LOOP, ASYNCMY, CONNECTOR, PANDAS, CONNECTORX, CONNECTORX_TWICE, RIVET),
            one_worker_peers=(LOOP, ASYNCMY, CONNECTOR, PANDAS, CONNECTORX, RIVET),
        ),
    ),
)
