"""SQLite: one table to Parquet, beside the loop that everybody writes."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.export_targets import CHILD, CHILDREN, ONE, TWO
from benchmarks.export_trials import METRICS, ours, peer
from benchmarks.harness import Benchmark, Params
from benchmarks.table_files import exact, rows_of
from benchmarks.tables import NARROW, PLAIN, Column, Table

TABLES: Final = (PLAIN, NARROW)
WITHOUT_SERVER: Final = ("server_us_row", "transaction_s")


@contextlib.contextmanager
def database(params: Params) -> Iterator[Params]:
    """Make a file with the tables."""
    with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
        path = Path(directory) / "tables.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            for table in TABLES:
                fill(connection, table, params["scale"])
            connection.commit()
        yield {"source": "sqlite", "url": str(path), "address": {"path": str(path)}}


def fill(connection: sqlite3.Connection, table: Table, scale: float) -> None:
    declared = ", ".join(f"{column.name} {_declared(column)}" for column in table.columns)
    connection.execute(f"CREATE TABLE {table.name} ({declared}, PRIMARY KEY ({', '.join(table.key)}))")
    places = ", ".join("?" * len(table.columns))
    connection.executemany(f"INSERT INTO {table.name} VALUES ({places})", rows_of(table, scale, _value))


def _declared(column: Column) -> str:
    if column.name in PLAIN.key:
        return "integer NOT NULL"
    return "text" if column.kind == "uuid" else column.mariadb


def _value(column: Column) -> Callable[[str], Any]:
    return str if column.kind else exact(column)


BENCHMARK = Benchmark(
    title="Export from SQLite",
    about="The same job with a fifth of the rows: `narrow`, and what SQLite can hold of `wide` without a convention. There is no server: its "
    "work is that of the client. The base line is a loop over the cursor of Python's `sqlite3` that makes a pyarrow batch of every 10,000 rows.",
    variants={
        "sqlite3 cursor to pyarrow": peer("sqlite3"),
        ONE: ours("--engine", "in-process"),
        TWO: ours("--engine", "in-process", parallel=2),
        CHILD: ours("--engine", "processes", "--processes", "1"),
        CHILDREN: ours("--engine", "processes", "--processes", "2", parallel=2),
    },
    metrics=tuple(metric for metric in METRICS if metric.key not in WITHOUT_SERVER),
    cases={table.name: {"table": table.name} for table in TABLES},
    params={"scale": 0.2},
    quick={"scale": 0.002},
    rounds=3,
    prepare=database,
)
