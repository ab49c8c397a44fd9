"""Rows of a run while it runs, made by a thread of its own process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from procflow import record
from procflow.record import storing
from procflow.record.errors import UnusableDatabaseError
from procflow.record.events import RunEvent
from procflow.record.loading import load
from procflow.record.reading.states import RecordState
from procflow.record.recorder import Recorder
from procflow.record.sinks.files import FileSink
from procflow.record.store import live
from procflow.record.store.database import open_database, transaction
from procflow.record.store.live import DatabaseSink
from tests.core.record.sample import sample
from tests.core.record.store.databases import dump_at_once, dump_of

pytestmark = pytest.mark.anyio

RUN = "019b76da-a800-7000-8000-000000000001"
NAME = "procflow record database"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "events.jsonl"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == NAME] == []


def sink_for(
    database: Path, file: Path, *, gather_s: float = live.GATHER_S, close_wait_s: float = 60.0
) -> DatabaseSink:
    """Return a sink that is patient, however slow this machine is."""
    return DatabaseSink(database, file, gather_s=gather_s, close_wait_s=close_wait_s)


def recorder(file: Path, sink: DatabaseSink) -> Recorder:
    return Recorder([FileSink(os.fspath(file)), sink])


async def rows_of(database: Path, *, count: int) -> None:
    """Wait until another connection sees so many events."""
    with anyio.fail_after(60):
        while True:
            try:
                if len(dump_of(database)["events"]) >= count:
                    return
            except UnusableDatabaseError:  # not there yet
                pass
            await anyio.sleep(0.005)


async def test_rows_come_while_the_run_goes_on(file: Path, database: Path) -> None:
    """RR-59, RR-63: what was emitted is seen by another connection without anything else being done; nothing is judged before the end."""
    sink = sink_for(database, file)
    recording = recorder(file, sink)
    events: list[RunEvent] = sample()

    for number, event in enumerate(events, start=1):
        recording.emit(event)
        if number in (1, 9, 24):
            await rows_of(database, count=number)
            assert storing.view_from(database, RUN) == load(file)
            assert storing.view_from(database, RUN).state is RecordState.RUNNING
    assert await recording.aclose() == []

    assert storing.view_from(database, RUN) == load(file)
    assert storing.view_from(database, RUN).state is RecordState.FINISHED


async def test_the_rows_are_those_of_an_ingest_afterwards(file: Path, database: Path) -> None:
    """RR-59: live or afterwards, the dumps are equal."""
    recording = recorder(file, sink_for(database, file.parent, gather_s=0))
    for event in sample():
        recording.emit(event)
        await anyio.sleep(0.001)
    await recording.aclose()

    assert dump_of(database) == dump_at_once(file)
    assert storing.ingest(file, database).event_count == 0


async def test_closing_makes_it_complete(file: Path, database: Path) -> None:
    """RR-36, RR-59: when it is closed, everything is there; closing again, or a sink that never saw an event, is nothing."""
    sink = sink_for(database, file, gather_s=1000)
    recording = recorder(file, sink)
    for event in sample():
        recording.emit(event)

    await recording.aclose()
    await recording.aclose()
    unused = sink_for(database, file)
    await unused.aclose()
    recording.emit(sample()[0])

    assert sink.report is not None
    assert (sink.report.state, sink.trouble, unused.report) == (RecordState.FINISHED, "", None)
    assert len(dump_of(database)["events"]) == len(sample())


async def test_a_run_that_is_given_up_has_crashed(file: Path, database: Path) -> None:
    """RR-44, RR-59: closed without its last event, what was open is lost in the rows too."""
    recording = recorder(file, sink_for(database, file))
    for event in sample()[:9]:
        recording.emit(event)
    await recording.aclose()

    assert storing.view_from(database, RUN).state is RecordState.CRASHED
    assert dump_of(database) == dump_at_once(file)


async def test_a_database_that_cannot_be_used_does_not_reach_the_run(
    file: Path, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """RR-32, RR-54: the logger tells about it once, and no event counts as lost; the record is whole, and can be ingested later."""
    database.write_text("no database, and longer than a header of one: " + "x" * 100)
    sink = sink_for(database, file)
    recording = recorder(file, sink)

    for event in sample():
        recording.emit(event)
    assert await recording.aclose() == []

    assert "not a database" in sink.trouble
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert len(load(file).calls) == 4


async def test_it_tries_again(file: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RR-54: a database that was locked for too long gets its rows once it is free, and then nothing has failed."""
    monkeypatch.setattr(live, "BUSY_WAIT_S", 0.01)
    monkeypatch.setattr(live, "RETRY_S", 0.01)
    sink = sink_for(database, file)
    recording = recorder(file, sink)
    with open_database(database) as connection, transaction(connection):
        for event in sample():
            recording.emit(event)
        with anyio.fail_after(60):
            while not sink.trouble:
                await anyio.sleep(0.005)

    await recording.aclose()
    assert sink.trouble == ""
    assert dump_of(database) == dump_at_once(file)


async def test_closing_does_not_wait_for_ever(file: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RR-36: a database that stays locked is given up after a time, and said to be incomplete; the program can end."""
    sink = sink_for(database, file, close_wait_s=0.05)
    recording = recorder(file, sink)
    with open_database(database) as connection, transaction(connection):
        for event in sample():
            recording.emit(event)
        assert await recording.aclose() == []
        assert "not complete" in sink.trouble
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == NAME)
    assert sink._thread is not None
    sink._thread.join()
    assert len(dump_of(database)["events"]) == len(sample())


async def test_closing_when_cancelled(file: Path, database: Path) -> None:
    """RR-36, RR-59: a cancelled run has its rows too."""
    recording = recorder(file, sink_for(database, file))
    with anyio.CancelScope() as scope:
        for event in sample():
            recording.emit(event)
        scope.cancel()
        await recording.aclose()

    assert dump_of(database) == dump_at_once(file)


async def test_whatever_breaks_is_told(file: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RR-32: an error that nobody thought of ends the thread no sooner than any other."""
    monkeypatch.setattr(live, "RETRY_S", 0.0)
    sink = sink_for(database, file)

    def broken() -> None:
        raise LookupError("nothing")

    monkeypatch.setattr(sink, "_ingest", broken)
    recording = recorder(file, sink)

    recording.emit(sample()[0])
    await recording.aclose()

    assert "nothing" in sink.trouble
    assert sink.report is None


async def test_a_recorded_run_with_a_database(tmp_path: Path, database: Path) -> None:
    """RR-59: `open_run(database=)` has the rows of the run while it goes on, and all of them when its block was left."""
    async with record.open_run("nightly", record=tmp_path / "runs", database=database) as run:
        async with run.job("build") as job:
            await job.sh("true")
            await rows_of(database, count=5)
            assert [row.is_open for row in storing.view_from(database, run.run_id).jobs.values()] == [True]

    assert run.directory is not None
    assert storing.view_from(database, run.run_id) == load(run.directory)
    with pytest.raises(ValueError, match="record= is needed"):
        record.open_run("nightly", database=database)
