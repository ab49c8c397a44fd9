"""What tests of recorded runs ask of a record."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from procflow.record import (
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    RecordState,
    RunEvent,
    RunFinished,
    RunStarted,
    ShFinished,
    ShSpawned,
    ShStarted,
    Unknown,
    load,
    read_events,
)


def events_of(directory: Path) -> list[RunEvent]:
    events = [line.event for line in read_events(directory)]
    assert not [event for event in events if isinstance(event, Unknown)]
    return [event for event in events if not isinstance(event, Unknown)]


def the_run_in(root: Path) -> Path:
    [directory] = root.iterdir()
    return directory


def require_balance(directory: Path) -> list[RunEvent]:
    """Every thing that was begun has one end, every declared job a fate, and the run a first and a last line."""
    events = events_of(directory)
    assert [event.seq for event in events] == list(range(len(events)))
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert sum(isinstance(event, (RunStarted, RunFinished)) for event in events) == 2

    def jobs(kind: type[JobStarted | JobFinished]) -> Counter[tuple[str, int]]:
        return Counter((event.job_id, event.attempt) for event in events if isinstance(event, kind))

    def calls(kind: type[ShStarted | ShSpawned | ShFinished]) -> Counter[tuple[str, int, int]]:
        return Counter((event.job_id, event.attempt, event.sh) for event in events if isinstance(event, kind))

    assert jobs(JobStarted) == jobs(JobFinished)
    assert calls(ShStarted) == calls(ShFinished)
    assert set(calls(ShSpawned)) <= set(calls(ShStarted))
    assert all(
        count == 1 for counts in (jobs(JobStarted), calls(ShStarted), calls(ShSpawned)) for count in counts.values()
    )
    fates = {event.job_id for event in events if isinstance(event, (JobStarted, JobSkipped))}
    assert {event.job_id for event in events if isinstance(event, JobDeclared)} <= fates
    view = load(directory)
    assert view.state is RecordState.FINISHED
    assert view.health.is_clean
    assert not view.open_jobs
    assert not view.open_calls
    return events
