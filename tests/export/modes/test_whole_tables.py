"""Every way to read a whole table, by every engine, from every database: one published set."""

from __future__ import annotations

from typing import Any

import pytest

from procflow_export import Finished, ProgressInit, Status
from tests.export.modes.sets import Outcome, warnings
from tests.export.sources.databases import Database

pytestmark = pytest.mark.anyio

ROWS = 2_500

TYPES = {
    "postgres": {"stamp": "timestamp(6)", "instant": "timestamptz"},
    "mysql": {"stamp": "datetime(6)", "instant": "timestamp(6)"},
    "sqlite": {"stamp": "timestamp", "instant": "timestamp"},
}
MOMENT = {
    "postgres": "(timestamp '2026-01-01 01:02:03.000004' + n * interval '1 hour')",
    "mysql": "(timestamp '2026-01-01 01:02:03.000004' + interval n hour)",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S.000004', '2026-01-01 01:02:03', n || ' hours')",
}

WAYS: dict[str, dict[str, Any]] = {
    "full": {"mode": "full"},
    "own integer key": {"mode": "chunked", "chunk_size": 400},
    "counted ranges": {"mode": "chunked", "chunk_count": 7},
    "ranges of a nullable column": {"mode": "chunked", "chunk_column": "loose", "chunk_size": 300},
    "ranges of a query": {"mode": "chunked", "table": None, "query": "select * from t", "chunk_column": "id", "chunk_count": 3},
    "days": {"mode": "chunked", "chunk_column": "stamp", "chunk_by_days": 9},
    "days of instants with NULLs": {"mode": "chunked", "chunk_column": "instant", "chunk_by_days": 30},
    "days of dates": {"mode": "chunked", "chunk_column": "day", "chunk_by_days": 20},
    "slices of a text": {"mode": "chunked", "chunk_by_key": "code", "chunk_size": 333},
    "slices of two columns": {"mode": "chunked", "chunk_by_key": ["tenant", "number"], "chunk_size": 500},
    "counted slices": {"mode": "chunked", "chunk_by_key": "code", "chunk_count": 4},
    "slices of a query": {
        "mode": "chunked", "table": None, "query": "select * from t", "chunk_by_key": ["tenant", "loose"], "chunk_size": 700,
    },
    "sparse keys": {"mode": "chunked", "chunk_column": "sparse", "chunk_size": 250},
    "a first incremental run": {"mode": "incremental", "cursor_column": "instant"},
    "a first run behind a key": {
        "mode": "chunked", "chunk_by_key": ["tenant", "number"], "keyset_incremental": True, "chunk_size": 600,
    },
}  # fmt: skip


def fill(database: Database) -> None:
    types, moment, integer = TYPES[database.kind], MOMENT[database.kind], database.integer
    day = {"postgres": f"{moment}::date", "mysql": f"date({moment})", "sqlite": f"date({moment})"}[database.kind]
    text = {"mysql": "concat('c', n % 97, '-', n)"}.get(database.kind, "'c' || (n % 97) || '-' || n")
    database.execute(
        f"CREATE TABLE t (id {integer} NOT NULL PRIMARY KEY, tenant varchar(9) NOT NULL, number integer NOT NULL,"
        f" code varchar(20) NOT NULL UNIQUE, loose {integer}, sparse {integer} NOT NULL, stamp {types['stamp']} NOT NULL,"
        f" instant {types['instant']} NULL, day date NOT NULL, UNIQUE (tenant, number))",
        f"INSERT INTO t SELECT n - 700, CASE WHEN n % 3 = 0 THEN 'b' ELSE 'a' END, n, {text},"
        f" CASE WHEN n % 7 = 0 THEN NULL ELSE n * 2 END, n * (CAST(n AS decimal) * n), {moment},"
        f" CASE WHEN n % 11 = 0 THEN NULL ELSE {moment} END, {day} FROM ({database.numbers(ROWS)}) AS g",
        "ANALYZE TABLE t" if database.kind == "mysql" else "ANALYZE",
    )


@pytest.mark.parametrize(
    ("engine", "consistency"), [("in-process", "snapshot"), ("in-process", "chunk"), ("processes", "snapshot")]
)
async def test_every_way_to_cut_a_table_gives_the_table(out: Outcome, engine: str, consistency: str) -> None:
    """E-10, E-36: whatever mode, chunking and engine: every row once, NULL keys included (lesson 1)."""
    fill(out.database)
    out.engine = engine
    names = {f"e{number}": way for number, way in enumerate(WAYS)}

    ran = await out.run(
        *(
            {"name": name, "table": "t", "parallel": 2, "consistency": consistency, **WAYS[way]}
            for name, way in names.items()
            if way != "full"
        ),
        {"name": "e0", "table": "t", **WAYS["full"]},
    )

    expected = out.rows("e0")
    assert len(expected) == ROWS
    chunk_counts = {}
    for name, way in names.items():
        assert out.rows(name) == expected, way
        (planned,) = ran.of(ProgressInit, name)
        chunk_counts[way] = planned.total_chunks
    assert all(verdict.status is Status.SUCCESS for verdict in ran.of(Finished))
    assert chunk_counts.pop("full") == 1
    assert min(chunk_counts.values()) >= 2, chunk_counts


async def test_a_table_says_which_key_it_is_cut_by(out: Outcome) -> None:
    """E-10: the key that a table resolves by itself is in the events of the run, composite and text ones included."""
    integer = out.database.integer
    out.database.execute(
        f"CREATE TABLE t (tenant varchar(9) NOT NULL, n {integer} NOT NULL, PRIMARY KEY (tenant, n))",
        f"INSERT INTO t SELECT 'a', n FROM ({out.database.numbers(50)}) AS g",
        f"CREATE TABLE u (label varchar(9) NOT NULL PRIMARY KEY, n {integer} NOT NULL UNIQUE)",
        f"INSERT INTO u SELECT n, n FROM ({out.database.numbers(50)}) AS g",
    )

    ran = await out.run(
        {"name": "t", "table": "t", "mode": "chunked", "chunk_size": 20},
        {"name": "u", "table": "u", "mode": "chunked", "chunk_count": 2},
    )

    (planned,), (other,) = ran.of(ProgressInit, "t"), ran.of(ProgressInit, "u")
    assert (planned.key, planned.cut, planned.total_chunks) == ("(tenant, n)", "slices of (tenant, n)", 3)
    assert (other.key, other.cut, other.total_chunks) == ("n", "ranges of n", 2)


async def test_sparse_keys_become_slices_and_are_said_so(out: Outcome) -> None:
    """E-10: a few rows over identifiers of 64 bits are neither millions of ranges nor one huge one (lesson 37)."""
    integer = out.database.integer
    out.database.execute(
        f"CREATE TABLE t (id {integer} NOT NULL PRIMARY KEY, v varchar(9))",
        f"INSERT INTO t SELECT n * CAST(1000000007 AS decimal) + (n % 13) * (n % 13), 'v' FROM ({out.database.numbers(1000)}) AS g",
        "ANALYZE TABLE t" if out.database.kind == "mysql" else "ANALYZE",
    )

    ran = await out.run({"table": "t", "mode": "chunked", "chunk_size": 300})

    (planned,) = ran.of(ProgressInit)
    assert planned.cut == "slices of id"
    assert planned.total_chunks == 4
    assert "sparse" in warnings(ran)
    assert len(out.rows()) == 1000


async def test_a_cluster_before_a_gap_is_found_sparse_without_statistics(out: Outcome) -> None:
    """E-10: the probe looks at the keys, not at an estimate that may be old: dense first keys hide no gap (lesson 37)."""
    integer = out.database.integer
    out.database.execute(
        f"CREATE TABLE t (id {integer} NOT NULL PRIMARY KEY)",
        f"INSERT INTO t SELECT n FROM ({out.database.numbers(600)}) AS g",
        "INSERT INTO t VALUES (9000000000000000000)",
    )

    ran = await out.run({"table": "t", "mode": "chunked", "chunk_size": 100})

    (planned,) = ran.of(ProgressInit)
    assert planned.total_chunks <= 8
    assert len(out.rows()) == 601


@pytest.mark.parametrize("way", [{"chunk_size": 1_000_000}, {"chunk_count": 4}], ids=["size", "count"])
async def test_the_ends_of_the_integers_are_exported(out: Outcome, way: dict[str, Any]) -> None:
    """E-10: the lowest and the highest value of the widest type, negative, zero and unsigned (lesson 11)."""
    kind = "bigint unsigned" if out.database.kind == "mysql" else out.database.integer
    ends = [0, 1, 2**64 - 2, 2**64 - 1] if out.database.kind == "mysql" else [-(2**63), -1, 0, 1, 2**63 - 1]
    out.database.execute(
        f"CREATE TABLE t (id {kind} NOT NULL PRIMARY KEY)",
        f"INSERT INTO t VALUES {', '.join(f'({end})' for end in ends)}",
    )

    await out.run({"table": "t", "mode": "chunked", **way})

    assert out.values("id") == ends


async def test_dates_that_stand_for_never_are_exported(out: Outcome) -> None:
    """E-10: the ends of the calendar make neither millions of windows nor lost rows."""
    days = ["0001-01-01", "2026-03-01", "2026-03-02", "9999-12-31"]
    out.database.execute(
        "CREATE TABLE t (id integer PRIMARY KEY, day date)",
        f"INSERT INTO t VALUES {', '.join(f'({number}, {day!r})' for number, day in enumerate(days))}, (9, NULL)",
        "ANALYZE TABLE t" if out.database.kind == "mysql" else "ANALYZE",
    )

    ran = await out.run({"table": "t", "mode": "chunked", "chunk_column": "day", "chunk_by_days": 1})

    assert out.values("id") == [0, 1, 2, 3, 9]
    assert ran.of(ProgressInit)[0].total_chunks <= 2
    assert "nearly empty" in warnings(ran)


async def test_an_empty_table_has_one_part_that_shows_its_columns(out: Outcome) -> None:
    """E-10, E-43: no mode fails over an empty table, and readers find the columns (lesson 9)."""
    out.database.execute(f"CREATE TABLE t (id {out.database.integer} NOT NULL PRIMARY KEY, at timestamp NULL)")

    await out.run(
        {"name": "a", "table": "t", "mode": "chunked"},
        {"name": "b", "table": "t", "mode": "chunked", "chunk_by_key": "id"},
        {"name": "c", "table": "t", "mode": "chunked", "chunk_column": "at", "chunk_by_days": 1},
        {"name": "d", "table": "t", "mode": "incremental", "cursor_column": "at"},
        {"name": "e", "table": "t", "mode": "time_window", "time_column": "at", "days_window": 3},
    )

    for name in "abcde":
        manifest = out.manifest(name)
        assert (len(manifest.parts), manifest.row_count) == (1, 0)
        assert out.rows(name) == []
