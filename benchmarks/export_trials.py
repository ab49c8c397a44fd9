"""The trials of the export's benchmarks: one table, one command, and what it has written checked.

Owns what every row of those tables has in common: commands, configurations, units.  What is compared with what is in the
benchmarks: export_postgres.py, export_mariadb.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import environments, exported
from benchmarks.export_peers import URL_VARIABLE
from benchmarks.harness import Metric, Numbers, Params, Trial
from benchmarks.observing import MIB, Observation, observed
from benchmarks.table_files import first_rows, row_count
from benchmarks.tables import SERVER_TABLES, TABLES, Table

CHUNKS: Final = 8
"""Into so many key ranges is a table cut, by us and by who else cuts it."""

CASES: Final[dict[str, Params]] = {table.name: {"table": table.name} for table in SERVER_TABLES}

METRICS: Final = (
    Metric(key="wall_s", title="s", has_ratio=True),
    Metric(key="k_rows_s", title="1000 rows/s", format=".0f"),
    Metric(key="client_us_row", title="client CPU µs/row"),
    Metric(key="server_us_row", title="server CPU µs/row"),
    Metric(key="peak_mib", title="peak MiB", format=".0f"),
    Metric(key="written_mb", title="MB", format=".0f"),
    Metric(key="inexact", title="columns not exact", format=".0f"),
    Metric(key="statement_s", title="longest statement s"),
    Metric(key="transaction_s", title="longest transaction s"),
)


def numbers_of(
    seen: Observation, rows: int, *, share: float = 1, start_wall_s: float = 0, start_cpu_s: float = 0
) -> Numbers:
    """Return what a command took.

    Args:
        seen: What was seen of it.
        rows: How many rows it had.
        share: Which share of the table that is: the numbers are those of the whole, in proportion, but for the memory.
        start_wall_s: Wall time of what it does once, not for every row.
        start_cpu_s: CPU of that.
    """
    wall_s = start_wall_s + (seen.wall_s - start_wall_s) / share
    client_cpu_s = start_cpu_s + (seen.client_cpu_s - start_cpu_s) / share
    all_rows = rows / share
    return {
        "wall_s": wall_s,
        "k_rows_s": all_rows / wall_s / 1e3,
        "client_us_row": client_cpu_s / all_rows * 1e6,
        "server_us_row": seen.server_cpu_s / rows * 1e6,
        "peak_mib": seen.peak_bytes / MIB,
    }


def written_numbers(directory: Path, table: Table, scale: float, rows: int, *, share: float = 1) -> Numbers:
    """Return what is to say of the files in ``directory``, which must hold the first ``rows`` rows.

    Raises:
        AssertionError: If they hold fewer or more.
    """
    files = sorted(directory.rglob("*.parquet"))
    found = exported.row_count(files)
    assert found == rows, f"{found} rows written instead of {rows}"
    sample = first_rows(table, scale, min(exported.SAMPLE_ROWS, rows))
    inexact = exported.inexact_columns(files, table, sample)
    return {"written_mb": exported.size_bytes(files) / 1e6 / share, "inexact": len(inexact)}


def first_part(table: Table, scale: float, share: float) -> tuple[str, int]:
    """Return the query for the rows of the lowest keys, about this share of all, and how many they are."""
    if share == 1:
        return f"SELECT * FROM {table.name}", row_count(table, scale)
    place = [column.name for column in table.columns].index(table.key[0])
    wanted = int(row_count(table, scale) * share)
    keys = [row[place] for row in first_rows(table, scale, wanted + 1)]
    # Rows of one key stay together.
    return f"SELECT * FROM {table.name} WHERE {table.key[0]} < {keys[-1]}", keys.index(keys[-1])


def environ_of(params: Params) -> dict[str, str]:
    return {**os.environ, URL_VARIABLE: params["url"]}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="procflow-bench-") as directory:
        yield Path(directory)


# --- ours -----------------------------------------------------------------------------------------------------------


def ours(*options: str, parallel: int = 1, url: str = "url") -> Trial:
    """Return the trial of our command: the whole table in one statement, or by ``parallel`` workers in chunks.

    Args:
        *options: Of the command line.
        parallel: How many chunks are read at once.
        url: Which parameter holds the URL.
    """

    def trial(params: Params) -> Numbers:
        table = TABLES[params["table"]]
        rows = row_count(table, params["scale"])
        with scratch() as directory:
            path = directory / "bench.yaml"
            path.write_text(json.dumps(configuration(params, table, directory, parallel)))  # JSON is YAML
            argv = [sys.executable, "-m", "procflow_export", "run", str(path), "--quiet", "--json", *options]
            environ = {**environ_of(params), URL_VARIABLE: params[url]}
            seen = observed(argv, environ, server_pid=params.get("server_pid"))
            [verdict] = json.loads(seen.output)["exports"]
            longest = {
                f"{what}_s": verdict[key]
                for what in ("statement", "transaction")
                if (key := f"longest_{what}_s") in verdict
            }
            return {
                **numbers_of(seen, rows),
                **written_numbers(directory / "out", table, params["scale"], rows),
                **longest,
            }

    return trial


def configuration(params: Params, table: Table, directory: Path, parallel: int = 1) -> dict[str, Any]:
    """Return the configuration that exports a table to ``directory``, its URL in PROCFLOW_BENCH_URL."""
    source = {"type": params["source"], "environment": "local", **params.get("address", {"url_env": URL_VARIABLE})}
    export = {
        "name": "bench",
        "table": table.name,
        "format": "parquet",
        "compression": "zstd",
        "compression_level": 3,
        **mode_of(table, parallel),
        "destination": {"type": "local", "path": f"{directory}/out"},
    }
    return {"source": source, "exports": [export]}


def mode_of(table: Table, parallel: int) -> dict[str, Any]:
    """Return how a table is cut: keys that rivet's configuration has too."""
    if parallel == 1:
        return {"mode": "full"}
    return {"mode": "chunked", "chunk_column": table.key[0], "chunk_count": CHUNKS, "parallel": parallel}


# --- others ---------------------------------------------------------------------------------------------------------


def rivet(*, parallel: int = 1) -> Trial:
    """Return the trial of rivet with its fastest profile."""

    def trial(params: Params) -> Numbers:
        table = TABLES[params["table"]]
        rows = row_count(table, params["scale"])
        program = environments.ensure("rivet", is_made=False) / "rivet"
        with scratch() as directory:
            export = {
                "name": "bench",
                "table": table.name,
                "format": "parquet",
                "compression": "zstd",
                **mode_of(table, parallel),
                "destination": {"type": "local", "path": f"{directory}/out"},
            }
            source = {"type": params["source"], "url_env": URL_VARIABLE, "tuning": {"profile": "fast"}}
            path = directory / "rivet.yaml"
            path.write_text(json.dumps({"source": source, "exports": [export]}))
            argv = [str(program), "run", "-c", str(path)]
            seen = observed(argv, environ_of(params), server_pid=params["server_pid"], drains=True)
            return {
                **numbers_of(seen, rows),
                **written_numbers(directory / "out", table, params["scale"], rows),
            }

    return trial


def peer(name: str, *, environment: str | None = None, share: float = 1, writes: bool = True) -> Trial:
    """Return the trial of a peer of export_peers.py.

    Args:
        name: Its name there.
        environment: Where it is installed; this one's own Python otherwise.
        share: The share of the rows that it gets; its numbers are those of the whole table in proportion, but for its memory.
        writes: Whether it writes a file.
    """

    def trial(params: Params) -> Numbers:
        table = TABLES[params["table"]]
        query, rows = first_part(table, params["scale"], share)
        exact_share = rows / row_count(table, params["scale"])
        python = sys.executable
        if environment is not None:
            python = str(environments.ensure(environment, is_made=False) / "python")
        with scratch() as directory:
            argv = [python, "-m", "benchmarks.export_peers", name, query, str(directory / "peer.parquet")]
            seen = observed(argv, environ_of(params), server_pid=params.get("server_pid"))
            start = json.loads(seen.output)
            numbers = numbers_of(
                seen, rows, share=exact_share, start_wall_s=start["wall_s"], start_cpu_s=start["cpu_s"]
            )
            if writes:
                numbers |= written_numbers(directory, table, params["scale"], rows, share=exact_share)
            return numbers

    return trial


def drain(command: Callable[[str, str], Sequence[str]]) -> Trial:
    """Return the trial of a client that throws all rows away; ``command`` gives it for a URL and a table."""

    def trial(params: Params) -> Numbers:
        table = TABLES[params["table"]]
        rows = row_count(table, params["scale"])
        argv = command(params["url"], table.name)
        seen = observed(argv, os.environ, server_pid=params["server_pid"], drains=True)
        return numbers_of(seen, rows)

    return trial


def install(names: Sequence[str], say: Callable[[str], None]) -> None:
    """Make the environments of the peers; one that cannot be made is said, and its rows will say so too."""
    for name in names:
        try:
            environments.ensure(name)
        except environments.NotInstalledError as exc:
            say(str(exc))
