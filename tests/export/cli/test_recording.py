"""``run --record``: a run and its record, however it ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from procflow import record
from procflow_export import Progress, read_run
from tests.export.cli.conftest import Shop, Started


def folder_of(shop: Shop) -> Path:
    [folder] = (shop.folder / "runs").iterdir()
    return folder


def rows_are_read(run: Started) -> None:
    """Wait until the record of ``run`` tells of rows of ``items``."""

    def has_rows() -> bool:
        files = list((run.shop.folder / "runs").glob("*/events.jsonl"))
        said = [event for file in files for event in read_run(file)]
        return any(isinstance(event, Progress) and event.export == "items" and event.row_count for event in said)

    run.wait_until(has_rows, "a first batch in the record")


def test_a_recorded_run_can_be_shown_again(shop: Shop) -> None:
    """E-66: the summary of the record is that of the run; the record is where the run says it is."""
    ended = shop.run("run", str(shop.three()), "--record", "runs", "--json")
    folder = folder_of(shop)

    assert ended.status == 0
    assert ended.data["record"] == str(Path("runs", ended.data["run_id"]))
    assert folder.name == ended.data["run_id"]
    assert f"record  runs/{folder.name}" in ended.err
    shown = shop.run("record", str(folder), "--json")
    assert shown.status == 0
    assert shown.data["state"] == "finished"
    assert shown.data["exports"] == ended.data["exports"]
    assert " all exports published · 7,300 rows · 7 parts" in shown.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_so_in_its_record(shop: Shop, number: signal.Signals) -> None:
    """E-34, E-66: the record of a run that was stopped has the signal, and an end for everything that was begun."""
    with shop.started("run", str(shop.slow()), "--record", "runs") as run:
        rows_are_read(run)
        run.process.send_signal(number)
        run.end()

    view = record.load(folder_of(shop))
    assert (view.run.outcome, view.run.cancel_signal) == ("cancelled", number.name)
    assert {job.job_id: job.outcome for job in view.jobs.values()} == {
        "customers": "succeeded",
        "items": "cancelled",
        "main": "succeeded",
    }
    assert not any(row.synthesized for row in (*view.jobs.values(), *view.calls.values()))


def test_the_record_of_a_killed_run_says_what_was_running(shop: Shop) -> None:
    """E-66, RR-43: a run that was killed leaves a record that shows what was running when it died."""
    with shop.started("run", str(shop.slow()), "--record", "runs") as run:
        rows_are_read(run)
        run.process.kill()
        run.end()

    shown = shop.run("record", str(folder_of(shop)))
    assert shown.status == 0
    assert "this run died" in shown.err
    assert "1 of 2 exports had not ended" in shown.err
    assert any(line.strip().startswith("items:") and "rows" in line for line in shown.err.splitlines())


def test_a_record_that_cannot_be_written_stops_the_run(shop: Shop) -> None:
    """E-61: nothing is exported without the record that was asked for."""
    (shop.folder / "runs").write_text("a file")

    ended = shop.run("run", str(shop.three()), "--record", "runs")

    assert ended.status == 1
    assert "ENVIRONMENT: no record can be written below runs" in ended.err
    assert not shop.out.exists()
