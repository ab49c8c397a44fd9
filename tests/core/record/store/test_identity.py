"""The same run in another file, another run in the same file."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from procflow.record import storing
from procflow.record.errors import ReplacedRecordError
from procflow.record.reading.states import RecordState
from tests.core.record.sample import EVENTS, LINES, RECORD, header, lines_of, stamp_all
from tests.core.record.store.databases import FILE_COLUMNS, append, dump, dump_of, in_memory, take_in
from tests.core.record.store.test_ingest import DAMAGED, RUN


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def test_another_run_under_the_same_path_is_a_stream_of_its_own(file: Path, database: Path) -> None:
    """RR-56: the rows of the first stay, whatever the path leads to now."""
    file.write_bytes(RECORD)
    storing.ingest(file, database)
    before = storing.view_from(database, RUN)

    file.write_bytes(b"".join([*lines_of(stamp_all([header(run_id="other")])), *LINES[1:9]]))
    storing.ingest(file, database)

    assert storing.view_from(database, RUN) == before
    assert len(storing.view_from(database, "other").calls) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"".join([*lines_of(stamp_all([header(name="other")])), *LINES[1:]]), "begins differently"),
        (b"".join(LINES[:15]), "shorter"),
        (b"".join([*LINES[:19], LINES[19].replace(b'"failed"', b'"paused"'), *LINES[20:]]), "lines are not those"),
    ],
    ids=["another header", "shorter", "other lines"],
)
@pytest.mark.parametrize("is_new_file", [False, True], ids=["overwritten", "renamed into place"])
def test_a_replaced_file_is_an_error(
    file: Path, database: Path, content: bytes, reason: str, is_new_file: bool
) -> None:
    """RR-56: nothing of a file that is not the one that was ingested is ever taken for its continuation."""
    file.write_bytes(b"".join(LINES[:20]))
    storing.ingest(file, database)
    before = dump_of(database)

    new = file.with_suffix(".new") if is_new_file else file
    new.write_bytes(content)
    os.replace(new, file)
    with pytest.raises(ReplacedRecordError, match=reason) as caught:
        storing.ingest(file, database)

    assert (caught.value.run_id, caught.value.path) == (RUN, str(file))
    assert dump_of(database) == before


def test_a_copy_is_compared_line_by_line(file: Path, database: Path) -> None:
    """RR-56: one changed byte in the middle of another file with the same beginning and the same end is noticed."""
    file.write_bytes(RECORD)
    storing.ingest(file, database)

    copy = file.with_suffix(".copy")
    copy.write_bytes(RECORD.replace(b'"abc"', b'"abd"'))
    with pytest.raises(ReplacedRecordError):
        storing.ingest(copy, database)


def test_a_run_that_was_forgotten_can_be_ingested_from_its_new_file(file: Path, database: Path) -> None:
    """RR-56: the way out of the error."""
    file.write_bytes(RECORD)
    storing.ingest(file, database)
    file.write_bytes(DAMAGED)

    with pytest.raises(ReplacedRecordError):
        storing.ingest(file, database)
    storing.forget(database, RUN)
    storing.ingest(file, database)

    with in_memory() as connection:
        take_in(connection, file)
        assert dump(connection) == dump_of(database)


def test_a_copy_that_has_grown_is_gone_on_with(file: Path, database: Path, tmp_path: Path) -> None:
    """RR-45, RR-56: moved, copied or packed, what goes on as it began is the same record."""
    file.write_bytes(DAMAGED[:1500])
    storing.ingest(file, database)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(file, moved / "events.jsonl")
    append(moved / "events.jsonl", DAMAGED[1500:3000])
    storing.ingest(moved, database)
    packed = tmp_path / "events.jsonl.gz"
    packed.write_bytes(gzip.compress(DAMAGED))

    report = storing.ingest(packed, database)

    assert report.state is RecordState.FINISHED
    (tmp_path / "at_once.db").unlink(missing_ok=True)
    storing.ingest(packed, tmp_path / "at_once.db")
    assert dump_of(database, without=FILE_COLUMNS) == dump_of(tmp_path / "at_once.db", without=FILE_COLUMNS)


@pytest.mark.parametrize(
    "head",
    [b"foreign text\n", b"\n\n" + LINES[3], b'{"type":"run_started"' + b" " * (2 << 20) + b"}\n"],
    ids=["damaged", "missing", "overlong"],
)
def test_a_record_without_its_header_has_a_name(file: Path, database: Path, head: bytes) -> None:
    """RR-40, RR-56: a damaged first line costs that line: the run is named by the hash of it, and is gone on with."""
    file.write_bytes(head + b"".join(LINES[1:9]))
    first = storing.ingest(file, database)
    append(file, b"".join(LINES[9:]))
    second = storing.ingest(file, database)

    assert first.run_id is not None
    assert first.run_id.startswith("head-")
    assert second.run_id == first.run_id
    view = storing.view_from(database, first.run_id)
    assert (view.run.run_id, view.run.outcome, len(view.calls)) == (None, "cancelled", 4)
    assert view.run.last_seq == EVENTS[-1].seq
