"""Cursors belong to the export that made them: an edited one is refused until somebody decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from procflow_export import ExitStatus, Exporter, Finished
from procflow_export.engines.in_process import InProcessEngine
from procflow_export.model.errors import MisuseError, PlanError
from procflow_export.model.events import UnitEvent
from procflow_export.model.plan import UnitResult, WorkUnit
from procflow_export.pipeline.cursor_state import CursorState, accept_cursor, cursor_state, reset_cursor
from procflow_export.state import StateStore, open_state
from tests.export.modes.sets import Outcome, source_of
from tests.export.pipeline.runs import run
from tests.export.sources.databases import SqliteDatabase

pytestmark = pytest.mark.anyio

BASE: dict[str, Any] = {"table": "t", "mode": "incremental", "cursor_column": "at"}


def make(out: Outcome) -> None:
    integer = out.database.integer
    for table in ("t", "u"):
        out.database.execute(
            f"CREATE TABLE {table} (id {integer} NOT NULL PRIMARY KEY, at {integer} NOT NULL, later {integer})",
            f"INSERT INTO {table} VALUES (1, 1, 1), (2, 2, 2)",
        )


@pytest.fixture
def store() -> Iterator[StateStore]:
    with open_state(None) as store:
        yield store


async def state_of(out: Outcome, export: dict[str, Any]) -> tuple[CursorState, anyio.CapacityLimiter]:
    threads = anyio.CapacityLimiter(1)
    async with Exporter(out.config(export)) as exporter:
        (target,) = exporter.targets
    return await cursor_state(target, {}, threads), threads


EDITS: dict[str, tuple[dict[str, Any], str]] = {
    "another table": ({"table": "u"}, "its selection was table t and is table u"),
    "a query": ({"table": None, "query": "SELECT * FROM t"}, "its selection was table t and is query"),
    "another cursor": ({"cursor_column": "later"}, "its cursor was at and is later"),
    "a fallback": (
        {"incremental_cursor_mode": "coalesce", "cursor_fallback_column": "later"},
        "its cursor was at and is coalesce(at, later)",
    ),
    "another format": ({"format": "csv"}, "its format was parquet and is csv"),
    "another type": ({"columns": {"later": "text"}}, 'its columns was none and is {"later":"text"}'),
    "another mode": (
        {
            "mode": "time_window",
            "cursor_column": None,
            "time_column": "at",
            "days_window": 3,
            "time_column_type": "unix",
        },
        "its mode was incremental and is time_window",
    ),
    "a mode that replaces the set": ({"mode": "full", "cursor_column": None}, "its mode was incremental and is full"),
    "a mode without a cursor": ({"mode": "chunked", "cursor_column": None}, "its mode was incremental and is chunked"),
}


@pytest.mark.parametrize("edit", list(EDITS))
async def test_an_edited_export_is_refused_and_says_what_changed(out: Outcome, edit: str) -> None:
    """E-13: a cursor belongs to column, source, destination and format; the refusal has its own code and exit status."""
    make(out)
    await out.run(BASE)
    before = (out.directory() / "manifest.json").read_bytes()
    changes, said = EDITS[edit]

    ran = await run(out.config(BASE | changes))

    (verdict,) = ran.of(Finished)
    assert verdict.failure is not None
    assert verdict.failure.code.value == "CURSOR_NOT_OWNED"
    assert ran.result.exit_status is ExitStatus.REFUSED
    assert said in "\n".join([verdict.failure.message, *verdict.failure.notes])
    assert any("state reset" in note for note in verdict.failure.notes)
    assert (out.directory() / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("edit", ["another table", "a query", "another type"])
async def test_an_accepted_edit_keeps_cursor_and_parts(out: Outcome, store: StateStore, edit: str) -> None:
    """E-13: who knows that the rows are the same goes on where the cursor stands."""
    make(out)
    await out.run(BASE)
    edited = BASE | EDITS[edit][0]
    stored = out.manifest()
    table = edited["table"] or "t"

    state, threads = await state_of(out, edited)
    assert len(state.changes) == 1
    assert state.changes[0].startswith(EDITS[edit][1])
    await accept_cursor(state, store, threads)

    assert out.manifest().parts == stored.parts
    assert stored.cursor is not None
    accepted = out.manifest().cursor
    assert accepted is not None
    assert (accepted.position, accepted.key) == (stored.cursor.position, stored.cursor.key)
    out.database.execute(f"INSERT INTO {table} VALUES (3, 3, 3)")
    await out.run(edited)
    assert out.values("id") == [1, 2, 3]


@pytest.mark.parametrize("edit", ["another cursor", "another format", "another mode", "a mode that replaces the set"])
async def test_an_edit_that_makes_the_position_meaningless_cannot_be_accepted(
    out: Outcome, store: StateStore, edit: str
) -> None:
    """E-13: a value of one column says nothing about another; such an export can only begin anew."""
    make(out)
    await out.run(BASE)

    state, threads = await state_of(out, BASE | EDITS[edit][0])
    with pytest.raises(PlanError) as caught:
        await accept_cursor(state, store, threads)

    assert caught.value.code.value == "CURSOR_NOT_OWNED"
    assert "state reset" in caught.value.__notes__[0]


@pytest.mark.parametrize("edit", list(EDITS))
async def test_a_reset_export_begins_anew_and_replaces_its_set(out: Outcome, store: StateStore, edit: str) -> None:
    """E-13: after `state reset` the next run exports everything; readers keep the old set until then."""
    make(out)
    await out.run(BASE)
    edited = BASE | EDITS[edit][0]
    out.database.execute("INSERT INTO t VALUES (3, 3, 3)", "DELETE FROM t WHERE id = 1")

    state, threads = await state_of(out, edited)
    await reset_cursor(state, store, threads)
    assert out.values("id") == [1, 2]

    await out.run(edited)
    if edit not in ("another format", "another mode"):
        assert out.values("id") == ([1, 2] if edited["table"] == "u" else [2, 3])
    assert out.manifest().row_count == (0 if edit == "another mode" else 2)


async def test_what_cannot_change_is_refused_by_the_commands(out: Outcome, store: StateStore) -> None:
    """E-13: accepting or resetting what is not there is an error and never a silent success (lesson 40)."""
    make(out)
    state, threads = await state_of(out, BASE)
    for act in (accept_cursor, reset_cursor):
        with pytest.raises(MisuseError, match="no cursor is stored"):
            await act(state, store, threads)

    await out.run(BASE)
    state, threads = await state_of(out, BASE)
    with pytest.raises(MisuseError, match="nothing to accept"):
        await accept_cursor(state, store, threads)


async def test_the_owner_names_no_secret(out: Outcome) -> None:
    """E-2, E-13: the source is told by engine, server and database; no user, no password, nothing of a query's text."""
    make(out)
    secret = "SELECT id, at FROM t WHERE 'hunter2' <> ''"
    await out.run(BASE | {"table": None, "query": secret})

    text = (out.directory() / "manifest.json").read_text()
    cursor = json.loads(text)["cursor"]

    assert cursor["owner"]["source"].startswith(f"{out.database.kind} ")
    assert "hunter2" not in text
    assert "@" not in cursor["owner"]["source"]


async def test_another_database_is_another_source(tmp_path: Any) -> None:
    """E-13: the same table of another database is not what the cursor was made with."""
    outcomes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        outcomes.append(Outcome(database=SqliteDatabase(tmp_path / name / "source.db"), root=tmp_path))
        make(outcomes[-1])
    await outcomes[0].run(BASE)

    verdict = await outcomes[1].refused(**BASE)

    assert verdict.failure is not None
    assert "its source was sqlite" in verdict.failure.message
    assert source_of(outcomes[0].database) != source_of(outcomes[1].database)


async def test_settings_that_change_no_row_need_no_decision(out: Outcome) -> None:
    """E-13: what has nothing to do with the cursor may be edited."""
    make(out)
    await out.run(BASE)
    out.database.execute("INSERT INTO t VALUES (3, 3, 3)")

    await out.run(
        BASE | {"compression": "snappy", "parallel": 3, "settle": {"after": "1s", "column": None}} | {"settle": None}
    )

    assert out.values("id") == [1, 2, 3]


async def test_a_dropped_key_or_a_changed_type_is_told(out: Outcome) -> None:
    """E-13: the cursor is one of (at, id): when the key is gone, what follows it is unknown."""
    if out.database.kind == "sqlite":
        pytest.skip("SQLite drops no primary key")
    make(out)
    await out.run(BASE)
    out.database.execute(
        "ALTER TABLE t DROP CONSTRAINT t_pkey" if out.database.kind == "postgres" else "ALTER TABLE t DROP PRIMARY KEY"
    )

    verdict = await out.refused(**BASE)

    assert verdict.failure is not None
    assert verdict.failure.code.value == "CURSOR_NOT_OWNED"
    assert "(at, id)" in verdict.failure.message


async def test_two_runs_at_once_do_not_publish_over_each_other(out: Outcome) -> None:
    """E-43: a run that another one overtook publishes nothing and may be run again."""
    make(out)
    await out.run(BASE)
    out.database.execute("INSERT INTO t VALUES (3, 3, 3)")

    class Overtaken(InProcessEngine):
        async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
            result = await super().execute(unit, report)
            await out.run(BASE)  # the other run plans, reads and publishes while this one is about to
            return result

    result = (await run(out.config(BASE), engine=Overtaken())).result

    (verdict,) = result.exports
    assert verdict.failure is not None
    assert verdict.failure.code.value == "PUBLISHED_MEANWHILE"
    assert result.exit_status is ExitStatus.RETRY
    assert out.values("id") == [1, 2, 3]
