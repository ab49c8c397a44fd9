"""SIGKILL at every point of publishing a set that grows, then a rerun: every row once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from procflow_export.destinations.crash import CRASH_ENV, CRASH_POINTS
from procflow_export.model.manifest import decode_manifest

POINTS = [
    *(point for point in CRASH_POINTS if point != "put.synced"),
    "part.stored:2",
    "put.synced:1",
    "put.synced:2",
    "put.synced:3",
]
CONFIG = """\
source: {type: sqlite, path: source.db}
destination: {type: local, path: out}
exports:
  - {name: t, table: t, mode: incremental, cursor_column: at, format: parquet}
"""


def run(root: Path, crash_at: str | None = None) -> int:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if crash_at is not None:
        environ[CRASH_ENV] = crash_at
    done = subprocess.run(
        [sys.executable, "-m", "procflow_export", "run", "c.yaml", "--engine", "in-process", "-q"],
        cwd=root, env=environ, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def execute(root: Path, *statements: str) -> None:
    with sqlite3.connect(root / "source.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def published(root: Path) -> list[tuple[int, str]]:
    manifest = decode_manifest((root / "out" / "t" / "manifest.json").read_bytes())
    files = [str(root / "out" / "t" / part.key) for part in manifest.parts]
    with duckdb.connect() as connection:
        return connection.execute(f"select id, v from read_parquet({files!r}) order by all").fetchall()


def visible_files(root: Path) -> set[str]:
    return {path.name for path in (root / "out" / "t").iterdir() if not path.name.startswith(".")}


def named_files(root: Path) -> set[str]:
    """What the manifests name, and they themselves."""
    directory = root / "out" / "t"
    manifests = list(directory.glob("manifest*.json"))
    parts = {part.key for path in manifests for part in decode_manifest(path.read_bytes()).parts}
    return {"_SUCCESS", *(path.name for path in manifests), *parts}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_and_a_rerun_hold_every_row_once(point: str, tmp_path: Path) -> None:
    """E-42, E-43: the cursor is in the manifest, so no crash lies between them: no row is lost, none is there twice (lesson 8).

    After the rerun nothing is visible that no published run's manifest names, and what one names is all there.
    """
    (tmp_path / "c.yaml").write_text(CONFIG)
    execute(
        tmp_path,
        "CREATE TABLE t (id integer PRIMARY KEY, at integer, v text)",
        "INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'a'), (3, NULL, 'a')",
    )
    assert run(tmp_path) == 0
    execute(tmp_path, "INSERT INTO t VALUES (4, 2, 'b'), (5, 3, 'b')", "UPDATE t SET v = 'b' WHERE at IS NULL")

    assert run(tmp_path, point) == -signal.SIGKILL
    between = published(tmp_path)
    execute(tmp_path, "INSERT INTO t VALUES (6, 3, 'c')")
    assert run(tmp_path) == 0

    old = [(1, "a"), (2, "a"), (3, "a")]
    new = [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b")]
    is_committed = point.startswith("publish.m") or point in ("put.synced:3", "state.published")
    assert between == (new if is_committed else old)
    assert published(tmp_path) == [*new, (6, "c")]
    assert visible_files(tmp_path) == named_files(tmp_path)
    assert len(list((tmp_path / "out" / "t").glob("manifest-*.json"))) == 2 + is_committed
