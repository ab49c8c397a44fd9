"""Short statements: how wide they are, and that together they are one."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.plan import Everything, KeyRange, Query, Relation, Selection
from procflow_export.sources import ChunkRequest, ReadStatistics, Source
from procflow_export.sources.pieces import FADING, LONGEST_S, MAX_GROWTH, TARGET_S, Pacer
from procflow_export.sources.postgres import pages
from tests.export.sources.databases import PostgresDatabase, opened, read

# ---- how wide


@given(st.floats(1e-7, 10), st.integers(1, 1000), st.integers(1, 10**7))
def test_pieces_of_an_even_table_come_to_the_target_and_stay(price_s: float, first: int, more: int) -> None:
    """E-5: where every unit costs the same, pieces soon take about the target, and none but the first is longer."""
    pacer = Pacer(first=first, most=first + more)
    lengths = []
    for _ in range(30):
        lengths.append(pacer.width * price_s)
        pacer.note(lengths[-1])

    assert all(length <= max(LONGEST_S, price_s) + 1e-6 for length in lengths[1:])
    is_bounded_by_width = pacer.width in (1, first + more)
    assert is_bounded_by_width or TARGET_S / MAX_GROWTH <= lengths[-1] <= LONGEST_S


@given(st.lists(st.floats(0, 1e-3), min_size=2, max_size=60))
def test_no_piece_is_longer_than_the_dearest_price_allows(prices_s: list[float]) -> None:
    """E-5: after an empty stretch the next piece is not so wide that a full one would take long."""
    pacer = Pacer(first=10, most=10**9)
    dearest_s = 0.0
    for price_s in prices_s:
        assert pacer.width * dearest_s <= max(LONGEST_S, dearest_s) + 1e-6
        before = pacer.width
        pacer.note(before * price_s)
        dearest_s = max(FADING * dearest_s, price_s)
        assert 1 <= pacer.width <= before * MAX_GROWTH


def test_a_stall_is_forgotten() -> None:
    """E-5: a piece that took a minute because the machine stood still makes the next ones small, not all of them."""
    pacer = Pacer(first=10_000, most=10**9)
    for _ in range(10):
        pacer.note(pacer.width * 1e-6)
    usual = pacer.width

    pacer.note(60)
    narrow = pacer.width
    for _ in range(300):
        pacer.note(pacer.width * 1e-6)

    assert narrow < usual / 20
    assert pacer.width == usual


@pytest.mark.parametrize(("first", "most"), [(0, 1), (2, 1)])
def test_widths_that_make_no_sense_are_refused(first: int, most: int) -> None:
    with pytest.raises(ValueError, match="first piece"):
        Pacer(first=first, most=most)


# ---- by pages

ROWS = 6_000
WIDE = "repeat('x', 900)"


async def statements(source: Source, selection: Selection, *, whole: bool = True) -> tuple[list[Any], int]:
    """The rows of a selection in a snapshot, in the order of their coming, and the number of statements."""
    statistics = ReadStatistics()
    columns = (await source.profile(selection)).columns
    chunk = Everything() if whole else KeyRange.of_integers("id", 0, 10**6)
    rows: list[Any] = []
    async with source.hold_snapshot(selection) as holder:
        request = ChunkRequest(
            selection=selection, columns=columns, chunk=chunk, batch_rows=1000, snapshot=holder.snapshot
        )
        async with source.read_chunk(request, statistics) as batches:
            async for batch in batches:
                rows += batch["id"].to_pylist()
    return rows, statistics.statement_count


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few pages, however fast they are read."""
    for module in ("pages", "pieces"):
        for name, value in (("FIRST_PAGES", 8), ("MOST_PAGES", 24)):
            monkeypatch.setattr(f"procflow_export.sources.postgres.{module}.{name}", value)


def make_tables(database: PostgresDatabase) -> None:
    database.execute(
        f"CREATE TABLE t AS SELECT n AS id, {WIDE} AS filler FROM generate_series(1, {ROWS}) AS g (n)",
        "DELETE FROM t WHERE id BETWEEN 2000 AND 4000",  # an empty stretch
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE TABLE parted (id int, filler text) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (1500)",
        "CREATE TABLE high PARTITION OF parted FOR VALUES FROM (1500) TO (100000)",
        "INSERT INTO parted SELECT * FROM t",
        "CREATE TABLE parent (id int, filler text)",
        "CREATE TABLE child (extra int) INHERITS (parent)",
        "INSERT INTO parent SELECT * FROM t WHERE id < 1000",
        "INSERT INTO child SELECT * FROM t WHERE id >= 1000",
        "CREATE TABLE tiny AS SELECT 1 AS id, 'x'::text AS filler",
        "VACUUM ANALYZE",
    )


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", ["t", "m", "parted", "parent"])
async def test_table_in_pieces_is_the_table(postgres: PostgresDatabase, name: str) -> None:
    """E-5: a table without a key is read whole, each row once, in short statements; one that is one file, in its order."""
    make_tables(postgres)

    async with opened(postgres) as source:
        rows, count = await statements(source, Relation(table=name))
        single = (await read(source, name))["id"].to_pylist()

    assert count > 10
    assert sorted(rows) == sorted(map(int, filter(None, single)))
    assert len(rows) == ROWS - 2001
    if name in "tm":
        assert rows == single, "the bytes of one statement"


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_a_range_that_no_index_serves_is_read_by_pages(postgres: PostgresDatabase) -> None:
    """E-5: where the server would look at every page, every page is looked at once."""
    make_tables(postgres)

    async with opened(postgres) as source:
        rows, count = await statements(source, Relation(table="t"), whole=False)

    assert count > 10
    assert sorted(rows) == [number for number in range(1, ROWS + 1) if not 2000 <= number <= 4000]


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("selection", "whole"),
    [
        (Relation(table="v"), True),
        (Relation(table="tiny"), True),
        (Query(text="SELECT * FROM t"), True),
        (Relation(schema="pg_catalog", table="pg_tables"), True),
    ],
    ids=str,
)
async def test_what_has_no_pages_of_its_own_is_one_statement(
    postgres: PostgresDatabase, selection: Selection, whole: bool
) -> None:
    """E-5: a view, a query: none is scanned again for each piece."""
    make_tables(postgres)
    if selection == Relation(schema="pg_catalog", table="pg_tables"):
        selection = Query(text="SELECT 1 AS id FROM pg_tables")

    async with opened(postgres) as source:
        _, count = await statements(source, selection, whole=whole)

    assert count == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_table_under_row_security_is_not_scanned_again_for_each_piece(postgres: PostgresDatabase) -> None:
    """E-5: where the server would not read the pages alone, it is not asked for pages."""
    name = postgres.url.rpartition("/")[2]
    role = f"secure_{name}"
    make_tables(postgres)
    postgres.execute(
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY odd ON t USING (id % 2 = 1 AND filler <> '')",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON t TO {role}",
    )
    try:
        async with opened(PostgresDatabase(postgres.url.replace("postgres@", f"{role}@"))) as source:
            rows, count = await statements(source, Relation(table="t"))
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")

    assert sorted(rows) == [number for number in range(1, ROWS + 1) if number % 2 and not 2000 <= number <= 4000]
    assert count >= 1


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_rows_that_move_between_pieces_are_read_once(postgres: PostgresDatabase) -> None:
    """E-5, E-11: an update gives a row another place; the snapshot's readers find it where it was."""
    make_tables(postgres)
    rows: list[Any] = []

    async with opened(postgres) as source:
        columns = (await source.profile(Relation(table="t"))).columns
        async with source.hold_snapshot(Relation(table="t")) as holder:
            request = ChunkRequest(
                selection=Relation(table="t"),
                columns=columns,
                chunk=Everything(),
                batch_rows=100,
                snapshot=holder.snapshot,
            )
            connection = await asyncpg.connect(postgres.url)
            async with source.read_chunk(request, ReadStatistics()) as batches:
                async for batch in batches:
                    rows += batch["id"].to_pylist()
                    if len(rows) % 1000 == 0:
                        await connection.execute("UPDATE t SET filler = filler || 'y'")
                        await connection.execute("DELETE FROM t WHERE id % 5 = 0")
                        await connection.execute(
                            f"INSERT INTO t SELECT n, {WIDE} FROM generate_series(1, 500) AS g (n)"
                        )
            await connection.close()

    assert sorted(rows) == [number for number in range(1, ROWS + 1) if not 2000 <= number <= 4000]


def test_conditions_follow_each_other() -> None:
    """E-5: pages are cut half open, and the last piece has no end."""
    assert pages.in_pages(0, 8) == "ctid >= '(0,0)'::pg_catalog.tid AND ctid < '(8,0)'::pg_catalog.tid"
    assert pages.in_pages(8, None) == "ctid >= '(8,0)'::pg_catalog.tid"
