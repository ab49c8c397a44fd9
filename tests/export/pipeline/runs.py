"""What the tests of runs share: a shop in SQLite, and a run to its end."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pytest

from procflow.record import Run
from procflow_export import Engine, EventStream, Exporter, RetryPolicy, RunEvent, RunPolicy, RunResult, read_config
from procflow_export.config.structs import LoadedConfig

BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
NO_DELAYS = RunPolicy(retry=RetryPolicy(max_backoff_s=0, max_extra_s=0), head_start_s=60, progress_interval_s=0)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that ended."""

    events: list[RunEvent]
    result: RunResult

    def of(self, kind: type[T], export: str | None = None) -> list[T]:
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (export is None or getattr(event, "export", None) == export)
        ]


@dataclass(slots=True)
class Shop:
    """A database with tables to export, and the directory they go to."""

    root: Path
    rows: int = 20_000
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        self.out = self.root / "out"
        connection = sqlite3.connect(self.root / "shop.db")
        with connection:
            connection.execute("create table big(id integer primary key not null, name text, n integer)")
            connection.executemany(
                "insert into big values(?, ?, ?)", ((i * 3 - 5_000, f"name {i}", i % 7) for i in range(self.rows))
            )
            connection.execute("create table holes(k integer, v text)")
            connection.executemany(
                "insert into holes values(?, ?)", ((None if i % 10 == 0 else i, f"v{i}") for i in range(2_000))
            )
            connection.execute("create table empty(id integer primary key not null, v text)")
        connection.close()

    def config(self, *exports: dict[str, Any], **root: Any) -> LoadedConfig:
        defaults = {"mode": "full", "format": "parquet"}
        return read_config(
            {
                "source": {"type": "sqlite", "path": "shop.db"},
                "destination": {"type": "local", "path": "out"},
                "exports": [defaults | export for export in exports],
            }
            | root,
            base_dir=self.root,
        )

    def files(self) -> list[str]:
        """Every file of the destination, hidden ones included."""
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*") if path.is_file())


async def run(
    config: LoadedConfig,
    *,
    engine: Engine | None = None,
    policy: RunPolicy = NO_DELAYS,
    environ: dict[str, str] | None = None,
    on_event: Callable[[Exporter, RunEvent], object] | None = None,
    record: str | Path | Run | None = None,
) -> Ran:
    """Run to the end and return everything that was said."""
    events: list[RunEvent] = []
    async with Exporter(config, engine=engine, policy=policy, environ=environ, record=record) as exporter:
        stream: EventStream = exporter.run()
        async for event in stream:
            events.append(event)
            if on_event is not None:
                on_event(exporter, event)
        return Ran(events, exporter.result)


def select(sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that DuckDB, an independent reader, runs over files."""
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()
