"""Jobs without a block, and runs that are ended by whoever works."""

from __future__ import annotations

from pathlib import Path

import pytest

import procflow as pf
from procflow.record import CancelRequested, ErrorInfo, JobFinished, JobStarted, Note, load, open_run

from .runs import events_of, require_balance, the_run_in

pytestmark = pytest.mark.anyio

RUN_ID = "0190a0b0-0000-7000-8000-000000000000"
WHY = ErrorInfo(type="Rejected", message="3 rows have no key")


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "errored", "cancelled"])
async def test_a_job_ends_as_it_was_judged(tmp_path: Path, outcome: str) -> None:
    """RR-15: a job whose beginning and end are told has both in the record, with the outcome that was told."""
    async with open_run("told", record=tmp_path) as run:
        job = run.begin_job("import")
        job.note("import.rows", 7)
        job.end(outcome, error=WHY)

    events = require_balance(the_run_in(tmp_path))
    begun, note, ended = events[1:-1]
    assert isinstance(begun, JobStarted)
    assert isinstance(note, Note)
    assert (note.key, note.value, note.job_id, note.attempt) == ("import.rows", 7, "import", 1)
    assert isinstance(ended, JobFinished)
    assert (ended.outcome, ended.error) == (outcome, WHY)
    assert run.outcome == ("succeeded" if outcome == "succeeded" else "failed")


async def test_a_job_ends_once(tmp_path: Path) -> None:
    """RR-15: the first end of a job is its end."""
    async with open_run("told", record=tmp_path) as run:
        job = run.begin_job("import")
        job.end()
        job.end("failed")

    require_balance(the_run_in(tmp_path))
    assert run.outcome == "succeeded"


async def test_a_job_that_was_forgotten_was_cancelled(tmp_path: Path) -> None:
    """RR-15: what is open when the run is left has an end, and an end that is told later changes nothing."""
    async with open_run("told", record=tmp_path) as run:
        job = run.begin_job("import")
    job.end()

    require_balance(the_run_in(tmp_path))
    [row] = load(the_run_in(tmp_path)).jobs.values()
    assert row.outcome == "cancelled"
    with pytest.raises(pf.UsageError):
        job.note("too.late", 1)


async def test_the_same_job_again_is_another_attempt(tmp_path: Path) -> None:
    """RR-22: attempts count, whoever says when they begin; two of one job at a time are refused."""
    async with open_run("told", record=tmp_path) as run:
        first = run.begin_job("import")
        with pytest.raises(pf.UsageError):
            run.begin_job("import")
        first.end("failed")
        second = run.begin_job("import")
        second.end()

    assert [first.attempt, second.attempt] == [1, 2]
    require_balance(the_run_in(tmp_path))
    assert run.outcome == "succeeded"


@pytest.mark.parametrize("word", ["skipped", "lost", "done", ""])
async def test_only_words_of_the_format_end_a_job(word: str) -> None:
    """RR-11: an outcome that no attempt can have is refused where it is said."""
    async with open_run("told") as run:
        job = run.begin_job("import")
        with pytest.raises(ValueError, match="a job ends as one of cancelled, errored, failed, succeeded"):
            job.end(word)


@pytest.mark.parametrize(("outcome", "expected"), [("succeeded", "succeeded"), ("cancelled", "cancelled")])
async def test_a_cancel_that_was_announced_ends_nothing_by_itself(tmp_path: Path, outcome: str, expected: str) -> None:
    """RR-15: a run that ends in an order of its own was cancelled if that has cost it a job."""
    async with open_run("told", record=tmp_path) as run:
        job = run.begin_job("import")
        run.announce_cancel("enough", signal="SIGTERM")
        await pf.run(pf.Command("true"))
        job.end(outcome)

    events = require_balance(the_run_in(tmp_path))
    [announced] = [event for event in events if isinstance(event, CancelRequested)]
    assert (announced.reason, announced.signal) == ("enough", "SIGTERM")
    assert run.outcome == expected


async def test_a_declared_job_that_an_announced_cancel_has_prevented_counts(tmp_path: Path) -> None:
    """RR-21: a declared job that was never begun is skipped, and makes the run a cancelled one."""
    async with open_run("told", record=tmp_path) as run:
        run.declare("import")
        run.announce_cancel("enough")

    require_balance(the_run_in(tmp_path))
    assert run.outcome == "cancelled"


async def test_a_run_may_bring_its_own_id(tmp_path: Path) -> None:
    """RR-13: an id of the caller's own names the run and its directory; anything else than a UUID is refused."""
    async with open_run("told", record=tmp_path, run_id=RUN_ID) as run:
        pass

    assert run.run_id == RUN_ID
    assert the_run_in(tmp_path).name == RUN_ID
    assert events_of(the_run_in(tmp_path))[0].run_id == RUN_ID  # type: ignore[union-attr]  # the header
    for wrong in ("../elsewhere", RUN_ID.upper().replace("0190A", "0190a"), RUN_ID.replace("-", "")):
        with pytest.raises(ValueError):
            open_run("told", record=tmp_path, run_id=wrong)
