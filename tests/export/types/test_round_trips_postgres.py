"""Every type of PostgreSQL through the whole pipeline and back, compared with what the server itself prints."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.postgres import wire
from tests.export.types import strategies
from tests.export.types.exporting import Exported, exported
from tests.export.types.postgres_rows import ROWS, SETUP
from tests.export.types.round_trips import assert_comes_back, name_of, wide_rows
from tests.export.types.rows import TypeRow
from tools.pytest_servers import postgres_execute

SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET IntervalStyle = 'iso_8601'",
    "SET extra_float_digits = 1",
    "SET bytea_output = 'hex'",
    "SET DateStyle = 'ISO, YMD'",
)

DEEP = "array of more dimensions"
"""Nothing tells the dimensions of a query's columns: it takes them for flat."""

CHEAP = Column(name="n", native_type="inet", logical_type=LogicalType.OTHER, arrow_type=pa.string())
"""A column that is cheaper as text."""


def printed(name: str, row: TypeRow) -> str:
    """The server's own text of a column."""
    if row.logical_type is LogicalType.ARRAY:
        return f"to_json({name})::text"
    if row.logical_type is LogicalType.MONEY:
        return f"{name}::numeric::text"
    # Unlike a cast, format() always prints what the type's output function does; of NULL it would make an empty text.
    return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN format('%s', {name}) END"


def fetch(url: str, statement: str) -> list[Any]:
    async def query() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            for setting in SETTINGS:
                await connection.execute(setting)
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, query()).result()


def texts_of(url: str, table: str, name: str, row: TypeRow) -> dict[int, str | None]:
    return dict(fetch(url, f"SELECT id, {printed(name, row)} FROM {table}"))


@pytest.fixture(scope="module")
def wide(postgres_module_database: str) -> str:
    """A table with a column of every type."""
    url = postgres_module_database
    columns = ", ".join(f"{name_of(ROWS, row)} {row.native}" for row in ROWS)
    statements = [*SETUP, f"CREATE TABLE wide (id bigint PRIMARY KEY, {columns})"]
    for number, literals in enumerate(wide_rows(ROWS)):
        values = ", ".join(
            "NULL" if literal is None else f"({literal})::{row.native}"
            for literal, row in zip(literals, ROWS, strict=True)
        )
        statements.append(f"INSERT INTO wide VALUES ({number}, {values})")
    postgres_execute(url, *statements)
    return url


@pytest.fixture(scope="module")
def table(wide: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(tmp_path_factory.mktemp("table"), {"type": "postgres", "url": wide}, table="wide")


@pytest.fixture(scope="module")
def query(wide: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    deep = next(name_of(ROWS, row) for row in ROWS if row.shown == DEEP)
    return exported(
        tmp_path_factory.mktemp("query"),
        {"type": "postgres", "url": wide},
        query="SELECT * FROM wide",
        columns={deep: "json"},
    )


@pytest.fixture(scope="module")
def text_copy(wide: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The columns that may travel as text `COPY`, in that format: which one is taken depends on all columns of a result."""
    names = ", ".join(name_of(ROWS, row) for row in ROWS if may_be_text(row))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("procflow_export.sources.postgres.source.wire_format_for", lambda columns: wire.TEXT)
        return exported(
            tmp_path_factory.mktemp("text"), {"type": "postgres", "url": wide}, query=f"SELECT id, {names} FROM wide"
        )


def may_be_text(row: TypeRow) -> bool:
    column = row.column().carried()
    # A single column of a kind that costs nothing either way is sent as text if it may be.
    return row.shown != DEEP and wire.wire_format_for([column, *[CHEAP] * 9]) is wire.TEXT


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_a_type_comes_back(row: TypeRow, wide: str, table: Exported, query: Exported, text_copy: Exported) -> None:
    """E-20, E-23: a type's values, its extremes and NULL are in Parquet and CSV what the server prints, for two readers each."""
    name = name_of(ROWS, row)
    texts = texts_of(wide, "wide", name, row)

    assert_comes_back(table, name, row, texts)
    if row.shown != DEEP:
        assert_comes_back(query, name, row, texts)
    if may_be_text(row):
        assert_comes_back(text_copy, name, row, texts)


GENERATED = [row for row in ROWS if row.shown != DEEP]


@given(rows=st.lists(st.tuples(*map(strategies.postgres, GENERATED)), min_size=1, max_size=12))
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_generated_rows_come_back(
    rows: list[tuple[str | None, ...]], wide: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """E-23: whatever the values are, they come back as the server prints them, from both formats and by both readers."""
    names = [name_of(ROWS, row) for row in GENERATED]
    statements = ["DROP TABLE IF EXISTS generated", "CREATE TABLE generated (LIKE wide INCLUDING ALL)"]
    for number, literals in enumerate(rows):
        values = ", ".join(
            "NULL" if literal is None else f"({literal})::{row.native}"
            for literal, row in zip(literals, GENERATED, strict=True)
        )
        statements.append(f"INSERT INTO generated (id, {', '.join(names)}) VALUES ({number}, {values})")
    postgres_execute(wide, *statements)

    found = exported(tmp_path_factory.mktemp("generated"), {"type": "postgres", "url": wide}, table="generated")

    for name, row in zip(names, GENERATED, strict=True):
        assert_comes_back(found, name, row, texts_of(wide, "generated", name, row))
