"""What the tests of sources share: the event loops that drivers run on, and one database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.export.sources.databases import Database, MariaDatabase, PostgresDatabase, SqliteDatabase

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The loops that the drivers know."""
    return request.param


@pytest.fixture
def postgres(postgres_database: str) -> PostgresDatabase:
    return PostgresDatabase(postgres_database)


@pytest.fixture
def mariadb(mariadb_database: str) -> MariaDatabase:
    return MariaDatabase(mariadb_database)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "source.db")
    yield database
    database.close()


@pytest.fixture(params=["postgres", "mariadb", "sqlite"])
def database(request: pytest.FixtureRequest) -> Database:
    """One database of each kind: what passes here holds for every source."""
    found: Database = request.getfixturevalue(request.param)
    return found
