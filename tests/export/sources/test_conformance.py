"""What every source promises, whatever the database."""

from __future__ import annotations

import gc
import importlib
import threading
import types
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pyarrow as pa
import pytest

from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, SourceError
from procflow_export.model.keys import KeyKind, KeyPart, KeyValue
from procflow_export.model.plan import KeyRange, NullKeys, Query, Relation, Snapshot
from procflow_export.model.types import Column, arrow_schema, decode_columns, encode_columns
from procflow_export.sources.port import READ_BUFFER_BYTES, KeySearch, ReadStatistics, SnapshotHolder, Source
from tests.export.sources.databases import Database, integer_bounds, opened, read, reading, values

pytestmark = pytest.mark.anyio


def make_table(database: Database, rows: int = 10, *, name: str = "t") -> None:
    database.execute(
        f"CREATE TABLE {name} (id {database.integer} NOT NULL PRIMARY KEY, label varchar(100), k {database.integer})",
        f"INSERT INTO {name} SELECT n, 'row', CASE WHEN n % 5 = 0 THEN NULL ELSE n * 10 END FROM ({database.numbers(rows)}) AS g",
    )


async def test_source_is_a_source(database: Database) -> None:
    """E-1: every database stands behind the same port."""
    async with opened(database) as source:
        assert isinstance(source, Source)


async def test_profile_names_columns_in_order_with_nullability(database: Database) -> None:
    """E-20: NOT NULL is carried into the schema."""
    make_table(database)

    async with opened(database) as source:
        profile = await source.profile(Relation(table="t"))

    assert [(column.name, column.is_nullable) for column in profile.columns] == [
        ("id", False),
        ("label", True),
        ("k", True),
    ]
    assert [field.nullable for field in arrow_schema(profile.columns)] == [False, True, True]
    assert profile.indexes.unique_keys[0] == ("id",)


async def test_columns_survive_the_way_to_a_worker(database: Database) -> None:
    """E-22: every chunk is read with the types that the planner resolved."""
    make_table(database)

    async with opened(database) as source:
        columns = (await source.profile(Relation(table="t"))).columns

    assert decode_columns(encode_columns(columns)) == columns


async def test_missing_table_has_its_own_code(database: Database) -> None:
    """E-61: a name that is not there is told from every other failure."""
    async with opened(database) as source:
        with pytest.raises(SourceError) as caught:
            await source.profile(Relation(table="not_there"))

    assert caught.value.code is Code.SOURCE_NOT_FOUND
    assert not caught.value.is_transient


@pytest.mark.parametrize(
    "text",
    ["SELEC 1", "SELECT 1; SELECT 2", "SELECT 1 AS a, 2 AS a", "DROP TABLE t", "", "SELECT a.b.c.d", 'SELECT 1 AS ""'],
)
async def test_query_that_is_not_one_readable_select_is_refused(database: Database, text: str) -> None:
    """E-12: a query is one SELECT statement whose columns have different names."""
    make_table(database)

    async with opened(database) as source:
        with pytest.raises(SourceError):
            await source.profile(Query(text=text))
        table = await read(source, "t")

    assert table.num_rows == 10


async def test_query_may_end_in_comment_and_semicolon(database: Database) -> None:
    """E-12: what follows the query cannot be hidden by what the query ends with."""
    make_table(database)
    selection = Query(text="SELECT id, label FROM t WHERE id < 4 ; \n")
    commented = Query(text="SELECT id, label FROM t WHERE id < 4 -- the first three")

    async with opened(database) as source:
        for each in (selection, commented):
            bounds = await integer_bounds(source, each, "id")
            table = await read(source, each, KeyRange.of_integers("id", 2, 100))

            assert bounds[:2] == (1, 3)
            assert table["id"].to_pylist() == [2, 3]


@pytest.mark.parametrize("name", ['a"b', "a`b", "a b", "a'b", "a%sb", "a;b--", "select", "Größe", "a\\b", "{x}"])
async def test_any_identifier_can_be_exported(database: Database, name: str) -> None:
    """E-12: identifiers are quoted, so that none is read as anything else."""
    quoted = database.quote + name.replace(database.quote, database.quote * 2) + database.quote
    database.execute(
        f"CREATE TABLE {quoted} ({quoted} {database.integer} NOT NULL PRIMARY KEY, {database.quote}x y{database.quote} varchar(9))",
        f"INSERT INTO {quoted} VALUES (1, 'one'), (2, NULL)",
    )

    async with opened(database) as source:
        profile = await source.profile(Relation(table=name))
        bounds = await integer_bounds(source, Relation(table=name), name)
        table = await read(source, name, KeyRange.of_integers(name, 2, 3))

    assert profile.indexes.unique_keys[0] == (name,)
    assert bounds[:2] == (1, 2)
    assert table.to_pylist() == [{name: 2, "x y": None}]


async def test_chunks_together_are_the_table(database: Database) -> None:
    """E-10: ranges, half open, and the chunk of NULL keys hold every row once."""
    make_table(database, 100)
    chunks = [KeyRange.of_integers("k", low, low + 300) for low in range(10, 1000, 300)]

    async with opened(database) as source:
        bounds = await integer_bounds(source, Relation(table="t"), "k")
        parts = [await read(source, "t", chunk) for chunk in chunks]
        parts.append(
            await read(source, "t", NullKeys(key=(KeyPart(column="k", kind=KeyKind.INTEGER, is_nullable=True),)))
        )

    assert bounds == (10, 990, True)
    assert sorted(identity for part in parts for identity in values(part)) == list(range(1, 101))
    assert parts[-1]["k"].null_count == 20


async def test_bounds_of_nothing_are_nothing(database: Database) -> None:
    """E-10: an empty table and a table of NULL keys are told apart, and neither looks like an unreadable one."""
    make_table(database, 10)
    database.execute("DELETE FROM t WHERE k IS NOT NULL")

    async with opened(database) as source:
        nulls_only = await integer_bounds(source, Relation(table="t"), "k")
        database.execute("DELETE FROM t")
        empty = await integer_bounds(source, Relation(table="t"), "k")
        table = await read(source, "t")

    assert nulls_only == (None, None, True)
    assert empty == (None, None, False)
    assert table.num_rows == 0


async def test_a_key_that_cannot_be_read_is_an_error(database: Database) -> None:
    """E-10: unreadable is not empty: a text where an integer was promised ends the plan (lesson 9)."""
    make_table(database)
    asked = KeyPart(column="label", kind=KeyKind.INTEGER)

    async with opened(database) as source:
        if database.kind == "sqlite":
            # Any column holds any value there; what is found says what it is.
            found = await source.find_key(KeySearch(selection=Relation(table="t"), within=KeyRange(key=(asked,))))
            assert found == (KeyValue(KeyKind.TEXT, "row"),)
            return
        with pytest.raises(SourceError) as caught:
            await source.find_key(KeySearch(selection=Relation(table="t"), within=KeyRange(key=(asked,))))

    assert caught.value.code is Code.PLAN_KEY_NOT_USABLE


async def test_extreme_keys_are_in_a_chunk(database: Database) -> None:
    """E-10: the ends of the integers are in the ranges that the bounds give."""
    low, high = -(2**63), 2**63 - 1
    database.execute(
        f"CREATE TABLE t (id {database.integer} NOT NULL PRIMARY KEY)", f"INSERT INTO t VALUES ({low}), (0), ({high})"
    )

    async with opened(database) as source:
        bounds = await integer_bounds(source, Relation(table="t"), "id")
        assert bounds[:2] == (low, high)
        everything = await read(source, "t", KeyRange.of_integers("id", low, high + 1))
        upper = await read(source, "t", KeyRange.of_integers("id", 1, high + 1))
        beyond = await read(source, "t", KeyRange.of_integers("id", 2**70, 2**80))

    assert sorted(values(everything)) == [low, 0, high]
    assert upper["id"].to_pylist() == [high]
    assert beyond.num_rows == 0


async def test_partial_and_nullable_unique_indexes_are_no_keys(database: Database) -> None:
    """E-10: only a whole unique index over columns that are never NULL identifies every row (lesson 10)."""
    integer = database.integer
    database.execute(
        f"CREATE TABLE t (a {integer} UNIQUE, b {integer} NOT NULL, c {integer} NOT NULL, label varchar(9) NOT NULL)",
        "CREATE INDEX t_label ON t (label, b)",
        f"CREATE TABLE u (label varchar(9) NOT NULL PRIMARY KEY, a {integer} NOT NULL UNIQUE, b {integer} NOT NULL)",
        "CREATE UNIQUE INDEX u_ba ON u (b, a)",
    )
    if database.kind == "mysql":
        database.execute("CREATE UNIQUE INDEX t_prefix ON t (label(3))")
    else:
        database.execute(
            "CREATE UNIQUE INDEX t_part ON t (b) WHERE c > 0",
            "CREATE UNIQUE INDEX t_expression ON t (b, (c + 1))",
            "CREATE INDEX t_later ON t (c) WHERE b > 0",
        )

    async with opened(database) as source:
        without = (await source.profile(Relation(table="t"))).indexes
        several = (await source.profile(Relation(table="u"))).indexes

    assert without.unique_keys == ()
    assert {"a", "label"} <= without.leading_columns
    assert "c" not in without.leading_columns
    assert several.unique_keys[0] == ("label",)
    assert sorted(several.unique_keys) == [("a",), ("b", "a"), ("label",)]
    assert several.leading_columns == {"label", "a", "b"}


async def test_row_estimate_is_about_right_after_statistics_were_taken(database: Database) -> None:
    """E-63: an estimate comes from what the database keeps, not from counting."""
    make_table(database, 5000)
    database.execute("ANALYZE TABLE t" if database.kind == "mysql" else "ANALYZE t")

    async with opened(database) as source:
        profile = await source.profile(Relation(table="t"))

    assert profile.row_estimate is not None
    assert 2500 <= profile.row_estimate <= 10_000


async def test_batches_are_bounded_by_rows(database: Database) -> None:
    """E-30: a batch has at most as many rows as were asked for, and none is empty."""
    make_table(database, 2500)

    async with opened(database) as source:
        table = await read(source, "t", batch_rows=7)

    assert sorted(values(table)) == list(range(1, 2501))


async def test_columns_can_be_chosen(database: Database) -> None:
    """E-12: a reader gives the columns that were asked for, in that order."""
    make_table(database)

    async with opened(database) as source:
        columns = (await source.profile(Relation(table="t"))).columns
        table = await read(source, "t", columns=[columns[2], columns[0]])

    assert table.column_names == ["k", "id"]


async def test_views_are_exported(database: Database) -> None:
    """E-12: a view is a relation like a table."""
    make_table(database)
    database.execute("CREATE VIEW v AS SELECT id, k FROM t WHERE id > 8")

    async with opened(database) as source:
        profile = await source.profile(Relation(table="v"))
        table = await read(source, "v")

    assert profile.indexes.unique_keys == ()
    assert sorted(values(table)) == [9, 10]


async def test_readers_run_side_by_side(database: Database) -> None:
    """E-31: several chunks of one table are read at once."""
    make_table(database, 4000)
    counts: list[int] = []

    async def one(source: Source, low: int) -> None:
        counts.append((await read(source, "t", KeyRange.of_integers("id", low, low + 1000), batch_rows=50)).num_rows)

    async with opened(database) as source, anyio.create_task_group() as tasks:
        for low in range(1, 4001, 1000):
            tasks.start_soon(one, source, low)

    assert counts == [1000] * 4


async def test_reader_left_early_leaves_a_usable_source(database: Database) -> None:
    """E-34: leaving the block ends the statement, however it is left."""
    make_table(database, 20_000)

    async with opened(database) as source:
        for _ in range(3):
            async with reading(source, Relation(table="t"), batch_rows=10) as batches:
                await anext(batches)
        with pytest.raises(ZeroDivisionError):
            async with reading(source, Relation(table="t"), batch_rows=10):
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            async with reading(source, Relation(table="t"), batch_rows=10) as batches:
                await anext(batches)
                raise ZeroDivisionError
        table = await read(source, "t")

    assert table.num_rows == 20_000


async def test_cancelled_reader_leaves_a_usable_source(database: Database) -> None:
    """E-34: a reader can be cancelled at every await; what it held is closed, and the cancellation stays one."""
    make_table(database, 20_000)

    async with opened(database) as source:
        for steps in range(40):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(cancel_after, scope, steps * 3)
                    await read(source, "t", batch_rows=100)
                    tasks.cancel_scope.cancel()
        table = await read(source, "t")
    gc.collect()

    assert table.num_rows == 20_000


async def cancel_after(scope: anyio.CancelScope, turns: int) -> None:
    """Cancel when the loop has made so many turns."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_cancellation_during_decoding_stays_a_cancellation(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-34: cancelled while a thread decodes, a reader raises nothing of its own."""
    make_table(database, 30_000)
    database.execute(f"CREATE VIEW wide AS SELECT id, label, {', '.join(f'k + {n} AS k{n}' for n in range(20))} FROM t")
    started = threading.Event()
    go_on = threading.Event()

    def slowly(schema: object) -> None:
        started.set()
        assert go_on.wait(60)

    async with opened(database) as source:
        columns = (await source.profile(Relation(table="wide"))).columns
        original = pa.RecordBatch.from_arrays

        class Slow:
            """Stands for the class that every decoder ends with."""

            @staticmethod
            def from_arrays(arrays: list[pa.Array[Any]], schema: pa.Schema) -> pa.RecordBatch:
                slowly(schema)
                return original(arrays, schema=schema)

        for module in ("postgres.decoding.binary", "mysql.decoding.decoder", "sqlite.decoder"):
            name = f"procflow_export.sources.{module}"
            shadow = types.SimpleNamespace(**{**vars(pa), "RecordBatch": Slow})
            monkeypatch.setattr(importlib.import_module(name), "pa", shadow)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_all, source, columns)
                await anyio.to_thread.run_sync(started.wait, 60)
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await anyio.wait_all_tasks_blocked()
                go_on.set()
        assert scope.cancelled_caught


async def read_all(source: Source, columns: tuple[Column, ...]) -> None:
    """Read everything of the view, and throw it away."""
    async with reading(source, Relation(table="wide"), columns=columns) as batches:
        async for _ in batches:
            pass


async def test_slow_statement_can_be_cancelled(database: Database) -> None:
    """E-34: a statement that has not answered yet is given up at once."""
    slow = {
        "postgres": "SELECT count(pg_sleep(60)) AS x",
        "mysql": "SELECT sleep(60) AS x",
        "sqlite": "WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g) SELECT max(n) AS x FROM g WHERE n < 0",
    }[database.kind]
    make_table(database)

    async with opened(database) as source:
        columns = (await source.profile(Relation(table="t"))).columns[:1]
        renamed = [replace(columns[0], name="x")]
        with anyio.fail_after(30):
            with anyio.move_on_after(0.2) as scope:
                async with reading(source, Query(text=slow), columns=renamed, batch_rows=10) as batches:
                    await anext(batches)
            assert scope.cancelled_caught
            assert (await read(source, "t")).num_rows == 10


async def test_slow_consumer_bounds_what_is_read(database: Database) -> None:
    """E-30: a caller that does not ask makes the server wait; what was read ahead is bounded."""
    width, rows = 1000, 60_000
    database.execute(
        f"CREATE TABLE t (id {database.integer} NOT NULL PRIMARY KEY, label varchar({width}) NOT NULL)",
        f"INSERT INTO t SELECT n, '{'x' * width}' FROM ({database.numbers(rows)}) AS g",
    )

    statistics = ReadStatistics()
    async with opened(database) as source:
        async with reading(source, Relation(table="t"), batch_rows=100, statistics=statistics) as batches:
            await anext(batches)
            settled = -1
            while settled != statistics.received_bytes:
                settled = statistics.received_bytes
                await anyio.wait_all_tasks_blocked()
            held = statistics.received_bytes
            seen = 100
            async for batch in batches:
                seen += batch.num_rows

    assert held <= 3 * READ_BUFFER_BYTES
    assert seen == rows


async def test_writes_are_refused(database: Database) -> None:
    """E-1: a source reads, and can do nothing else."""
    make_table(database)
    writing = {
        "postgres": "WITH gone AS (DELETE FROM t RETURNING id) SELECT id FROM gone",
        "mysql": "DELETE FROM t",
        "sqlite": "DELETE FROM t",
    }[database.kind]

    async with opened(database) as source:
        with pytest.raises(ExportError):
            profile = await source.profile(Query(text=writing))
            await read(source, Query(text=writing), columns=profile.columns)
        assert (await read(source, "t")).num_rows == 10


async def test_statistics_grow(database: Database) -> None:
    """E-5: the longest statement and the longest transaction are measured."""
    make_table(database)
    statistics = ReadStatistics()

    async with opened(database) as source:
        async with reading(source, Relation(table="t"), statistics=statistics) as batches:
            async for _ in batches:
                pass

        assert source.statistics.statement_count >= 1
        assert source.description
    assert statistics.statement_count >= 1
    assert 0 < statistics.longest_statement_s <= statistics.longest_transaction_s
    assert statistics.received_bytes > 0


async def joined(source: Source, holder: SnapshotHolder, count: int) -> None:
    """Let ``count`` readers of a source take part in a snapshot, if it is one that they join."""
    if holder.snapshot.is_joined:
        await source.prepare_readers(holder.snapshot, count)
        for _ in range(10):
            async with holder.locked():
                await source.join_snapshot(holder.snapshot)
            if holder.is_one_state:
                return
        raise AssertionError("nobody wrote")


async def test_readers_of_a_snapshot_see_what_was_there_when_it_was_taken(database: Database) -> None:
    """E-11: rows and keys of a held snapshot are those of its moment, for several readers and several chunks."""
    make_table(database, 100)
    if database.kind == "sqlite":
        database.execute("PRAGMA journal_mode = WAL")
    table = Relation(table="t")
    key = (KeyPart(column="id", kind=KeyKind.INTEGER),)

    async with opened(database) as source, opened(database) as other:
        columns = (await source.profile(table)).columns
        async with source.hold_snapshot(table) as holder:
            await joined(source, holder, 2)
            database.execute("DELETE FROM t WHERE id <= 10", "UPDATE t SET id = id + 1000 WHERE id = 50")
            snapshot = holder.snapshot
            first = await source.find_key(KeySearch(selection=table, within=KeyRange(key=key)), snapshot)
            low = await read(source, table, KeyRange.of_integers("id", 0, 50), columns=columns, snapshot=snapshot)
            high = await read(source, table, KeyRange.of_integers("id", 50, 5000), columns=columns, snapshot=snapshot)
            if not snapshot.is_joined:
                assert (await read(other, table, columns=columns, snapshot=snapshot)).num_rows == 100
            await source.leave_snapshot(snapshot)
        now = await read(source, "t")

    assert first is not None
    assert int(first[0].text) == 1
    assert values(low) == list(range(1, 50))
    assert sorted(values(high)) == list(range(50, 101))
    assert now.num_rows == 90


async def test_snapshot_that_nobody_holds_is_lost(database: Database) -> None:
    """E-11: a reader that cannot see the state any more reads nothing else instead."""
    make_table(database)

    async with opened(database) as source:
        columns = (await source.profile(Relation(table="t"))).columns
        async with source.hold_snapshot(Relation(table="t")) as holder:
            await joined(source, holder, 1)
            snapshot = holder.snapshot
        for gone in (snapshot, Snapshot(name="00000003-0000001B-1", is_joined=snapshot.is_joined)):
            with pytest.raises(SourceError) as caught:
                await read(source, "t", columns=columns, snapshot=gone)
            assert caught.value.code is Code.SOURCE_SNAPSHOT_LOST
            assert caught.value.is_transient
