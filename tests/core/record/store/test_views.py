"""What is read out of a database: the same as of the file, and what quire's tools expect."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procflow.record import storing
from procflow.record.codec import RecordCodec
from procflow.record.dialects.quire import QuireReader, view_of_quire
from procflow.record.envelope import Unknown
from procflow.record.errors import UnknownRunError, UnreadableRecordError
from procflow.record.events import RunEvent
from procflow.record.loading import load
from procflow.record.reading.states import RecordState
from procflow.record.store.viewing import stored_view
from tests.core.record import test_quire as quire
from tests.core.record.sample import LINES, RECORD, header, lines_of, stamp_all
from tests.core.record.store.databases import append, in_memory, take_in
from tests.core.record.store.test_ingest import DAMAGED, RUN
from tests.core.record.test_fold import meeting_events
from tests.core.record.writers import record_writer

GOLDEN = Path(__file__).parents[1] / "golden"

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def assert_one_view(file: Path, *, batch_events: int = 1000) -> None:
    """Assert that database and file say the same of a record, or that both refuse it."""
    with in_memory() as connection:
        try:
            loaded = load(file)
        except UnreadableRecordError:
            with pytest.raises(UnreadableRecordError):
                take_in(connection, file)
            return
        report = take_in(connection, file, batch_events=batch_events)
        assert (report.state, report.health) == (loaded.state, loaded.health)
        if report.run_id is None:
            assert loaded.run.last_seq == -1
        else:
            assert stored_view(connection, report.run_id) == loaded


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_records(path: Path) -> None:
    """RR-87: for every golden record of every version, the database gives the view of the file."""
    assert_one_view(path)


@pytest.mark.parametrize("record", [RECORD, DAMAGED, RECORD[:-40], b""], ids=["whole", "damaged", "crashed", "empty"])
def test_records(file: Path, record: bytes) -> None:
    """RR-87: whole, damaged or cut, the view out of the database is that of the file, health and made-up endings included."""
    file.write_bytes(record)

    assert_one_view(file)


@fuzz
@given(
    events=st.lists(meeting_events, max_size=12),
    damage=st.lists(st.tuples(st.integers(min_value=0), st.binary(max_size=3)), max_size=2),
    batch_events=st.sampled_from([1, 3, 1000]),
)
def test_fuzzed_records(file: Path, events: list[RunEvent], damage: list[tuple[int, bytes]], batch_events: int) -> None:
    """RR-87: any well-formed events, in any order, repeated or not, with bytes flipped or not, give one view."""
    data = bytearray(b"".join(lines_of(events)))
    for place, patch in damage:
        at = place % (len(data) + 1)
        data[at : at + len(patch)] = patch
    file.write_bytes(data)

    assert_one_view(file, batch_events=batch_events)


def test_a_live_record(file: Path, tmp_path: Path) -> None:
    """RR-87, RR-43: while its writer lives a record is running, and what is open stays open in the database too."""
    database = tmp_path / "runs.db"
    with record_writer(file) as writer:
        writer.write(b"".join(LINES[:9]))
        report = storing.ingest(file, database)
        assert storing.view_from(database, RUN) == load(file)
        writer.kill()
        crashed = storing.ingest(file, database)

    assert (report.state, crashed.state, crashed.event_count) == (RecordState.RUNNING, RecordState.CRASHED, 0)
    assert storing.view_from(database, RUN) == load(file)
    assert [call.outcome for call in storing.view_from(database, RUN).open_calls] == ["lost", "lost"]


def test_who_was_gone_stays_gone_until_there_is_more(file: Path) -> None:
    """RR-44, RR-45: a late judgement that the record runs does not take its made-up endings back; another line does."""
    file.write_bytes(b"".join(LINES[:9]))
    with in_memory() as connection:
        assert take_in(connection, file).state is RecordState.CRASHED
        with record_writer(file) as writer:
            assert take_in(connection, file).state is RecordState.CRASHED
            writer.write(LINES[9])
            assert take_in(connection, file).state is RecordState.RUNNING
            assert stored_view(connection, RUN) == load(file)


def test_the_list_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RR-50: every run of a database, the oldest first, with what its record is and where it was, however it was called then."""
    database = tmp_path / "runs.db"
    monkeypatch.chdir(tmp_path)
    for name, back_at, size in (("late", 20, None), ("early", 0, 8)):
        (tmp_path / name).mkdir()
        events = stamp_all([header(run_id=name)], back_at=back_at)
        append(tmp_path / name / "events.jsonl", b"".join([*lines_of(events), *LINES[1:size]]))
        storing.ingest(name, database)

    found = storing.runs_in(database)

    assert [(stored.run_id, stored.state) for stored in found] == [
        ("early", RecordState.CRASHED), ("late", RecordState.FINISHED),
    ]  # fmt: skip
    assert found[0].path == str(tmp_path / "early" / "events.jsonl")
    assert (found[0].run.outcome, found[1].run.outcome) == ("lost", "cancelled")
    assert found[1].health.is_clean


def test_a_run_that_is_not_there(file: Path, tmp_path: Path) -> None:
    """RR-50: asking for it is an error that says so; forgetting it is none."""
    database = tmp_path / "runs.db"
    file.write_bytes(RECORD)
    storing.ingest(file, database)

    assert storing.forget(database, RUN)
    assert not storing.forget(database, RUN)
    for ask in (storing.view_from, lambda *args: list(storing.record_from(*args)), storing.reproject):
        with pytest.raises(UnknownRunError) as caught:
            ask(database, RUN)
        assert caught.value.run_id == RUN


def test_the_table_of_quire(file: Path) -> None:
    """RR-60: run, job, start, finish, exit code and command of every call that ended, signals as -1."""
    file.write_bytes(b"".join(LINES[:16] + LINES[20:25]))  # one call of the first attempt has not ended

    with in_memory() as connection:
        take_in(connection, file)
        asked = connection.execute("SELECT * FROM sh_events ORDER BY cmd")
        columns = [column[0] for column in asked.description]
        rows = asked.fetchall()

    at = 1_767_225_600_000
    assert columns == ["run_id", "job_id", "started_at_ms", "finished_at_ms", "exit_code", "cmd"]
    assert rows == [
        (RUN, "build", at + 21 - 3_600_000, at + 24 - 3_600_000, -1, "make -j1"),
        (RUN, "build", at + 8, at + 14, 2, "make docs"),
        (RUN, "lint", at + 9, at + 15, 0, "ruff check"),
    ]  # fmt: skip


STREAMS: dict[str, list[bytes]] = {
    "clean": quire.CLEAN,
    "cut": [b"".join(quire.CLEAN)[:-9]],
    "no last newline": [b"".join(quire.CLEAN)[:-1]],
    "zero bytes": [*quire.CLEAN[:-1], b"\x00" * 512],
    "crash in a job": [quire.job_started(0), quire.sh_started(1), quire.sh_finished(2, 3), quire.sh_started(3, "make test")],
    "crash in the second job": [*quire.CLEAN[:4], quire.job_started(8, "b"), quire.sh_started(9, "x", "b")],
    "unknown type": [quire.CLEAN[0], quire.said("job_paused", 1), *quire.CLEAN[1:]],
    "old words": [quire.job_started(0), quire.job_finished(1, outcome="complete"), quire.run_finished(2, "pipeline_failure")],
    "one millisecond": [quire.job_started(0), quire.sh_started(1, "x"), quire.sh_finished(1, 1), quire.sh_started(1, "y"),
                        quire.sh_finished(1, 2)],
    "clock back": [quire.job_started(0), quire.sh_started(100), quire.sh_finished(-50, 4), quire.job_finished(-20)],
    "overlapping": [quire.job_started(0), quire.sh_started(1, "x"), quire.sh_started(2, "y"), quire.sh_finished(3, 1),
                    quire.sh_finished(5, 2)],
    "job twice": [*quire.CLEAN[:4], quire.job_started(8), quire.sh_started(9, "y"), quire.sh_finished(10, 1)],
    "spawn failure": [quire.job_started(0), quire.sh_started(1, "nope"), quire.job_finished(2, outcome="failed")],
    "two ends": [quire.run_finished(0, "failed"), quire.run_finished(1)],
}  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_streams_of_quire(file: Path, stream: list[bytes]) -> None:
    """RR-12, RR-51, RR-52, RR-53, RR-54: every stream that its own ingest fails on has its rows, without an exception."""
    reader, codec = QuireReader(), RecordCodec()
    events = [event for block in stream for event in reader.feed(block)] + list(reader.finish())
    file.write_bytes(b"".join(codec.encode(event) for event in events if not isinstance(event, Unknown)))
    view = view_of_quire(stream)

    with in_memory() as connection:
        report = take_in(connection, file, batch_events=2)
        assert report.run_id is not None
        stored = stored_view(connection, report.run_id)

    assert stored is not None
    assert (stored.jobs, stored.calls, stored.run.outcome) == (view.jobs, view.calls, view.run.outcome)
