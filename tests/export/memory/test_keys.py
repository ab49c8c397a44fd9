"""Every key about memory acts: what a run does with it is not what it does without."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest

from procflow_export import ExitStatus, Finished, InProcessEngine, Warned
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.events import UnitEvent, UnitProgress
from procflow_export.model.plan import UnitResult, WorkUnit
from tests.export.memory.children import export
from tests.export.pipeline.runs import Ran, Shop, run

pytestmark = pytest.mark.anyio

MIB: Final = 1 << 20
ROWS: Final = 64
ROW_BYTES: Final = MIB // 8
"""All rows together are 8 MiB."""


class Watched(InProcessEngine):
    """The engine itself, and what its units tell of their batches."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.progress: list[UnitProgress] = []

    async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        def told(event: UnitEvent) -> None:
            if isinstance(event, UnitProgress):
                self.progress.append(event)
            report(event)

        return await super().execute(unit, told)

    def batch_rows(self) -> list[int]:
        """How many rows each batch of a single unit had."""
        return [after.row_count - before.row_count for before, after in pairwise(self.progress)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path, rows=10)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("create table fat(id integer primary key not null, body text not null)")
        database.executemany("insert into fat values(?, ?)", ((n, f"{n:09}" * (ROW_BYTES // 9)) for n in range(ROWS)))
        database.execute("create table huge(id integer primary key not null, small text, body blob)")
        database.executemany("insert into huge values(?, 'x', zeroblob(?))", [(7, 10), (8, 2 * MIB)])
    return shop


def fat(shop: Shop, **tuning: object) -> LoadedConfig:
    return shop.config({"name": "fat", "table": "fat", "tuning": tuning})


def memory_warnings(ran: Ran) -> list[str]:
    return [event.message for event in ran.of(Warned) if event.code == "MEMORY"]


def failure_code(ran: Ran) -> str | None:
    failure = ran.of(Finished)[0].failure
    return None if failure is None else failure.code


async def test_batch_size_bounds_the_rows_of_a_batch(shop: Shop) -> None:
    """E-30: `batch_size` rows, and no more."""
    few, many = Watched(), Watched()

    await run(fat(shop, batch_size=3), engine=few)
    await run(fat(shop), engine=many)

    assert max(few.batch_rows()) == 3
    assert max(many.batch_rows()) > 3


async def test_batch_size_memory_mb_bounds_the_bytes_of_a_batch(shop: Shop) -> None:
    """E-30: rows of an eighth of a MiB come in batches of about so many MiB."""
    small, large = Watched(), Watched()

    await run(fat(shop, batch_size_memory_mb=1), engine=small)
    await run(fat(shop, batch_size_memory_mb=4), engine=large)

    assert max(small.batch_rows()) <= 9
    assert max(large.batch_rows()) > 9


@pytest.mark.parametrize(("max_value_mb", "code"), [(1, "VALUE_TOO_LARGE"), (3, None), (0, None), (None, None)])
async def test_max_value_mb_refuses_a_larger_value(shop: Shop, max_value_mb: int | None, code: str | None) -> None:
    """E-30: a value above it is an error that names the column; 0 is no limit, and what is not said is 256."""
    tuning = {} if max_value_mb is None else {"max_value_mb": max_value_mb}

    ran = await run(shop.config({"name": "huge", "table": "huge", "tuning": tuning}))

    assert failure_code(ran) == code
    failure = ran.of(Finished)[0].failure
    assert failure is None or "column 'body'" in failure.message


async def test_max_batch_memory_mb_tells_of_a_larger_batch(shop: Shop) -> None:
    """E-30: without a policy a batch above it is told of, once, and the export goes on."""
    without = await run(fat(shop, batch_size_memory_mb=4))
    ran = await run(fat(shop, batch_size_memory_mb=4, max_batch_memory_mb=1))

    assert memory_warnings(without) == []
    assert [message.partition("more than ")[2] for message in memory_warnings(ran)] == [
        "tuning.max_batch_memory_mb (1)"
    ]
    assert ran.result.exit_status is ExitStatus.OK


async def test_on_batch_memory_exceeded_fail_ends_the_export(shop: Shop) -> None:
    """E-30: `fail` publishes nothing."""
    ran = await run(fat(shop, batch_size_memory_mb=4, max_batch_memory_mb=1, on_batch_memory_exceeded="fail"))

    assert failure_code(ran) == "BATCH_TOO_LARGE"
    assert not any("manifest" in name for name in shop.files())


async def test_on_batch_memory_exceeded_auto_shrink_cuts_the_batch(shop: Shop) -> None:
    """E-30: `auto_shrink` hands on pieces that are small enough, and has nothing to tell."""
    engine = Watched()

    ran = await run(
        fat(shop, batch_size_memory_mb=4, max_batch_memory_mb=1, on_batch_memory_exceeded="auto_shrink"), engine=engine
    )

    assert (ran.result.exit_status, memory_warnings(ran)) == (ExitStatus.OK, [])
    assert sum(engine.batch_rows()) == ROWS
    assert max(engine.batch_rows()) * ROW_BYTES <= MIB


async def test_memory_threshold_mb_lets_one_chunk_run_after_the_other(shop: Shop) -> None:
    """E-30: a process above it begins no chunk beside another, and says so when there is nothing to wait for."""
    engine = Watched(max_units=4)
    chunks = {"name": "fat", "table": "fat", "mode": "chunked", "chunk_count": 4, "parallel": 4}

    ran = await run(shop.config(chunks | {"tuning": {"memory_threshold_mb": 1, "batch_size": 2}}), engine=engine)

    assert ran.result.exit_status is ExitStatus.OK
    assert len([chunk for chunk, _ in groupby(engine.progress, lambda event: event.chunk)]) == 4
    assert any("no other chunk to wait for" in message for message in memory_warnings(ran))


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_memory_mb_and_memory_bound_the_row_groups_of_every_process(shop: Shop, engine: str) -> None:
    """E-30: the budget decides how much waits for a row group, here and in workers; `--memory` goes before `memory_mb`."""
    source = {"type": "sqlite", "path": str(shop.root / "shop.db")}

    def group_count(name: str, *options: str, memory_mb: int) -> int:
        folder = shop.root / name
        folder.mkdir()
        ended = export(folder, source, {"table": "fat"}, "--engine", engine, *options, memory_mb=memory_mb)
        assert ended.status == 0, ended.err
        [file] = ended.files()
        return pq.read_metadata(file).num_row_groups

    assert group_count("small", memory_mb=128) > 1
    assert group_count("large", memory_mb=1024) == 1
    assert group_count("said", "--memory", "1024", memory_mb=128) == 1
