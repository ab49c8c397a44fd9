"""The bound on connections, with the server as the judge: its own limit for the user is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import pytest

from procflow_export import ChunkFinished, ExitStatus, InProcessEngine, ProcessEngine, Retry, Warned, read_config
from procflow_export.engines.port import Engine
from procflow_export.model.settings import SourceConfig, SourceType, Tuning
from procflow_export.pipeline.connections import Account
from tests.export.pipeline.moving import MovingTable, executing
from tests.export.pipeline.runs import run, select

pytestmark = pytest.mark.anyio

ROWS = 2_000
ENGINES: dict[str, Callable[[], Engine]] = {
    "in-process": lambda: InProcessEngine(max_units=4),
    "processes": lambda: ProcessEngine(max_units=4),
}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
def table(kind: str, request: pytest.FixtureRequest) -> MovingTable:
    where = request.getfixturevalue({"postgres": "postgres_database", "mysql": "mariadb_database"}[kind])
    return MovingTable(kind, where, rows=ROWS)


@contextmanager
def limited_user(table: MovingTable, limit: int, *, extra: str = "") -> Iterator[str]:
    """The URL of a user whom the server allows so many connections."""
    url = urlsplit(table.place)
    name = f"few_{url.path[1:]}"[:60]
    place = urlunsplit(url._replace(netloc=f"{name}@{url.hostname}:{url.port}"))
    with executing(table.kind, table.place) as execute:
        if table.kind == "postgres":
            execute(f"create role {name} login connection limit {limit}")
            execute(f"grant select on accounts to {name}")
        else:
            execute(f"create user {name}@'%' with max_user_connections {limit}")
            execute(f"grant select, lock tables on {url.path[1:]}.* to {name}@'%'")
            if extra:
                execute(f"grant {extra} on *.* to {name}@'%'")
        try:
            yield place
        finally:
            if table.kind == "postgres":
                execute(f"drop owned by {name}")
            execute(f"drop {'role' if table.kind == 'postgres' else 'user'} {name}")


def config(place: str, table: MovingTable, root: Path, limit: int, **export: Any) -> Any:
    one = {"table": "accounts", "mode": "chunked", "chunk_count": 6, "parallel": 4, "format": "parquet"} | export
    return read_config(
        {
            "source": table.source | {"url": place, "tuning": {"max_connections": limit}},
            "destination": {"type": "local", "path": "out"},
            "exports": [
                one | {"name": "a"},
                one | {"name": "b", "tuning": {"batch_size": 500}},
                one | {"name": "c", "mode": "full", "parallel": 1, "chunk_count": None},
            ],
        },
        base_dir=root,
    )


@pytest.mark.parametrize(("kind", "limit"), [("postgres", 2), ("postgres", 3), ("mysql", 3), ("mysql", 5)])
@pytest.mark.parametrize("engine", list(ENGINES))
async def test_no_run_has_more_connections_than_it_may(
    table: MovingTable, limit: int, engine: str, tmp_path: Path
) -> None:
    """E-5: connections are bounded over all workers, children, holders and planners together."""
    with limited_user(table, limit) as place:
        ran = await run(config(place, table, tmp_path, limit), engine=ENGINES[engine]())

    assert ran.result.exit_status is ExitStatus.OK, ran.result
    assert not ran.of(Retry), "the server never had to refuse a connection"
    assert not ran.of(Warned)
    assert len(ran.of(ChunkFinished)) == 13
    for name in "abc":
        assert select(f"select count(distinct owner) from '{tmp_path}/out/{name}/*.parquet'") == [(ROWS,)]
    assert {verdict.consistency for verdict in ran.result.exports} == {"snapshot"}


@pytest.mark.parametrize(("kind", "limit"), [("postgres", 1), ("mysql", 2)])
async def test_too_few_connections_for_a_snapshot_are_told(table: MovingTable, limit: int, tmp_path: Path) -> None:
    """E-5, E-11: where the bound leaves no room for a snapshot, the run says so before it reads, and keeps the bound."""
    with limited_user(table, limit) as place:
        ran = await run(config(place, table, tmp_path, limit))

    assert ran.result.exit_status is ExitStatus.OK, ran.result
    assert not ran.of(Retry)
    assert {(event.export, event.code) for event in ran.of(Warned)} >= {("a", "CONSISTENCY"), ("b", "CONSISTENCY")}
    assert [verdict.consistency for verdict in ran.result.exports] == ["chunk", "chunk", "snapshot"]


async def test_account_serves_whoever_waits() -> None:
    """E-5: a connection that is given back can be taken by whoever waits for one."""
    account = Account(limit=2, may_keep=False)
    account.take(2)
    done: list[int] = []

    async def wait(number: int) -> None:
        await account.wait_taken(1)
        done.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 1)
            tasks.start_soon(wait, 2)
            await anyio.wait_all_tasks_blocked()
            assert not done
            account.give(1)
            await anyio.wait_all_tasks_blocked()
            assert len(done) == 1
            account.give(1)

    assert account.taken == 2
    assert not account.has(1)
    assert Account(limit=0, may_keep=True).has(10**6)


def test_exports_with_other_limits_are_of_the_same_database() -> None:
    """E-5: the lowest limit of a database counts, and one that is told apart by its limits alone is one."""
    from procflow_export.pipeline.connections import _database

    one = SourceConfig(type=SourceType.POSTGRES, url="postgresql://h/d", tuning=Tuning(max_connections=3))
    other = SourceConfig(type=SourceType.POSTGRES, url="postgresql://h/d", tuning=Tuning(batch_size=1))
    assert _database(one) == _database(other)
