"""Rows made anew from the stored lines."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from procflow.record import codec, storing
from procflow.record.envelope import Unknown
from procflow.record.events import EVENT_TYPES, CancelRequested, Note, RunEvent, RunFinished, ShSpawned
from procflow.record.reading import sequence
from procflow.record.reading.reader import RecordReader
from tests.core.record.sample import LINES, RECORD, finished, header, lines_of, stamp_all, started
from tests.core.record.store.databases import dump, dump_of, in_memory, take_in
from tests.core.record.store.test_ingest import DAMAGED, RUN


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.mark.parametrize("record", [RECORD, DAMAGED, RECORD[:2000]], ids=["whole", "damaged", "crashed"])
def test_the_rows_are_the_same(file: Path, database: Path, record: bytes) -> None:
    """RR-50, RR-55: the lines hold everything that the file gave, so the rows made of them are those made of it."""
    file.write_bytes(record)
    storing.ingest(file, database)
    before = dump_of(database)
    file.unlink()

    assert storing.reproject(database) == {RUN: len(before["events"])}
    assert dump_of(database) == before


@pytest.mark.parametrize("missing", [Note, ShSpawned, CancelRequested, RunFinished], ids=lambda kind: kind.__name__)
def test_an_upgrade_applies_what_was_unknown_before(
    file: Path, database: Path, missing: type[RunEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RR-55: events of a type that an earlier release does not know are stored and counted; a later one makes their rows without the file."""
    file.write_bytes(RECORD)
    storing.ingest(file, database.with_suffix(".today"))
    monkeypatch.setattr(codec, "EVENT_TYPES", tuple(kind for kind in EVENT_TYPES if kind is not missing))
    earlier = storing.ingest(file, database)
    stored = dump_of(database)["events"]
    monkeypatch.undo()
    file.unlink()

    assert earlier.health.unknown == sum(isinstance(line.event, missing) for line in RecordReader().feed(RECORD)) > 0
    assert stored == dump_of(database.with_suffix(".today"))["events"]
    storing.reproject(database, RUN)
    assert dump_of(database) == dump_of(database.with_suffix(".today"))


def test_an_unknown_type_is_kept_byte_for_byte(file: Path, database: Path) -> None:
    """RR-09, RR-55: whatever is on its line, it is an event of the run, and the last one here."""
    odd = b'{"type":"w\\u00f6rd", "seq":29 ,"at_ms":7,"mono_ns":8,"deep":{"a":[1,2.50,"\xc3\xa9"]}}'
    file.write_bytes(RECORD + odd + b"\n")

    storing.ingest(file, database)

    assert list(storing.record_from(database, RUN))[-1] == odd + b"\n"
    assert ("wörd", 7) in {(row[2], row[3]) for row in dump_of(database)["events"]}
    assert storing.view_from(database, RUN).run.last_seq == 29
    (last,) = RecordReader().feed(odd + b"\n")
    assert isinstance(last.event, Unknown)


def test_reprojecting_one_run_leaves_the_others(file: Path, database: Path) -> None:
    """RR-55: nothing but the rows of that run is touched."""
    for name in ("one", "two"):
        file.write_bytes(b"".join([*lines_of(stamp_all([header(run_id=name)])), *LINES[1:]]))
        storing.ingest(file, database)
    before = dump_of(database)

    assert storing.reproject(database, "one") == {"one": len(LINES)}
    assert storing.reproject(database) == {"one": len(LINES), "two": len(LINES)}
    assert dump_of(database) == before


def test_memory_is_that_of_open_rows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RR-61: four times as many events, of calls that have ended, take no more memory, neither on the way in nor anew."""
    monkeypatch.setattr(sequence, "REMEMBERED", 100)
    peaks = []
    for calls in (500, 2000):
        events: list[RunEvent] = [header()]
        for sh in range(1, calls + 1):
            events += [started("a", sh, "x"), finished("a", sh)]
        file.write_bytes(b"".join(lines_of(stamp_all(events))))
        del events
        with in_memory() as connection:
            connection.execute("PRAGMA cache_size = -100")
            tracemalloc.start()
            take_in(connection, file, batch_events=100)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert len(dump(connection)["sh"]) == calls

    assert peaks[1] - peaks[0] < 256 << 10
