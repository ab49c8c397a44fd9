"""Every declared type of SQLite through the whole pipeline and back, compared with the values that were stored."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.export.types import meaning
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
