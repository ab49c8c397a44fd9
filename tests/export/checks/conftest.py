"""What the tests of checks share: one database of each kind, exports of it in every mode, and ways to damage them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.checks.published import Sets
from tests.export.modes.sets import Clock
from tests.export.sources.conftest import database, mariadb, postgres, sqlite
from tests.export.sources.databases import Database

__all__ = ("database", "mariadb", "postgres", "sqlite")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Noon of 10 March 2026."""
    clock = Clock()
    for kind in ("postgres.source.PostgresSource", "mysql.source.MysqlSource", "sqlite.source.SqliteSource"):
        monkeypatch.setattr(f"procflow_export.sources.{kind}.now", clock.read)
    return clock


@pytest.fixture
def sets(database: Database, tmp_path: Path, clock: Clock) -> Sets:
    """A filled table, and a place to export it to."""
    sets = Sets(database=database, root=tmp_path)
    sets.fill()
    return sets
