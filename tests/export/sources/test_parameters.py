"""Bind parameters of queries, through each real database: what goes in comes out, and nothing else happens."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import KeyRange, ParameterValue, Query
from procflow_export.sources.parameters import mysql_literal
from tests.export.sources.databases import (
    Database,
    MariaDatabase,
    PostgresDatabase,
    integer_bounds,
    opened,
    read,
    values,
)

HOSTILE = [
    "",
    "'",
    "''",
    '"',
    "\\",
    "\\'",
    "'; DROP TABLE t; --",
    "\\'; DROP TABLE t; #",
    "/*",
    "*/",
    "-- ",
    "$$",
    ":other",
    "%s %(a)s %",
    "? ?1 @x $1",
    "\n\r\t\x08\x1a\x7f",
    "\u00a0\u2028\ufeff",
    "密码 ü ß 😀",
    "e\u0301",
    "`[]{}|~^&",
    "NULL",
    "0x41",
    "ʼ＇‘’\u02b9",
    "a" * 10_000,
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


def as_text(database: Database, name: str = ":p") -> str:
    return f"CAST({name} AS CHAR)" if database.kind == "mysql" else f"CAST({name} AS TEXT)"


@pytest.fixture
def anyio_backend() -> Any:
    """One loop: the values are the subject here."""
    return "asyncio"


@pytest.mark.anyio
async def test_hostile_texts_come_out_as_they_went_in(database: Database) -> None:
    """E-12: a text is a text, whatever stands in it, however it is read."""
    database.execute("CREATE TABLE t (id integer PRIMARY KEY NOT NULL)", "INSERT INTO t VALUES (1), (2)")
    async with opened(database) as source:
        for text in HOSTILE:
            alone = Query(text="SELECT :p AS v", parameters={"p": text})
            with_cast = Query(text=f"SELECT {as_text(database)} AS v", parameters={"p": text})
            compared = Query(
                text="SELECT id, :p AS v FROM t WHERE 'x' <> ':p' AND :p = :p /* :p */ -- :p", parameters={"p": text}
            )
            assert values(await read(source, alone), "v") == [text]
            assert values(await read(source, with_cast), "v") == [text]
            assert values(await read(source, compared, KeyRange.of_integers("id", 0, 2)), "v") == [text]
            assert await integer_bounds(source, compared, "id") == (1, 2, False)
        assert len(values(await read(source, "t"))) == 2


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts=st.lists(TEXTS, min_size=1, max_size=20))
@example(texts=HOSTILE)
def test_any_text_comes_out_as_it_went_in(database: Database, texts: list[str]) -> None:
    """E-12: a property of every text, through each real server."""
    rows = " UNION ALL ".join(
        f"SELECT {index} AS id, {as_text(database, f':p{index}')} AS v" for index in range(len(texts))
    )
    query = Query(text=rows, parameters={f"p{index}": text for index, text in enumerate(texts)})

    async def round_trip() -> pa.Table:
        async with opened(database) as source:
            return await read(source, query)

    table = asyncio.run(round_trip())

    assert dict(zip(values(table), values(table, "v"), strict=True)) == dict(enumerate(texts))


TYPED: list[tuple[ParameterValue, dict[str, Any]]] = [
    (5, {"postgres": 5, "mysql": 5, "sqlite": 5}),
    (-(2**63), dict.fromkeys(("postgres", "mysql", "sqlite"), -(2**63))),
    (2**63 - 1, dict.fromkeys(("postgres", "mysql", "sqlite"), 2**63 - 1)),
    (0.1, dict.fromkeys(("postgres", "mysql", "sqlite"), 0.1)),
    (-5e-324, dict.fromkeys(("postgres", "mysql", "sqlite"), -5e-324)),
    (1.7976931348623157e308, dict.fromkeys(("postgres", "mysql", "sqlite"), 1.7976931348623157e308)),
    (True, {"postgres": True, "mysql": 1, "sqlite": 1}),
    (None, {"postgres": None, "mysql": None, "sqlite": None}),
]


@pytest.mark.parametrize(("value", "expected"), TYPED, ids=lambda value: "" if isinstance(value, dict) else str(value))
@pytest.mark.anyio
async def test_values_keep_their_types(database: Database, value: ParameterValue, expected: dict[str, Any]) -> None:
    """E-12: integers, floats, booleans and null are what the configuration says, to the last bit."""
    async with opened(database) as source:
        table = await read(source, Query(text="SELECT :p AS v", parameters={"p": value}))

    assert values(table, "v") == [expected[database.kind]]


@pytest.mark.anyio
async def test_a_sign_joins_nothing_before_it(database: Database) -> None:
    """E-12: a minus and a negative number are no comment."""
    query = Query(text="SELECT 9-:i AS i, 9-:f AS f, -:f AS g, 7 AS z", parameters={"i": -1, "f": -0.5})

    async with opened(database) as source:
        table = await read(source, query)

    assert [values(table, name) for name in "ifgz"] == [[10], [9.5], [0.5], [7]]


@pytest.mark.anyio
async def test_lists_are_sets_of_values(database: Database) -> None:
    """E-12: `IN (:ids)` takes a list."""
    database.execute(
        "CREATE TABLE t (id integer PRIMARY KEY NOT NULL, label varchar(20))",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b''s'), (-3, 'c'), (4, NULL)",
    )
    by_number = Query(text="SELECT id FROM t WHERE id IN (:ids) ORDER BY id", parameters={"ids": (-3, 2, 99)})
    by_text = Query(text="SELECT id FROM t WHERE label IN (:names)", parameters={"names": ("b's", "'); --")})

    async with opened(database) as source:
        assert sorted(values(await read(source, by_number))) == [-3, 2]
        assert values(await read(source, by_text)) == [2]


@pytest.mark.anyio
async def test_a_text_takes_the_type_of_its_place(postgres: PostgresDatabase) -> None:
    """E-12: PostgreSQL compares a date with a text that is one, as it does with a text in quotes."""
    postgres.execute(
        "CREATE TABLE t (id int, at timestamptz, u uuid)",
        "INSERT INTO t VALUES (1, '2026-01-01 00:00Z', gen_random_uuid()), (2, '2026-02-01 00:00Z', gen_random_uuid())",
    )
    query = Query(
        text="SELECT id FROM t WHERE at >= :since AND u <> :none ORDER BY id LIMIT :most",
        parameters={"since": "2026-01-15", "none": "00000000-0000-0000-0000-000000000000", "most": 5},
    )

    async with opened(postgres) as source:
        assert values(await read(source, query)) == [2]


@pytest.mark.anyio
async def test_an_error_of_the_server_names_no_more_than_the_value(database: Database) -> None:
    """E-12: a value that the server refuses is the server's error, not a broken connection."""
    text = "SELECT CAST(:p AS uuid) AS v" if database.kind == "postgres" else "SELECT nowhere AS v, :p AS w"
    async with opened(database) as source:
        with pytest.raises(SourceError) as caught:
            await read(source, Query(text=text, parameters={"p": "no uuid"}))
        assert values(await read(source, Query(text="SELECT :p AS v", parameters={"p": 1})), "v") == [1]

    assert caught.value.code in (Code.SOURCE_QUERY_INVALID, Code.SOURCE_NOT_FOUND)


@pytest.mark.parametrize(
    "sql_mode", ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,PIPES_AS_CONCAT", "ORACLE", "TRADITIONAL", ""]
)
def test_no_sql_mode_changes_a_text(mariadb_url: str, sql_mode: str) -> None:
    """E-12: MySQL's literals do not depend on what the server makes of backslashes and quotes."""
    import pymysql

    parts = urlsplit(mariadb_url)
    with (
        pymysql.connect(
            host=parts.hostname, port=parts.port or 0, user=parts.username, charset="utf8mb4"
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SET SESSION sql_mode = '{sql_mode}'")
        for text in HOSTILE:
            cursor.execute(f"SELECT {mysql_literal(text)}")
            assert cursor.fetchall() == ((text,),)


@pytest.mark.anyio
async def test_a_text_is_compared_as_one_in_quotes_is(mariadb: MariaDatabase) -> None:
    """E-12: a parameter beside a text of the query, in one expression, has the same collation."""
    mariadb.execute(
        "CREATE TABLE t (id int, label varchar(20) COLLATE utf8mb4_bin)", "INSERT INTO t VALUES (1, 'Träger')"
    )
    query = Query(text="SELECT id FROM t WHERE label LIKE CONCAT('%', :part, '%')", parameters={"part": "räg"})

    async with opened(mariadb) as source:
        assert values(await read(source, query)) == [1]
