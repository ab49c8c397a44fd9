"""Keys in every database: what is asked about them, what bounds mean, and that an index answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest

from procflow_export.model.keys import Bound, Key, KeyKind, KeyPart, KeyValue, KeyValues
from procflow_export.model.plan import KeyRange, NullKeys, Query, Relation
from procflow_export.pipeline.cutting import Cutter
from procflow_export.planning.chunks import day_value
from procflow_export.planning.keys import Slices, key_kind
from procflow_export.sources import Source, sql
from procflow_export.sources.port import KeySearch
from tests.export.sources.databases import Database, facts_of, opened, read, values

pytestmark = pytest.mark.anyio

DIALECTS = {"postgres": sql.POSTGRES, "mysql": sql.MYSQL, "sqlite": sql.SQLITE}


@dataclass(frozen=True)
class Kind:
    """A type of each database, and an expression of increasing values of it for the numbers 1 to 99 999."""

    column: dict[str, str]
    value: dict[str, str]


def everywhere(column: str, value: str) -> Kind:
    return Kind(dict.fromkeys(DIALECTS, column), dict.fromkeys(DIALECTS, value))


KINDS = {
    "integer": everywhere("bigint", "n * 3 - CAST(1000 AS decimal)"),
    "decimal": Kind(
        {"postgres": "numeric(12,3)", "mysql": "decimal(12,3)", "sqlite": "numeric"},
        {"postgres": "n / 1000.0 - 5", "mysql": "n / 1000.0 - 5", "sqlite": "n - 5000"},
    ),
    "unconstrained": Kind(
        {"postgres": "numeric", "mysql": "decimal(65,20)", "sqlite": "numeric"},
        {"postgres": "n / 7.0 - 5", "mysql": "n / 7.0 - 5", "sqlite": "n - 5000"},
    ),
    "text": Kind(
        dict.fromkeys(DIALECTS, "varchar(40)"),
        {
            "postgres": "'it''s \\é ' || lpad(n::text, 6, '0')",
            "mysql": "concat('it''s \\\\é ', lpad(n, 6, '0'))",
            "sqlite": "'it''s \\é ' || printf('%06d', n)",
        },
    ),
    "latin": Kind(
        {
            "postgres": 'varchar(40) COLLATE "C.utf8"',
            "mysql": "varchar(40) CHARACTER SET latin1 COLLATE latin1_german1_ci",
            "sqlite": "text COLLATE nocase",
        },
        {
            "postgres": "'Ä' || lpad(n::text, 6, '0')",
            "mysql": "concat('Ä', lpad(n, 6, '0'))",
            "sqlite": "'Ä' || printf('%06d', n)",
        },
    ),
    "bytes": Kind(
        {"postgres": "bytea", "mysql": "varbinary(20)", "sqlite": "blob"},
        {
            "postgres": "decode(lpad(to_hex(n), 8, '0'), 'hex')",
            "mysql": "unhex(lpad(hex(n), 8, '0'))",
            "sqlite": "CAST(printf('%08x', n) AS blob)",
        },
    ),
    "uuid": Kind(
        {"postgres": "uuid", "mysql": "uuid", "sqlite": "text"},
        {
            "postgres": "lpad(to_hex(n), 32, '0')::uuid",
            "mysql": "concat('00000000-0000-1000-8000-0000', lpad(hex(n), 8, '0'))",
            "sqlite": "printf('00000000-0000-0000-0000-0000%08x', n)",
        },
    ),
    "date": Kind(
        dict.fromkeys(DIALECTS, "date"),
        {
            "postgres": "date '1900-01-01' + n::int",
            "mysql": "date '1900-01-01' + interval n day",
            "sqlite": "date('1900-01-01', n || ' days')",
        },
    ),
    "timestamp": Kind(
        {"postgres": "timestamp", "mysql": "datetime(6)", "sqlite": "timestamp"},
        {
            "postgres": "timestamp '1999-12-31 23:59:59.999999' + n * interval '1.000001 s'",
            "mysql": "timestamp '1999-12-31 23:59:59.999999' + interval n * 1.000001 second",
            "sqlite": "datetime('1999-12-31 23:59:59', n || ' seconds')",
        },
    ),
    "instant": Kind(
        {"postgres": "timestamptz", "mysql": "timestamp(6)", "sqlite": "timestamp"},
        {
            "postgres": "timestamptz '1999-12-31 23:59:59.999999+00' + n * interval '1.000001 s'",
            "mysql": "timestamp '1999-12-31 23:59:59.999999' + interval n * 1.000001 second",
            "sqlite": "datetime('1999-12-31 23:59:59', n || ' seconds')",
        },
    ),
}
ROWS = 4_000


def fill(database: Database, kind: Kind, *, rows: int = ROWS) -> None:
    """A table ``t`` with a column ``k`` of the kind, and with the unique key (tie, k)."""
    if database.kind == "mysql":
        database.execute("SET time_zone = '+00:00'")
    database.execute(
        f"CREATE TABLE t (id integer NOT NULL PRIMARY KEY, tie integer NOT NULL, k {kind.column[database.kind]} NOT NULL,"
        " filler varchar(200))",
        f"INSERT INTO t SELECT n, (n - n % 1000) / 1000, {kind.value[database.kind]}, 'filler' FROM ({database.numbers(rows)}) AS g",
        "CREATE UNIQUE INDEX t_tie_k ON t (tie, k)",
        "ANALYZE TABLE t" if database.kind == "mysql" else "ANALYZE",
    )


async def parts_of(source: Source, *names: str) -> Key:
    columns = (await source.profile(Relation(table="t"))).columns
    found = []
    for name in names:
        column = next(column for column in columns if column.name == name)
        kind = key_kind(column)
        assert kind is not None
        found.append(KeyPart(column=name, kind=kind))
    return tuple(found)


async def nth(source: Source, key: Key, number: int, *, is_from_end: bool = False) -> KeyValues:
    found = await source.find_key(
        KeySearch(selection=Relation(table="t"), within=KeyRange(key=key), nth=number, is_from_end=is_from_end)
    )
    assert found is not None
    return found


def uses_index(database: Database, statement: str, index: str) -> bool:
    """Whether the database looks the rows of a range up in an index, by its own account."""
    if database.kind == "mysql":
        (plan,) = database.rows(f"EXPLAIN {statement}")
        _, _, _, access, _, used, *_ = plan
        return access in ("range", "const") and used == index
    if database.kind == "postgres":
        text = "\n".join(str(line) for (line,) in database.rows(f"EXPLAIN {statement}"))
        return f"{index}" in text and "Index Cond" in text
    return any(
        "SEARCH t USING" in str(line) and f"INDEX {index} (" in str(line)
        for *_, line in database.rows(f"EXPLAIN QUERY PLAN {statement}")
    )


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
@pytest.mark.parametrize("name", list(KINDS))
async def test_a_key_of_every_kind_is_found_exactly_and_bounds_what_it_says(database: Database, name: str) -> None:
    """E-10: bounds of every kind, alone and composite, are read, written and compared without loss, by an index."""
    fill(database, KINDS[name])
    dialect, table = DIALECTS[database.kind], Relation(table="t")

    async with opened(database) as source:
        for names, index in ((("tie", "k"), "t_tie_k"), (("k",), "t_k")):
            if index == "t_k":
                database.execute("CREATE INDEX t_k ON t (k)")
            key = await parts_of(source, *names)
            low, high = await nth(source, key, 101), await nth(source, key, 200)
            assert await nth(source, key, ROWS - 199, is_from_end=True) == high
            for low_inclusive, high_inclusive in ((True, False), (False, True), (True, True), (False, False)):
                chunk = KeyRange(key=key, low=Bound(low, low_inclusive), high=Bound(high, high_inclusive))
                expected = list(range(101 + (not low_inclusive), 200 + high_inclusive))
                assert sorted(values(await read(source, table, chunk))) == expected
                assert uses_index(database, dialect.select(table, ["filler"], chunk), index)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
async def test_ends_of_slices_come_from_the_index_alone(database: Database) -> None:
    """E-5: planning slices reads no row: the statements are served by the key's index (lesson 36)."""
    fill(database, KINDS["text"])
    dialect = DIALECTS[database.kind]

    async with opened(database) as source:
        key = await parts_of(source, "tie", "k")
        first = await nth(source, key, 1_000)
    search = KeySearch(
        selection=Relation(table="t"), within=KeyRange(key=key, low=Bound(first, is_inclusive=False)), nth=100
    )
    statement = dialect.nth_key(search)

    if database.kind == "mysql":
        plan = [step for step in database.rows(f"EXPLAIN {statement}") if step[2] == "t"]
        assert [(step[3], step[5]) for step in plan] == [("range", "t_tie_k")]
        assert "Using index" in str(plan[0][-1])
        assert "filesort" not in str(plan[0][-1])
    elif database.kind == "postgres":
        database.execute("VACUUM t")
        text = "\n".join(str(line) for (line,) in database.rows(f"EXPLAIN {statement}"))
        assert "Index Only Scan using t_tie_k" in text
        assert "Sort" not in text
    else:
        text = "\n".join(str(line) for *_, line in database.rows(f"EXPLAIN QUERY PLAN {statement}"))
        assert "USING COVERING INDEX t_tie_k" in text
        assert "TEMP B-TREE" not in text


async def test_a_leading_part_bounds_every_key_that_begins_with_it(database: Database) -> None:
    """E-10: a bound on the first of two parts leaves no tie on the wrong side."""
    fill(database, KINDS["integer"], rows=200)
    database.execute("UPDATE t SET tie = (id - id % 10) / 10")
    tie = KeyValue(KeyKind.INTEGER, "7")

    async with opened(database) as source:
        key = await parts_of(source, "tie", "k")
        below = await read(source, "t", KeyRange(key=key, high=Bound((tie,), is_inclusive=True)))
        beyond = await read(source, "t", KeyRange(key=key, low=Bound((tie,), is_inclusive=False)))

    assert sorted(values(below)) == list(range(1, 80))
    assert sorted(values(beyond)) == list(range(80, 201))


async def test_rows_without_a_key_are_in_exactly_one_chunk(database: Database) -> None:
    """E-10: NULL in any part of a key, or in both columns of a coalesced one, is the NULL chunk and no range (lesson 1)."""
    database.execute(
        f"CREATE TABLE t (id integer NOT NULL PRIMARY KEY, a {database.integer}, b {database.integer})",
        "INSERT INTO t VALUES (1, 1, 1), (2, 1, NULL), (3, NULL, 1), (4, NULL, NULL), (5, 2, NULL), (6, 2, 2)",
    )
    a, b = (KeyPart(column=name, kind=KeyKind.INTEGER, is_nullable=True) for name in "ab")
    either = KeyPart(column="a", kind=KeyKind.INTEGER, fallback="b", is_nullable=True)
    one = KeyValue(KeyKind.INTEGER, "1")

    async def ids(source: Source, chunk: KeyRange | NullKeys) -> list[int]:
        return sorted(values(await read(source, "t", chunk)))

    async with opened(database) as source:
        assert await ids(source, KeyRange(key=(a, b))) == [1, 6]
        assert await ids(source, KeyRange(key=(a, b), low=Bound((one, one), is_inclusive=False))) == [6]
        assert await ids(source, NullKeys(key=(a, b))) == [2, 3, 4, 5]
        assert await ids(source, KeyRange(key=(either,))) == [1, 2, 3, 5, 6]
        assert await ids(source, KeyRange(key=(either,), high=Bound((one,), is_inclusive=True))) == [1, 2, 3]
        assert await ids(source, NullKeys(key=(either,))) == [4]
        assert await source.has_rows(Relation(table="t"), NullKeys(key=(either,)))
        database.execute("DELETE FROM t WHERE id = 4")
        assert not await source.has_rows(Relation(table="t"), NullKeys(key=(either,)))


async def test_slices_of_any_collation_hold_every_row_once(database: Database) -> None:
    """E-10: texts are ordered and compared by the database itself: ties of a case-insensitive collation stay together."""
    collation = {
        "postgres": "",
        "mysql": "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
        "sqlite": "COLLATE NOCASE",
    }[database.kind]
    if database.kind == "postgres" and database.rows("SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"):
        # Equal texts that differ: only a build with ICU has such a collation.
        database.execute("CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        collation = "COLLATE folded"
    names = ["a", "A", "ä", "B", "b", "a ", "é", "E", "Z", "z", "_", "-", "ß", "ss", "'", "\\"]
    database.execute(
        f"CREATE TABLE t (id integer NOT NULL, name varchar(10) {collation} NOT NULL, PRIMARY KEY (name, id))"
    )
    for number, name in enumerate(names * 5):
        literal = DIALECTS[database.kind].literal(KeyValue(KeyKind.TEXT, name))
        database.execute(f"INSERT INTO t VALUES ({number}, {literal})")

    async with opened(database) as source:
        facts = await facts_of(source, "t")
        (key,) = facts.usable_keys()
        for by in (key, key[:1]):
            cut = await Cutter(source, facts).whole(Slices(key=by, rows=3))
            found = [values(await read(source, "t", chunk)) for chunk in cut.chunks]
            assert sorted(number for part in found for number in part) == list(range(len(names) * 5))
            assert len(cut.chunks) > 5


async def test_bounds_do_not_depend_on_the_zone_of_the_server(database: Database) -> None:
    """E-10: literals of instants mean UTC wherever the server thinks it is; west of Greenwich no window is skipped (lesson 2)."""
    utc = {"postgres": "SET timezone = 'UTC'; SET datestyle = 'ISO'", "mysql": "SET time_zone = '+00:00'"}
    if database.kind == "postgres":
        ((name,),) = database.rows("SELECT current_database()")
        database.execute(
            f"ALTER DATABASE {name} SET timezone = 'America/Los_Angeles'",
            f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'",
        )
    kind = {"postgres": "timestamptz", "mysql": "timestamp(6) NULL", "sqlite": "timestamp"}[database.kind]
    database.execute(
        utc.get(database.kind, "SELECT 1"),
        f"CREATE TABLE t (id integer PRIMARY KEY, at {kind})",
        "INSERT INTO t VALUES (1, '2026-03-07 23:59:59.999999'), (2, '2026-03-08 00:00:00'), (3, '2026-03-08 10:30:00'),"
        " (4, '2026-03-08 23:59:59'), (5, '2026-03-09 00:00:00')",
    )

    async with opened(database) as source:
        key = await parts_of(source, "at")
        begin, end = (day_value(date(2026, 3, day), key[0].kind) for day in (8, 9))
        day = KeyRange(key=key, low=Bound((begin,), is_inclusive=True), high=Bound((end,), is_inclusive=False))
        last = await nth(source, key, 1, is_from_end=True)

        assert sorted(values(await read(source, "t", day))) == [2, 3, 4]
        assert last[0].text.startswith("2026-03-09 00:00:00")
        assert values(await read(source, "t", KeyRange(key=key, low=Bound(last, is_inclusive=True)))) == [5]
        assert values(await read(source, "t", KeyRange(key=key, low=Bound(last, is_inclusive=False)))) == []


async def test_the_clock_is_the_databases(database: Database) -> None:
    """E-10: ages and windows are told by the clock that the rows were written by."""
    statement = {
        "postgres": "SELECT extract(epoch FROM now())::bigint",
        "mysql": "SELECT unix_timestamp()",
        "sqlite": "SELECT CAST(strftime('%s', 'now') AS integer)",
    }[database.kind]

    async with opened(database) as source:
        ((before,),) = database.rows(statement)
        now = await source.now()
        ((after,),) = database.rows(statement)

    assert before - 1 <= now.timestamp() <= after + 1


async def test_keys_of_a_query_are_found_like_those_of_a_table(database: Database) -> None:
    """E-10: a query is cut and continued by its columns, whatever stands in it."""
    fill(database, KINDS["timestamp"], rows=50)
    selection = Query(text="SELECT id, k, tie FROM t WHERE id > 10 -- the end")

    async with opened(database) as source:
        (part,) = await parts_of(source, "k")
        key = (part, KeyPart(column="id", kind=KeyKind.INTEGER))
        last = await source.find_key(KeySearch(selection=selection, within=KeyRange(key=key), nth=10))
        assert last is not None
        table = await read(source, selection, KeyRange(key=key, high=Bound(last, is_inclusive=True)))

    assert sorted(values(table)) == list(range(11, 21))
