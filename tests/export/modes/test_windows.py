"""Time windows: the last days again by every run, and the days before as they were."""

from __future__ import annotations

from typing import Any

import pytest

from procflow_export import Finished, ProgressInit, Status
from tests.export.modes.sets import ENGINES, Clock, Outcome, warnings

pytestmark = pytest.mark.anyio

STAMP = {"postgres": "timestamptz", "mysql": "timestamp(6) NULL", "sqlite": "timestamp"}
WINDOW = {"table": "t", "mode": "time_window", "time_column": "at", "days_window": 2}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Noon of 10 March 2026."""
    clock = Clock()
    for kind in ("postgres.source.PostgresSource", "mysql.source.MysqlSource", "sqlite.source.SqliteSource"):
        monkeypatch.setattr(f"procflow_export.sources.{kind}.now", clock.read)
    return clock


def make(out: Outcome, kind: str = "stamp") -> None:
    column = {"stamp": STAMP[out.database.kind], "date": "date", "unix": out.database.integer}[kind]
    out.database.execute(
        f"CREATE TABLE t (id {out.database.integer} NOT NULL PRIMARY KEY, at {column}, v varchar(20))",
        "CREATE INDEX t_at ON t (at)",
    )


def put(out: Outcome, key: int, at: str | None, text: str = "first") -> None:
    utc = {"postgres": "SET timezone = 'UTC'", "mysql": "SET time_zone = '+00:00'", "sqlite": "SELECT 1"}
    value = "NULL" if at is None else f"'{at}'"
    out.database.execute(
        utc[out.database.kind], f"DELETE FROM t WHERE id = {key}", f"INSERT INTO t VALUES ({key}, {value}, '{text}')"
    )


def versions(out: Outcome) -> list[tuple[int, str]]:
    return sorted((int(row[0]), row[2]) for row in out.rows())


@pytest.mark.parametrize("engine", list(ENGINES))
async def test_days_of_the_window_are_replaced_and_older_ones_stay(out: Outcome, clock: Clock, engine: str) -> None:
    """E-10, E-36, E-42: each row once however windows overlap: a day's parts are those of the last run that had it."""
    out.engine = engine
    make(out)
    for key, at in enumerate(
        [
            "2026-03-07 23:59:59.999999",
            "2026-03-08 00:00:00",
            "2026-03-09 12:00:00",
            "2026-03-10 11:00:00",
            "2026-03-11 00:00:00",
        ]
    ):
        put(out, key, at)
    put(out, 9, None)

    first = await out.run(WINDOW)
    assert versions(out) == [(1, "first"), (2, "first"), (3, "first"), (4, "first"), (9, "first")]
    assert first.of(ProgressInit)[0].total_chunks == 5  # three days, later ones, and none

    clock.advance(days=1)
    put(out, 1, "2026-03-08 00:00:01", "too late")
    put(out, 2, "2026-03-09 12:00:00", "second")
    put(out, 3, "2026-03-11 11:00:00", "moved")
    put(out, 5, "2026-03-11 11:00:00", "new")
    put(out, 9, None, "second")
    second = await out.run(WINDOW)

    assert versions(out) == [(1, "first"), (2, "second"), (3, "moved"), (4, "first"), (5, "new"), (9, "second")]
    assert warnings(second) == ""
    assert second.of(Finished)[0].status is Status.SUCCESS


@pytest.mark.parametrize("kind", ["date", "unix"])
async def test_dates_and_unix_times_have_days_too(out: Outcome, clock: Clock, kind: str) -> None:
    """E-10: `time_column_type: unix` counts seconds; a date is its day."""
    make(out, kind)
    days = {1: "2026-03-07", 2: "2026-03-08", 3: "2026-03-10"}
    seconds = {1: "1772927999", 2: "1772928000", 3: "1773187199"}
    for key, day in (seconds if kind == "unix" else days).items():
        put(out, key, day)

    await out.run(WINDOW | ({"time_column_type": "unix"} if kind == "unix" else {}))

    assert out.values("id") == [2, 3]


async def test_days_between_two_windows_are_told(out: Outcome, clock: Clock) -> None:
    """E-10: a run that comes too late says which days nobody exported whole."""
    make(out)
    put(out, 1, "2026-03-10 11:00:00")
    await out.run(WINDOW)

    clock.advance(days=9)
    ran = await out.run(WINDOW)

    assert "from 2026-03-10 to 2026-03-16" in warnings(ran)
    assert out.values("id") == [1]


async def test_a_time_column_of_another_type_is_refused(out: Outcome, clock: Clock) -> None:
    """E-10: numbers are no timestamps unless the configuration says so, and texts are neither."""
    make(out, "unix")

    for export in (WINDOW, WINDOW | {"time_column": "v"}, WINDOW | {"time_column": "v", "time_column_type": "unix"}):
        verdict = await out.refused(**export)
        assert verdict.failure is not None
        assert verdict.failure.code.value == "PLAN_KEY_NOT_USABLE"


async def test_a_window_over_a_query(out: Outcome, clock: Clock) -> None:
    """E-10: a query has windows like a table."""
    make(out)
    put(out, 1, "2026-03-10 11:00:00")
    put(out, 2, "2026-03-01 11:00:00")
    query: dict[str, Any] = WINDOW | {"table": None, "query": "SELECT id, at FROM t"}

    await out.run(query)

    assert out.values("id") == [1]
