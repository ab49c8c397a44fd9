"""From files of records to rows, in whatever steps."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procflow.record import storing
from procflow.record.envelope import stamped
from procflow.record.errors import UnreadableRecordError
from procflow.record.events import JobStarted, RunEvent
from procflow.record.loading import load
from procflow.record.reading.states import RecordState
from procflow.record.store.viewing import stored_view
from tests.core.record.sample import EVENTS, LINES, RECORD, finished, header, lines_of, stamp_all, started
from tests.core.record.store.databases import FILE_COLUMNS, append, dump, dump_at_once, dump_of, in_memory, take_in

RUN = "019b76da-a800-7000-8000-000000000001"
SHORT = b"".join(LINES[:1] + lines_of(stamp_all([header(), JobStarted(job_id="a", attempt=1), started("a", 1, "x"),
                                                 started("a", 2, "y"), finished("a", 1), finished("b", 1)]))[1:])  # fmt: skip
DAMAGED = (
    LINES[0] + b"foreign text\n" + b"".join(LINES[1:9]) + LINES[9][:30] + b"\n" + LINES[10] + b"\n" + LINES[10]
    + LINES[11].replace(b'"pid":101', b'"pid":107').replace(b'"seq":11', b'"seq":10') + b"".join(LINES[12:20]) + LINES[11]
    + b'{"type":"later","seq":40,"at_ms":1,"mono_ns":2,"new":true}\n' + LINES[9] + b"".join(LINES[20:])
)  # fmt: skip
"""Every kind of trouble: corrupt lines, a repeated one, a conflict, one that comes late, a gap, a type that nobody knows."""

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


class TestSteps:
    @pytest.mark.parametrize("record", [RECORD, DAMAGED], ids=["whole", "damaged"])
    def test_a_record_that_grows_byte_by_byte(self, file: Path, record: bytes) -> None:
        """RR-39, RR-44, RR-45, RR-48, RR-87: at every byte it has crashed and is recovered, its view is that of the file, and the end is as if nothing had been."""
        file.touch()

        with in_memory() as connection:
            for at in range(len(record)):
                append(file, record[at : at + 1])
                report = take_in(connection, file)
                assert report.event_count == (1 if at + 1 in ENDS[record] else 0)
                if report.run_id is not None and (record[at : at + 1] == b"\n" or at % 50 == 0):
                    assert stored_view(connection, report.run_id) == load(file)
            assert dump(connection) == dump_at_once(file)

    def test_a_record_that_is_cut_at_any_byte_and_then_completed(self, file: Path) -> None:
        """RR-39, RR-44, RR-45, RR-48: ingest, recovery and the rest give what one ingest gives, from any byte on."""
        file.write_bytes(SHORT)
        whole = dump_at_once(file)

        for size in range(len(SHORT)):
            os.truncate(file, size)
            with in_memory() as connection:
                report = take_in(connection, file)
                assert report.health.torn_bytes == size - (SHORT.rfind(b"\n", 0, size) + 1)
                assert not connection.execute("SELECT 1 FROM sh WHERE outcome IS NULL").fetchall()
                append(file, SHORT[size:])
                take_in(connection, file)
                assert dump(connection) == whole

    @quick
    @given(
        cuts=st.lists(st.integers(min_value=0, max_value=len(DAMAGED)), max_size=4),
        batch_events=st.sampled_from([1, 2, 3, 7, 1000]),
    )
    def test_any_split_and_any_batches(self, file: Path, cuts: list[int], batch_events: int) -> None:
        """RR-48, RR-49: with any number of stops, in batches of any length, a damaged record gives the same rows."""
        file.write_bytes(DAMAGED)
        whole = dump_at_once(file)

        with in_memory() as connection:
            for stop in [*sorted(cuts), len(DAMAGED)]:
                os.truncate(file, 0)
                append(file, DAMAGED[:stop])
                take_in(connection, file, batch_events=batch_events)
            assert dump(connection) == whole

    def test_ingesting_again_changes_nothing(self, file: Path) -> None:
        """RR-49: not even a page of the database."""
        file.write_bytes(DAMAGED)

        with in_memory() as connection:
            first = take_in(connection, file)
            before = connection.total_changes
            again = [take_in(connection, file) for _ in range(3)]
            assert connection.total_changes == before

        assert [report.event_count for report in again] == [0, 0, 0]
        assert {report.health for report in again} == {first.health}

    def test_from_any_earlier_position(self, file: Path) -> None:
        """RR-49: a cursor that is put back to any place where it was reads on from there to the same rows."""
        file.write_bytes(DAMAGED)
        whole = dump_at_once(file)

        with in_memory() as connection:
            cursors = []
            for end in sorted(ENDS[DAMAGED]):
                os.truncate(file, 0)
                append(file, DAMAGED[:end])
                take_in(connection, file)
                cursors += connection.execute("SELECT * FROM streams").fetchall()
            append(file, DAMAGED[end:])
            for cursor in [*cursors, *reversed(cursors)]:
                places = ", ".join("?" * len(cursor))
                connection.execute(f"INSERT OR REPLACE INTO streams VALUES ({places})", cursor)
                take_in(connection, file, batch_events=5)
                assert dump(connection) == whole

    def test_without_the_cursor(self, file: Path) -> None:
        """RR-49: when its row was deleted, all is read again, to the same rows."""
        file.write_bytes(DAMAGED)

        with in_memory() as connection:
            take_in(connection, file)
            whole = dump(connection)
            connection.execute("DELETE FROM streams")
            connection.execute("UPDATE sh SET cmd = 'something else'")
            take_in(connection, file, batch_events=4)
            assert dump(connection) == whole

    def test_a_conflict_counts_the_same_across_a_stop(self, file: Path) -> None:
        """RR-41, RR-48: a line that took the number of one from before the stop is compared with that one."""
        other = LINES[3].replace(b'"test"', b'"toast"')
        file.write_bytes(b"".join(LINES[:6]))

        with in_memory() as connection:
            take_in(connection, file)
            append(file, other + LINES[2])
            health = take_in(connection, file).health

        assert (health.conflicts, health.duplicates) == (1, 1)

    @pytest.mark.parametrize("seed", range(3))
    def test_batches_in_any_order_of_events(self, file: Path, seed: int) -> None:
        """RR-52: the lines of a record in any order give the same rows, whatever batch a child or its parent is in."""
        file.write_bytes(RECORD)
        whole = dump_at_once(file)
        shuffled = LINES[1:]
        random.Random(seed).shuffle(shuffled)
        file.write_bytes(b"".join([LINES[0], *shuffled]))

        with in_memory() as connection:
            take_in(connection, file, batch_events=2)
            found = dump(connection)

        assert all(found[table] == whole[table] for table in ("runs", "jobs", "sh", "notes"))


class TestRows:
    def test_the_file_is_left_alone(self, file: Path) -> None:
        """RR-47: an ingest changes neither bytes nor times nor names."""
        file.write_bytes(RECORD[:-10])
        before = (file.stat().st_mtime_ns, file.stat().st_mode, sorted(os.listdir(file.parent)))

        with in_memory() as connection:
            take_in(connection, file)

        assert (file.stat().st_mtime_ns, file.stat().st_mode, sorted(os.listdir(file.parent))) == before
        assert file.read_bytes() == RECORD[:-10]

    def test_a_deleted_database_is_made_again(self, file: Path, tmp_path: Path) -> None:
        """RR-50: from the file, also from a copy of it, with everything but the file's own names the same."""
        database, copy = tmp_path / "runs.db", tmp_path / "copy.jsonl"
        file.write_bytes(DAMAGED)
        copy.write_bytes(DAMAGED)
        storing.ingest(file, database)
        before = dump_of(database, without=FILE_COLUMNS)

        for left in tmp_path.glob("runs.db*"):
            left.unlink()
        storing.ingest(copy, database)

        assert dump_of(database, without=FILE_COLUMNS) == before

    def test_the_file_is_made_again(self, file: Path, tmp_path: Path) -> None:
        """RR-50: from the stored lines, byte for byte and in its order, its corrupt, repeated and empty lines apart."""
        database = tmp_path / "runs.db"
        file.write_bytes(LINES[0] + b"foreign\n" + b"".join(LINES[5:]) + b"\n\n" + LINES[3] + LINES[6] + LINES[4])

        storing.ingest(tmp_path, database)

        assert b"".join(storing.record_from(database, RUN)) == b"".join([LINES[0], *LINES[5:], LINES[3], LINES[4]])

    def test_a_thousand_calls_in_one_millisecond(self, file: Path) -> None:
        """RR-23, RR-51: with a clock that goes back, every call has its row, its code and a duration that is not negative."""
        events: list[RunEvent] = [started("a", sh, f"c{sh}") for sh in range(1, 1001)]
        ended: list[RunEvent] = [finished("a", sh, sh % 256) for sh in range(1, 1001)]
        random.Random(1).shuffle(ended)
        stamped_events: list[RunEvent] = [
            stamped(event, seq=seq, at_ms=10_000 - seq // 900, mono_ns=5)
            for seq, event in enumerate([header(), *events, *ended])
        ]
        file.write_bytes(b"".join(lines_of(stamped_events)))

        with in_memory() as connection:
            take_in(connection, file, batch_events=300)
            rows = connection.execute("SELECT sh, cmd, exit_code, duration_ns FROM sh ORDER BY sh").fetchall()

        assert [(sh, cmd, code) for sh, cmd, code, _ in rows] == [(sh, f"c{sh}", sh % 256) for sh in range(1, 1001)]
        assert min(duration_ns for *_, duration_ns in rows) >= 0

    def test_a_wall_clock_that_steps_back(self, file: Path) -> None:
        """RR-23: the step is told, the order of rows is that of the record, no duration is negative."""
        file.write_bytes(RECORD)

        with in_memory() as connection:
            take_in(connection, file)
            (step_ms,) = connection.execute("SELECT clock_step_ms FROM streams").fetchone()
            shortest = connection.execute(
                "SELECT min(duration_ns) FROM (SELECT duration_ns FROM sh UNION SELECT duration_ns FROM jobs)"
            ).fetchone()
            order = connection.execute("SELECT job_id, attempt, sh FROM sh ORDER BY first_seq").fetchall()

        assert step_ms == -3_600_000
        assert shortest >= (0,)
        assert order == [("build", 1, 1), ("build", 1, 2), ("lint", 1, 1), ("build", 2, 1)]

    def test_interleaved_jobs(self, file: Path) -> None:
        """RR-19: 50 jobs with 50 calls each, woven together, give the rows of serial ones, times and places apart."""

        def events_of(job_id: str) -> list[RunEvent]:
            calls = [event for sh in range(1, 51) for event in (started(job_id, sh, "x"), finished(job_id, sh, sh))]
            return [JobStarted(job_id=job_id, attempt=1), *calls]

        jobs = [events_of(f"j{job}") for job in range(50)]
        order = [job for job, events in enumerate(jobs) for _ in events]
        random.Random(5).shuffle(order)
        left = [iter(events) for events in jobs]
        columns = "job_id, attempt, sh, argv, cmd, cwd, outcome, exit_code, stdout_bytes"
        found = []
        for events in ([event for job in jobs for event in job], [next(left[job]) for job in order]):
            file.write_bytes(b"".join(lines_of(stamp_all([header(), *events]))))
            with in_memory() as connection:
                take_in(connection, file)
                found.append(connection.execute(f"SELECT {columns} FROM sh ORDER BY 1, 2, 3").fetchall())

        assert len(found[0]) == 2500
        assert found[0] == found[1]

    def test_a_child_makes_its_parent(self, file: Path) -> None:
        """RR-52: a finish that comes alone has a row of a call, of an attempt and of a run to hang on."""
        file.write_bytes(b"".join(lines_of(stamp_all([finished("a", 3, 7)]))))

        with in_memory() as connection:
            report = take_in(connection, file)
            calls = connection.execute("SELECT job_id, attempt, sh, exit_code, started_at_ms FROM sh").fetchall()
            jobs = connection.execute("SELECT job_id, attempt, outcome, synthesized FROM jobs").fetchall()
            assert not connection.execute("PRAGMA foreign_key_check").fetchall()

        assert calls == [("a", 1, 3, 7, None)]
        assert jobs == [("a", 1, "lost", 1)]
        assert report.run_id is not None
        assert report.run_id.startswith("head-")

    def test_a_crashed_run(self, file: Path) -> None:
        """RR-44, RR-53: its finished calls, the open one with command and start, its job, and what was never begun."""
        file.write_bytes(b"".join(LINES[:15]) + LINES[15][:40])

        with in_memory() as connection:
            report = take_in(connection, file)
            calls = connection.execute(
                "SELECT cmd, started_at_ms, outcome, synthesized FROM sh ORDER BY first_seq"
            ).fetchall()
            jobs = connection.execute(
                "SELECT job_id, outcome, because, synthesized FROM jobs ORDER BY first_seq"
            ).fetchall()
            run = connection.execute("SELECT outcome, finished_at_ms, synthesized FROM runs").fetchall()

        begun = EVENTS[7].at_ms
        assert report.state is RecordState.CRASHED
        assert calls == [
            ("make -j4", begun, "lost", 1), ("make docs", begun + 1, "exited", 0), ("ruff check", begun + 2, "lost", 1),
        ]  # fmt: skip
        assert jobs == [
            ("build", "lost", "[]", 1), ("lint", "lost", "[]", 1), ("test", "skipped", '["build","lint"]', 1),
            ("deploy", "skipped", '["build","lint"]', 1),
        ]  # fmt: skip
        assert run == [("lost", EVENTS[14].at_ms, 1)]

    def test_trouble_with_a_record_is_no_trouble_of_the_run(self, file: Path) -> None:
        """RR-54: the outcome is what the record says, beside it stands what is wrong with the record."""
        file.write_bytes(DAMAGED)

        with in_memory() as connection:
            report = take_in(connection, file)
            outcome = connection.execute("SELECT outcome, synthesized FROM runs").fetchone()
            counts = connection.execute("SELECT corrupt, duplicates, conflicts, gaps, unknown FROM streams").fetchone()

        assert outcome == ("cancelled", 0)
        assert counts == (2, 1, 1, 1, 1)
        assert report.health == load(file).health

    @pytest.mark.parametrize("content", [b"foreign text\n" * 3, b'{"type":"run_started","format":[2,0]}\n' + RECORD])
    def test_what_is_no_record_of_ours_leaves_no_row(self, file: Path, tmp_path: Path, content: bytes) -> None:
        """RR-10, RR-43: the database is not touched by a foreign file, nor by a record of another major version."""
        file.write_bytes(content)

        with pytest.raises(UnreadableRecordError):
            storing.ingest(file, tmp_path / "runs.db")

        assert storing.runs_in(tmp_path / "runs.db") == []

    @pytest.mark.parametrize("content", [b"", LINES[0][:-1], b"\n\n"])
    def test_a_record_without_an_event_yet(self, file: Path, tmp_path: Path, content: bytes) -> None:
        """RR-44: nothing is made up for a run of which not even a line is there."""
        file.write_bytes(content)

        report = storing.ingest(file, tmp_path / "runs.db")

        assert (report.run_id, report.event_count, report.state) == (None, 0, RecordState.CRASHED)
        assert storing.runs_in(tmp_path / "runs.db") == []


ENDS = {
    record: {
        sum(map(len, record.splitlines(keepends=True)[: index + 1]))
        for index, count in enumerate(counts)
        if count
    }
    for record, counts in ((RECORD, [1] * len(LINES)), (DAMAGED, [1, 0, *[1] * 8, 0, 1, 0, 0, 0, *[1] * 8, 1, 1, 1, *[1] * 9]))
}  # fmt: skip
"""Where in a record a line ends that is an event for the first time."""
