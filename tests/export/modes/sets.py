"""Exports of a database, and the published sets that independent readers find."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from procflow_export import Engine, Finished, RunPolicy, Warned, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.engines.in_process import InProcessEngine
from procflow_export.engines.processes import ProcessEngine
from procflow_export.model.manifest import Manifest, decode_manifest
from tests.export.pipeline.runs import NO_DELAYS, Ran, run
from tests.export.sources.databases import Database

ENGINES: dict[str, Callable[[], Engine]] = {
    "in-process": lambda: InProcessEngine(max_units=3),
    "processes": lambda: ProcessEngine(max_units=2),
}


@dataclass(slots=True)
class Outcome:
    """Where the exports of one database go, and what is found there."""

    database: Database
    root: Path
    engine: str = "in-process"

    def config(self, *exports: dict[str, Any], path: str = "out") -> LoadedConfig:
        return read_config(
            {
                "source": source_of(self.database),
                "destination": {"type": "local", "path": path},
                "exports": [{"name": "t", "format": "parquet"} | export for export in exports],
            },
            base_dir=self.root,
        )

    async def run(self, *exports: dict[str, Any], path: str = "out", policy: RunPolicy = NO_DELAYS) -> Ran:
        ran = await run(self.config(*exports, path=path), engine=ENGINES[self.engine](), policy=policy)
        failures = [verdict.failure for verdict in ran.result.exports if verdict.failure is not None]
        assert failures == []
        return ran

    async def refused(self, **export: Any) -> Finished:
        """The verdict on an export that must not succeed."""
        ran = await run(self.config(export))
        (verdict,) = ran.result.exports
        assert verdict.failure is not None
        return verdict

    def directory(self, export: str = "t") -> Path:
        return self.root / "out" / export

    def manifest(self, export: str = "t") -> Manifest:
        return decode_manifest((self.directory(export) / "manifest.json").read_bytes())

    def rows(self, export: str = "t") -> list[tuple[Any, ...]]:
        """The published set as DuckDB reads it, as sorted texts; pyarrow must count the same rows."""
        manifest = self.manifest(export)
        files = [str(self.directory(export) / part.key) for part in manifest.parts]
        assert sum(pq.read_metadata(file).num_rows for file in files) == manifest.row_count
        if not files:
            return []
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            statement = f"select columns(*)::varchar from read_parquet({json.dumps(files)}) order by all"
            return connection.execute(statement).fetchall()

    def values(self, column: str, export: str = "t") -> list[Any]:
        """One column of the published set, sorted, NULLs last."""
        manifest = self.manifest(export)
        found = [
            value
            for part in manifest.parts
            for value in pq.read_table(self.directory(export) / part.key)[column].to_pylist()
        ]
        return sorted(found, key=lambda value: (value is None, value))


def source_of(database: Database) -> dict[str, Any]:
    config = database.config
    place = {"path": config.path} if config.path is not None else {"url": config.url, "tls": {"mode": "disable"}}
    return {"type": config.type.value, "tuning": {"profile": "fast"}} | place


def warnings(ran: Ran) -> str:
    return "\n".join(event.message for event in ran.of(Warned))


@dataclass(slots=True)
class Clock:
    """The source's clock, which a test moves: planning asks it, and nobody else does."""

    now: datetime = datetime(2026, 3, 10, 12, 0, 0, tzinfo=UTC)

    def advance(self, **step: float) -> None:
        self.now += timedelta(**step)

    async def read(self) -> datetime:
        return self.now
