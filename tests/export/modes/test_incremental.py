"""Exports that go on from run to run: new rows once, ties never lost, NULL cursors kept, nothing new touches nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from procflow_export import Finished, ProgressInit, RunFinished, Status
from tests.export.modes.sets import ENGINES, Clock, Outcome, warnings

pytestmark = pytest.mark.anyio

STAMP = {"postgres": "timestamptz", "mysql": "timestamp(6) NULL", "sqlite": "timestamp"}
INCREMENTAL = {"table": "t", "mode": "incremental", "cursor_column": "at"}


def at(second: int) -> str:
    return f"'2026-03-01 10:{second // 60:02d}:{second % 60:02d}'"


def make(out: Outcome, rows: int = 30) -> None:
    """Rows 1 to 30, three for every second, and two without a time."""
    if out.database.kind == "mysql":
        out.database.execute("SET time_zone = '+00:00'")
    out.database.execute(
        f"CREATE TABLE t (id {out.database.integer} NOT NULL PRIMARY KEY, at {STAMP[out.database.kind]}, v varchar(20))",
        "CREATE INDEX t_at ON t (at)",
    )
    insert(
        out,
        {number: (number // 3, "new") for number in range(1, rows + 1)} | {101: (None, "none"), 102: (None, "none")},
    )


def insert(out: Outcome, rows: dict[int, tuple[int | None, str]]) -> None:
    utc = {"postgres": "SET timezone = 'UTC'", "mysql": "SET time_zone = '+00:00'", "sqlite": "SELECT 1"}
    lines = [f"({key}, {'NULL' if when is None else at(when)}, '{text}')" for key, (when, text) in rows.items()]
    out.database.execute(utc[out.database.kind], f"INSERT INTO t VALUES {', '.join(lines)}")


def change(out: Outcome, key: int, when: int | None, text: str) -> None:
    out.database.execute(f"DELETE FROM t WHERE id = {key}")
    insert(out, {key: (when, text)})


def versions(out: Outcome, export: str = "t") -> list[tuple[int, str]]:
    """The published rows: key and text."""
    return sorted((int(row[0]), row[2]) for row in out.rows(export))


@pytest.mark.parametrize("engine", list(ENGINES))
async def test_three_runs_hold_every_version_once(out: Outcome, engine: str) -> None:
    """E-10, E-36: inserts, ties, updates and NULLs between runs: nothing lost, nothing twice, the same by every engine."""
    make(out)
    out.engine = engine

    first = await out.run(INCREMENTAL)
    insert(out, {31: (10, "tie"), 32: (40, "new")})  # row 31 has the cursor that row 30 had
    change(out, 5, 41, "changed")
    change(out, 101, 42, "dated")
    change(out, 102, None, "still none")
    second = await out.run(INCREMENTAL)
    insert(out, {133: (42, "tie again"), 103: (None, "none")})  # row 101 was the last one
    out.database.execute("DELETE FROM t WHERE id = 102")
    await out.run(INCREMENTAL)

    once = [(number, "new") for number in range(1, 31)]
    later = [(5, "changed"), (31, "tie"), (32, "new"), (101, "dated"), (103, "none"), (133, "tie again")]
    assert versions(out) == sorted([*once, *later])
    assert [event.row_count for event in (*first.of(Finished), *second.of(Finished))] == [32, 5]
    assert first.of(ProgressInit)[0].cut == "rows behind a cursor of (at, id)"
    assert warnings(second) == ""


async def test_a_run_without_new_rows_touches_nothing(out: Outcome) -> None:
    """E-10, E-43: nothing new is told as such, and manifest, marker and parts stay byte for byte (lesson 20)."""
    make(out)
    out.database.execute("DELETE FROM t WHERE at IS NULL")
    await out.run(INCREMENTAL)
    before = {path: path.read_bytes() for path in out.directory().iterdir()}

    ran = await out.run(INCREMENTAL)

    (verdict,) = ran.of(Finished)
    assert (verdict.status, verdict.manifest, verdict.row_count) == (Status.SKIPPED, None, 0)
    assert verdict.skip_reason is not None
    assert [(event.status, event.skipped, event.exit_status) for event in ran.of(RunFinished)] == [
        (Status.SUCCESS, 1, 0)
    ]
    assert {path: path.read_bytes() for path in out.directory().iterdir()} == before


async def test_rows_without_a_cursor_are_exported_anew_by_every_run(out: Outcome) -> None:
    """E-10: their parts replace those of the run before, so none is lost and none is there twice (lessons 1 and 3)."""
    make(out)
    await out.run(INCREMENTAL)
    change(out, 102, None, "rewritten")

    await out.run(INCREMENTAL)
    assert [row for row in versions(out) if row[0] > 100] == [(101, "none"), (102, "rewritten")]

    out.database.execute("DELETE FROM t WHERE at IS NULL")
    ran = await out.run(INCREMENTAL)
    assert [row for row in versions(out) if row[0] > 100] == []
    assert ran.of(Finished)[0].status is Status.SUCCESS
    assert (await out.run(INCREMENTAL)).of(Finished)[0].status is Status.SKIPPED


async def test_a_cursor_is_the_largest_key_and_not_that_of_the_last_row(out: Outcome) -> None:
    """E-10: whatever comes last in a batch, a NULL or a small value, moves no cursor (lesson 3)."""
    make(out, rows=3)
    insert(out, {50: (30, "largest"), 51: (2, "small"), 52: (None, "none")})
    await out.run(INCREMENTAL)

    cursor = out.manifest().cursor
    assert cursor is not None
    assert cursor.position is not None
    assert cursor.position[0].text.startswith("2026-03-01 10:00:30")
    assert cursor.position[1].text == "50"

    insert(out, {53: (31, "next")})
    await out.run(INCREMENTAL)
    assert (53, "next") in versions(out)


async def test_a_large_run_is_cut_by_the_index_of_the_cursor(out: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-5, E-10: the rows behind a cursor are read in slices where an index leads with it, ties unparted."""
    monkeypatch.setattr("procflow_export.pipeline.cutting.DEFAULT_CHUNK_SIZE", 10)
    make(out)

    ran = await out.run(INCREMENTAL)

    assert ran.of(ProgressInit)[0].total_chunks >= 3
    assert versions(out) == sorted([*((number, "new") for number in range(1, 31)), (101, "none"), (102, "none")])


async def test_a_table_without_a_key_is_warned_about_ties(out: Outcome) -> None:
    """E-10: where rows with one cursor value cannot be told apart the run says so before it starts."""
    out.database.execute(
        f"CREATE TABLE t (at {STAMP[out.database.kind]}, v varchar(9))",
        f"INSERT INTO t VALUES ({at(1)}, 'a'), ({at(2)}, 'b')",
    )

    first = await out.run(INCREMENTAL)
    out.database.execute(f"INSERT INTO t VALUES ({at(3)}, 'c')")
    await out.run(INCREMENTAL)

    assert "tells rows with the same at apart" in warnings(first)
    assert "no index begins with at" in warnings(first)
    assert out.values("v") == ["a", "b", "c"]


async def test_the_fallback_counts_where_the_cursor_is_null(out: Outcome) -> None:
    """E-10: `coalesce` takes the second column for rows that have no first one."""
    integer = out.database.integer
    out.database.execute(
        f"CREATE TABLE t (id {integer} NOT NULL PRIMARY KEY, changed {integer}, created {integer})",
        "INSERT INTO t VALUES (1, NULL, 10), (2, 20, 5), (3, NULL, 15), (4, NULL, NULL)",
    )
    coalesced = {
        "table": "t", "mode": "incremental", "cursor_column": "changed", "incremental_cursor_mode": "coalesce",
        "cursor_fallback_column": "created",
    }  # fmt: skip

    first = await out.run(coalesced)
    out.database.execute(
        "INSERT INTO t VALUES (5, NULL, 20), (6, NULL, 21), (7, NULL, 3)", "UPDATE t SET changed = 22 WHERE id = 1"
    )
    await out.run(coalesced)

    assert first.of(ProgressInit)[0].key == "(coalesce(changed, created), id)"
    assert out.values("id") == [1, 1, 2, 3, 4, 5, 6]  # row 7 is older than the cursor


async def test_a_query_with_parameters_has_a_cursor_and_chunks(out: Outcome) -> None:
    """E-10, E-12: bind parameters are in every statement about the query's keys, and are part of what a cursor belongs to."""
    make(out)
    query = {
        "query": "SELECT id, at, v FROM t WHERE v <> :unwanted AND at IS NOT NULL -- it's :not one",
        "parameters": {"unwanted": "it's none: 'x'"},
    }
    incremental = query | {"mode": "incremental", "cursor_column": "at"}
    chunked = query | {"name": "u", "mode": "chunked", "chunk_column": "id", "chunk_count": 4}
    by_key = query | {"name": "w", "mode": "chunked", "chunk_by_key": ["at", "id"], "chunk_size": 7}

    await out.run(incremental, chunked, by_key)
    insert(out, {40: (60, "later")})
    await out.run(incremental)

    assert out.values("id") == [*range(1, 31), 40]
    assert out.values("id", "u") == out.values("id", "w") == list(range(1, 31))
    verdict = await out.refused(**incremental | {"parameters": {"unwanted": "another"}})
    assert verdict.failure is not None
    assert verdict.failure.code.value == "CURSOR_NOT_OWNED"


async def test_a_key_can_be_the_cursor(out: Outcome) -> None:
    """E-10: `keyset_incremental` goes on behind the last key of a single or composite key."""
    integer = out.database.integer
    out.database.execute(
        f"CREATE TABLE t (tenant varchar(9) NOT NULL, n {integer} NOT NULL, PRIMARY KEY (tenant, n))",
        f"INSERT INTO t SELECT 'b', n FROM ({out.database.numbers(25)}) AS g",
    )
    keyset: dict[str, Any] = {
        "table": "t", "mode": "chunked", "chunk_by_key": ["tenant", "n"], "keyset_incremental": True, "chunk_size": 10,
    }  # fmt: skip

    first = await out.run(keyset)
    out.database.execute("INSERT INTO t VALUES ('b', 26), ('c', 1), ('a', 1)")
    second = await out.run(keyset)
    third = await out.run(keyset)

    assert [event.total_chunks for event in (*first.of(ProgressInit), *second.of(ProgressInit))] == [3, 1]
    assert out.values("n") == sorted([*range(1, 27), 1])
    assert [event.status for event in third.of(Finished)] == [Status.SKIPPED]


async def test_going_on_behind_what_is_no_key_is_refused(out: Outcome) -> None:
    """E-10: a partial, nullable or missing unique index makes no key, whatever it is used for (lesson 10)."""
    integer = out.database.integer
    out.database.execute(f"CREATE TABLE t (id {integer} NOT NULL PRIMARY KEY, n {integer} UNIQUE)")

    verdict = await out.refused(table="t", mode="chunked", chunk_by_key="n", keyset_incremental=True)

    assert verdict.failure is not None
    assert verdict.failure.code.value == "PLAN_KEY_NOT_USABLE"
    assert "usable: id" in verdict.failure.message


async def test_rows_that_are_not_old_enough_do_not_move_the_cursor(
    out: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-10: with `settle` a row that is committed late, within the age, is not passed by."""
    clock = Clock(datetime(2026, 3, 1, 10, 1, 0, tzinfo=UTC))
    for kind in ("postgres.source.PostgresSource", "mysql.source.MysqlSource", "sqlite.source.SqliteSource"):
        monkeypatch.setattr(f"procflow_export.sources.{kind}.now", clock.read)
    make(out, rows=3)
    out.database.execute("DELETE FROM t WHERE at IS NULL")
    insert(out, {10: (20, "old"), 11: (50, "young")})
    settling = INCREMENTAL | {"settle": {"after": "30s"}}

    await out.run(settling)
    assert out.values("id") == [1, 2, 3, 10]

    insert(out, {12: (45, "late")})  # committed after rows that are younger than it
    clock.advance(seconds=30)
    await out.run(settling)
    assert out.values("id") == [1, 2, 3, 10, 11, 12]

    aged = {
        "table": "t",
        "name": "u",
        "mode": "incremental",
        "cursor_column": "id",
        "settle": {"column": "at", "after": "1h"},
    }
    ran = await out.run(aged)
    assert (ran.of(Finished)[0].row_count, out.manifest("u").row_count) == (0, 0)
    clock.advance(hours=1)
    await out.run(aged)
    assert out.values("id", "u") == [1, 2, 3, 10, 11, 12]


async def test_a_first_run_over_nothing_shows_the_columns_and_goes_on_from_there(out: Outcome) -> None:
    """E-10, E-43: the part without rows leaves the set with the first part that has some."""
    out.database.execute(
        f"CREATE TABLE t (id {out.database.integer} NOT NULL PRIMARY KEY, at {STAMP[out.database.kind]}, v varchar(20))"
    )

    await out.run(INCREMENTAL)
    assert [part.row_count for part in out.manifest().parts] == [0]
    assert (await out.run(INCREMENTAL)).of(Finished)[0].status is Status.SKIPPED

    insert(out, {1: (1, "a")})
    await out.run(INCREMENTAL)
    assert [part.row_count for part in out.manifest().parts] == [1]


async def test_the_manifest_of_a_run_names_its_own_parts_and_the_canonical_one_all(out: Outcome) -> None:
    """E-42: W4: one put carries the set and the cursor; each run's own manifest stays as it was (lessons 4, 5 and 6)."""
    make(out)
    await out.run(INCREMENTAL)
    first = out.manifest()
    insert(out, {40: (60, "later")})
    await out.run(INCREMENTAL)
    second = out.manifest()

    own = [path for path in out.directory().iterdir() if path.name.startswith("manifest-")]
    assert len(own) == 2
    assert second.run_id != first.run_id
    assert (out.directory() / f"manifest-{first.run_id}.json").read_bytes() == _encoded(first)
    keys = [part.key for part in second.parts]
    assert len(set(keys)) == len(keys)
    assert {part.key for part in first.parts if part.scope is None} <= set(keys)
    assert second.row_count == sum(part.row_count for part in second.parts) == 33
    assert second.cursor is not None
    assert first.cursor is not None
    assert second.cursor.owner == first.cursor.owner
    assert second.cursor.position != first.cursor.position


async def test_every_sibling_of_a_rotated_chunk_stays_in_the_set(out: Outcome) -> None:
    """E-42: a chunk of several parts is in the set with all of them, also after later runs (lesson 6)."""
    integer = out.database.integer
    out.database.execute(
        f"CREATE TABLE t (id {integer} NOT NULL PRIMARY KEY, v varchar(40))",
        f"INSERT INTO t SELECT n, 'value' FROM ({out.database.numbers(9_000)}) AS g",
    )
    rotated = {
        "table": "t",
        "mode": "incremental",
        "cursor_column": "id",
        "max_file_size": "20KB",
        "compression": "none",
    }

    await out.run(rotated)
    first = [part.key for part in out.manifest().parts]
    out.database.execute("INSERT INTO t VALUES (10000, 'late')")
    await out.run(rotated)

    assert len(first) >= 3
    assert [part.key for part in out.manifest().parts][:-1] == first
    assert out.values("id") == [*range(1, 9_001), 10_000]


async def test_parts_go_where_the_path_says_and_the_manifest_stays(out: Outcome) -> None:
    """E-41, E-42: placeholders that differ from run to run are part of the names of parts."""
    make(out)

    await out.run(INCREMENTAL, path="out/{export}/{date}/{run_id}")
    insert(out, {40: (60, "later")})
    await out.run(INCREMENTAL, path="out/{export}/{date}/{run_id}")

    directories = {Path(part.key).parent for part in out.manifest().parts}
    assert len(directories) == 2
    assert len(out.rows()) == 33


@pytest.mark.parametrize(
    ("source", "kind", "value"),
    [
        ("postgres", "date", "infinity"),
        ("postgres", "timestamptz", "infinity"),
        ("postgres", "numeric", "NaN"),
        ("postgres", "numeric(9,2)", "NaN"),
        ("postgres", "numeric", "Infinity"),
        ("sqlite", "integer", "never"),
    ],
)
async def test_a_cursor_that_could_never_be_passed_is_refused(out: Outcome, source: str, kind: str, value: str) -> None:
    """E-10: an infinity, NaN, or a text where numbers are, is an error and no cursor that stands still for ever (lesson 3)."""
    if out.database.kind != source:
        pytest.skip(f"a value of {source}")
    out.database.execute(
        f"CREATE TABLE t (id integer NOT NULL PRIMARY KEY, at {kind})", f"INSERT INTO t VALUES (1, '{value}')"
    )

    verdict = await out.refused(**INCREMENTAL)

    assert verdict.failure is not None
    assert verdict.failure.code.value == "PLAN_KEY_NOT_USABLE"
    assert "no row would ever be new" in verdict.failure.message


def _encoded(manifest: Any) -> bytes:
    from procflow_export.model.manifest import encode_manifest

    return encode_manifest(manifest)
