"""Whole runs over a real SQLite database, read back by independent readers."""

from __future__ import annotations

import csv
import json
import logging
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from procflow_export import (
    ChunkFinished,
    Code,
    ExitStatus,
    Exporter,
    Finished,
    MisuseError,
    PartWritten,
    PlatformError,
    Progress,
    ProgressInit,
    RunFinished,
    RunStarted,
    Started,
    Status,
    decode_manifest,
    run_codec,
)
from tests.export.pipeline.runs import Shop, run, select

pytestmark = pytest.mark.anyio


def published_rows(directory: Path) -> pa.Table:
    """The rows of the parts that the manifest names, and of no other file."""
    manifest = decode_manifest((directory / "manifest.json").read_bytes())
    return pa.concat_tables([pq.read_table(directory / part.key) for part in manifest.parts])


async def test_chunks_of_a_table_are_the_table(shop: Shop) -> None:
    """E-10: parallel key ranges together are every row exactly once, as pyarrow and DuckDB read them."""
    ran = await run(shop.config({"name": "big", "table": "big", "mode": "chunked", "chunk_count": 7, "parallel": 3}))

    table = published_rows(shop.out / "big")
    count, total, names = select(f"select count(*), sum(id), count(distinct name) from '{shop.out}/big/*.parquet'")[0]
    assert ran.result.exit_status is ExitStatus.OK
    assert table.sort_by("id")["id"].to_pylist() == [i * 3 - 5_000 for i in range(shop.rows)]
    assert (count, total, names) == (shop.rows, sum(i * 3 - 5_000 for i in range(shop.rows)), shop.rows)
    assert len(ran.of(ChunkFinished)) == 7


async def test_rows_without_a_key_are_exported(shop: Shop) -> None:
    """E-10: NULL keys get a chunk of their own."""
    query = {
        "name": "holes",
        "query": "select k, v from holes",
        "mode": "chunked",
        "chunk_column": "k",
        "chunk_count": 3,
    }

    ran = await run(shop.config(query))

    table = published_rows(shop.out / "holes")
    assert ran.of(ProgressInit)[0].total_chunks == 4
    assert table.num_rows == 2_000
    assert table["k"].null_count == 200
    assert len(set(table["v"].to_pylist())) == 2_000


async def test_an_empty_table_still_publishes_its_schema(shop: Shop) -> None:
    """E-24: readers of the published set find the columns although there are no rows, in every mode."""
    await run(
        shop.config(
            {"name": "full", "table": "empty"},
            {"name": "chunked", "table": "empty", "mode": "chunked"},
            {"name": "text", "table": "empty", "format": "csv"},
        )
    )

    for name in ("full", "chunked"):
        assert published_rows(shop.out / name).schema.names == ["id", "v"]
    (file,) = (shop.out / "text").glob("*.csv")
    assert file.read_text().strip() == "id,v"


async def test_parts_are_rotated_by_size(shop: Shop) -> None:
    """E-24: `max_file_size` splits a chunk; the parts together are the rows in order."""
    ran = await run(
        shop.config(
            {"name": "big", "query": "select * from big order by id", "format": "csv", "max_file_size": "100KB"}
        )
    )

    parts = ran.of(PartWritten)
    ids = []
    for part in parts:
        with (shop.out / "big" / part.key).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == part.row_count
        ids += [int(row["id"]) for row in rows]
    assert len(parts) > 2
    assert all(part.size_bytes < 250_000 for part in parts)
    assert ids == [i * 3 - 5_000 for i in range(shop.rows)]


async def test_where_parts_end_does_not_depend_on_batches(shop: Shop) -> None:
    """E-24: deterministic bytes: other batch sizes give the same parts."""
    export = {"name": "big", "query": "select * from big order by id", "format": "csv", "max_file_size": "100KB"}

    first = await run(shop.config(export))
    second = await run(shop.config(export | {"tuning": {"batch_size": 777}}))

    assert [(part.row_count, part.size_bytes) for part in first.of(PartWritten)] == [
        (part.row_count, part.size_bytes) for part in second.of(PartWritten)
    ]


async def test_the_manifest_names_the_complete_set(shop: Shop) -> None:
    """E-42: manifest per run, canonical manifest, marker with its digest; sums and checksums hold."""
    ran = await run(shop.config({"name": "big", "table": "big", "mode": "chunked", "chunk_count": 3}))

    out = shop.out / "big"
    data = (out / "manifest.json").read_bytes()
    manifest = decode_manifest(data)
    (verdict,) = ran.of(Finished)
    assert (out / f"manifest-{ran.result.run_id}.json").read_bytes() == data
    assert verdict.manifest == f"manifest-{ran.result.run_id}.json"
    assert (out / "_SUCCESS").exists()
    assert sum(part.row_count for part in manifest.parts) == manifest.row_count == verdict.row_count == shop.rows
    assert [part.chunk for part in manifest.parts] == [0, 1, 2]
    assert all((out / part.key).stat().st_size == part.size_bytes for part in manifest.parts)
    assert manifest.consistency == "snapshot"
    assert (manifest.source.engine, manifest.source.table) == ("sqlite", "big")
    assert json.loads(data)["version"] == 1


async def test_events_of_an_export_come_in_their_order(shop: Shop) -> None:
    """E-32: started, progress_init, progress and parts, finished; numbered without holes; readable from their lines."""
    ran = await run(
        shop.config({"name": "a", "table": "big", "mode": "chunked", "chunk_count": 3}, {"name": "b", "table": "empty"})
    )

    assert [event.seq for event in ran.events] == list(range(len(ran.events)))
    assert isinstance(ran.events[0], RunStarted)
    assert isinstance(ran.events[-1], RunFinished)
    for name in ("a", "b"):
        own = [event for event in ran.events if getattr(event, "export", None) == name]
        assert isinstance(own[0], Started)
        assert isinstance(own[1], ProgressInit)
        assert isinstance(own[-1], Finished)
        assert any(isinstance(event, Progress) for event in own)
        assert sum(isinstance(event, Finished) for event in own) == 1
    last = ran.of(Progress, "a")[-1]
    assert (last.chunks_done, last.total_chunks, last.row_count) == (3, 3, shop.rows)
    codec = run_codec()
    assert [codec.decode(codec.encode(event)) for event in ran.events] == ran.events


async def test_a_failed_export_stops_no_other(shop: Shop) -> None:
    """E-31: each export has its own verdict, and a failed one publishes nothing."""
    ran = await run(shop.config({"name": "bad", "table": "nope"}, {"name": "good", "table": "big"}))

    bad, good = ran.result.exports
    assert (bad.status, good.status) == (Status.FAILED, Status.SUCCESS)
    assert bad.failure is not None
    assert bad.failure.code is Code.SOURCE_NOT_FOUND
    assert ran.result.exit_status is ExitStatus.FIX
    assert not [name for name in shop.files() if name.startswith("bad/")]
    assert published_rows(shop.out / "good").num_rows == shop.rows
    assert ran.of(RunFinished)[0].exit_status == 1


async def test_running_again_replaces_the_published_set(shop: Shop) -> None:
    """E-43: after a second run the manifest names only its parts."""
    config = shop.config({"name": "big", "table": "big"})

    await run(config)
    second = await run(config)

    manifest = decode_manifest((shop.out / "big" / "manifest.json").read_bytes())
    assert manifest.run_id == second.result.run_id
    assert published_rows(shop.out / "big").num_rows == shop.rows


async def test_a_place_of_another_export_is_refused_before_reading(shop: Shop) -> None:
    """E-43: publishing never replaces somebody else's set."""
    await run(shop.config({"name": "big", "table": "big", "destination": {"type": "local", "path": "{export}"}}))
    (shop.root / "other").symlink_to(shop.root / "big")

    ran = await run(
        shop.config({"name": "other", "table": "empty", "destination": {"type": "local", "path": "{export}"}})
    )

    (verdict,) = ran.result.exports
    assert verdict.failure is not None
    assert verdict.failure.code is Code.DESTINATION_NOT_USABLE


async def test_the_host_program_is_left_alone(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    """E-65: no signal handler, no logging configuration, not a byte on the host's output."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    loggers = (list(logging.getLogger().handlers), list(logging.getLogger("procflow_export").handlers))

    await run(shop.config({"name": "bad", "table": "nope"}, {"name": "good", "table": "big"}))

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == handlers
    assert (list(logging.getLogger().handlers), list(logging.getLogger("procflow_export").handlers)) == loggers
    assert capfd.readouterr() == ("", "")


async def test_log_events_carry_run_and_export(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """E-67: one summary event a run, every event bound to its run."""
    with caplog.at_level(logging.DEBUG, logger="procflow_export"):
        ran = await run(shop.config({"name": "big", "table": "big"}))

    records = {record.message: record for record in caplog.records if record.name.startswith("procflow_export")}
    assert {"part_recorded", "export_finished", "run_finished"} <= set(records)
    assert all(vars(record)["run_id"] == ran.result.run_id for record in records.values())
    assert vars(records["export_finished"])["export"] == "big"


async def test_an_exporter_is_used_in_order(shop: Shop) -> None:
    """E-65: misuse is one clear error each."""
    exporter = Exporter(shop.config({"name": "a", "table": "empty"}))
    with pytest.raises(MisuseError, match="not open"):
        exporter.run()
    async with exporter:
        with pytest.raises(MisuseError, match="not ended"):
            _ = exporter.result
        assert [event async for event in exporter.run()]
        with pytest.raises(MisuseError, match="once"):
            exporter.run()
    with pytest.raises(MisuseError, match="did you mean 'orders'"):
        async with Exporter(shop.config({"name": "orders", "table": "empty"}), exports=["order"]):
            pass


async def test_only_the_exports_that_are_named_run(shop: Shop) -> None:
    """E-60: a run may be of some exports."""
    async with Exporter(
        shop.config({"name": "a", "table": "empty"}, {"name": "b", "table": "big"}), exports=["a"]
    ) as e:
        _ = [event async for event in e.run()]

    assert [verdict.export for verdict in e.result.exports] == ["a"]


async def test_the_callers_exception_keeps_its_type(shop: Shop) -> None:
    """E-65: what is raised inside the block arrives as it is, not in a group, and ends the run."""
    with pytest.raises(KeyError, match="mine"):
        async with Exporter(shop.config({"name": "big", "table": "big"})) as exporter:
            async for _ in exporter.run():
                raise KeyError("mine")

    assert not [name for name in shop.files() if "manifest" in name]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_gets_one_clear_error(shop: Shop, anyio_backend: str) -> None:
    """E-65: under trio the exporter says at entry that it needs asyncio."""
    with pytest.raises(PlatformError, match="asyncio"):
        async with Exporter(shop.config({"name": "a", "table": "empty"})):
            pass
