"""Three databases exported at once, and every column compared with its source: `./run example three-databases`.

Starts throw-away PostgreSQL and MariaDB servers, fills them and a SQLite file with about two million rows, runs the export
of `three-databases.yaml` as the child process that a user would start, and lets DuckDB and pyarrow read back what it wrote.
The exit code is 0 only if nothing differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from examples.three_databases.data import TABLES, Size, connect_mariadb, fill_all
from examples.three_databases.verify import Comparison, ask_sources, compare
from tools.servers import ServerStartError, ServerUnavailableError, running

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "three-databases.yaml"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run example three-databases", description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="1 gives 1 000 000 orders (default), 0.01 gives 10 000"
    )
    parser.add_argument("--directory", type=Path, help="run a copy of the configuration here, and leave its files here")
    parser.add_argument("export", nargs="*", help="arguments for `procflow_export run`, after --")
    options = parser.parse_args(argv)
    try:
        with (
            running("postgres", "mariadb") as servers,
            tempfile.TemporaryDirectory(prefix="procflow-example-") as scratch,
        ):
            with connect_mariadb(servers["mariadb"]) as connection, connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE warehouse")
            urls = {
                "postgres": servers["postgres"],
                "mariadb": servers["mariadb"].rpartition("/")[0] + "/warehouse",
            }
            return example(urls, Path(scratch) / "factory.sqlite", options)
    except (ServerUnavailableError, ServerStartError) as exc:
        print(f"three-databases: {exc}", file=sys.stderr)
        return 1


def example(urls: dict[str, str], sqlite_path: Path, options: argparse.Namespace) -> int:
    say("filling PostgreSQL, MariaDB and SQLite")
    fill_all(urls, sqlite_path, Size(scale=options.scale))

    config = CONFIG
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
        config = Path(shutil.copy(CONFIG, options.directory))
    output = config.parent / "three-databases-output"
    shutil.rmtree(output, ignore_errors=True)

    say(f"python -m procflow_export run {shown(config)}")
    environ = os.environ | {
        "PROCFLOW_PG_URL": urls["postgres"],
        "PROCFLOW_MARIADB_URL": urls["mariadb"],
        "PROCFLOW_SQLITE_URL": f"sqlite:///{sqlite_path}",
    }
    started = time.monotonic()
    argv = [sys.executable, "-m", "procflow_export", "run", str(config), *options.export]
    export = subprocess.run(argv, env=environ, check=False)
    elapsed_s = time.monotonic() - started
    if export.returncode != 0:
        say(f"the export ended with exit code {export.returncode}")
        return export.returncode

    say("comparing every column with its source, by DuckDB and by pyarrow")
    expected = ask_sources(urls, sqlite_path, TABLES)
    comparisons = [compare(table, expected[table.export], output / table.export) for table in TABLES]
    return report(comparisons, output, elapsed_s)


def report(comparisons: list[Comparison], output: Path, elapsed_s: float) -> int:
    print(f"\n{'export':<14}{'source':<11}{'rows':>10}{'parts':>7}{'MB':>8}{'measures':>10}  result")
    for found in comparisons:
        verdict = "equal" if not found.differences else f"{len(found.differences)} DIFFERENCES"
        print(
            f"{found.table.export:<14}{found.table.source:<11}{found.row_count:>10,}{found.part_count:>7}"
            f"{found.size_bytes / 1e6:>8.1f}{found.measure_count:>10}  {verdict}"
        )
    for found in comparisons:
        for difference in found.differences:
            print(f"{found.table.export}: {difference}")
    rows = sum(found.row_count for found in comparisons)
    is_equal = not any(found.differences for found in comparisons)
    print(f"\n{rows:,} rows in {elapsed_s:.1f} s, {rows / elapsed_s:,.0f} rows/s; files: {shown(output)}")
    print("every row count, sum, minimum, maximum and checksum is the source's own" if is_equal else "the files differ")
    return 0 if is_equal else 3


def shown(path: Path) -> str:
    return os.path.relpath(path)


def say(text: str) -> None:
    print(f"three-databases: {text}", file=sys.stderr, flush=True)
