"""Whole runs over real PostgreSQL and MariaDB servers."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from procflow_export import ExitStatus, Finished, ProgressInit, RunFinished, Status, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.sources import ReadStatistics
from procflow_export.sources.pieces import Pacer
from tests.export.pipeline.runs import run, select
from tools.pytest_servers import mariadb_execute, mariadb_rows, postgres_execute

pytestmark = pytest.mark.anyio

ROWS = 30_000


@pytest.fixture(scope="module")
def postgres(postgres_module_database: str) -> str:
    postgres_execute(
        postgres_module_database,
        "create table lines(id bigint primary key, item text not null, price numeric(12,2), at timestamptz)",
        f"""insert into lines select n * 2 - 1000, 'item ' || n, n / 100.0, timestamptz '2026-01-01' + n * interval '1 min'
            from generate_series(1, {ROWS}) as n""",
        "create table loose(k integer, v text)",
        "insert into loose select case when n % 5 = 0 then null else n end, 'v' || n from generate_series(1, 1000) as n",
        "analyze",
    )
    return postgres_module_database


@pytest.fixture(scope="module")
def mariadb(mariadb_module_database: str) -> str:
    mariadb_execute(
        mariadb_module_database,
        "create table clients(id bigint unsigned primary key, name varchar(40) not null, score decimal(10,3))",
        f"insert into clients select seq + 18446744073709500000, concat('client ', seq), seq / 8 from seq_1_to_{ROWS}",
    )
    return mariadb_module_database


def config(root: Path, sources: dict[str, Any], *exports: dict[str, Any]) -> LoadedConfig:
    return read_config(
        {
            "sources": {name: value | {"tls": {"mode": "disable"}} for name, value in sources.items()},
            "destination": {"type": "local", "path": "out"},
            "exports": [{"mode": "chunked", "format": "parquet"} | export for export in exports],
        },
        base_dir=root,
    )


async def test_two_databases_are_exported_at_once(postgres: str, mariadb: str, tmp_path: Path) -> None:
    """E-1, E-10, E-31: chunks of several tables of several servers in one run; counts and sums are the sources' own."""
    loaded = config(
        tmp_path,
        {"pg": {"type": "postgres", "url": postgres}, "my": {"type": "mysql", "url": mariadb}},
        {"name": "lines", "source": "pg", "table": "public.lines", "chunk_size": 10_000, "parallel": 3},
        {"name": "loose", "source": "pg", "query": "select * from loose", "chunk_column": "k", "chunk_count": 3},
        {"name": "clients", "source": "my", "table": "clients", "chunk_size": 10_000, "parallel": 2},
    )

    ran = await run(loaded)

    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]
    out = tmp_path / "out"
    lines = select(f"select count(*), count(distinct id), sum(price) from '{out}/lines/*.parquet'")
    loose = select(f"select count(*), count(k), count(distinct v) from '{out}/loose/*.parquet'")
    clients = select(f"select count(*), count(distinct id), sum(score) from '{out}/clients/*.parquet'")
    assert lines[0][:2] == (ROWS, ROWS)
    assert float(lines[0][2]) == sum(n for n in range(1, ROWS + 1)) / 100
    assert loose == [(1000, 800, 1000)]
    assert clients[0][:2] == (ROWS, ROWS)
    assert float(clients[0][2]) == sum(range(1, ROWS + 1)) / 8
    assert [event.key for event in ran.of(ProgressInit, "lines")] == ["id"]
    assert ran.of(ProgressInit, "clients")[0].total_chunks >= 3
    assert all(verdict.longest_statement_s > 0 for verdict in ran.of(Finished))


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
async def test_a_statement_of_the_planner_is_the_longest_if_it_is(
    kind: str, postgres: str, mariadb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-5: the run reports its longest statement, those by which it found out where to cut included."""
    url, table = (postgres, "public.lines") if kind == "postgres" else (mariadb, "clients")
    was_asked = ReadStatistics.record_statement
    asked: list[float] = []

    def record(statistics: ReadStatistics, elapsed_s: float) -> None:
        asked.append(elapsed_s + (1000 if len(asked) == 1 else 0))  # the second one belongs to the planner
        was_asked(statistics, asked[-1])

    monkeypatch.setattr(ReadStatistics, "record_statement", record)

    ran = await run(
        config(tmp_path, {"db": {"type": kind, "url": url}}, {"name": "a", "source": "db", "table": table}),
    )

    assert ran.result.exit_status is ExitStatus.OK
    (finished,) = ran.of(RunFinished)
    assert finished.longest_statement_s == max(asked) > 1000
    assert all(verdict.longest_statement_s < 1000 for verdict in ran.of(Finished))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows or pages, however fast they are read."""
    for name, value in (
        ("pieces.MOST_ROWS", 2_000),
        ("postgres.pieces.FIRST_BYTES", 1),
        ("postgres.pieces.FIRST_PAGES", 4),
    ):
        monkeypatch.setattr(f"procflow_export.sources.{name}", value)
    for module in ("pages", "pieces"):
        monkeypatch.setattr(f"procflow_export.sources.postgres.{module}.MOST_PAGES", 8)
    monkeypatch.setattr("procflow_export.sources.postgres.pages.FIRST_PAGES", 4)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("kind", ["postgres", "mysql"])
async def test_a_run_reads_in_short_statements(
    kind: str, postgres: str, mariadb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-5: without a word in the configuration, a whole table and a chunk are read in pieces, and published whole."""
    url, table = (postgres, "public.lines") if kind == "postgres" else (mariadb, "clients")
    found: list[ReadStatistics] = []

    def counting() -> ReadStatistics:
        found.append(ReadStatistics())
        return found[-1]

    monkeypatch.setattr("procflow_export.pipeline.unit.ReadStatistics", counting)

    ran = await run(
        config(
            tmp_path,
            {"db": {"type": kind, "url": url}},
            {"name": "whole", "source": "db", "table": table, "mode": "full"},
            {"name": "cut", "source": "db", "table": table, "chunk_count": 2},
        )
    )

    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]
    for name in ("whole", "cut"):
        assert select(f"select count(*), count(distinct id) from '{tmp_path}/out/{name}/*.parquet'") == [(ROWS, ROWS)]
    assert len(found) == 3
    assert all(statistics.statement_count > 5 for statistics in found)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("mode", [{"mode": "full"}, {"chunk_count": 2}], ids=["whole", "cut"])
@pytest.mark.parametrize("kind", ["postgres", "mysql"])
async def test_a_connection_that_dies_between_pieces_costs_no_row(
    kind: str,
    mode: dict[str, Any],
    postgres: str,
    mariadb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E-5, E-43: what is read again is the chunk, from its first piece on; each row is published once."""
    url, table = (postgres, "public.lines") if kind == "postgres" else (mariadb, "clients")
    note = Pacer.note
    count = 0

    def note_and_kill(pacer: Pacer, elapsed_s: float) -> None:
        nonlocal count
        count += 1
        if count == 3:
            kill_others(kind, url)
        note(pacer, elapsed_s)

    monkeypatch.setattr(Pacer, "note", note_and_kill)

    ran = await run(
        config(tmp_path, {"db": {"type": kind, "url": url}}, {"name": "a", "source": "db", "table": table} | mode)
    )

    assert ran.result.exit_status is ExitStatus.OK, [verdict.failure for verdict in ran.result.exports]
    assert ran.result.exports[0].retry_count >= 1
    assert select(f"select count(*), count(distinct id) from '{tmp_path}/out/a/*.parquet'") == [(ROWS, ROWS)]


def kill_others(kind: str, url: str) -> None:
    """End every connection to a database but this one."""
    if kind == "postgres":
        with ThreadPoolExecutor(1) as thread:  # this one runs a loop already
            statement = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            thread.submit(postgres_execute, url, statement).result()
        return
    where = "db = database() and id <> connection_id()"
    for (number,) in mariadb_rows(url, f"select id from information_schema.processlist where {where}"):
        mariadb_execute(url, f"kill connection {number}")


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
async def test_a_wrong_password_is_an_error_without_it(
    kind: str, postgres: str, mariadb: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """E-2: the canary is in no event, file or log line; the failure says what to fix."""
    from urllib.parse import urlsplit, urlunsplit

    canary = "c4n4ry-p4ss/w0rd"
    url = urlsplit(postgres if kind == "postgres" else mariadb)
    wrong = urlunsplit(url._replace(netloc=f"nobody:c4n4ry-p4ss%2Fw0rd@{url.hostname or '127.0.0.1'}:{url.port or 1}"))
    table = {"name": "a", "source": "db", "table": "lines"}

    with caplog.at_level(logging.DEBUG):
        ran = await run(config(tmp_path, {"db": {"type": kind, "url": wrong}}, table))

    (verdict,) = ran.result.exports
    assert verdict.status is Status.FAILED
    assert verdict.failure is not None
    assert verdict.failure.code.kind.value == "fix"
    texts = [repr(event) for event in ran.events] + [
        record.getMessage() + str(vars(record)) for record in caplog.records
    ]
    texts += [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert not [text for text in texts if canary in text or "c4n4ry" in text]


async def test_a_server_that_is_not_there_fails_fast(tmp_path: Path) -> None:
    """E-61: connection refused at first connect is for the operator, not for a retry."""
    table = {"name": "a", "source": "db", "table": "lines", "mode": "full"}

    ran = await run(config(tmp_path, {"db": {"type": "postgres", "url": "postgresql://u:p@127.0.0.1:1/d"}}, table))

    (verdict,) = ran.result.exports
    assert verdict.failure is not None
    assert verdict.failure.code.value == "SOURCE_UNREACHABLE"
    assert verdict.retry_count == 0
