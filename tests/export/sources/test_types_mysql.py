"""What reading from MariaDB does to values; every type of it is in tests/export/types."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError, SourceError
from procflow_export.model.plan import KeyRange, Query, Relation
from procflow_export.planning.keys import key_kind
from tests.export.sources.databases import MariaDatabase, integer_bounds, opened, read, values

pytestmark = pytest.mark.anyio

UTC = dt.UTC


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_unsigned_keys_beyond_64_bits_signed(mariadb: MariaDatabase) -> None:
    """E-10: unsigned 64-bit keys have bounds and ranges like others."""
    high = 2**64 - 1
    mariadb.execute("CREATE TABLE t (id bigint unsigned PRIMARY KEY)", f"INSERT INTO t VALUES (0), ({2**63}), ({high})")

    async with opened(mariadb) as source:
        bounds = await integer_bounds(source, Relation(table="t"), "id")
        upper = await read(source, "t", KeyRange.of_integers("id", 2**63, high + 1))
        lower = await read(source, "t", KeyRange.of_integers("id", 0, 2**63))

    assert bounds[:2] == (0, high)
    assert upper["id"].to_pylist() == [2**63, high]
    assert lower["id"].to_pylist() == [0]


@pytest.mark.parametrize("sql_type", ["enum('2', '1')", "set('b', 'a')", "float", "year", "time", "bit(3)"])
async def test_columns_whose_order_is_not_that_of_a_literal_are_no_keys(mariadb: MariaDatabase, sql_type: str) -> None:
    """E-10: the type decides whether a column is a key; an enum is ordered by its members and compared as a text."""
    mariadb.execute(f"CREATE TABLE t (k {sql_type} NULL)")

    async with opened(mariadb) as source:
        (column,) = (await source.profile(Relation(table="t"))).columns
        (of_query,) = (await source.profile(Query(text="SELECT k FROM t"))).columns

    assert key_kind(column) is None
    assert key_kind(of_query) is None


EXPRESSIONS: list[tuple[str, Any]] = [
    ("SELECT floor(d) AS x FROM t LIMIT 1", 1e30),
    ("SELECT max(round(d, 2)) AS x FROM t", 1e30),
    ("SELECT truncate(max(d), 2) AS x FROM t", 1e30),
    ("SELECT round(sum(0.1e0 * d), 1) AS x FROM t", 0.1 * 1e30),
    ("SELECT round(d, 2) AS x FROM t ORDER BY d DESC LIMIT 1;", 1e30),
    ("SELECT ceil(1e20) AS x FROM t -- the end", 1e20),
    ("SELECT max(f) AS x FROM t", 0.10000000149011612),
    ("SELECT f AS x FROM t LIMIT 1", 0.10000000149011612),
    ("SELECT round(0.1e0, 1) / 3 AS x LIMIT 1", 0.1 / 3),
    ("SELECT max(d) AS x FROM t", 1e30),
    ("SELECT NULL AS x LIMIT 1", None),
]


async def test_invisible_columns_are_exported(mariadb: MariaDatabase) -> None:
    """E-20: a column that ``*`` does not stand for is a column of the table like others, behind those that are visible."""
    mariadb.execute(
        "CREATE TABLE t (a int INVISIBLE NOT NULL DEFAULT 1, id int PRIMARY KEY, b varchar(9) INVISIBLE)",
        "INSERT INTO t (id) VALUES (2)",
        "INSERT INTO t (id, a, b) VALUES (3, 4, 'x')",
    )

    async with opened(mariadb) as source:
        table = await read(source, "t")

    assert table.column_names == ["id", "a", "b"]
    assert table.to_pylist() == [{"id": 2, "a": 1, "b": None}, {"id": 3, "a": 4, "b": "x"}]


async def test_values_of_a_query_are_those_of_its_text(mariadb: MariaDatabase) -> None:
    """E-20: nothing around a query changes a value; a derived table would cut DOUBLE(M,D) to M digits."""
    mariadb.execute("CREATE TABLE t (d double, f float)", "INSERT INTO t VALUES (1e30, 0.1)")

    async with opened(mariadb) as source:
        found = [values(await read(source, Query(text=text)), "x") for text, _ in EXPRESSIONS]

    assert found == [[value] for _, value in EXPRESSIONS]


async def test_a_query_whose_values_chunks_would_change_is_refused(mariadb: MariaDatabase) -> None:
    """E-20: a chunk of a query is read as a derived table; DOUBLE(M,D) is refused there, with what to write instead."""
    mariadb.execute("CREATE TABLE t (id int, d double)", "INSERT INTO t VALUES (1, 1e30), (2, 1)")
    cut = Query(text="SELECT id, floor(d) AS x FROM t LIMIT 9")
    cast = Query(text="SELECT id, CAST(floor(d) AS DOUBLE) AS x FROM t LIMIT 9")
    beside = Query(text="SELECT floor(1e30) AS x, point(1, 2) AS p")
    ids = KeyRange.of_integers("id", 0, 9)

    async with opened(mariadb) as source:
        columns = (await source.profile(cut)).columns
        with pytest.raises(SourceError) as bounds:
            await integer_bounds(source, cut, "id")
        with pytest.raises(SourceError) as chunk:
            await read(source, cut, ids, columns=columns)
        with pytest.raises(SourceError) as profile:
            await source.profile(beside)
        table = (await read(source, cast, ids)).sort_by("id")

    for caught in (bounds, chunk, profile):
        assert caught.value.code is Code.TYPE_NOT_SUPPORTED
        assert "'x'" in str(caught.value)
        assert "double(17,0)" in str(caught.value)
    assert values(table, "x") == [1e30, 1.0]


async def test_a_query_whose_columns_changed_is_not_read(mariadb: MariaDatabase) -> None:
    """E-22: what was planned and what the server sends are compared before a row is decoded."""
    mariadb.execute("CREATE TABLE t (v int)", "INSERT INTO t VALUES (1)")
    query = Query(text="SELECT v FROM t")

    async with opened(mariadb) as source:
        columns = (await source.profile(query)).columns
        mariadb.execute("ALTER TABLE t MODIFY v float")
        with pytest.raises(DataError) as caught:
            await read(source, query, columns=columns)
        again = await read(source, query)

    assert caught.value.code is Code.SCHEMA_CHANGED
    assert values(again, "v") == [1.0]


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("decimal(10,2)", "double", "1.234"),
        ("decimal(10,2)", "decimal(10,3)", "1.2"),
        ("date", "datetime", "'2024-01-01 10:00'"),
        ("double", "float", "1.1"),
        ("int", "int unsigned", "1"),
        ("varbinary(9)", "varchar(9)", "'x'"),
        ("timestamp", "datetime", "'2024-01-01'"),
    ],
)
async def test_a_table_whose_column_has_another_type_is_not_read(
    mariadb: MariaDatabase, before: str, after: str, value: str
) -> None:
    """E-20, E-22: values of another type than the planned one are not taken for it, which could round or cut them."""
    mariadb.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {before})")

    async with opened(mariadb) as source:
        columns = (await source.profile(Relation(table="t"))).columns
        mariadb.execute(f"ALTER TABLE t MODIFY v {after}", f"INSERT INTO t VALUES (1, {value})")
        with pytest.raises(DataError) as caught:
            await read(source, "t", columns=columns)

    assert caught.value.code is Code.SCHEMA_CHANGED
    assert "'v'" in str(caught.value)


@pytest.mark.parametrize("text", ["SELECT 1 AS a; SELECT 2 AS a", "SELECT ? AS a", "DO 1", "SELECT 1 AS a, 2 AS a"])
async def test_what_is_not_one_select_with_names_is_refused(mariadb: MariaDatabase, text: str) -> None:
    """E-22: a query is one statement that returns rows, and its columns have different names."""
    async with opened(mariadb) as source:
        with pytest.raises(SourceError) as caught:
            await source.profile(Query(text=text))

    assert caught.value.code is Code.SOURCE_QUERY_INVALID


async def test_settings_of_the_server_do_not_change_values(mariadb: MariaDatabase) -> None:
    """E-20: an instant does not depend on the zone of the server's sessions, a name not on its quoting mode."""
    mariadb.execute(
        "CREATE TABLE t (z timestamp)", "SET time_zone = '+05:00'", "INSERT INTO t VALUES ('2024-06-01 12:00:00')"
    )

    async with opened(mariadb) as source:
        table = await read(source, "t")

    assert table["z"].to_pylist() == [dt.datetime(2024, 6, 1, 7, tzinfo=UTC)]


async def test_rows_longer_than_a_packet(mariadb: MariaDatabase) -> None:
    """E-23: a row of more than 16 MiB travels in several packets and arrives whole."""
    packet, half = 2**24 - 1, 2**23
    # Fields a and b take 4 bytes of prefix and their text each, the id takes 2 bytes: at 0 the row just fills its packet.
    offsets = (-2, -1, 0, 1, 2, 1000)
    mariadb.execute("CREATE TABLE t (id int, a longtext, b longtext)")
    for row, offset in enumerate(offsets):
        rest = packet - 2 - 8 - half + offset
        mariadb.execute(f"INSERT INTO t VALUES ({row}, repeat('a', {half}), repeat('b', {rest}))")
    mariadb.execute("INSERT INTO t VALUES (9, '', NULL)")

    async with opened(mariadb) as source:
        table = (await read(source, "t")).sort_by("id")

    assert table["a"].to_pylist() == ["a" * half] * len(offsets) + [""]
    assert [None if text is None else len(text) for text in table["b"].to_pylist()] == [
        *(packet - 10 - half + offset for offset in offsets),
        None,
    ]


async def test_statement_timeout_of_either_server_is_understood(mariadb: MariaDatabase) -> None:
    """E-5: MariaDB has no max_execution_time; the limit is set by the name that the server knows."""
    from msgspec.structs import replace

    from procflow_export.model.settings import Tuning
    from procflow_export.sources import open_source

    config = replace(mariadb.config, tuning=Tuning(statement_timeout_s=1, lock_timeout_s=1))
    async with open_source(config, environ={}) as source:
        columns = (await source.profile(Query(text="SELECT 1 AS a"))).columns
        with pytest.raises(SourceError) as caught:
            await read(source, Query(text="SELECT sleep(30) AS a"), columns=columns)

    assert caught.value.code is Code.SOURCE_STATEMENT_TIMEOUT
