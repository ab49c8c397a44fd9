"""Every declared type of SQLite through the whole pipeline and back, compared with the values that were stored."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.export.types import meaning, strategies
from tests.export.types.exporting import Exported, exported
from tests.export.types.round_trips import assert_comes_back, name_of, wide_rows
from tests.export.types.rows import TypeRow
from tests.export.types.sqlite_rows import ROWS


def text_of(value: Any) -> str | None:
    """The text of a stored value: of a number, the shortest that is the same one."""
    if value is None or isinstance(value, str):
        return value
    return value.hex() if isinstance(value, bytes) else repr(value)


def of_text(text: str | None, arrow_type: pa.DataType) -> Any:
    return meaning.of_text(text, arrow_type)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with a column of every declared type."""
    file = tmp_path_factory.mktemp("source") / "source.db"
    connection = sqlite3.connect(file)
    columns = ", ".join(f"{name_of(ROWS, row)} {row.native}" for row in ROWS)
    with connection:
        connection.execute(f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {columns})")
        for number, values in enumerate(wide_rows(ROWS)):
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO wide VALUES ({number}, {marks})", values)
    connection.close()
    return file


@pytest.fixture(scope="module")
def table(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(tmp_path_factory.mktemp("table"), {"type": "sqlite", "path": str(wide)}, table="wide")


@pytest.fixture(scope="module")
def query(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(tmp_path_factory.mktemp("query"), {"type": "sqlite", "path": str(wide)}, query="SELECT * FROM wide")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_a_type_comes_back(row: TypeRow, wide: Path, table: Exported, query: Exported) -> None:
    """E-20, E-23: a declared type's values, its extremes and NULL are in Parquet and CSV what was stored, for two readers each."""
    name = name_of(ROWS, row)
    connection = sqlite3.connect(wide)
    texts = {key: text_of(value) for key, value in connection.execute(f"SELECT id, {name} FROM wide")}
    connection.close()

    assert_comes_back(table, name, row, texts)
    assert_comes_back(query, name, row, texts)


GENERATED = [row for row in ROWS if row.native]


@given(rows=st.lists(st.tuples(*map(strategies.sqlite, GENERATED)), min_size=1, max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_generated_rows_come_back(rows: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """E-23: whatever the values are, they come back as they were stored, from both formats and by both readers."""
    directory = tmp_path_factory.mktemp("generated")
    connection = sqlite3.connect(directory / "source.db")
    columns = ", ".join(f"{name_of(ROWS, row)} {row.native}" for row in GENERATED)
    with connection:
        connection.execute(f"CREATE TABLE generated (id INTEGER PRIMARY KEY, {columns})")
        for number, values in enumerate(rows):
            connection.execute(f"INSERT INTO generated VALUES ({number}, {', '.join('?' * len(values))})", values)

    found = exported(directory, {"type": "sqlite", "path": str(directory / "source.db")}, table="generated")

    for row in GENERATED:
        name = name_of(ROWS, row)
        stored = connection.execute(f"SELECT id, {name} FROM generated")
        assert_comes_back(found, name, row, {key: text_of(value) for key, value in stored})
    connection.close()
