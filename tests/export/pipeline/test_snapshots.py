"""One state for all chunks, whatever moves under a running export, with every source and engine."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from procflow_export import (
    ChunkFinished,
    Code,
    ExitStatus,
    Exporter,
    InProcessEngine,
    ProcessEngine,
    Progress,
    ProgressInit,
    Retry,
    RunEvent,
    Started,
    Warned,
    read_config,
)
from procflow_export.config.structs import LoadedConfig
from procflow_export.engines.port import Engine
from tests.export.pipeline.moving import KINDS, MovingTable, executing
from tests.export.pipeline.runs import Ran, run, select

pytestmark = pytest.mark.anyio

ENGINES: dict[str, Callable[[], Engine]] = {
    "in-process": lambda: InProcessEngine(max_units=3),
    "processes": lambda: ProcessEngine(max_units=3),
}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> MovingTable:
    place = {"postgres": "postgres_database", "mysql": "mariadb_database"}.get(request.param)
    where = str(tmp_path / "moving.db") if place is None else request.getfixturevalue(place)
    return MovingTable(request.param, where)


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


def config(table: MovingTable, root: Path, **export: Any) -> LoadedConfig:
    return read_config(
        {
            "source": table.source,
            "destination": {"type": "local", "path": "out"},
            "exports": [
                {
                    "name": "accounts",
                    "table": "accounts",
                    "mode": "chunked",
                    "chunk_count": 8,
                    "parallel": 2,
                    "format": "parquet",
                }
                | export
            ],
        },
        base_dir=root,
    )


def manifest(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "out/accounts/manifest.json").read_text())
    return found


def files(root: Path) -> str:
    return f"{root}/out/accounts/*.parquet"


def succeeded(ran: Ran) -> bool:
    return ran.result.exit_status is ExitStatus.OK


async def test_parts_show_one_state_while_rows_move(table: MovingTable, engine: Engine, tmp_path: Path) -> None:
    """E-11, E-36: rows move, change, appear and vanish under a running export; the published set is one state, exactly."""

    def wait_for_the_writer(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished):
            table.wait(3)

    with table.moving():
        ran = await run(config(table, tmp_path), engine=engine, on_event=wait_for_the_writer)

    assert succeeded(ran), ran.result
    assert len(ran.of(ChunkFinished)) == 8
    assert not ran.of(Warned)
    assert manifest(tmp_path)["consistency"] == "snapshot"
    stamp, rows = table.published(files(tmp_path))
    assert rows == sorted(table.state_after(stamp).items())
    assert stamp < table.count - 20, "the writer went on while chunks were read"


async def test_chunks_may_differ_in_time_where_that_is_asked_for(table: MovingTable, tmp_path: Path) -> None:
    """E-11: with `consistency: chunk` nothing is held, and the manifest says that parts differ in time."""
    ran = await run(config(table, tmp_path, consistency="chunk"))

    assert succeeded(ran)
    assert manifest(tmp_path)["consistency"] == "chunk"
    assert table.is_one_state(files(tmp_path)), "nobody wrote"


def kill_sessions(table: MovingTable, which: str) -> int:
    """End connections of the export, as an administrator would; return how many."""
    with executing(table.kind, table.place) as execute:
        if table.kind == "postgres":
            condition = {
                # The holder is idle in its transaction; whoever reads copies.
                "holder": "state = 'idle in transaction' and query like '%pg_export_snapshot%'",
                "readers": "query like 'COPY%'",
            }[which]
            return sum(
                row[0]
                for row in execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    f" where datname = current_database() and pid <> pg_backend_pid() and {condition}"
                )
            )
        found = reading_sessions(execute)
        for (number,) in found:
            execute(f"kill {number}")
        return len(found)


def reading_sessions(execute: Any) -> list[Any]:
    """The connections to MariaDB that hold a snapshot."""
    # The server shows what it knew up to 100 ms ago, to whoever asks before that has passed without a question.
    execute("do sleep(0.3)")
    found: list[Any] = execute(
        "select p.id from information_schema.processlist p join information_schema.innodb_trx t"
        " on t.trx_mysql_thread_id = p.id where p.db = database() and t.trx_is_read_only = 1"
    )
    return found


async def test_export_starts_over_when_its_snapshot_is_lost(table: MovingTable, engine: Engine, tmp_path: Path) -> None:
    """E-11, E-44: when the holder dies, completed parts are discarded and the export restarts on a new snapshot."""
    if table.kind == "sqlite":
        pytest.skip("nobody can take a lock from a process that lives")
    killed: list[int] = []

    def kill_once(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished):
            table.wait(3)
            if not killed:
                killed.append(kill_sessions(table, "holder"))

    with table.moving():
        ran = await run(config(table, tmp_path), engine=engine, on_event=kill_once)

    assert killed[0] > 0
    assert succeeded(ran), ran.result
    assert [event.failure.code for event in ran.of(Retry) if event.chunk == -1] == [Code.SOURCE_SNAPSHOT_LOST]
    assert len(ran.of(ChunkFinished)) > 8
    assert len(list(tmp_path.glob("out/accounts/*.parquet"))) == len(manifest(tmp_path)["parts"])
    assert table.is_one_state(files(tmp_path))
    assert manifest(tmp_path)["consistency"] == "snapshot"


async def test_reader_that_is_killed_is_replaced_in_the_same_snapshot(
    table: MovingTable, engine: Engine, tmp_path: Path
) -> None:
    """E-11, E-44: a reader that dies costs its own chunk, which is read again in the same state."""
    if table.kind != "postgres":
        pytest.skip("joined readers are the snapshot: see the other test")
    killed: list[int] = []

    def kill_once(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished):
            table.wait(3)
        if isinstance(event, Progress) and event.row_count and not killed:
            count = kill_sessions(table, "readers")
            killed.extend([count] * bool(count))

    slow = {"tuning": {"batch_size": 100, "throttle_ms": 20}}
    with table.moving():
        ran = await run(config(table, tmp_path, **slow), engine=engine, on_event=kill_once)

    assert killed
    assert succeeded(ran), ran.result
    assert {event.failure.code for event in ran.of(Retry)} <= {Code.SOURCE_SHUTTING_DOWN, Code.SOURCE_CONNECTION_LOST}
    assert all(event.chunk >= 0 for event in ran.of(Retry))
    assert table.is_one_state(files(tmp_path))


async def test_killed_worker_costs_its_units_only_while_a_spare_reads_the_snapshot(
    table: MovingTable, tmp_path: Path
) -> None:
    """E-11, E-31: SIGKILL of a child; its unit is done by another that reads the same state."""
    engine = ProcessEngine(max_units=3)
    killed: list[int] = []

    def kill_once(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished):
            table.wait(3)
            if not killed:
                killed.append(engine.worker_pids[0])
                os.kill(killed[0], signal.SIGKILL)

    with table.moving():
        ran = await run(config(table, tmp_path, chunk_count=12), engine=engine, on_event=kill_once)

    assert killed
    assert succeeded(ran), ran.result
    assert all(event.chunk >= 0 for event in ran.of(Retry)), "no new snapshot was needed"
    assert table.is_one_state(files(tmp_path))


async def test_export_whose_snapshot_is_always_lost_fails_and_publishes_nothing(
    table: MovingTable, tmp_path: Path
) -> None:
    """E-11, E-43: it starts over `max_retries` times, and then it has failed; nothing is published."""
    if table.kind == "sqlite":
        pytest.skip("nobody can take a lock from a process that lives")

    def kill(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished):
            kill_sessions(table, "holder")

    ran = await run(config(table, tmp_path, tuning={"max_retries": 2}), on_event=kill)

    (verdict,) = ran.result.exports
    assert verdict.failure is not None
    assert verdict.failure.code is Code.SOURCE_SNAPSHOT_LOST
    assert ran.result.exit_status is ExitStatus.RETRY
    assert [event.attempt for event in ran.of(Retry) if event.chunk == -1] == [1, 2]
    assert not (tmp_path / "out/accounts/manifest.json").exists()


async def test_change_of_the_table_is_not_kept_waiting_by_a_snapshot(
    postgres_database: str, engine: Engine, tmp_path: Path
) -> None:
    """E-5, E-11: an ALTER TABLE that waits for the snapshot's lock, and makes everybody wait, gets it; the export starts over."""
    table = MovingTable("postgres", postgres_database)
    altering: list[threading.Thread] = []

    def alter() -> None:
        with executing("postgres", table.place) as execute:
            execute("alter table accounts add column extra int default 7")

    def alter_once(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished) and not altering:
            altering.append(threading.Thread(target=alter))
            altering[0].start()
            with executing("postgres", table.place) as execute:
                while not execute("select 1 from pg_locks where not granted and mode = 'AccessExclusiveLock'"):
                    pass

    ran = await run(config(table, tmp_path), engine=engine, on_event=alter_once)
    altering[0].join(60)

    assert succeeded(ran), ran.result
    assert [event.failure.code for event in ran.of(Retry) if event.chunk == -1] == [Code.SOURCE_SNAPSHOT_LOST]
    assert select(f"select count(*), sum(extra) from '{files(tmp_path)}'") == [(table.rows, 7 * table.rows)]


async def test_truncated_table_is_one_state(postgres_database: str, engine: Engine, tmp_path: Path) -> None:
    """E-10, E-11: a TRUNCATE waits or comes first, and no chunk sees a table that is empty in between."""
    table = MovingTable("postgres", postgres_database)
    changing: list[threading.Thread] = []

    def reload() -> None:
        with executing("postgres", table.place) as execute:
            execute("begin")
            execute("create temporary table kept on commit drop as select * from accounts")
            execute("truncate accounts")
            execute("insert into accounts select id, owner, balance + 1, 1 from kept")
            execute("commit")

    def reload_twice(_: Exporter, event: RunEvent) -> None:
        is_due = isinstance(event, (Started, ChunkFinished)[len(changing)]) if len(changing) < 2 else False
        if is_due and not (changing and changing[-1].is_alive()):
            changing.append(threading.Thread(target=reload))
            changing[-1].start()

    ran = await run(config(table, tmp_path, tuning={"max_retries": 9}), engine=engine, on_event=reload_twice)
    for thread in changing:
        thread.join(60)

    assert succeeded(ran), ran.result
    rows = select(f"select count(*), count(distinct owner), min(balance), max(balance) from '{files(tmp_path)}'")
    assert rows[0][:2] == (table.rows, table.rows)
    assert rows[0][2] == rows[0][3]


@pytest.mark.parametrize("moment", [Started, ProgressInit, ChunkFinished])
async def test_run_that_is_cancelled_leaves_no_session(
    table: MovingTable, engine: Engine, tmp_path: Path, moment: type[RunEvent]
) -> None:
    """E-11, E-34: whenever a run is cancelled, nobody holds a snapshot or a lock afterwards."""

    def cancel(exporter: Exporter, event: RunEvent) -> None:
        if isinstance(event, moment):
            exporter.cancel()

    ran = await run(config(table, tmp_path), engine=engine, on_event=cancel)

    assert ran.result.exit_status is ExitStatus.INTERRUPTED
    with executing(table.kind, table.place) as execute, anyio.fail_after(30):
        if table.kind == "postgres":
            while execute(
                "select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            ):
                await anyio.sleep(0.01)
        elif table.kind == "mysql":
            while execute(
                "select 1 from information_schema.processlist where db = database() and id <> connection_id()"
            ):
                await anyio.sleep(0.01)
        execute("update accounts set balance = balance")


async def test_spare_reader_takes_the_place_of_one_that_was_killed(mariadb_database: str, tmp_path: Path) -> None:
    """E-11: one reader that dies costs its chunk only: the spare sees the same state."""
    table = MovingTable("mysql", mariadb_database)
    engine = InProcessEngine(max_units=3)
    killed: list[int] = []

    def kill_one(_: Exporter, event: RunEvent) -> None:
        if isinstance(event, ChunkFinished):
            table.wait(3)
            if not killed:
                with executing(table.kind, table.place) as execute:
                    number = reading_sessions(execute)[0][0]
                    execute(f"kill {number}")
                killed.append(number)

    with table.moving():
        ran = await run(config(table, tmp_path), engine=engine, on_event=kill_one)

    assert killed
    assert succeeded(ran), ran.result
    assert all(event.chunk >= 0 for event in ran.of(Retry)), "no new snapshot was needed"
    assert table.is_one_state(files(tmp_path))
