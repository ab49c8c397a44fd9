"""Ingesters that are killed, and ingesters that meet."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procflow.record import storing
from procflow.record.errors import UnusableDatabaseError
from procflow.record.events import RunEvent
from procflow.record.loading import load
from procflow.record.reading.files import RecordFile, open_record
from procflow.record.reading.states import RecordState, Writer, record_state
from procflow.record.store import ingest as ingest_module
from procflow.record.store.database import open_database, open_to_read, transaction
from procflow.record.store.ingest import Ingest
from tests.core.record.sample import LINES, RECORD, finished, header, lines_of, stamp_all, started
from tests.core.record.store.databases import append, dump, dump_at_once, dump_of
from tests.core.record.store.test_ingest import DAMAGED, RUN

ROOT = Path(__file__).resolve().parents[4]
KILLS = int(os.environ.get("PROCFLOW_KILLED_INGESTS", "40"))
"""Acceptance asks for 200: `PROCFLOW_KILLED_INGESTS=200 ./run test tests/core/record/store/test_concurrency.py`."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def long_record() -> bytes:
    """Return a record of 301 events that has crashed."""
    events: list[RunEvent] = [header()]
    for sh in range(1, 151):
        events += [started("a", sh, "x"), finished("a", sh, sh % 256)]
    return b"".join(lines_of(stamp_all(events))) + b'{"type":"torn'


def test_killed_ingesters(file: Path, tmp_path: Path) -> None:
    """RR-48: killed by SIGKILL at any moment, again and again, what is ingested in the end is what one ingest gives."""
    file.write_bytes(long_record())
    directory = tmp_path / "databases"
    directory.mkdir()

    done = subprocess.run(
        [sys.executable, "-m", "tests.core.record.store.killing", file, directory, str(KILLS), "7"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] >= KILLS
    assert report["different"] == 0


class Interrupted(RecordFile):
    """A record in whose reading something else happens: before each block is given out."""

    def __init__(self, file: RecordFile, meanwhile: Callable[[], None]) -> None:
        super().__init__(file._fd, file.path)
        self._meanwhile = meanwhile

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        for block in super().blocks(offset):
            self._meanwhile()
            yield block


@pytest.mark.parametrize("record", [RECORD, DAMAGED, RECORD[:-100]], ids=["whole", "damaged", "crashed"])
@pytest.mark.parametrize("moment", [1, 2], ids=["at its first line", "before its batches"])
def test_an_ingester_that_is_overtaken(file: Path, tmp_path: Path, record: bytes, moment: int) -> None:
    """RR-57: whatever another one has done between reading and committing, both together store every event once."""
    database = tmp_path / "runs.db"
    file.write_bytes(record)
    whole = dump_at_once(file)
    counts: list[int] = []
    calls = 0

    def meanwhile() -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            counts.append(storing.ingest(file, database).event_count)

    with open_database(database) as connection, open_record(file) as opened:
        counts.append(Ingest(connection, Interrupted(opened, meanwhile), batch_events=3).run().event_count)

    assert len(counts) == 2
    assert dump_of(database) == whole
    assert sum(counts) == len(whole["events"])


def test_an_ingester_that_is_overtaken_before_it_judges(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RR-57: it judges nothing that it has not read."""
    database = tmp_path / "runs.db"
    file.write_bytes(b"".join(LINES[:9]))
    others: list[int] = []

    def judged(*, is_finished: bool, writer: Writer) -> RecordState:
        state = record_state(is_finished=is_finished, writer=writer)
        if not others:
            others.append(0)
            append(file, b"".join(LINES[9:]))
            others.append(storing.ingest(file, database).event_count)
        return state

    monkeypatch.setattr(ingest_module, "record_state", judged)
    report = storing.ingest(file, database)

    assert others == [0, len(LINES) - 9]
    assert (report.event_count, report.state) == (9, RecordState.FINISHED)
    assert dump_of(database) == dump_at_once(file)


def test_an_ingester_that_is_overtaken_by_a_part(file: Path, tmp_path: Path) -> None:
    """RR-57: it throws its batch away and goes on where the other one is, which may be in the middle."""
    database = tmp_path / "runs.db"
    file.write_bytes(RECORD)
    whole = dump_at_once(file)

    with open_database(database) as first, open_database(database) as second, open_record(file) as opened:
        others = Ingest(second, opened, batch_events=4)
        others._begin()
        batches = others._batches()

        def meanwhile() -> None:
            if (batch := next(batches, None)) is not None:
                others._commit(batch)

        mine = Ingest(first, Interrupted(opened, meanwhile), batch_events=7)
        mine.run()
        assert others.run().event_count == 0
        assert dump(first) == whole


def test_somebody_writes_a_database_that_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RR-57: SQLite does not wait for the change to WAL, so its opener does."""
    database = tmp_path / "runs.db"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                other.execute("COMMIT")

        monkeypatch.setattr("procflow.record.store.database.time.sleep", pause)
        with open_database(database) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

        assert len(pauses) == 3


def test_ingesters_in_processes_of_their_own(file: Path, tmp_path: Path) -> None:
    """RR-57: three at once on one run and on a database that none of them finds: one result, and no error."""
    database = tmp_path / "runs.db"
    file.write_bytes(long_record())
    program = f"""
import sys
from pathlib import Path
from procflow.record.reading.files import open_record
from procflow.record.store.database import open_database
from procflow.record.store.ingest import Ingest
print("ready", flush=True)
sys.stdin.readline()
with open_record({str(file)!r}) as file, open_database({str(database)!r}) as connection:
    print(Ingest(connection, file, batch_events=5).run().event_count)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate()[0]) for process in processes]

    assert [process.returncode for process in processes] == [0] * 3
    assert sum(counts) == 301
    assert dump_of(database) == dump_at_once(file)


def test_a_reader_is_not_in_the_way_of_a_writer_nor_it_of_the_reader(file: Path, tmp_path: Path) -> None:
    """RR-57: while a batch is written, a reader sees what was before it, at once; while it reads, a batch is committed."""
    database = tmp_path / "runs.db"
    file.write_bytes(b"".join(LINES[:9]))
    storing.ingest(file, database)
    before = storing.view_from(database, RUN)
    append(file, b"".join(LINES[9:]))

    with open_database(database) as connection, transaction(connection):
        connection.execute("UPDATE runs SET name = 'half'")
        assert storing.view_from(database, RUN) == before
        connection.execute("UPDATE runs SET name = 'nightly'")
    with open_to_read(database) as reading:
        seen = dump(reading)
        storing.ingest(file, database)
        assert dump(reading) == seen

    assert storing.view_from(database, RUN) == load(file)


def test_a_writer_waits_for_another_one_and_then_says_so(file: Path, tmp_path: Path) -> None:
    """RR-57: one that holds the database for longer than a writer waits is an error, and nothing was stored by half."""
    database = tmp_path / "runs.db"
    file.write_bytes(RECORD)

    with open_database(database) as connection, transaction(connection):
        with (
            pytest.raises(UnusableDatabaseError, match="locked"),
            open_database(database, busy_wait_s=0.01) as other,
            open_record(file) as opened,
        ):
            Ingest(other, opened).run()
    assert storing.runs_in(database) == []
    assert storing.ingest(file, database).event_count == len(LINES)


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """RR-48: whatever goes wrong in the middle of it."""
    with open_database(tmp_path / "runs.db") as connection:
        with pytest.raises(sqlite3.IntegrityError), transaction(connection):
            connection.execute("INSERT INTO runs (run_id, first_seq, last_seq, synthesized) VALUES ('a', 0, 0, 0)")
            connection.execute("INSERT INTO runs (run_id) VALUES (NULL)")
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
