"""A run as one value.

Owns the view that ``load()`` returns and that a live run can be asked for.  Must not know files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from procflow.record.envelope import Unknown
from procflow.record.events import RunEvent
from procflow.record.fold.fold import MemoryRows, fold
from procflow.record.fold.recovery import lost, recovered_jobs
from procflow.record.fold.rows import CallKey, CallRow, JobKey, JobRow, NoteRow, RunRow
from procflow.record.reading.reader import Health
from procflow.record.reading.states import RecordState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What a record says, each part in the order in which it began.

    Attributes:
        state: What the record is; what is still open in one that is over was lost.
        run: The run itself.
        jobs: The attempts at its jobs.
        calls: Their calls.
        notes: What its caller noted.
        health: What is wrong with the record; it says nothing about how the run ended.
    """

    state: RecordState
    run: RunRow
    jobs: Mapping[JobKey, JobRow]
    calls: Mapping[CallKey, CallRow]
    notes: tuple[NoteRow, ...]
    health: Health

    def calls_of(self, job: JobKey) -> list[CallRow]:
        """Return the calls of one attempt, by their numbers."""
        return sorted((call for key, call in self.calls.items() if key.job == job), key=lambda call: call.sh)

    @property
    def open_jobs(self) -> list[JobRow]:
        """The attempts that have begun and of which no ending is written, whether or not one was made up."""
        return [job for job in self.jobs.values() if job.finished_seq is None and job.has_begun]

    @property
    def open_calls(self) -> list[CallRow]:
        """The calls of which no ending is written, whether or not one was made up."""
        return [call for call in self.calls.values() if call.finished_seq is None]


class RunFold:
    """The fold of one run in memory, which may go on from ``rows``."""

    def __init__(self, rows: MemoryRows | None = None) -> None:
        """Begin with nothing known, or go on with ``rows``."""
        self._rows = rows if rows is not None else MemoryRows()

    def add(self, event: RunEvent | Unknown) -> None:
        """Fold one more event."""
        fold(self._rows, event)

    def view(self, *, state: RecordState = RecordState.RUNNING, health: Health = Health()) -> RunView:
        """Return what was folded so far; the fold may go on.

        ``state`` says whether more will come: if not, what is open is lost.
        """
        run = self._rows.run() or RunRow(first_seq=0)
        jobs, calls = dict(self._rows.jobs), dict(self._rows.calls)
        if state in (RecordState.CRASHED, RecordState.FINISHED):
            # Something may still be open in a run that has ended, if the event that ends it is missing.
            jobs |= {job.key: job for job in recovered_jobs(jobs.values(), run)}
            calls = {key: lost(call, run) for key, call in calls.items()}
            run = lost(run, run) if run.last_seq >= 0 else run
        return RunView(
            state=state,
            run=run,
            jobs=MappingProxyType(dict(sorted(jobs.items(), key=lambda item: (item[1].first_seq, item[0])))),
            calls=MappingProxyType(dict(sorted(calls.items(), key=lambda item: (item[1].first_seq, item[0])))),
            notes=tuple(sorted(self._rows.notes.values(), key=lambda note: note.seq)),
            health=health,
        )


def view_of(
    events: Iterable[RunEvent | Unknown], *, state: RecordState = RecordState.RUNNING, health: Health = Health()
) -> RunView:
    """Return what ``events`` say."""
    folding = RunFold()
    for event in events:
        folding.add(event)
    return folding.view(state=state, health=health)
