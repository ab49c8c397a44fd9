"""Sessions that change a PostgreSQL table, in shape or wholesale, while it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest

from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError, SourceError
from procflow_export.model.plan import KeyRange, Query, Relation, Selection
from tests.export.sources.databases import PostgresDatabase, integer_bounds, opened, read, values

pytestmark = pytest.mark.anyio

ROWS = 1000
FILL = f"INSERT INTO t SELECT n, 'new' FROM generate_series(1, {ROWS}) AS g (n)"

SELECTIONS: list[Selection] = [
    Relation(table="t"),
    Relation(table="v"),
    Relation(table="parted"),
    Query(text="SELECT id, label FROM t"),
    Query(text="SELECT v.id, v.label FROM v JOIN parted USING (id)"),
]


def make_tables(database: PostgresDatabase) -> None:
    database.execute(
        "CREATE TABLE parted (id int, label text) PARTITION BY RANGE (id)",
        "CREATE TABLE t PARTITION OF parted FOR VALUES FROM (0) TO (100000)",
        "CREATE VIEW v AS SELECT id, label FROM t",
        FILL.replace("new", "old"),
    )


@asynccontextmanager
async def session(database: PostgresDatabase) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.url)
    try:
        yield connection
    finally:
        with anyio.CancelScope(shield=True):
            await connection.close()


async def while_it_waits(
    database: PostgresDatabase, statements: Sequence[str], act: Callable[[], Awaitable[Any]]
) -> Any:
    """What ``act()`` gives when it waits for the lock of a transaction that executes ``statements`` and commits."""
    result: list[Any] = []

    async def run() -> None:
        result.append(await act())

    with anyio.fail_after(60):
        async with session(database) as changer, session(database) as observer:
            async with anyio.create_task_group() as tasks:
                await changer.execute("BEGIN")
                for statement in statements:
                    await changer.execute(statement)
                tasks.start_soon(run)
                waiting = (
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
                while not await observer.fetchval(waiting):
                    await anyio.lowlevel.checkpoint()
                await changer.execute("COMMIT")
    return result[0]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize(
    "statements",
    [["TRUNCATE t", FILL], ["ALTER TABLE parted ADD COLUMN extra float8 DEFAULT random()"]],
    ids=["reload", "rewrite"],
)
async def test_chunk_that_waited_for_a_lock_is_read_whole(
    postgres: PostgresDatabase, selection: Selection, statements: list[str]
) -> None:
    """E-10: a chunk holds every row that its table has once the lock is granted."""
    make_tables(postgres)

    async with opened(postgres) as source:
        columns = (await source.profile(selection)).columns
        table = await while_it_waits(
            postgres,
            statements,
            lambda: read(source, selection, KeyRange.of_integers("id", 1, ROWS + 1), columns=columns),
        )

    assert sorted(values(table)) == list(range(1, ROWS + 1))
    assert set(values(table, "label")) == {"new" if "TRUNCATE t" in statements else "old"}


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
async def test_key_bounds_that_waited_for_a_lock_are_those_of_the_rows(
    postgres: PostgresDatabase, selection: Selection
) -> None:
    """E-10: the planner sees the rows that are there once the lock is granted."""
    make_tables(postgres)

    async with opened(postgres) as source:
        await source.profile(selection)
        bounds = await while_it_waits(postgres, ["TRUNCATE t", FILL], lambda: integer_bounds(source, selection, "id"))

    assert bounds == (1, ROWS, False)


async def test_profile_that_waited_for_a_lock_describes_the_new_shape(postgres: PostgresDatabase) -> None:
    """E-22: the planner resolves the columns that the chunks will find."""
    make_tables(postgres)

    async with opened(postgres) as source:
        profile = await while_it_waits(
            postgres,
            ["DROP VIEW v", "ALTER TABLE parted ALTER COLUMN label TYPE bytea USING label::bytea"],
            lambda: source.profile(Relation(table="t")),
        )

    assert [column.native_type for column in profile.columns] == ["integer", "bytea"]


CHANGES = [
    ("text", "'41'", "bytea", "v::bytea"),
    ("text", "'t'", "boolean", "v::boolean"),
    ("text", "'a'", "char(20)", "v"),
    ("text", "'1 day'", "interval", "v::interval"),
    ("timestamp", "'2024-01-01'", "date", "v"),
    ("numeric(10,2)", "1.25", "numeric(12,2)", "v"),
    ("numeric(10,2)", "1.25", "numeric(10,4)", "v"),
    ("numeric(10,2)", "1.25", "numeric", "v"),
    ("integer", "1", "bigint", "v"),
    ("integer", "1", "text", "v"),
    ("text[]", "'{a}'", "text", "v::text"),
]


@pytest.mark.parametrize(("before", "literal", "after", "using"), CHANGES)
async def test_table_whose_column_changed_its_type_is_refused(
    postgres: PostgresDatabase, before: str, literal: str, after: str, using: str
) -> None:
    """E-22: no chunk is published under types that its table no longer has."""
    postgres.execute(f"CREATE TABLE t (id int, v {before})", f"INSERT INTO t VALUES (1, {literal})")

    async with opened(postgres) as source:
        columns = (await source.profile(Relation(table="t"))).columns
        postgres.execute(f"ALTER TABLE t ALTER COLUMN v TYPE {after} USING {using}")
        with pytest.raises(DataError) as caught:
            await read(source, "t", columns=columns)

    assert caught.value.code is Code.SCHEMA_CHANGED
    assert "'v'" in caught.value.message


@pytest.mark.parametrize(
    ("before", "literal", "after", "using"), [change for change in CHANGES if "numeric(" not in change[2]]
)
async def test_query_whose_column_changed_its_type_is_refused(
    postgres: PostgresDatabase, before: str, literal: str, after: str, using: str
) -> None:
    """E-22: the same for a query, the precision of its numerics excepted."""
    postgres.execute(f"CREATE TABLE t (id int, v {before})", f"INSERT INTO t VALUES (1, {literal})")
    selection = Query(text="SELECT v, id FROM t")

    async with opened(postgres) as source:
        columns = (await source.profile(selection)).columns
        postgres.execute(f"ALTER TABLE t ALTER COLUMN v TYPE {after} USING {using}")
        if after == "numeric":
            table = await read(source, selection, columns=columns)
            assert str(table["v"][0]) == "1.25"
        else:
            with pytest.raises(DataError) as caught:
                await read(source, selection, columns=columns)
            assert caught.value.code is Code.SCHEMA_CHANGED


@pytest.mark.parametrize("digits", [2, 4])
async def test_numeric_of_a_query_that_got_more_decimals_stays_exact(postgres: PostgresDatabase, digits: int) -> None:
    """E-20: the precision of a query's numerics is not looked up again, but no value is rounded to it."""
    postgres.execute("CREATE TABLE t (v numeric(10,2))", "INSERT INTO t VALUES (1.25)")
    selection = Query(text="SELECT v FROM t")

    async with opened(postgres) as source:
        columns = (await source.profile(selection)).columns
        postgres.execute("ALTER TABLE t ALTER COLUMN v TYPE numeric(10,4)", f"UPDATE t SET v = round(1.2512, {digits})")
        if digits == 2:
            assert str((await read(source, selection, columns=columns))["v"][0]) == "1.25"
        else:
            with pytest.raises(DataError) as caught:
                await read(source, selection, columns=columns)
            assert caught.value.code is Code.VALUE_REFUSED


@pytest.mark.parametrize("selection", [Relation(table="t"), Query(text="SELECT * FROM t")], ids=str)
async def test_column_that_went_away_is_refused(postgres: PostgresDatabase, selection: Selection) -> None:
    """E-22: a column that is no longer there is a change of shape; one that came is not asked for."""
    postgres.execute("CREATE TABLE t (id int, v text, w text)")

    async with opened(postgres) as source:
        columns = (await source.profile(selection)).columns
        postgres.execute("ALTER TABLE t ADD COLUMN x text")
        if isinstance(selection, Relation):
            await read(source, selection, columns=columns[::-1])
        postgres.execute("ALTER TABLE t DROP COLUMN w")
        with pytest.raises((DataError, SourceError)) as caught:
            await read(source, selection, columns=columns)

    assert caught.value.code is Code.SCHEMA_CHANGED


async def test_types_of_every_kind_are_recognised_again(postgres: PostgresDatabase) -> None:
    """E-22: a table and a query that did not change are never refused."""
    postgres.execute(
        'CREATE SCHEMA "Other (1)"',
        'CREATE DOMAIN "Other (1)"."dom (2)" AS numeric(8,2)',
        'CREATE TYPE "Other (1)"."mood" AS ENUM (\'sad\')',
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE TABLE t (a varchar(5), b char(3), c bit(4), d varbit(9), e timestamp(3), f timestamptz(0), g time(1),"
        ' h interval day to second(3), i numeric(5,1)[], j "Other (1)"."dom (2)", k "Other (1)".mood, l pair,'
        ' m "char", n name, o regclass, p int4range, q float4, r "Other (1)".mood[], s numeric(9,3), u interval(2), w bpchar)',
        "INSERT INTO t DEFAULT VALUES",
        "CREATE VIEW v AS SELECT *, NULL AS x, 'y' AS y, 1.5 AS z FROM t",
    )

    async with opened(postgres) as source:
        for selection in (Relation(table="t"), Relation(table="v"), Query(text="SELECT * FROM v")):
            assert (await read(source, selection)).num_rows == 1


async def test_everything_that_can_be_selected_from_can_be_read(postgres: PostgresDatabase) -> None:
    """E-12: what is not a table is read like one, also with rights on single columns only."""
    name = postgres.url.rpartition("/")[2]
    role = f"part_{name}"
    postgres.execute(
        "CREATE TABLE t (id int, secret int)",
        "INSERT INTO t VALUES (1, 2)",
        "CREATE MATERIALIZED VIEW m AS SELECT id FROM t",
        "CREATE VIEW v AS SELECT id FROM t",
        "CREATE SEQUENCE s",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT (id) ON t TO {role}",
        f"GRANT SELECT ON m, v, s TO {role}",
    )
    try:
        reader = PostgresDatabase(postgres.url.replace("postgres@", f"{role}@"))
        async with opened(reader) as source:
            columns = (await source.profile(Relation(table="t"))).columns[:1]
            assert values(await read(source, "t", columns=columns)) == [1]
            assert values(await read(source, "m")) == [1]
            assert values(await read(source, "v")) == [1]
            assert values(await read(source, "s"), "last_value") == [1]
            assert (await read(source, Relation(schema="pg_catalog", table="pg_am"))).num_rows
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
