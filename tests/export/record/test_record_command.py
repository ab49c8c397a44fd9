"""``record``: what a recorded run was, from its file alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from procflow import record
from procflow.record import stamped
from procflow.record.recorder import Recorder
from procflow.record.sinks.files import FileSink
from procflow_export.model.codes import Code
from procflow_export.model.errors import Failure
from procflow_export.model.events import Finished, Progress, ProgressInit, RunFinished, RunStarted, Started, Status
from procflow_export.pipeline.recording import Recording

RUN_ID = "0190a0b0-0000-7000-8000-000000000001"
HEADER = record.RunStarted(
    format=record.FORMAT,
    run_id=RUN_ID,
    name="procflow-export",
    procflow="0.1.0",
    python="3",
    platform="linux",
    host="here",
    pid=os.getpid(),
    redaction=record.RedactionInfo(enabled=False, rules=()),
)
BEGUN = [
    RunStarted(run_id=RUN_ID, exports=("orders", "items"), engine="processes", max_units=2),
    Started(run_id=RUN_ID, export="orders", mode="chunked", source="sqlite", format="parquet"),
    ProgressInit(export="orders", total_chunks=4, row_estimate=1_000),
    Progress(export="orders", chunks_done=1, total_chunks=4, row_count=250, size_bytes=2_048),
]
ENDED = [
    Finished(run_id=RUN_ID, export="orders", status=Status.SUCCESS, row_count=1_000, part_count=4, chunk_count=4),
    Finished(
        run_id=RUN_ID,
        export="items",
        status=Status.FAILED,
        failure=Failure(code=Code.SOURCE_DENIED, message="no SELECT on items"),
    ),
    RunFinished(
        run_id=RUN_ID, status=Status.FAILED, succeeded=1, failed=1, cancelled=0, row_count=1_000, part_count=4,
        size_bytes=0, elapsed_s=2.0, peak_rss_bytes=0, exit_status=1,
    ),
]  # fmt: skip


def write(folder: Path, events: Sequence[Any], *, is_finished: bool = True) -> FileSink:
    """Write a record of ``events``; its sink stays open."""
    sink = FileSink(folder / "events.jsonl")
    recorder = Recorder([sink])
    recorder.emit(HEADER)
    recording = Recording(recorder.emit)
    for second, event in enumerate(events):
        recording.hear(stamped(event, seq=-1, at_ms=0, mono_ns=second * 10**9))
    if is_finished:
        recorder.emit(record.RunFinished(outcome="failed", duration_ns=1, totals=recorder.totals()))
    return sink


def show(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "procflow_export", "record", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_run_that_ended_is_shown_as_it_was(tmp_path: Path) -> None:
    """E-66: the summary of a run, with every failure and what to do, comes from its record."""
    write(tmp_path, [*BEGUN, *ENDED]).close()

    shown = show(tmp_path)

    assert (shown.returncode, shown.stdout) == (0, "")
    assert "1 of 2 exports published · 1 failed · 1 000 rows · 4 parts" in shown.stderr.replace("\u202f", " ").replace(
        ",", " "
    )
    assert "items failed: SOURCE_DENIED" in shown.stderr
    assert "no SELECT on items" in shown.stderr
    assert "had not ended" not in shown.stderr


@pytest.mark.parametrize(("is_open", "word"), [(False, "died"), (True, "still goes on")])
def test_of_a_run_without_an_end_is_shown_what_was_running(tmp_path: Path, is_open: bool, word: str) -> None:
    """E-66: the record of a run that died says what was running then."""
    sink = write(tmp_path, BEGUN, is_finished=False)
    if not is_open:
        sink.close()

    shown = show(tmp_path)
    sink.close()

    assert shown.returncode == 0
    assert f"this run {word}" in shown.stderr
    assert "2 of 2 exports had not ended" in shown.stderr
    assert "orders: 25%, 250 rows, 2.0 KiB, 1 of 4 chunks" in shown.stderr
    assert "1 export waiting" in shown.stderr


def test_the_timeline_shows_every_job(tmp_path: Path) -> None:
    """E-66: with -v the record is shown as a timeline too, what has no end as lost."""
    write(tmp_path, BEGUN, is_finished=False).close()

    lines = [line.split() for line in show(tmp_path, "--verbose").stderr.splitlines() if "|" in line]

    assert [(line[0], line[-1]) for line in lines] == [
        ("procflow-export", "lost"),
        ("orders", "lost"),
        ("items", "skipped"),
    ]


def test_programs_get_the_same_as_one_document(tmp_path: Path) -> None:
    """E-60: with --json everything is one document on standard output."""
    write(tmp_path, [*BEGUN, ENDED[0]], is_finished=False).close()

    shown = show(tmp_path / "events.jsonl", "--json", "--quiet")

    assert shown.stderr == ""
    data = json.loads(shown.stdout)
    assert (data["state"], data["run_id"], data["run"]) == ("crashed", RUN_ID, None)
    assert [(one["export"], one["status"], one["row_count"]) for one in data["exports"]] == [
        ("orders", "success", 1_000),
        ("items", "waiting", 0),
    ]


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    """E-61: a file that is no record, or one of something else, is a mistake of the command line."""
    write(tmp_path / "other", []).close()
    (tmp_path / "events.jsonl").write_text("nothing of the kind\n")

    assert [show(path).returncode for path in (tmp_path, tmp_path / "missing", tmp_path / "other")] == [64, 64, 64]
