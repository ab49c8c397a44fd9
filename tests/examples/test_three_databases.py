"""The main example on a small scale: three databases at once, through child processes, compared with their sources."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.three_databases.data import TABLES, Table
from examples.three_databases.verify import ask_duckdb, compare, read_manifest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.postgres, pytest.mark.mariadb]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, mariadb_url: str
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The example, run once; the servers' fixtures are only asked so that it is skipped where they are missing."""
    assert postgres_url
    assert mariadb_url
    directory = tmp_path_factory.mktemp("example")
    argv = [sys.executable, "examples/run.py", "three-databases", "--scale", "0.01", "--directory", str(directory)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=110, check=False)
    return run, directory / "three-databases-output"


def test_every_column_of_ten_tables_equals_its_source(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """E-31, E-23: ten tables of PostgreSQL, MariaDB and SQLite arrive whole, as DuckDB and pyarrow both say."""
    run, output = finished

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count(" equal\n") == len(TABLES) == 10
    assert {path.name for path in output.iterdir()} == {table.export for table in TABLES}


def test_the_comparison_sees_a_single_changed_value(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """The example's own check is worth something: one cent in one row of a part is found by both readers."""
    _, output = finished
    table = next(table for table in TABLES if table.export == "orders")
    directory = output / table.export
    source = ask_duckdb(table, read_manifest(directory).files)

    change_first_total(table, directory)

    found = compare(table, source, directory).differences
    assert len([line for line in found if line.startswith("total.sum: ")]) == 2
    assert not [line for line in found if not line.startswith("total.")]


def change_first_total(table: Table, directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_bytes())
    part = manifest["parts"][0]
    path = directory / part["key"]
    data = pq.read_table(path)
    totals: list[Decimal] = data.column("total").to_pylist()  # type: ignore[assignment]  # the stubs do not know it
    totals[0] += Decimal("0.01")
    position = data.schema.get_field_index("total")
    field = data.schema.field(position)
    pq.write_table(data.set_column(position, field, pa.array(totals, field.type)), path)
    content = path.read_bytes()
    part["size_bytes"], part["checksum"] = len(content), f"sha256:{hashlib.sha256(content).hexdigest()}"
    raw = json.dumps(manifest).encode()
    (directory / "manifest.json").write_bytes(raw)
    (directory / "_SUCCESS").write_text(f"sha256:{hashlib.sha256(raw).hexdigest()}\n")
