"""What check says of types and choices, run does: the same resolver, whatever tables and choices there are."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procflow_export import Exporter, ExportError, Finished, InProcessEngine, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.choices import OnInvalid, TypeName
from procflow_export.model.codes import Code
from procflow_export.pipeline.prepare import plan_target
from procflow_export.pipeline.sources import SharedSources
from procflow_export.planning.plan import ExportPlan
from tests.export.pipeline.runs import Ran, run
from tests.export.sources.databases import MariaDatabase, PostgresDatabase, SqliteDatabase
from tests.export.types import mysql_rows, postgres_rows, sqlite_rows
from tests.export.types.rows import TypeRow

TYPES = [
    *(name.value for name in TypeName if name not in (TypeName.DECIMAL, TypeName.LIST)),
    "decimal(10,2)",
    "decimal(50,10)",
    "list<int4>",
    "list<text>",
    "list<decimal(9,2)>",
    "list<list<int8>>",
]
CHOICES = st.one_of(
    st.none(),
    st.sampled_from(TYPES),
    st.builds(
        lambda type_text, on_invalid: {"type": type_text, "on_invalid": on_invalid},
        st.sampled_from(TYPES),
        st.sampled_from(["error", "null", "clamp"]),
    ),
    st.sampled_from([{"on_invalid": policy.value} for policy in OnInvalid if policy is not OnInvalid.ERROR]),
)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Side:
    """One source, as the property needs it."""

    source: dict[str, Any]
    rows: Sequence[TypeRow]
    make: Callable[[str, Sequence[TypeRow], Sequence[int]], None]


def checked(loaded: LoadedConfig) -> ExportPlan | ExportError:
    """What ``check`` finds out."""

    async def check() -> ExportPlan | ExportError:
        async with Exporter(loaded) as exporter:
            (target,) = exporter.targets
        async with SharedSources(os.environ) as sources:
            try:
                return await plan_target(target, sources)
            except ExportError as exc:
                return exc

    return anyio.run(check)


def ran(loaded: LoadedConfig) -> Ran:
    async def export() -> Ran:
        return await run(loaded, engine=InProcessEngine(max_units=1))

    return anyio.run(export)


def assert_run_does_what_check_says(side: Side, data: st.DataObject, directory: Path) -> None:
    count = len(side.rows)
    rows = [side.rows[place] for place in data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=5))]
    literals = [data.draw(st.integers(-1, len(row.literals) + len(row.misfits) - 1)) for row in rows]
    choices = {f"c{place}": choice for place, _ in enumerate(rows) if (choice := data.draw(CHOICES)) is not None}
    is_query, kind = data.draw(st.booleans()), data.draw(st.sampled_from(["parquet", "csv"]))
    table = f"t{next(_numbers)}"
    side.make(table, rows, literals)
    loaded = read_config(
        {
            "source": side.source,
            "destination": {"type": "local", "path": "."},
            "exports": [
                {
                    "name": table,
                    "mode": "full",
                    "format": kind,
                    **({"query": f"SELECT * FROM {table}"} if is_query else {"table": table}),
                    **({"columns": choices} if choices else {}),
                }
            ],
        },
        base_dir=directory,
    )

    plan = checked(loaded)
    (verdict,) = ran(loaded).of(Finished)

    if isinstance(plan, ExportError):
        assert verdict.failure is not None
        assert verdict.failure.code is plan.code
        assert plan.code is Code.TYPE_NOT_SUPPORTED
        return
    if verdict.failure is not None:
        # Only a value can stop it, and only one that must not be changed, or cannot be.
        assert verdict.failure.code is Code.VALUE_REFUSED, verdict.failure
        return
    assert not any(
        count
        for column in plan.columns
        if column.on_invalid is OnInvalid.ERROR
        for count in [verdict.changed_values.get(column.name, 0)]
    )
    if kind == "parquet":
        (part,) = (directory / table).glob("*.parquet")
        written = pq.read_schema(part)
        assert [field.nullable for field in written] == [column.is_nullable for column in plan.columns]
        assert [plain(field.type) for field in written] == [plain(column.arrow_type) for column in plan.columns]


def plain(arrow_type: pa.DataType) -> str:
    """A type as a file has it: without its dictionary, and with Parquet's name for an element."""
    value = arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type
    return str(value).replace("element: ", "item: ")


def literal_of(row: TypeRow, place: int) -> Any:
    values = [*row.literals, *(misfit.literal for misfit in row.misfits)]
    return None if place < 0 else values[place]


SETTINGS = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@given(data=st.data())
@SETTINGS
def test_run_does_what_check_says_of_sqlite(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """E-22: what check passes, run exports; what it refuses, run refuses with the same code (lesson 39)."""
    directory = tmp_path_factory.mktemp("sqlite")
    database = SqliteDatabase(directory / "source.db")

    def make(table: str, rows: Sequence[TypeRow], literals: Sequence[int]) -> None:
        columns = ", ".join(f"c{place} {row.native}" for place, row in enumerate(rows))
        database.execute(f"CREATE TABLE {table} ({columns})")
        values = [literal_of(row, place) for row, place in zip(rows, literals, strict=True)]
        database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows))})", parameters=values)

    try:
        source = {"type": "sqlite", "path": str(database.path)}
        assert_run_does_what_check_says(Side(source, sqlite_rows.ROWS, make), data, directory)
    finally:
        database.close()


@given(data=st.data())
@SETTINGS
def test_run_does_what_check_says_of_postgres(
    data: st.DataObject, postgres_module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """E-22: what check passes, run exports; what it refuses, run refuses with the same code (lesson 39)."""
    database = PostgresDatabase(postgres_module_database)
    _set_up_once(database)

    def make(table: str, rows: Sequence[TypeRow], literals: Sequence[int]) -> None:
        columns = ", ".join(f"c{place} {row.native}" for place, row in enumerate(rows))
        values = ", ".join(
            "NULL" if (literal := literal_of(row, place)) is None else f"({literal})::{row.native}"
            for row, place in zip(rows, literals, strict=True)
        )
        database.execute(f"CREATE TABLE {table} ({columns})", f"INSERT INTO {table} VALUES ({values})")

    side = Side({"type": "postgres", "url": database.url}, postgres_rows.ROWS, make)
    assert_run_does_what_check_says(side, data, tmp_path_factory.mktemp("postgres"))


@given(data=st.data())
@SETTINGS
def test_run_does_what_check_says_of_mysql(
    data: st.DataObject, mariadb_module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """E-22: what check passes, run exports; what it refuses, run refuses with the same code (lesson 39)."""
    database = MariaDatabase(mariadb_module_database)

    def make(table: str, rows: Sequence[TypeRow], literals: Sequence[int]) -> None:
        columns = ", ".join(f"c{place} {row.native}" for place, row in enumerate(rows))
        values = ", ".join(
            "NULL" if (literal := literal_of(row, place)) is None else literal
            for row, place in zip(rows, literals, strict=True)
        )
        database.execute(
            "SET sql_mode = ''",
            "SET time_zone = '+00:00'",
            f"CREATE TABLE {table} ({columns}) CHARACTER SET utf8mb4",
            f"INSERT INTO {table} VALUES ({values})",
        )

    side = Side({"type": "mysql", "url": database.url}, mysql_rows.ROWS, make)
    assert_run_does_what_check_says(side, data, tmp_path_factory.mktemp("mysql"))


_set_up: set[str] = set()


def _set_up_once(database: PostgresDatabase) -> None:
    if database.url not in _set_up:
        _set_up.add(database.url)
        database.execute(*postgres_rows.SETUP)
