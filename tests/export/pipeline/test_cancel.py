"""Cancelling: whatever runs is ended, and nothing half-done is left."""

from __future__ import annotations

import io
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

import anyio
import anyio.lowlevel
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from procflow_export import (
    ExitStatus,
    Exporter,
    Finished,
    InProcessEngine,
    PartWritten,
    Progress,
    RunFinished,
    Started,
    Status,
)
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.sources import ChunkRequest, ReadStatistics
from procflow_export.sources.sqlite.source import SqliteSource
from tests.export.pipeline.runs import NO_DELAYS, Shop, run

pytestmark = pytest.mark.anyio

FULL = {"name": "big", "table": "big", "tuning": {"batch_size": 500, "throttle_ms": 1}}


def open_files_below(directory: Path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(directory))]


async def run_until(config: LoadedConfig, kind: type[object], *, count: int = 1) -> None:
    """Leave the exporter's block in the middle of the run, by cancellation of the task in it."""
    async with Exporter(config, policy=NO_DELAYS) as exporter:
        with anyio.CancelScope() as scope:
            async for event in exporter.run():
                if isinstance(event, kind) and (not isinstance(event, Progress) or event.row_count > 0):
                    count -= 1
                    if count == 0:
                        scope.cancel()


@pytest.mark.parametrize("format_", ["parquet", "csv"])
async def test_leaving_in_the_middle_leaves_no_part_no_temporary_file_and_no_descriptor(
    shop: Shop, format_: str
) -> None:
    """E-65, E-42: a run that was left while it wrote shows nothing at the destination."""
    await run_until(shop.config(FULL | {"format": format_}), Progress)

    assert shop.files() == []
    assert open_files_below(shop.root) == []


@pytest.mark.stress
async def test_leaving_anywhere_leaves_whole_parts_only(shop: Shop) -> None:
    """E-65, E-34: after whatever event the run is left, what is visible is whole, and the next run succeeds."""
    export = {"name": "big", "table": "big", "mode": "chunked", "chunk_count": 5, "parallel": 3}
    for kind, count in [(Started, 1), (Progress, 1), (PartWritten, 1), (PartWritten, 3), (Progress, 2), (Finished, 1)]:
        for _ in range(5):
            await run_until(shop.config(export | {"tuning": {"batch_size": 500}}), kind, count=count)

            assert open_files_below(shop.root) == []
            for name in shop.files():
                assert name.endswith((".parquet", ".json", "_SUCCESS"))
                if name.endswith(".parquet"):
                    pq.read_table(io.BytesIO((shop.out / name).read_bytes()))

    ran = await run(shop.config(export))

    assert ran.result.exports[0].row_count == shop.rows


async def test_a_cancellation_from_outside_ends_everything_too(shop: Shop) -> None:
    """E-65: the task that is in the block is cancelled by somebody else, at any await; the engine is left as well."""
    left = []

    class Engine(InProcessEngine):
        async def __aexit__(
            self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
        ) -> bool | None:
            try:
                return await super().__aexit__(exc_type, exc, traceback)
            finally:
                left.append(True)

    for steps in range(1, 60, 3):
        with anyio.CancelScope() as scope:
            async with Exporter(shop.config(FULL), policy=NO_DELAYS, engine=Engine()) as exporter:
                stream = exporter.run()
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
                async for _ in stream:
                    pass

    assert len(left) == 20
    assert shop.files() == []
    assert open_files_below(shop.root) == []


async def test_cancelling_in_order_gives_every_export_its_verdict(shop: Shop) -> None:
    """E-34, E-65: `cancel()` ends what runs, and the events still come to their end."""

    def stop(exporter: Exporter, event: object) -> None:
        if isinstance(event, Progress) and event.export == "big" and event.row_count > 0:
            exporter.cancel()

    ran = await run(shop.config(FULL, FULL | {"name": "more"}, FULL | {"name": "again"}), on_event=stop)

    assert {verdict.status for verdict in ran.result.exports} == {Status.CANCELLED}
    assert isinstance(ran.events[-1], RunFinished)
    assert ran.result.exit_status is ExitStatus.INTERRUPTED
    assert shop.files() == []


async def test_cancelling_twice_and_after_the_end_does_nothing(shop: Shop) -> None:
    """E-65: `cancel()` is idempotent, also before the run and when it is over."""
    async with Exporter(shop.config({"name": "a", "table": "empty"})) as exporter:
        exporter.cancel()
        events = exporter.run()
        async for event in events:
            if isinstance(event, Finished):
                exporter.cancel()
                exporter.cancel()

    assert exporter.result.status is Status.SUCCESS


async def test_nothing_of_a_run_outlives_its_block(shop: Shop) -> None:
    """E-65: no task; threads only those that the event loop keeps for reuse, and no more with every run."""
    import asyncio

    counts = []
    for _ in range(5):
        await run_until(shop.config(FULL), Progress)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not [task for task in others if "export" in task.get_name() or "big" in task.get_name()]
        counts.append(threading.active_count())

    assert counts[-1] < counts[0] + 4  # how many the first run needed at a time is chance; one a run would be four


async def test_a_database_is_not_locked_after_a_cancelled_run(shop: Shop) -> None:
    """E-5: the read transaction ends with the run."""
    await run_until(shop.config(FULL), Progress)

    with sqlite3.connect(shop.root / "shop.db", timeout=0.1) as connection:
        connection.execute("delete from big")
    connection.close()


class _BreaksHalfWay(SqliteSource):
    """A real source whose connection is lost after some batches."""

    failures = 1

    @asynccontextmanager
    async def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        async with super().read_chunk(request, statistics) as batches:
            yield self._some(batches)

    async def _some(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
        count = 0
        async for batch in batches:
            yield batch
            count += 1
            if count == 3 and type(self).failures > 0:
                type(self).failures -= 1
                raise SourceError(Code.SOURCE_CONNECTION_LOST, "lost in the middle")


@pytest.mark.parametrize("failures", [1, 99])
async def test_a_source_that_fails_half_way_leaves_nothing_of_the_attempt(
    shop: Shop, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-42: a part whose rows did not all come is never visible; a later attempt that succeeds is whole."""
    monkeypatch.setattr("procflow_export.sources.sqlite.source.SqliteSource", _BreaksHalfWay)
    _BreaksHalfWay.failures = failures

    ran = await run(shop.config(FULL))

    (verdict,) = ran.result.exports
    if failures == 1:
        assert (verdict.status, verdict.row_count, verdict.retry_count) == (Status.SUCCESS, shop.rows, 1)
    else:
        assert verdict.failure is not None
        assert verdict.failure.code is Code.SOURCE_CONNECTION_LOST
        assert shop.files() == []
