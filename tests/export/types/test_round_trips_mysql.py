"""Every type of MariaDB through the whole pipeline and back, compared with what the server itself prints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procflow_export.model.types import LogicalType
from procflow_export.sources.mysql.wire import WireConnection
from tests.export.types import strategies
from tests.export.types.exporting import Exported, exported
from tests.export.types.mysql_rows import ROWS
from tests.export.types.printed import texts_of
from tests.export.types.round_trips import assert_comes_back, name_of, wide_rows
from tests.export.types.rows import TypeRow
from tools.pytest_servers import mariadb_execute

DERIVED = {"double(15,2)", "float(7,2)"}
"""What is refused in a query that can only be read as a derived table."""


def source(url: str) -> dict[str, Any]:
    return {"type": "mysql", "url": url}


@pytest.fixture(scope="module")
def wide(mariadb_module_database: str) -> str:
    """A table with a column of every type."""
    url = mariadb_module_database
    columns = ", ".join(f"{name_of(ROWS, row)} {row.native}" for row in ROWS)
    statements = [
        "SET time_zone = '+00:00'",
        f"CREATE TABLE wide (id bigint PRIMARY KEY, {columns}) CHARACTER SET utf8mb4",
    ]
    for number, literals in enumerate(wide_rows(ROWS)):
        values = ", ".join("NULL" if literal is None else literal for literal in literals)
        statements.append(f"INSERT INTO wide VALUES ({number}, {values})")
    mariadb_execute(url, *statements)
    return url


@pytest.fixture(scope="module")
def table(wide: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(tmp_path_factory.mktemp("table"), source(wide), table="wide")


@pytest.fixture(scope="module")
def query(wide: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A query as it stands, which has no geometry: that would make a derived table of it."""
    names = ", ".join(name_of(ROWS, row) for row in ROWS if row.logical_type is not LogicalType.GEOMETRY)
    return exported(tmp_path_factory.mktemp("query"), source(wide), query=f"SELECT id, {names} FROM wide")


@pytest.fixture(scope="module")
def chunks(wide: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A query that is read in chunks, each a derived table."""
    names = ", ".join(name_of(ROWS, row) for row in ROWS if row.native not in DERIVED)
    return exported(
        tmp_path_factory.mktemp("chunks"), source(wide), query=f"SELECT id, {names} FROM wide", chunked_by="id"
    )


@pytest.fixture(scope="module")
def text_rows(wide: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The table from a server that prepares no statement, whose rows so come as text."""

    @asynccontextmanager
    async def refused(connection: WireConnection, statement: str, **keeping: Any) -> AsyncIterator[Any]:
        raise pymysql.err.OperationalError(1461, "no more prepared statements")
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WireConnection, "binary_rows", refused)
        return exported(tmp_path_factory.mktemp("text"), source(wide), table="wide")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_a_type_comes_back(
    row: TypeRow, wide: str, table: Exported, query: Exported, chunks: Exported, text_rows: Exported
) -> None:
    """E-20, E-23: a type's values, its extremes and NULL are in Parquet and CSV what the server prints, for two readers each."""
    name = name_of(ROWS, row)
    texts = texts_of(wide, "wide", name, row)

    assert_comes_back(table, name, row, texts)
    assert_comes_back(text_rows, name, row, texts)
    if row.logical_type is not LogicalType.GEOMETRY:
        assert_comes_back(query, name, row, texts)
    if row.native not in DERIVED:
        assert_comes_back(chunks, name, row, texts)


@given(rows=st.lists(st.tuples(*map(strategies.mysql, ROWS)), min_size=1, max_size=12))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_generated_rows_come_back(
    rows: list[tuple[str | None, ...]], wide: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """E-23: whatever the values are, they come back as the server prints them, from both formats and by both readers."""
    names = [name_of(ROWS, row) for row in ROWS]
    statements = ["DROP TABLE IF EXISTS generated", "CREATE TABLE generated LIKE wide", "SET time_zone = '+00:00'"]
    for number, literals in enumerate(rows):
        values = ", ".join("NULL" if literal is None else literal for literal in literals)
        statements.append(f"INSERT INTO generated VALUES ({number}, {values})")
    mariadb_execute(wide, *statements)
    plain = ", ".join(name_of(ROWS, row) for row in ROWS if row.logical_type is not LogicalType.GEOMETRY)

    table = exported(tmp_path_factory.mktemp("table"), source(wide), table="generated")
    query = exported(tmp_path_factory.mktemp("query"), source(wide), query=f"SELECT id, {plain} FROM generated")

    for name, row in zip(names, ROWS, strict=True):
        texts = texts_of(wide, "generated", name, row)
        assert_comes_back(table, name, row, texts)
        if row.logical_type is not LogicalType.GEOMETRY:
            assert_comes_back(query, name, row, texts)
