"""What the tests of modes share: one database of each kind, and both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.modes.sets import Outcome
from tests.export.sources.conftest import database, mariadb, postgres, sqlite
from tests.export.sources.databases import Database

__all__ = ("database", "mariadb", "postgres", "sqlite")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
def out(database: Database, tmp_path: Path) -> Outcome:
    """A place to export the test's database to."""
    return Outcome(database=database, root=tmp_path)
