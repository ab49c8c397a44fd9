"""What the tests of sources share: the event loops that drivers run on, and one database of each kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.export.sources.databases import (
    Database,
    MariaDatabase,
    MysqlDatabase,
    PostgresDatabase,
    SqliteDatabase,
)
from tools.pytest_servers import fresh_mariadb_database

MYSQL_VARIABLE = "PROCFLOW_MYSQL_URL"
"""The administrator's URL of a MySQL server: no package of its own has one, so a run brings it along (docs/developing.md)."""

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
def mysql() -> Iterator[MysqlDatabase]:
    for url in fresh_mariadb_database(os.environ[MYSQL_VARIABLE]):
        yield MysqlDatabase(url)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "source.db")
    yield database
    database.close()


@pytest.fixture(params=["postgres", "mariadb", "sqlite", *(["mysql"] if os.environ.get(MYSQL_VARIABLE) else [])])
def database(request: pytest.FixtureRequest) -> Database:
    """One database of each kind: what passes here holds for every source."""
    found: Database = request.getfixturevalue(request.param)
    return found
