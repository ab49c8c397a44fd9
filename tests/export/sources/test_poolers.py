"""Poolers between us and PostgreSQL: seen, told, and read through; the one that cannot be is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from procflow_export import ExitStatus, Status, Warned, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.plan import Query, Relation
from procflow_export.model.settings import SourceConfig, SourceType, Tuning
from procflow_export.sources import open_source
from procflow_export.sources.postgres.pooler import POOLER_WARNING, is_pooled
from tests.export.pipeline.runs import run, select
from tests.export.sources.databases import FAST, PostgresDatabase, opened, read, values
from tests.export.sources.poolers import odyssey, pgbouncer

pytestmark = pytest.mark.anyio

POOLED = ("session", "transaction")


def config_of(url: str, tuning: Tuning = FAST) -> SourceConfig:
    return SourceConfig(type=SourceType.POSTGRES, url=url, tuning=tuning)


async def test_a_server_is_not_taken_for_a_pooler(postgres: PostgresDatabase) -> None:
    """E-4: nothing is told where the way is direct."""
    async with opened(postgres) as source:
        await source.profile(Query(text="SELECT 1 AS a"))

        assert source.warnings == ()


@pytest.mark.parametrize(
    ("announced", "backend", "expected"),
    [
        (4711, 4711, False),
        (4711, 4712, True),
        (-717615823, 5199, True),  # PgBouncer 1.18
        (0x63613162, 5199, True),  # Odyssey: the first letters of a client's id
        (-1, 0xFFFF_FFFF, False),
    ],
)
def test_who_has_answered_is_told_by_its_number(announced: int, backend: int, expected: bool) -> None:
    """E-4: poolers give clients numbers of their own to cancel by, in every mode."""
    assert is_pooled(announced=announced, backend=backend) is expected


@pytest.mark.parametrize("mode", POOLED)
async def test_pgbouncer_is_seen_and_read_through(postgres: PostgresDatabase, mode: str) -> None:
    """E-4: in session and transaction mode the operator is told, and every value comes as it is."""
    postgres.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, d interval, f float8)",
        "INSERT INTO t SELECT n, timestamptz '2026-03-04 05:06:07.089+00' + n * interval '1 hour', n * interval '1 day', n / 7.0"
        " FROM generate_series(1, 500) AS n",
    )
    async with opened(postgres) as source:
        direct = await read(source, Relation(table="t"))

    async with pgbouncer(postgres.url, mode=mode) as url, open_source(config_of(url), environ={}) as source:
        through = await read(source, Relation(table="t"))

        assert source.warnings == (POOLER_WARNING,)
    assert through.equals(direct)


async def test_settings_of_others_do_not_reach_us_nor_ours_them(postgres: PostgresDatabase) -> None:
    """E-4: settings are in the transaction: what another client left in a session changes no value, and we leave nothing."""
    postgres.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, d interval, b bytea, f float8)",
        "INSERT INTO t VALUES (1, '2026-03-04 05:06:07.089+00', '1 mon 2 days 03:00', '\\x00ff5c', 0.1)",
    )
    async with opened(postgres) as source:
        direct = await read(source, Relation(table="t"))
    hostile = (
        "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard';"
        "SET bytea_output = 'escape'; SET extra_float_digits = -10; SET standard_conforming_strings = off;"
        "SET statement_timeout = '7777s'; SET default_transaction_isolation = 'serializable'"
    )

    async with pgbouncer(postgres.url, mode="transaction", settings={"default_pool_size": 1}) as url:
        other = await asyncpg.connect(url, ssl=False, statement_cache_size=0)
        await other.execute(hostile)
        before = await session_state(other)
        async with open_source(config_of(url, Tuning(statement_timeout_s=99)), environ={}) as source:
            texts = Query(text="SELECT :p AS p, 'a\\b' AS q", parameters={"p": "it's \\"})
            for _ in range(2):
                assert (await read(source, Relation(table="t"))).equals(direct)
                assert (await read(source, texts)).to_pylist() == [{"p": "it's \\", "q": "a\\b"}]
            limits = Query(text="SELECT current_setting('statement_timeout') AS v, current_setting('TimeZone') AS z")
            assert (await read(source, limits)).to_pylist() == [{"v": "99s", "z": "UTC"}]
        after = await session_state(other)
        await other.close()

    assert before[0] == "Asia/Kathmandu"
    assert after == before


async def session_state(connection: Any) -> list[Any]:
    names = "TimeZone DateStyle bytea_output extra_float_digits statement_timeout lock_timeout transaction_read_only"
    found = [await connection.fetchval(f"SELECT current_setting('{name}')") for name in names.split()]
    found.append(await connection.fetchval("SELECT pg_backend_pid()"))
    found.append(await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"))
    found.append(await connection.fetchval("SELECT count(*) FROM pg_views WHERE viewname LIKE 'procflow%'"))
    return found


async def test_more_readers_than_sessions_take_turns(postgres: PostgresDatabase) -> None:
    """E-4: a pool that is smaller than the export makes it wait, not fail."""
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 1000)")
    counts: list[int] = []

    async with (
        pgbouncer(postgres.url, mode="transaction", settings={"default_pool_size": 2}) as url,
        open_source(config_of(url), environ={}) as source,
        anyio.create_task_group() as tasks,
    ):

        async def count() -> None:
            counts.append(len(values(await read(source, Relation(table="t")))))

        for _ in range(8):
            tasks.start_soon(count)

    assert counts == [1000] * 8


async def test_a_cancelled_statement_ends_on_the_server(postgres: PostgresDatabase) -> None:
    """E-4, E-5: the pooler passes the cancellation on."""
    sleep = Query(text="SELECT pg_sleep(600)::text AS v")

    async with pgbouncer(postgres.url, mode="transaction") as url, open_source(config_of(url), environ={}) as source:
        columns = (await source.profile(sleep)).columns
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reading_for_ever, source, sleep, columns)
            await statements(postgres, count=1)
            tasks.cancel_scope.cancel()
        await statements(postgres, count=0)


async def reading_for_ever(source: Any, selection: Query, columns: Any) -> None:
    await read(source, selection, columns=columns)


async def statements(postgres: PostgresDatabase, *, count: int) -> None:
    """Wait until so many of our sleeping statements run."""
    watcher = await asyncpg.connect(postgres.url)
    try:
        with anyio.fail_after(30):
            text = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%pg_sleep(600)%' AND state = 'active'"
            while await watcher.fetchval(text) != count:
                await asyncio.sleep(0.02)
    finally:
        await watcher.close()


async def test_statement_pooling_is_refused_with_advice(postgres: PostgresDatabase) -> None:
    """E-4: a pooler that breaks transactions up is no way to read, and the error says what to set."""
    async with pgbouncer(postgres.url, mode="statement") as url, open_source(config_of(url), environ={}) as source:
        for _ in range(2):
            with pytest.raises(SourceError, match="set pool_mode to transaction or session") as caught:
                await source.profile(Query(text="SELECT 1 AS a"))

            assert caught.value.code is Code.SOURCE_NOT_SUPPORTED
            assert not caught.value.is_transient


async def test_odyssey_is_seen_and_read_through_or_refused(postgres: PostgresDatabase) -> None:
    """E-4: the same holds for another pooler, where there is one."""
    postgres.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz)", "INSERT INTO t VALUES (1, now()), (2, NULL)"
    )
    async with opened(postgres) as source:
        direct = await read(source, Relation(table="t"))
    for mode in POOLED:
        async with odyssey(postgres.url, mode=mode) as url, open_source(config_of(url), environ={}) as source:
            assert (await read(source, Relation(table="t"))).equals(direct)
            assert source.warnings == (POOLER_WARNING,)

    async with odyssey(postgres.url, mode="statement") as url, open_source(config_of(url), environ={}) as source:
        with pytest.raises(SourceError, match="statement pooling"):
            await source.profile(Query(text="SELECT 1 AS a"))


# --- whole runs -----------------------------------------------------------------------------------------------------


def loaded(url: str, root: Path) -> LoadedConfig:
    return read_config(
        {
            "source": {"type": "postgres", "url": url},
            "destination": {"type": "local", "path": "out"},
            "exports": [
                {"name": "t", "table": "t", "mode": "chunked", "chunk_size": 100, "parallel": 3, "format": "parquet"}
            ],
        },
        base_dir=root,
    )


@pytest.mark.parametrize("mode", POOLED)
async def test_a_run_through_pgbouncer_tells_and_is_whole(
    postgres: PostgresDatabase, mode: str, tmp_path: Path
) -> None:
    """E-4: the warning is an event of the run, and the chunks are those of the table."""
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 1000)")

    async with pgbouncer(postgres.url, mode=mode, settings={"default_pool_size": 3}) as url:
        ran = await run(loaded(url, tmp_path))

    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]
    assert [event.message for event in ran.of(Warned)] == [POOLER_WARNING]
    assert select(f"select count(*), count(distinct id) from '{tmp_path}/out/t/*.parquet'") == [(1000, 1000)]


async def test_a_pool_of_one_has_no_snapshot_and_says_so(
    postgres: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-4, E-11: what would hold the only session for ever is not begun; the run goes on chunk by chunk and tells."""
    monkeypatch.setattr("procflow_export.sources.postgres.pooler.SESSION_WAIT_S", 0.5)
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 1000)")

    async with pgbouncer(postgres.url, mode="transaction", settings={"default_pool_size": 1}) as url:
        ran = await run(loaded(url, tmp_path))

    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]
    assert any("gave no second session" in event.message for event in ran.of(Warned))
    assert select(f"select count(*), count(distinct id) from '{tmp_path}/out/t/*.parquet'") == [(1000, 1000)]


async def test_a_run_through_statement_pooling_fails_at_once(postgres: PostgresDatabase, tmp_path: Path) -> None:
    """E-4: no retry helps, so there is none."""
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY)")

    async with pgbouncer(postgres.url, mode="statement") as url:
        ran = await run(loaded(url, tmp_path))

    (verdict,) = ran.result.exports
    assert (verdict.status, verdict.retry_count) == (Status.FAILED, 0)
    assert verdict.failure is not None
    assert verdict.failure.code is Code.SOURCE_NOT_SUPPORTED
