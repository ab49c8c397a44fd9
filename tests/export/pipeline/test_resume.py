"""Going on with what a run left: adopted, kept, or swept away."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from procflow_export.destinations.crash import CRASH_ENV
from procflow_export.model.ledger import Standing
from procflow_export.model.manifest import Manifest, decode_manifest
from procflow_export.state import open_state
from tests.export.pipeline.runs import select

CHUNKS: dict[str, Any] = {
    "name": "t", "table": "t", "mode": "chunked", "chunk_size": 100, "consistency": "chunk", "format": "parquet",
}  # fmt: skip
ROWS = 500


@dataclass(slots=True)
class Place:
    """A SQLite table, a configuration, and the program that runs it, killed or not."""

    root: Path

    def config(self, *exports: dict[str, Any], name: str = "c.json", **source: Any) -> None:
        config = {
            "source": {"type": "sqlite", "path": "source.db"} | source,
            "destination": {"type": "local", "path": "out"},
            "exports": exports,
        }
        (self.root / name).write_bytes(msgspec.json.encode(config))

    def fill(self, table: str = "t", rows: int = ROWS) -> None:
        with sqlite3.connect(self.root / "source.db") as connection:
            connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY NOT NULL, v text)")
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", ((n, f"v{n}") for n in range(rows)))
        connection.close()

    def execute(self, statement: str) -> None:
        with sqlite3.connect(self.root / "source.db") as connection:
            connection.execute(statement)
        connection.close()

    def run(self, *arguments: str, crash_at: str | None = None) -> dict[str, Any]:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        if crash_at is not None:
            environ[CRASH_ENV] = crash_at
        done = subprocess.run(
            [sys.executable, "-m", "procflow_export", "run", "c.json", "--engine", "in-process", "-q", "--json", *arguments],
            cwd=self.root, env=environ, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if crash_at is not None else 0), done.stderr
        return {} if crash_at is not None else msgspec.json.decode(done.stdout)

    def manifest(self, export: str = "t") -> Manifest:
        return decode_manifest((self.root / "out" / export / "manifest.json").read_bytes())

    def rows(self, export: str = "t") -> list[tuple[Any, ...]]:
        files = [str(self.root / "out" / export / part.key) for part in self.manifest(export).parts]
        return select(f"select id, v from read_parquet({files!r}) order by all")

    def visible(self, export: str = "t") -> set[str]:
        directory = self.root / "out" / export
        return {path.name for path in directory.iterdir()} if directory.exists() else set()

    def named(self, export: str = "t") -> set[str]:
        directory = self.root / "out" / export
        manifests = list(directory.glob("manifest*.json"))
        parts = {part.key for path in manifests for part in decode_manifest(path.read_bytes()).parts}
        return {"_SUCCESS", *(path.name for path in manifests), *parts}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.fill()
    return made


WANTED = [(n, f"v{n}") for n in range(ROWS)]


def test_finished_chunks_are_kept_where_chunks_may_differ_in_time(place: Place) -> None:
    """E-11, E-34, E-45: the manifest names the parts of both runs, each row once; a chunk that was recorded is not read again."""
    place.config(CHUNKS)
    place.run(crash_at="state.chunk_recorded:3")
    kept = {name for name in place.visible() if name.endswith("parquet")}
    place.execute("UPDATE t SET v = 'new' WHERE id = 0")

    ran = place.run("--resume")

    assert place.rows() == WANTED  # the row of the first chunk was read before it was changed
    assert {part.key for part in place.manifest().parts} > set(sorted(kept)[:3])
    assert place.manifest().consistency == "chunk"
    assert ran["exports"][0]["row_count"] == ROWS
    assert place.visible() == place.named()


def test_a_plain_run_begins_anew_and_sweeps(place: Place) -> None:
    """E-34, E-43: what a dead run stored and never published is gone after the next run."""
    place.config(CHUNKS)
    place.run(crash_at="state.chunk_recorded:3")
    left = {name for name in place.visible() if name.endswith("parquet")}
    assert len(left) >= 3

    place.run()

    assert place.rows() == WANTED
    assert not left & place.visible()
    assert place.visible() == place.named()


def test_the_sealed_cut_is_gone_on_with(place: Place) -> None:
    """E-45: chunks are not found anew on a table that has grown, so none overlaps with a part that is kept (lesson 39)."""
    place.config(CHUNKS | {"chunk_size": None, "chunk_count": 5})
    place.run(crash_at="state.chunk_recorded:2")
    place.execute(f"INSERT INTO t SELECT id + {ROWS}, 'v' || (id + {ROWS}) FROM t")

    place.run("--resume")

    assert place.rows() == [(n, f"v{n}") for n in range(2 * ROWS)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda place: place.execute("ALTER TABLE t ADD COLUMN w text"), "changed since"),
        (lambda place: place.config(CHUNKS | {"columns": {"v": "binary"}}), "changed since"),
        (lambda place: place.config(CHUNKS | {"compression": "snappy"}), "changed since"),
    ],
    ids=["the table", "a column's type", "the codec"],
)
def test_another_export_is_not_gone_on_with(place: Place, change: Callable[[Place], None], reason: str) -> None:
    """E-45: parts of two plans are never one set: the run begins anew, says why, and sweeps the rest."""
    place.config(CHUNKS)
    place.run(crash_at="state.chunk_recorded:3")
    change(place)

    done = subprocess.run(
        [sys.executable, "-m", "procflow_export", "run", "c.json", "--engine", "in-process", "--resume"],
        cwd=place.root, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert reason in done.stderr
    assert place.manifest().row_count == ROWS
    assert place.visible() == place.named()


def test_a_kept_part_that_is_gone_is_read_again(place: Place) -> None:
    """E-42, E-45: the ledger says what was stored, the destination whether it still is (lesson 7)."""
    place.config(CHUNKS)
    place.run(crash_at="state.chunk_recorded:3")
    first, second, *_ = sorted(path for path in (place.root / "out" / "t").glob("*.parquet"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])

    place.run("--resume")

    assert place.rows() == WANTED
    assert place.visible() == place.named()


def test_a_resumed_run_that_dies_can_be_resumed(place: Place) -> None:
    """E-34, E-45: chunks of three runs make one set."""
    place.config(CHUNKS)
    place.run(crash_at="state.chunk_recorded:1")
    place.run("--resume", crash_at="state.chunk_recorded:2")

    place.run("--resume")

    assert place.rows() == WANTED
    assert len({part.key.split("-c")[0] for part in place.manifest().parts}) == 3
    assert place.visible() == place.named()


@pytest.mark.parametrize(
    "mode", [{"mode": "full", "chunk_size": None}, {"consistency": "snapshot"}], ids=["full", "snapshot"]
)
def test_a_snapshot_is_not_gone_on_with(place: Place, mode: dict[str, Any]) -> None:
    """E-11: the state of the database that the first parts show died with its holder: everything is read anew."""
    place.config(CHUNKS | mode)
    place.run(crash_at="state.chunk_recorded:1")
    place.execute("UPDATE t SET v = 'new' WHERE id = 0")

    place.run("--resume")

    assert place.rows()[0] == (0, "new")
    assert len(place.rows()) == ROWS
    assert place.visible() == place.named()


def test_what_the_last_run_published_is_left_out(place: Place) -> None:
    """E-34: resuming a run of several exports does the rest of them; the next plain run does all again."""
    place.fill("u", 50)
    place.config({"name": "u", "table": "u", "mode": "full", "format": "parquet"}, CHUNKS)
    place.run("-e", "u")
    place.run("--processes", "1", crash_at="publish.manifest_stored:2")
    by = {name: place.manifest(name).run_id for name in ("t", "u")}

    again = place.run("--resume")
    after = place.run()

    assert [verdict["status"] for verdict in again["exports"]] == ["skipped", "skipped"]
    assert by["t"] == by["u"]
    assert "before it was cut off" in again["exports"][0]["skip_reason"]
    assert [verdict["status"] for verdict in after["exports"]] == ["success", "success"]


@pytest.mark.parametrize("point", ["publish.manifest_stored", "publish.manifest_read_back", "publish.marker_stored"])
def test_a_manifest_ahead_of_the_state_is_adopted(place: Place, point: str) -> None:
    """E-42: W6: the commit was done, so the state follows it, and its marker is written."""
    place.config({"name": "t", "table": "t", "mode": "incremental", "cursor_column": "id", "format": "parquet"})
    place.run(crash_at=point)
    assert (place.root / "out" / "t" / "manifest.json").exists()

    ran = place.run()

    assert ran["exports"][0]["status"] == "skipped"  # nothing is new
    assert place.rows() == WANTED
    with open_state(place.root / "c.state") as store:
        cursor = store.cursor("t")
        assert cursor is not None
        assert (cursor.run_id, cursor.cursor) == (place.manifest().run_id, place.manifest().cursor)
        assert [entry.standing for entry in store.exports(export="t")] == [Standing.SKIPPED, Standing.SUCCESS]
    assert place.visible() == place.named()


def test_the_rest_of_a_retry_is_swept_after_the_commit(place: Place) -> None:
    """E-43: nothing is visible beside the set that no manifest names."""
    place.config(CHUNKS)
    place.run(crash_at="part.stored:2")
    stale = place.root / "out" / "t" / min(place.visible()).replace("-p000", "-p007")
    stale.write_bytes(b"a part of an attempt that made more parts")

    place.run("--resume")

    assert not stale.exists()
    assert place.visible() == place.named()


def test_what_others_put_there_stays(place: Place) -> None:
    """E-43: only what a run of this state left is removed (lesson 24); the rest is shown by `state gc` and never touched."""
    place.config(CHUNKS)
    place.run(crash_at="state.chunk_recorded:1")
    directory = place.root / "out" / "t"
    others = ["t-0123456789ab-c00000-p000.parquet", "notes.txt", "t2-c00000.parquet"]
    for name in others:
        (directory / name).write_text("mine")

    place.run()

    assert set(others) <= place.visible()


def test_a_set_that_is_gone_is_told(place: Place) -> None:
    """E-42: the manifest is the truth: without one everything is exported, and the operator hears why."""
    place.config({"name": "t", "table": "t", "mode": "incremental", "cursor_column": "id", "format": "parquet"})
    place.run()
    for path in (place.root / "out" / "t").iterdir():
        path.unlink()

    done = subprocess.run(
        [sys.executable, "-m", "procflow_export", "run", "c.json", "--engine", "in-process"],
        cwd=place.root, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert "is gone from its destination" in done.stderr
    assert place.rows() == WANTED
