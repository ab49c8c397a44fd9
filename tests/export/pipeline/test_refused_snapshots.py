"""Where MySQL gives no snapshot: the run says so before it starts, or fails where the user insists on one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from procflow_export import ChunkFinished, Code, ExitStatus, ProgressInit, Warned, read_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.exporter import Exporter
from procflow_export.model.errors import SourceError
from procflow_export.pipeline.prepare import check_consistency, plan_target
from procflow_export.pipeline.sources import SharedSources
from tests.export.pipeline.moving import MovingTable, executing
from tests.export.pipeline.runs import Ran, run

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
def table(mariadb_database: str) -> MovingTable:
    return MovingTable("mysql", mariadb_database, rows=1_000)


@pytest.fixture
def reader(table: MovingTable) -> Iterator[str]:
    """The URL of a user who may read, and nothing else."""
    url = urlsplit(table.place)
    name = f"reader_{url.path[1:]}"[:60]
    with executing("mysql", table.place) as execute:
        execute(f"create user {name}@'%'")
        execute(f"grant select on {url.path[1:]}.* to {name}@'%'")
        try:
            yield urlunsplit(url._replace(netloc=f"{name}@{url.hostname}:{url.port}"))
        finally:
            execute(f"drop user {name}@'%'")


def config(place: str, root: Path, **export: Any) -> LoadedConfig:
    one = {"name": "a", "mode": "chunked", "chunk_count": 4, "parallel": 2, "format": "parquet"}
    return read_config(
        {
            "source": {"type": "mysql", "url": place, "tls": {"mode": "disable"}},
            "destination": {"type": "local", "path": "out"},
            "exports": [one | ({} if "query" in export else {"table": "accounts"}) | export],
        },
        base_dir=root,
    )


async def checked(loaded: LoadedConfig) -> str | None:
    """What ``check`` would say."""
    async with Exporter(loaded) as exporter, SharedSources({}) as sources:
        return await check_consistency(await plan_target(exporter.targets[0], sources), sources)


def assert_chunks_and_told(ran: Ran, words: str) -> None:
    assert ran.result.exit_status is ExitStatus.OK, ran.result
    (told,) = [event for event in ran.of(Warned) if event.code == "CONSISTENCY"]
    assert words in told.message
    assert ran.events.index(told) < ran.events.index(ran.of(ChunkFinished)[0])
    assert ran.result.exports[0].consistency == "chunk"


QUERY = {"query": "select * from accounts", "chunk_column": "id"}


@pytest.mark.parametrize(("export", "words"), [({}, "LOCK TABLES"), (QUERY, "FLUSH TABLES")], ids=["table", "query"])
async def test_user_who_may_not_lock_gets_chunks_and_is_told(
    reader: str, tmp_path: Path, export: dict[str, Any], words: str
) -> None:
    """E-11: a run whose user may not lock says so before it reads, and so does `check`."""
    loaded = config(reader, tmp_path, **export)

    remark = await checked(loaded)
    ran = await run(loaded)

    assert remark is not None
    assert words in remark
    assert_chunks_and_told(ran, f"{words}")


async def test_user_who_insists_on_a_snapshot_gets_no_less(reader: str, tmp_path: Path) -> None:
    """E-11: with `consistency: snapshot` written, the export fails rather than mix states."""
    loaded = config(reader, tmp_path, consistency="snapshot")

    with pytest.raises(SourceError) as caught:
        await checked(loaded)
    ran = await run(loaded)

    assert caught.value.code is Code.SOURCE_SNAPSHOT_REFUSED
    (verdict,) = ran.result.exports
    assert verdict.failure is not None
    assert verdict.failure.code is Code.SOURCE_SNAPSHOT_REFUSED
    assert ran.result.exit_status is ExitStatus.FIX
    assert not list(tmp_path.rglob("*.parquet"))


async def test_user_who_may_lock_is_told_nothing(table: MovingTable, tmp_path: Path) -> None:
    """E-11: `check` has no word for what will work."""
    assert await checked(config(table.place, tmp_path)) is None
    assert await checked(config(table.place, tmp_path, **QUERY)) is None
    assert await checked(config(table.place, tmp_path, consistency="chunk")) is None


async def test_query_is_read_in_one_state_under_a_global_lock(table: MovingTable, tmp_path: Path) -> None:
    """E-11: a query's chunks are one state too, where the user may stop all commits for a moment."""

    def wait_for_the_writer(_: Exporter, event: object) -> None:
        if isinstance(event, ChunkFinished):
            table.wait(3)

    with table.moving():
        ran = await run(config(table.place, tmp_path, **QUERY), on_event=wait_for_the_writer)

    assert ran.result.exit_status is ExitStatus.OK, ran.result
    assert ran.result.exports[0].consistency == "snapshot"
    assert table.is_one_state(f"{tmp_path}/out/a/*.parquet")


async def test_table_without_transactions_is_told(table: MovingTable, tmp_path: Path) -> None:
    """E-11: an engine without snapshots gives none, and is named."""
    with executing("mysql", table.place) as execute:
        execute("alter table accounts engine = myisam")
    loaded = config(table.place, tmp_path)

    remark = await checked(loaded)
    ran = await run(loaded)

    assert remark is not None
    assert "MyISAM" in remark
    assert_chunks_and_told(ran, "MyISAM")


async def test_writer_who_does_not_commit_is_not_waited_for(table: MovingTable, tmp_path: Path) -> None:
    """E-5: the lock is not waited for longer than a few seconds, because the application waits behind it."""
    with open_transaction(table):
        ran = await run(config(table.place, tmp_path))

    assert_chunks_and_told(ran, "not granted")


@contextmanager
def open_transaction(table: MovingTable) -> Iterator[None]:
    is_open, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with executing("mysql", table.place) as execute:
            execute("begin")
            execute("update accounts set balance = 0 where id = 0")
            is_open.set()
            is_over.wait(60)
            execute("rollback")

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert is_open.wait(60)
        yield
    finally:
        is_over.set()
        thread.join(60)


@pytest.mark.parametrize(
    "statement", ["truncate accounts", "alter table accounts add column extra int, algorithm = copy"]
)
async def test_table_that_is_rebuilt_before_it_is_read_is_read_anew(
    table: MovingTable, tmp_path: Path, statement: str
) -> None:
    """E-11: a table that is emptied or rebuilt under a snapshot is read as it was or anew, never in between."""

    def change() -> None:
        with executing("mysql", table.place) as execute:
            execute(statement)

    # Beside the run: where a reader was first, the statement waits for it.
    thread = threading.Thread(target=change)

    def change_once(_: Exporter, event: object) -> None:
        if isinstance(event, ProgressInit) and thread.ident is None:
            thread.start()

    ran = await run(config(table.place, tmp_path, tuning={"max_retries": 2}), on_event=change_once)

    thread.join(60)

    (verdict,) = ran.result.exports
    assert verdict.failure is None, verdict.failure
    assert verdict.row_count in {table.rows, 0 if "truncate" in statement else table.rows}
    assert verdict.consistency == "snapshot"
