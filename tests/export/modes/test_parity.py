"""Every mode through every engine, from every kind of source: the choice of engine never changes what is published."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest

from procflow_export import Engine, ExitStatus, InProcessEngine, ProcessEngine, read_config
from procflow_export.model.manifest import Manifest, decode_manifest
from tests.export.pipeline.runs import run
from tools.soak.crashes.databases import Database, MariaDatabase, PostgresDatabase, SqliteDatabase
from tools.soak.crashes.plans import MODES as KILLED_MODES
from tools.soak.crashes.tables import Change, MovingTable

ENGINES: dict[str, Callable[[], Engine]] = {
    "in-process, 1 unit": lambda: InProcessEngine(max_units=1),
    "in-process, 4 units": lambda: InProcessEngine(max_units=4),
    "1 worker": lambda: ProcessEngine(max_units=1),
    "3 workers": lambda: ProcessEngine(max_units=3),
}
PARALLEL = {"parallel": 4}
MODES: dict[str, dict[str, Any]] = {
    **{name.replace(", ", "_"): mode.options | PARALLEL for name, mode in KILLED_MODES.items() if name != "full"},
    "full": {"mode": "full"},
    "full_csv": {"mode": "full", "format": "csv", "compression": "gzip"},
    "ranges": {"mode": "chunked", "chunk_column": "id", "chunk_size": 300, **PARALLEL},
    "own_key": {"mode": "chunked", "chunk_count": 3, **PARALLEL},
    "slices": {"mode": "chunked", "chunk_by_key": "id", "chunk_size": 400, **PARALLEL},
    "composite_slices": {"mode": "chunked", "chunk_by_key": ["owner", "id"], "chunk_size": 400, **PARALLEL},
    "nulls": {"mode": "chunked", "chunk_column": "at", "chunk_count": 3, **PARALLEL},
    "query": {"mode": "chunked", "query": "select id, owner, note from t where owner > 5", "chunk_column": "id", "chunk_count": 3},
    "settled": {"mode": "incremental", "cursor_column": "id", "incremental_cursor_mode": "coalesce", "cursor_fallback_column": "owner"},
}  # fmt: skip
CUMULATIVE = ("incremental", "keyset_incremental", "time_window", "settled")


@dataclass(frozen=True, slots=True)
class Sets:
    """What the engines published from one source."""

    root: Path
    table: MovingTable

    def directory(self, engine: str, mode: str) -> Path:
        return self.root / engine / mode

    def manifest(self, engine: str, mode: str) -> Manifest:
        return decode_manifest((self.directory(engine, mode) / "manifest.json").read_bytes())

    def parts(self, engine: str, mode: str) -> list[tuple[Any, ...]]:
        """Where each part was cut and what its bytes are; names have the run in them."""
        return [
            (part.chunk, part.scope, part.row_count, part.size_bytes, part.checksum)
            for part in self.manifest(engine, mode).parts
        ]

    def rows(self, engine: str, mode: str) -> list[tuple[str, ...]]:
        """The published rows as DuckDB reads them, in order."""
        manifest = self.manifest(engine, mode)
        files = [str(self.directory(engine, mode) / part.key) for part in manifest.parts]
        reader = "read_csv" if manifest.format == "csv" else "read_parquet"
        options = ", all_varchar = true" if manifest.format == "csv" else ""
        with duckdb.connect() as connection:
            statement = f"select columns(*)::varchar from {reader}({files!r}{options}) order by all"
            return connection.execute(statement).fetchall()


@pytest.fixture(scope="module", params=["postgres", "mysql", "sqlite"])
def sets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sets]:
    """All exports by every engine, twice, with new rows in between."""
    root = tmp_path_factory.mktemp("parity")
    name = f"parity_{os.getpid()}_{time.monotonic_ns()}"
    database: Database
    match request.param:
        case "postgres":
            database = PostgresDatabase(request.getfixturevalue("postgres_url"), name)
        case "mysql":
            database = MariaDatabase(request.getfixturevalue("mariadb_url"), name)
        case _:
            database = SqliteDatabase(root / "source.db")
    table = MovingTable(database, change=Change.APPEND, rows=1_500, seed="parity", has_nulls=True)
    connection = database.connect()
    connection.execute("create unique index t_composite on t(owner, id)")
    connection.close()
    for _ in range(2):
        for engine in ENGINES:
            anyio.run(partial(export, database, root, engine))
        table.commit(20)
    yield Sets(root, table)
    database.drop()


async def export(database: Database, root: Path, engine: str) -> None:
    loaded = read_config(
        {
            "source": {**database.source, "tuning": {"profile": "fast", "batch_size": 150}},
            "destination": {"type": "local", "path": engine},
            "exports": [
                {"name": name, "format": "parquet", **({} if "query" in mode else {"table": "t"}), **mode}
                for name, mode in MODES.items()
            ],
        },
        base_dir=root,
    )
    ran = await run(loaded, engine=ENGINES[engine]())
    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]


@pytest.mark.parametrize("engine", list(ENGINES)[1:])
@pytest.mark.parametrize("mode", list(MODES))
def test_every_engine_publishes_the_same(sets: Sets, mode: str, engine: str) -> None:
    """E-36: rows, cuts, names of columns and the bytes of every part are those of one task in one process."""
    reference = next(iter(ENGINES))

    assert sets.rows(engine, mode) == sets.rows(reference, mode)
    assert sets.parts(engine, mode) == sets.parts(reference, mode)
    ours, theirs = sets.manifest(engine, mode), sets.manifest(reference, mode)
    assert (ours.schema_fingerprint, ours.consistency, ours.changed_values) == (
        theirs.schema_fingerprint, theirs.consistency, theirs.changed_values,
    )  # fmt: skip
    if ours.cursor is not None:
        assert theirs.cursor is not None
        assert (ours.cursor.key, ours.cursor.position) == (theirs.cursor.key, theirs.cursor.position)


@pytest.mark.parametrize("mode", list(MODES))
def test_what_they_publish_is_the_table(sets: Sets, mode: str) -> None:
    """E-36, E-43: what all engines agree on is right: each row of the table as the second run found it, once."""
    state = sets.table.state_after(20)
    if mode == "query":
        state = {owner: row for owner, row in state.items() if owner > 5}
    manifest = sets.manifest("3 workers", mode)

    found = sorted(int(row[1]) for row in sets.rows("3 workers", mode))

    assert found == sorted(state)
    assert manifest.row_count == len(state)
    assert len(manifest.parts) >= (2 if MODES[mode]["mode"] == "chunked" or mode in CUMULATIVE else 1)
