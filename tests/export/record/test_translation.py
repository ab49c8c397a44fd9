"""What a record has for the events of a run: pure, event by event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow.record import JobDeclared, JobFinished, JobStarted, Note, stamped
from procflow_export.model.codes import Code
from procflow_export.model.errors import Failure
from procflow_export.model.events import (
    UNIT_EVENT_TYPES,
    Finished,
    Progress,
    ProgressInit,
    RunStarted,
    Started,
    Status,
    UnitStarted,
)
from procflow_export.model.notes import note_of
from procflow_export.pipeline.recording import Recorded, Recording, RunTranslation
from tests.export.record.strategies import events, of_type

RUN = RunStarted(run_id="r", exports=("a", "b"), engine="processes", max_units=2)
STARTED = Started(run_id="r", export="a", mode="full", source="sqlite", format="parquet")


def at(seconds: float, event: Any) -> Any:
    return stamped(event, seq=-1, at_ms=0, mono_ns=round(seconds * 1e9))


def said(*told: Any) -> list[Recorded]:
    translation = RunTranslation()
    return [event for one in told for event in translation.of(one)]


def verdict(status: Status, code: Code | None = None) -> Finished:
    failure = None if code is None else Failure(code=code, message="why")
    return Finished(run_id="r", export="a", status=status, failure=failure)


def test_every_export_is_a_job() -> None:
    """E-66: one job per export: declared with the run, begun with the export, ended with its verdict."""
    done = verdict(Status.SUCCESS)

    assert said(at(0, RUN), at(1, STARTED), at(3.5, done)) == [
        note_of(RUN),
        JobDeclared(job_id="a"),
        JobDeclared(job_id="b"),
        JobStarted(job_id="a", attempt=1),
        note_of(STARTED),
        note_of(done),
        JobFinished(job_id="a", attempt=1, outcome="succeeded", duration_ns=2_500_000_000),
    ]


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (Status.SUCCESS, None, "succeeded"),
        (Status.CANCELLED, None, "cancelled"),
        (Status.FAILED, Code.SOURCE_DENIED, "failed"),
        (Status.FAILED, None, "failed"),
        (Status.FAILED, Code.INTERNAL, "errored"),
        (Status.FAILED, Code.WORKER_PROTOCOL, "errored"),
    ],
)
def test_a_verdict_is_the_outcome_of_the_job(status: Status, code: Code | None, outcome: str) -> None:
    """E-66: words of the record for verdicts; a bug of ours is ``errored``."""
    *_, ending = said(at(0, STARTED), at(1, verdict(status, code)))

    assert isinstance(ending, JobFinished)
    assert ending.outcome == outcome
    assert (ending.error is None) is (code is None)


def test_an_export_whose_turn_never_came_is_not_finished() -> None:
    """RR-15: a job that was not begun has no end; that it was skipped is the record's to say."""
    assert said(at(1, verdict(Status.CANCELLED))) == [note_of(verdict(Status.CANCELLED))]


def test_progress_is_noted_less_and_less_often() -> None:
    """E-66: the record of a long run stays small: at most a note a second, later one for each hundredth of the run."""
    told = [
        at(tick / 10, Progress(export="a", chunks_done=0, total_chunks=1, row_count=tick)) for tick in range(36_000)
    ]
    rows = [note.value["row_count"] for note in said(*told) if isinstance(note, Note) and isinstance(note.value, dict)]

    assert rows[:3] == [0, 10, 20]
    assert all(10 <= later - row <= max(11, row // 100 + 2) for row, later in zip(rows[1:], rows[2:], strict=False))
    assert len(rows) < 500


@pytest.mark.parametrize("kind", UNIT_EVENT_TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_of_what_workers_say_only_their_beginnings_are_noted(kind: type, data: st.DataObject) -> None:
    """E-66: the rest of it is in the events of the parent, and stands in the record once."""
    assert len(said(data.draw(of_type(kind)))) == (kind is UnitStarted)


@given(st.lists(events, max_size=20))
def test_whatever_is_told_the_jobs_balance(told: list[Any]) -> None:
    """RR-15: for any events in any order, a job is finished only if it was begun, never twice."""
    open_jobs: set[str] = set()
    for event in said(*told):
        match event:
            case JobStarted():
                open_jobs.add(event.job_id)
            case JobFinished():
                open_jobs.remove(event.job_id)
                assert event.duration_ns >= 0
            case _:
                pass


def test_what_a_record_cannot_hold_is_counted_and_costs_nothing_else() -> None:
    """RR-05: an estimate beyond 64 bits stops neither the run nor its record."""
    written: list[Recorded] = []
    recording = Recording(written.append)

    recording.hear(ProgressInit(export="a", total_chunks=1, row_estimate=2**70))
    recording.hear(RUN)

    assert recording.unrecorded_count == 1
    assert written[0] == note_of(RUN)
