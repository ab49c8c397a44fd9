"""What a run tells the state, and what a state that fails costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from procflow_export import Exporter, Progress, Retry, RunPolicy, Status, Warned
from procflow_export.destinations import publish
from procflow_export.engines.in_process import InProcessEngine
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError, StateError
from procflow_export.model.ledger import ChunkStanding, Standing
from procflow_export.planning.order import NOMINAL_BYTES_PER_S, measured_cost
from procflow_export.state import open_state
from procflow_export.state.sqlite import SqliteState
from tests.export.pipeline.runs import NO_DELAYS, Ran, Shop
from tests.export.pipeline.runs import run as run_in_memory

pytestmark = pytest.mark.anyio

CHUNKED: dict[str, Any] = {
    "name": "big", "table": "big", "mode": "chunked", "chunk_count": 4, "parallel": 2, "consistency": "chunk",
}  # fmt: skip


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, rows=2_000)


async def run(shop: Shop, *exports: dict[str, Any], engine: InProcessEngine | None = None) -> Ran:
    events = []
    async with Exporter(shop.config(*exports), policy=NO_DELAYS, state=shop.root / "state", engine=engine) as exporter:
        async for event in exporter.run():
            events.append(event)
        return Ran(events, exporter.result)


async def test_a_run_is_remembered_from_beginning_to_end(shop: Shop) -> None:
    """E-45: the verdict that is told is the one that is remembered."""
    ran = await run(shop, CHUNKED, {"name": "gone", "table": "gone"})

    with open_state(shop.root / "state") as store:
        (entry,) = store.runs(limit=10)
        big, gone = (store.exports(run_id=entry.run_id, export=name)[0] for name in ("big", "gone"))
        chunks = store.chunks(entry.run_id, "big")
        cursor = store.cursor("big")
    verdict = ran.result.exports[0]
    assert (entry.run_id, entry.standing, entry.exit_status) == (ran.result.run_id, Standing.FAILED, 1)
    assert (big.standing, big.row_count, big.part_count) == (Standing.SUCCESS, verdict.row_count, verdict.part_count)
    assert (big.manifest_key, big.is_swept) == (verdict.manifest, True)
    assert big.work_s > 0
    assert (gone.standing, gone.code) == (Standing.FAILED, "SOURCE_NOT_FOUND")
    assert [chunk.standing for chunk in chunks] == [ChunkStanding.DONE] * 4
    assert cursor is not None
    assert cursor.run_id == ran.result.run_id


async def test_a_state_that_fails_midway_stops_no_export(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-45: what is published does not depend on the ledger: the operator is told, and only going on is lost."""

    def fail(*_: object) -> None:
        raise StateError(Code.STATE_FAILED, "no space left on device")

    for method in ("plan_export", "begin_chunk", "end_chunk", "publish", "sweep", "end_export", "end_run"):
        monkeypatch.setattr(SqliteState, method, fail)

    ran = await run(shop, CHUNKED)

    assert ran.result.status is Status.SUCCESS
    assert [event.code for event in ran.of(Warned)] == ["STATE"]
    assert "no space left" in ran.of(Warned)[0].message
    monkeypatch.undo()
    again = await run(shop, CHUNKED)
    assert again.result.status is Status.SUCCESS
    assert len(list((shop.out / "big").glob("*.parquet"))) == 8  # the set before is superseded, not swept


async def test_a_run_that_cannot_be_noted_down_does_not_begin(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-45: nobody would find what it leaves."""

    def fail(*_: object) -> None:
        raise StateError(Code.STATE_FAILED, "no space left on device")

    monkeypatch.setattr(SqliteState, "begin_export", fail)

    ran = await run(shop, CHUNKED)

    failure = ran.result.exports[0].failure
    assert failure is not None
    assert failure.code is Code.STATE_FAILED
    assert not shop.out.exists()


async def test_what_the_last_run_took_beats_an_estimate(shop: Shop) -> None:
    """E-31: longest first, from history; without one, from the estimate."""
    await run(shop, CHUNKED, {"name": "empty", "table": "empty"})
    async with Exporter(shop.config(CHUNKED)) as exporter:
        (target,) = exporter.targets
    assert measured_cost(target, 3.0) == 3.0 / 2 * NOMINAL_BYTES_PER_S

    with open_state(shop.root / "state") as store:
        for entry in store.exports(export="empty"):
            store.end_export(msgspec.structs.replace(entry, work_s=1_000.0))
    ran = await run(shop, CHUNKED, {"name": "empty", "table": "empty"}, engine=InProcessEngine(max_units=1))

    with open_state(shop.root / "state") as store:
        (big, empty) = (store.chunks(ran.result.run_id, name)[0] for name in ("big", "empty"))
    assert ran.result.status is Status.SUCCESS
    assert empty.changed_at <= big.changed_at


async def test_a_configuration_from_memory_leaves_no_state(shop: Shop) -> None:
    """E-45, E-65: nothing is written beside a configuration that has no file."""
    before = set(shop.root.iterdir())

    await run_in_memory(shop.config(CHUNKED))

    assert set(shop.root.iterdir()) - before == {shop.out}


SLOW = CHUNKED | {"tuning": {"batch_size": 50, "throttle_ms": 5}}


async def stopped(
    shop: Shop, *, drain_s: float, times: int = 1, export: dict[str, Any] = SLOW
) -> tuple[Ran, list[Any]]:
    """Stop a run when its chunks are being read; return it with its chunks as they are remembered."""
    policy = RunPolicy(retry=NO_DELAYS.retry, drain_s=drain_s, progress_interval_s=0)
    events: list[Any] = []
    async with Exporter(shop.config(export), policy=policy, state=shop.root / "state") as exporter:
        async for event in exporter.run():
            if isinstance(event, Progress) and event.row_count:
                while times:
                    exporter.cancel()
                    times -= 1
            events.append(event)
        ran = Ran(events, exporter.result)
    with open_state(shop.root / "state") as store:
        return ran, store.chunks(ran.result.run_id, "big")


async def test_draining_lets_chunks_end_that_a_later_run_can_use(shop: Shop) -> None:
    """E-34: no new chunk is begun, those that run are finished and recorded, and the next run goes on with them."""
    ran, chunks = await stopped(shop, drain_s=100)

    assert ran.result.exports[0].status is Status.CANCELLED
    assert 1 <= len(chunks) <= 2
    assert {chunk.standing for chunk in chunks} == {ChunkStanding.DONE}
    async with Exporter(shop.config(SLOW), policy=NO_DELAYS, state=shop.root / "state", resume=True) as exporter:
        async for _ in exporter.run():
            pass
        assert exporter.result.status is Status.SUCCESS
    with open_state(shop.root / "state") as store:
        assert store.exports(export="big")[0].resumed_from == ran.result.run_id


@pytest.mark.parametrize(
    ("drain_s", "times", "export"),
    [(0, 1, SLOW), (100, 2, SLOW), (100, 1, SLOW | {"consistency": "snapshot"})],
    ids=["no drain", "asked again", "a snapshot"],
)
async def test_without_a_use_for_them_chunks_are_ended_at_once(
    shop: Shop, drain_s: float, times: int, export: dict[str, Any]
) -> None:
    """E-34: draining is for what can be gone on with, and a second request ends it."""
    ran, chunks = await stopped(shop, drain_s=drain_s, times=times, export=export)

    assert ran.result.exports[0].status is Status.CANCELLED
    assert ChunkStanding.DONE not in {chunk.standing for chunk in chunks}


@pytest.mark.parametrize(
    ("code", "failures", "status", "tries"),
    [
        (Code.DESTINATION_UNAVAILABLE, 1, Status.SUCCESS, 2),
        (Code.DESTINATION_UNAVAILABLE, 9, Status.FAILED, 2),
        (Code.PUBLISHED_MEANWHILE, 1, Status.FAILED, 1),
        (Code.DESTINATION_DENIED, 1, Status.FAILED, 1),
    ],
)
async def test_publishing_is_tried_again_where_that_may_help(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, code: Code, failures: int, status: Status, tries: int
) -> None:
    """E-31, E-42: a store that is away for a moment costs no export whose parts are all stored."""
    calls: list[int] = []

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) <= failures:
            raise DestinationError(code, "not now")
        return publish(*arguments, **options)

    monkeypatch.setattr("procflow_export.pipeline.finalise.publish", failing)

    ran = await run(shop, CHUNKED | {"tuning": {"max_retries": 1}})

    assert (ran.result.exports[0].status, len(calls)) == (status, tries)
    assert [event.chunk for event in ran.of(Retry)] == [-1] * (tries - 1)


async def test_parts_of_an_older_time_never_replace_a_newer_set(shop: Shop) -> None:
    """E-43, E-45: a set that somebody published in between, from another state, is not put back to what was read before it."""
    await run(shop, CHUNKED)
    await stopped(shop, drain_s=100)
    async with Exporter(shop.config(CHUNKED), policy=NO_DELAYS, state=shop.root / "other") as exporter:
        async for _ in exporter.run():
            pass

    async with Exporter(shop.config(SLOW), policy=NO_DELAYS, state=shop.root / "state", resume=True) as exporter:
        messages = [event.message async for event in exporter.run() if isinstance(event, Warned)]

    assert exporter.result.status is Status.SUCCESS
    assert any("another run has published since" in message for message in messages)
