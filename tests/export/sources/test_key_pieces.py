"""Short statements by a key: that together they are one, and what the server sees of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import Bound, Key, KeyKind, KeyPart, KeyValue, KeyValues, integer_value
from procflow_export.model.plan import Everything, KeyRange, NullKeys, Query, Relation, Selection, TableChunk
from procflow_export.model.types import Column
from procflow_export.planning.keys import reading_order
from procflow_export.sources import ChunkRequest, ReadStatistics, Source, sql
from procflow_export.sources.mysql.wire import WireConnection
from procflow_export.sources.pieces import KeyPieces
from procflow_export.sources.port import KeySearch
from procflow_export.sources.postgres import session
from procflow_export.sources.postgres.session import Connection
from tests.export.sources.databases import Database, MariaDatabase, PostgresDatabase, facts_of, opened

ROWS = 3_000
MOST_ROWS = 250
TABLE = Relation(table="t")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows or pages, however fast they are read."""
    monkeypatch.setattr("procflow_export.sources.pieces.MOST_ROWS", MOST_ROWS)
    monkeypatch.setattr("procflow_export.sources.postgres.pieces.FIRST_BYTES", 20_000)
    monkeypatch.setattr("procflow_export.sources.mysql.pieces.FIRST_BATCHES", 1)
    for module in ("pages", "pieces"):
        for name, value in (("FIRST_PAGES", 4), ("MOST_PAGES", 8)):
            monkeypatch.setattr(f"procflow_export.sources.postgres.{module}.{name}", value)


# ---- what is left

ORDER = (KeyPart(column="a", kind=KeyKind.INTEGER), KeyPart(column="b", kind=KeyKind.INTEGER))


def at(*numbers: int) -> KeyValues:
    return tuple(map(integer_value, numbers))


def rows_in(chunks: Sequence[TableChunk], rows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The rows of ``chunks``, by what the chunk model says of them."""

    def is_in(row: tuple[int, ...], chunk: TableChunk) -> bool:
        if not isinstance(chunk, KeyRange):
            return True
        low, high = (
            None if bound is None else ([int(value.text) for value in bound.values], bound.is_inclusive)
            for bound in (chunk.low, chunk.high)
        )
        above = low is None or list(row[: len(low[0])]) > low[0] or (low[1] and list(row[: len(low[0])]) == low[0])
        below = (
            high is None or list(row[: len(high[0])]) < high[0] or (high[1] and list(row[: len(high[0])]) == high[0])
        )
        return above and below

    return [row for row in rows if all(is_in(row, chunk) for chunk in chunks)]


CHUNKS: list[TableChunk] = [
    Everything(),
    KeyRange(key=ORDER[:1], low=Bound(at(2), is_inclusive=True), high=Bound(at(7), is_inclusive=False)),
    KeyRange(key=ORDER, low=Bound(at(2, 3), is_inclusive=False), high=Bound(at(7, 1), is_inclusive=True)),
]


@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=60),
    st.sampled_from(CHUNKS),
    st.sampled_from([ORDER, ORDER[:1]]),
    st.integers(1, 9),
)
def test_pieces_are_the_chunk(found: set[tuple[int, int]], chunk: TableChunk, order: Key, first_rows: int) -> None:
    """E-5: whatever a chunk is cut by, and whether the order knows every row, its pieces hold each of its rows once."""
    table = sorted(found)
    pieces = KeyPieces(TABLE, chunk, order, first_rows=first_rows)
    read: list[tuple[int, ...]] = []

    while len(left := rows_in([pieces.search.within, *pieces.search.among], table)) >= pieces.search.nth:
        last = at(*left[pieces.search.nth - 1][: len(order)])
        read += rows_in(pieces.until(last), table)
        pieces.go_on_behind(last, 0.0)
    read += rows_in(pieces.rest, table)

    assert read == rows_in([chunk], table)


def test_an_order_that_does_not_go_on_is_refused() -> None:
    """E-5: a key that is not above itself ends the reading with an error, not in a loop."""
    pieces = KeyPieces(TABLE, Everything(), ORDER, first_rows=1)
    pieces.go_on_behind(at(1, 1), 0.0)

    with pytest.raises(SourceError) as caught:
        pieces.go_on_behind(at(1, 1), 0.0)
    assert caught.value.code is Code.PLAN_KEY_NOT_USABLE


# ---- on servers


async def rows_of(
    source: Source,
    chunk: TableChunk,
    *,
    selection: Selection = TABLE,
    order: Key | None = None,
    columns: Sequence[Column] | None = None,
    in_snapshot: bool = True,
    between: Any = None,
) -> tuple[list[Any], ReadStatistics]:
    """The rows of a chunk in the order of their coming, as a run reads them; ``between`` is called after each batch."""
    statistics = ReadStatistics()
    facts = await facts_of(source, selection)
    key = () if isinstance(chunk, Everything) else chunk.key
    request = ChunkRequest(
        selection=selection,
        columns=tuple(columns or facts.columns),
        chunk=chunk,
        batch_rows=100,
        order=reading_order(key, facts) if order is None else order,
    )
    rows: list[Any] = []

    async def read(request: ChunkRequest) -> None:
        async with source.read_chunk(request, statistics) as batches:
            async for batch in batches:
                rows.extend(tuple(row.values()) for row in batch.to_pylist())
                if between is not None:
                    between()

    if not in_snapshot:
        await read(request)
        return rows, statistics
    async with source.hold_snapshot(selection) as holder:
        if holder.snapshot.is_joined:
            await source.prepare_readers(holder.snapshot, 1)
        async with holder.locked():
            await source.join_snapshot(holder.snapshot)
        await read(
            ChunkRequest(
                **{name: getattr(request, name) for name in ("selection", "columns", "chunk", "batch_rows", "order")},
                snapshot=holder.snapshot,
            )
        )
        await source.leave_snapshot(holder.snapshot)
    return rows, statistics


COMMON: dict[str, str | dict[str, str]] = {
    "integer": "n * 3 - 4000",
    "decimal": "n * 0.25 - 400",
    "text": "concat(case when n % 2 = 0 then 'Ä''\\' else 'ä\\' end, n)",
    "folded": "concat(case mod(n, 3) when 0 then 'Straße' when 1 then 'ÉCLAIR 😀' else 'a' end, ' ', n * 7)",
    "lossy": "concat('№ ', n)",
    "date": {"postgres": "date '0990-01-01' + n::int", "mysql": "date '0990-01-01' + interval n day"},
    "timestamp": {
        "postgres": "timestamp '2026-01-01 00:00:00.000001' + n * interval '1.5 second'",
        "mysql": "timestamp'2026-01-01 00:00:00.000001' + interval n * 1500000 microsecond",
    },
    "bytes": {"postgres": "decode(md5(n::text), 'hex')", "mysql": "unhex(md5(n))"},
}
TYPES = {
    "integer": {"postgres": "bigint", "mysql": "bigint"},
    "decimal": {"postgres": "numeric(12,2)", "mysql": "decimal(12,2)"},
    "text": {"postgres": "varchar(40)", "mysql": "varchar(40) character set latin1"},
    "folded": {"postgres": "text", "mysql": "char(40) character set utf8mb4 collate utf8mb4_unicode_ci"},
    "lossy": {"postgres": "text", "mysql": "varchar(40) character set cp932"},
    "date": {"postgres": "date", "mysql": "date"},
    "timestamp": {"postgres": "timestamp", "mysql": "datetime(6)"},
    "bytes": {"postgres": "bytea", "mysql": "binary(16)"},
}


def make_table(database: Database, declaration: str, values: str, *indexes: str, rows: int = ROWS) -> None:
    """A table ``t`` of these columns with wide rows, so that an index pays."""
    database.execute(
        f"CREATE TABLE t ({declaration}, filler text NOT NULL)",
        f"INSERT INTO t SELECT {values}, repeat('x', 900) FROM ({database.numbers(rows)}) AS g",
        *(f"CREATE {index}" for index in indexes),
        "ANALYZE t" if database.kind == "postgres" else "ANALYZE TABLE t",
    )
    if database.kind == "postgres":
        database.execute("VACUUM ANALYZE t")


def value_of(database: Database, kind: str) -> str:
    found = COMMON[kind]
    text = found if isinstance(found, str) else found[database.kind]
    return text if database.kind == "postgres" else text.replace("\\", "\\\\")


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("kind", TYPES)
async def test_keys_of_every_kind(server: Database, kind: str) -> None:
    """E-5: a range of keys is read whole, each row once, in short statements; in MySQL a whole table too."""
    make_table(server, f"k {TYPES[kind][server.kind]} NOT NULL PRIMARY KEY", value_of(server, kind))

    async with opened(server) as source:
        key = reading_order((), await facts_of(source, "t"))
        bounds = [
            await source.find_key(KeySearch(selection=TABLE, within=KeyRange(key=key), nth=nth)) for nth in (600, 720)
        ]
        low, high = (Bound(values or (), is_inclusive=False) for values in bounds)
        chunk = KeyRange(key=key, low=low, high=high)
        single, one = await rows_of(source, chunk, order=(), in_snapshot=False)
        rows, several = await rows_of(source, chunk)
        everything, _ = await rows_of(source, Everything(), order=(), in_snapshot=False)
        whole, of_whole = await rows_of(source, Everything())

    assert one.statement_count == 1
    # Where rows lie scattered, PostgreSQL would rather sort few of them than look each one up.
    assert several.statement_count > 1 or (server.kind == "postgres" and kind in ("text", "folded", "bytes", "lossy"))
    assert len(single) == 119
    assert sorted(rows) == sorted(single)
    assert of_whole.statement_count > ROWS / MOST_ROWS
    assert len(everything) == ROWS
    assert sorted(whole) == sorted(everything)


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_keys_of_several_columns(server: Database) -> None:
    """E-5: a range by the first column of a key is read by all of it, so that no piece grows with the rows of one value."""
    make_table(server, "a int NOT NULL, b int NOT NULL, PRIMARY KEY (a, b)", "floor((n - 1) / 1000), n")

    async with opened(server) as source:
        order = reading_order((), await facts_of(source, "t"))
        assert [part.column for part in order] == ["a", "b"]
        for chunk in (
            KeyRange(key=order[:1], low=Bound(at(1), is_inclusive=True), high=Bound(at(2), is_inclusive=False)),
            KeyRange(key=order, low=Bound(at(0, 500), is_inclusive=False), high=Bound(at(2, 999), is_inclusive=True)),
        ):
            single, _ = await rows_of(source, chunk, order=())
            rows, statistics = await rows_of(source, chunk)

            assert sorted(rows) == sorted(single)
            assert statistics.statement_count > len(rows) / MOST_ROWS


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_rows_that_share_a_key_stay_together(server: Database) -> None:
    """E-5: an index that is no key serves too; rows of one value are in one piece, and those without one are elsewhere."""
    make_table(
        server,
        "id int NOT NULL PRIMARY KEY, day int",
        "n, case when mod(n, 10) <> 7 then floor(n / 20) end",
        "INDEX by_day ON t (day)",
    )

    async with opened(server) as source:
        part = (await facts_of(source, "t")).part("day")
        chunk = KeyRange(key=(part,), low=Bound(at(10), is_inclusive=True), high=Bound(at(20), is_inclusive=False))
        single, _ = await rows_of(source, chunk, order=())
        rows, statistics = await rows_of(source, chunk)
        nulls, of_nulls = await rows_of(source, NullKeys(key=(part,)))

    assert len(single) == 180
    assert sorted(rows) == sorted(single)
    assert statistics.statement_count > 1
    assert len(nulls) == ROWS // 10
    assert server.kind == "postgres" or of_nulls.statement_count == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_what_has_no_key_is_one_statement(server: Database) -> None:
    """E-5: without a key, or through a query or a view, nothing is read again for each piece; PostgreSQL's tables have pages."""
    make_table(server, "id int NOT NULL, v int", "n, n")
    server.execute("CREATE VIEW w AS SELECT * FROM t")

    async with opened(server) as source:
        chunk = KeyRange.of_integers("id", 0, ROWS)
        for selection in (TABLE, Relation(table="w"), Query(text="SELECT id, v FROM t")):
            rows, statistics = await rows_of(source, chunk, selection=selection)

            has_pages = server.kind == "postgres" and selection == TABLE
            assert (statistics.statement_count > 1) == has_pages
            assert sorted(row[0] for row in rows) == list(range(1, ROWS))


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_rows_move_under_the_pieces(server: Database) -> None:
    """E-5, E-11: the pieces of a chunk show one state, whatever moves, goes and comes between them."""
    make_table(server, "id int NOT NULL PRIMARY KEY", "n * 10")
    count = 0

    def move() -> None:
        nonlocal count
        count += 1
        if count % 7 == 1:
            server.execute(
                f"UPDATE t SET id = id + 5 WHERE id % 10 = 0 AND id > {count * 400}",
                f"DELETE FROM t WHERE id % 70 = {count % 70}",
                f"INSERT INTO t SELECT n * 10 + {100_000 + count}, 'new' FROM ({server.numbers(200)}) AS g",
                f"INSERT INTO t SELECT {count * 10 + 3}, 'new'",
            )

    async with opened(server) as source:
        part = reading_order((), await facts_of(source, "t"))[0]
        rows, statistics = await rows_of(source, KeyRange(key=(part,)), between=move)

    assert sorted(row[0] for row in rows) == [n * 10 for n in range(1, ROWS + 1)]
    assert statistics.statement_count > ROWS / MOST_ROWS
    assert count > 7


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_a_whole_table_is_one_state_without_a_shared_snapshot(mariadb: MariaDatabase) -> None:
    """E-5, E-11: the one reader of a whole table has a state of its own for all pieces, and its connection can be used again."""
    make_table(mariadb, "id int NOT NULL PRIMARY KEY", "n * 10")

    def move() -> None:
        mariadb.execute(
            "UPDATE t SET id = id + 1 WHERE id % 10 < 8 ORDER BY id DESC", "DELETE FROM t WHERE id % 110 = 3"
        )

    async with opened(mariadb) as source:
        rows, statistics = await rows_of(source, Everything(), in_snapshot=False, between=move)
        again, _ = await rows_of(source, Everything(), in_snapshot=False)

    assert [row[0] for row in rows] == [n * 10 for n in range(1, ROWS + 1)]
    assert statistics.statement_count > ROWS / MOST_ROWS
    assert sorted(row[0] for row in again) == sorted(row[0] for row in mariadb.rows("SELECT id FROM t"))


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_an_engine_without_snapshots_is_one_statement(mariadb: MariaDatabase) -> None:
    """E-5: several statements of a table that has no states would see several."""
    make_table(mariadb, "id int NOT NULL PRIMARY KEY", "n")
    mariadb.execute("ALTER TABLE t ENGINE = MyISAM")

    async with opened(mariadb) as source:
        rows, statistics = await rows_of(source, Everything(), in_snapshot=False)

    assert len(rows) == ROWS
    assert statistics.statement_count == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_a_reader_that_leaves_between_pieces_leaves_no_half_connection(mariadb: MariaDatabase) -> None:
    """E-5: whoever reads next has a connection on which nothing is under way."""
    make_table(mariadb, "id int NOT NULL PRIMARY KEY", "n")

    async with opened(mariadb) as source:
        for stop in range(1, 12):
            facts = await facts_of(source, "t")
            request = ChunkRequest(
                selection=TABLE,
                columns=facts.columns,
                chunk=Everything(),
                batch_rows=100,
                order=reading_order((), facts),
            )
            async with source.read_chunk(request, ReadStatistics()) as batches:
                for _ in range(stop):
                    await anext(batches)
            rows, _ = await rows_of(source, Everything(), in_snapshot=False)
            assert [row[0] for row in rows] == list(range(1, ROWS + 1))


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_pieces_come_as_texts_where_nothing_is_prepared(
    mariadb: MariaDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-5, E-4: behind what prepares no statement a piece goes on behind the last row, too."""
    make_table(
        mariadb, "a decimal(12,3) NOT NULL, b binary(16) NOT NULL, PRIMARY KEY (a, b)", "n / 8 - 9, unhex(md5(n))"
    )

    @asynccontextmanager
    async def refused(connection: WireConnection, statement: str, **keeping: Any) -> AsyncIterator[Any]:
        raise pymysql.err.OperationalError(1461, "no more prepared statements")
        yield

    async with opened(mariadb) as source:
        single, _ = await rows_of(source, Everything(), order=(), in_snapshot=False)
        monkeypatch.setattr(WireConnection, "binary_rows", refused)
        rows, statistics = await rows_of(source, Everything(), in_snapshot=False)

    assert rows == single
    assert len(rows) == ROWS
    assert statistics.statement_count > ROWS / MOST_ROWS


# ---- what the server sees


@contextmanager
def logged(mariadb: MariaDatabase, table: str) -> Iterator[list[str]]:
    """The statements over a table that the server was sent in the block."""
    found: list[str] = []
    url = urlsplit(mariadb.url)
    connection = pymysql.connect(host=url.hostname, port=url.port or 3306, user=url.username)
    with closing(connection), connection.cursor() as cursor:
        # Other processes of a test run have the same server.
        cursor.execute("SELECT GET_LOCK('general_log', 300)")
        cursor.execute("SET GLOBAL log_output = 'TABLE'")
        cursor.execute("SET GLOBAL general_log = ON")
        try:
            yield found
        finally:
            cursor.execute("SET GLOBAL general_log = OFF")
    where = f"command_type = 'Execute' AND argument LIKE '%FROM `{table}`%'"
    found += [
        text.decode() if isinstance(text, bytes) else str(text)
        for (text,) in mariadb.rows(f"SELECT argument FROM mysql.general_log WHERE {where} ORDER BY event_time")
    ]


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_mysql_sees_pieces_only(mariadb: MariaDatabase) -> None:
    """E-5: every statement that reads rows of a whole table has a limit, and begins behind the last row of the one before."""
    name = f"t_{mariadb.url.rpartition('/')[2]}"
    make_table(mariadb, "id int NOT NULL PRIMARY KEY", "n * 2")
    mariadb.execute(f"RENAME TABLE t TO {name}")

    with logged(mariadb, name) as statements:
        async with opened(mariadb) as source:
            rows, _ = await rows_of(source, Everything(), selection=Relation(table=name), in_snapshot=False)

    assert len(rows) == ROWS
    matches = [re.search(r"(?:WHERE `id` > (\d+))? ORDER BY `id` LIMIT (\d+)$", text) for text in statements]
    found = [(int(match[1] or 0), int(match[2])) for match in matches if match is not None]
    assert len(found) == len(statements) > ROWS / MOST_ROWS
    assert all(0 < limit <= MOST_ROWS for _, limit in found)
    for (low, limit), (following, _) in zip(found, found[1:], strict=False):
        assert following == low + 2 * limit


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("character_set", "is_chained"), [("utf8mb4", True), ("latin1", True), ("cp932", False), ("utf16", False)]
)
async def test_mysql_goes_on_behind_a_text_that_is_exact(
    mariadb: MariaDatabase, character_set: str, is_chained: bool
) -> None:
    """E-5: a text says where a piece ended if it leads back to itself; else the index is asked with which key one will end."""
    name = f"t_{mariadb.url.rpartition('/')[2]}"
    make_table(mariadb, f"k varchar(40) CHARACTER SET {character_set} NOT NULL PRIMARY KEY", "concat(n, ' '' ')")
    mariadb.execute(f"RENAME TABLE t TO {name}")

    with logged(mariadb, name) as statements:
        async with opened(mariadb) as source:
            rows, _ = await rows_of(source, Everything(), selection=Relation(table=name), in_snapshot=False)

    assert len({row[0] for row in rows}) == len(rows) == ROWS
    assert len(statements) > ROWS / MOST_ROWS
    assert all((" ORDER BY `k` LIMIT " in text) == is_chained for text in statements)


@pytest.mark.anyio
@pytest.mark.usefixtures("small_pieces")
async def test_postgres_sees_pieces_only(postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-5: whoever looks at the server sees statements with both ends, each of which holds a piece."""
    make_table(postgres, "id int NOT NULL PRIMARY KEY", "n", rows=12_000)
    copy_out = session.copy_out
    seen: list[str] = []

    async def copy_and_look(connection: Connection, *statement: Any) -> None:
        await copy_out(connection, *statement)
        ((text,),) = postgres.rows(f"SELECT query FROM pg_stat_activity WHERE pid = {connection.get_server_pid()}")
        seen.append(text)

    monkeypatch.setattr(session, "copy_out", copy_and_look)

    async with opened(postgres) as source:
        rows, _ = await rows_of(source, KeyRange.of_integers("id", 2_000, 6_000))

    assert sorted(row[0] for row in rows) == list(range(2_000, 6_000))
    assert len(seen) > 4_000 / MOST_ROWS
    for text in seen:
        match = re.search(r'COPY .*"id" >=? (\d+) AND "id" <=? (\d+)', text)
        assert match is not None, text
        assert int(match[2]) - int(match[1]) <= MOST_ROWS + 1


# ---- how it is asked


def test_a_bound_of_text_is_exact_whatever_it_holds() -> None:
    """E-5: the search for the end of a piece asks inside what is left, in the key's own order."""
    part = KeyPart(column="k", kind=KeyKind.TEXT)
    pieces = KeyPieces(TABLE, Everything(), (part,), first_rows=5)
    pieces.go_on_behind((KeyValue(KeyKind.TEXT, "a'b"),), 0.0)

    search = pieces.search

    assert search == KeySearch(
        selection=TABLE,
        within=KeyRange(key=(part,), low=Bound((KeyValue(KeyKind.TEXT, "a'b"),), is_inclusive=False)),
        nth=20,
    )
    assert """WHERE "k" > 'a''b' ORDER BY "k" LIMIT 1 OFFSET 19""" in sql.POSTGRES.nth_key(search)
