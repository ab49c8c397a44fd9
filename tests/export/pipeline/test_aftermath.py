"""What runs before have left: what may be removed, what was done, and what there is to go on with, when things have changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from procflow_export import Exporter, Finished, ProgressInit, RunEvent, Status, Warned
from procflow_export.config.structs import LoadedConfig
from procflow_export.destinations.local import LocalDestination
from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError, StateError
from procflow_export.model.ledger import ExportEntry, Standing
from procflow_export.model.manifest import Manifest, decode_manifest, encode_manifest
from procflow_export.pipeline.garbage import Garbage, Why
from procflow_export.pipeline.prepare import collect_garbage
from procflow_export.sources.sqlite import source as sqlite_source
from procflow_export.state import open_state
from procflow_export.state.sqlite import SqliteState
from tests.export.pipeline.dying import dying_at
from tests.export.pipeline.runs import NO_DELAYS, Ran, Shop, select

pytestmark = pytest.mark.anyio

BIG: dict[str, Any] = {
    "name": "big", "table": "big", "mode": "chunked", "chunk_count": 4, "consistency": "chunk",
}  # fmt: skip
WHOLE: dict[str, Any] = {"name": "big", "table": "big", "mode": "full"}
DAILY = {"destination": {"type": "local", "path": "out/{run_id}"}}
ROWS = 400


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, rows=ROWS)


async def run(config: LoadedConfig, shop: Shop, *, state: str = "one", resume: bool = False) -> Ran:
    events: list[RunEvent] = []
    async with Exporter(config, policy=NO_DELAYS, state=shop.root / state, resume=resume) as exporter:
        async for event in exporter.run():
            events.append(event)
        return Ran(events, exporter.result)


async def die(config: LoadedConfig, shop: Shop, point: str, *, state: str = "one", resume: bool = False) -> None:
    with dying_at(point):
        await run(config, shop, state=state, resume=resume)
        pytest.fail(f"{point} was not reached")


async def collect(config: LoadedConfig, shop: Shop, *, older_than: timedelta, state: str = "one") -> list[Garbage]:
    async with Exporter(config) as exporter:
        (target,) = exporter.targets
    with open_state(shop.root / state) as store:
        return await collect_garbage(target, store, anyio.CapacityLimiter(1), older_than=older_than, removes=True)


def published(shop: Shop, at: str = "big") -> Manifest:
    return decode_manifest((shop.out / at / "manifest.json").read_bytes())


def parts(shop: Shop, at: str = "big") -> set[str]:
    return {part.key for part in published(shop, at).parts}


def visible(shop: Shop, at: str = "big") -> set[str]:
    return {path.name for path in (shop.out / at).iterdir()}


def entries(shop: Shop) -> list[ExportEntry]:
    with open_state(shop.root / "one") as store:
        return store.exports(export="big")


@pytest.mark.parametrize("point", ["publish.manifest_stored", "publish.marker_stored", "state.published"])
async def test_what_was_published_stays_whoever_published_since(shop: Shop, point: str) -> None:
    """E-43: a run that died behind its commit has published, also when a run of another state has replaced its set since."""
    config = shop.config(BIG)
    await die(config, shop, point)
    old = parts(shop)
    await run(config, shop, state="two")

    await run(config, shop)
    await run(config, shop)
    await collect(config, shop, older_than=timedelta(hours=1))

    assert old <= visible(shop)
    found = await collect(config, shop, older_than=timedelta(0))
    assert old <= {each.key for each in found if each.why is Why.SUPERSEDED}
    assert not old & visible(shop)


async def test_parts_that_a_run_took_over_stay_when_its_set_is_superseded(shop: Shop) -> None:
    """E-43: what two runs stored and one published is not what a dead run left, whoever published since."""
    config = shop.config(BIG)
    await die(config, shop, "state.chunk_recorded:2")
    await die(config, shop, "publish.manifest_stored", resume=True)
    old = parts(shop)
    await run(config, shop, state="two")

    await run(config, shop)
    await run(config, shop)

    assert old <= visible(shop)


async def test_what_somebody_else_is_about_to_publish_is_not_collected(shop: Shop) -> None:
    """E-43: a manifest that is newer than the published set was not superseded by it."""
    config = shop.config(BIG)
    await run(config, shop)
    old = msgspec.structs.replace(published(shop), finished_at="2026-01-01T00:00:00.000Z")
    (shop.out / "big" / "manifest.json").write_bytes(encode_manifest(old))
    before = visible(shop)
    await die(config, shop, "publish.run_manifest_stored", state="two")
    about_to_be = visible(shop) - before
    assert about_to_be

    found = await collect(config, shop, older_than=timedelta(days=1))

    assert {each.key for each in found} == about_to_be
    assert about_to_be <= visible(shop)


async def test_unfinished_uploads_of_dead_runs_are_collected(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-34: a store cannot tell an upload without a writer from others: the state names the dead run's."""
    config = shop.config(BIG)
    await die(config, shop, "part.written")
    told: list[str] = []

    def remove_stale(_: LocalDestination, stems: Collection[str] = ()) -> tuple[str, ...]:
        told.extend(stems)
        return ()

    monkeypatch.setattr(LocalDestination, "remove_stale", remove_stale)

    await collect(config, shop, older_than=timedelta(days=1))

    assert told == [entry.place.part_stem for entry in entries(shop)]


async def test_what_one_part_of_a_run_was_replaced_by_is_collected(shop: Shop) -> None:
    """E-43: rows without a key are exported anew by every run: their old parts are superseded, though the run's others are not."""
    export = {"name": "holes", "table": "holes", "mode": "incremental", "cursor_column": "k"}
    config = shop.config(export)
    await run(config, shop)
    first = {part.key for part in published(shop, "holes").parts}
    with closing(sqlite3.connect(shop.root / "shop.db")) as connection, connection:
        connection.execute("insert into holes values(1000000, 'new'), (null, 'new')")
    await run(config, shop)
    gone = first - {part.key for part in published(shop, "holes").parts}
    assert gone

    found = await collect(config, shop, older_than=timedelta(0))

    assert {each.key for each in found} == gone
    assert not gone & visible(shop, "holes")
    assert {part.key for part in published(shop, "holes").parts} <= visible(shop, "holes")


async def test_a_run_is_adopted_at_its_own_place(shop: Shop) -> None:
    """E-42: W5, W6 where every run has a directory: the marker is written there, and its manifest stays."""
    config = shop.config(WHOLE, **DAILY)
    await die(config, shop, "publish.manifest_stored")
    (before,) = entries(shop)
    place = Path(before.place.destination.path or "")

    ran = await run(config, shop)

    assert {path.name for path in place.iterdir()} >= {"_SUCCESS", "manifest.json", f"manifest-{before.run_id}.json"}
    assert entries(shop)[1].standing is Standing.SUCCESS
    assert "ADOPTED" in [event.code for event in ran.of(Warned)]


async def test_what_was_done_is_left_out_at_its_own_place(shop: Shop) -> None:
    """E-34: where every run has a directory, what the last run published is as done as anywhere."""
    config = shop.config(WHOLE, **DAILY)
    await die(config, shop, "publish.manifest_stored")

    ran = await run(config, shop, resume=True)

    assert ran.result.exports[0].status is Status.SKIPPED


async def test_a_set_that_is_gone_was_not_done(shop: Shop) -> None:
    """E-34: an export is left out because its set is there, and not because somebody remembers it."""
    config = shop.config(WHOLE)
    await die(config, shop, "state.published")
    shutil.rmtree(shop.out)

    ran = await run(config, shop, resume=True)

    assert ran.result.exports[0].status is Status.SUCCESS
    assert published(shop).row_count == ROWS


async def test_a_resumed_run_that_never_began_loses_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-34, E-45: a database that is still down when a run is resumed costs nothing of what was finished."""
    config = shop.config(BIG)
    await die(config, shop, "state.chunk_recorded:3")
    kept = visible(shop)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_source.SqliteSource, "profile", _down)
        down = await run(config, shop, resume=True)

    ran = await run(config, shop, resume=True)

    assert down.of(Finished)[0].failure is not None
    assert ran.result.exports[0].status is Status.SUCCESS
    assert kept <= parts(shop)
    assert published(shop).row_count == ROWS


async def test_an_export_that_is_begun_again_is_one_export(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-31, E-45: a source that does not answer at first is asked again, and the state knows of one export."""
    answers: list[Callable[..., Any]] = [_down, sqlite_source.SqliteSource.profile, sqlite_source.SqliteSource.profile]

    async def profile(*arguments: Any) -> Any:
        return await answers.pop(0)(*arguments)

    monkeypatch.setattr(sqlite_source.SqliteSource, "profile", profile)

    ran = await run(shop.config(WHOLE), shop)

    assert ran.result.exports[0].failure is None
    assert len(entries(shop)) == 1


async def _down(*_: object) -> Any:
    raise SourceError(Code.SOURCE_DEADLOCK, "the database is down")


async def test_parts_that_are_nowhere_are_told(shop: Shop) -> None:
    """E-45: a run that goes on with nothing says why."""
    config = shop.config(BIG)
    await die(config, shop, "state.chunk_recorded:2")
    for path in (shop.out / "big").glob("*.parquet"):
        path.unlink()

    ran = await run(config, shop, resume=True)

    assert ran.result.exports[0].status is Status.SUCCESS
    assert [event.code for event in ran.of(Warned)] == ["PARTS_GONE"]


async def test_a_state_that_fails_behind_the_commit_stops_no_export(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-45: what is published is published: the verdict says so, whatever the sweeping after it comes to."""
    config = shop.config(BIG)
    await die(config, shop, "state.chunk_recorded:2")

    def fail(*_: object) -> None:
        raise StateError(Code.STATE_FAILED, "no space left on device")

    monkeypatch.setattr(SqliteState, "sweep", fail)

    ran = await run(config, shop, resume=True)

    assert [verdict.status for verdict in ran.of(Finished)] == [Status.SUCCESS]
    assert ("STATE", "no space left on device") in [(event.code, event.message) for event in ran.of(Warned)]


async def test_a_full_disk_takes_no_lease(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-45: the lock is the lease; the words in its file are for people."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)

    ran = await run(shop.config(WHOLE), shop)

    assert ran.result.exports[0].status is Status.SUCCESS


async def test_only_plans_that_somebody_may_go_on_with_are_kept(shop: Shop) -> None:
    """E-45: every run reads what is remembered of those before; their plans are long."""
    config = shop.config(BIG)
    await run(config, shop)
    await run(config, shop)
    await die(config, shop, "state.chunk_recorded:2")

    ran = await run(config, shop, resume=True)

    assert [entry.plan is None for entry in entries(shop)] == [False, False, True, True]
    assert ran.of(ProgressInit)[0].total_chunks == 4
    files = [str(shop.out / "big" / key) for key in parts(shop)]
    assert select(f"select count(*), count(distinct id) from read_parquet({files!r})") == [(ROWS, ROWS)]
    assert os.listdir(shop.root / "one" / "leases") == ["big.lease"]
