"""The spans of a run while it runs.

Owns which event ends what, and what must be remembered until then.  Must not know who emits events, nor where spans go.

The rows are those of the fold, so that a record that is read later says the same.  What has ended is forgotten, but for the attempts
at jobs: memory grows with them and with what is open, not with the calls.
"""

from __future__ import annotations

from typing import Final

from procflow.record.envelope import Unknown
from procflow.record.events import JobFinished, JobSkipped, RunEvent, RunFinished, ShFinished, ShSpawned, ShStarted
from procflow.record.exports.spans import SpanMaker, TraceSpan
from procflow.record.fold.fold import MemoryRows
from procflow.record.fold.rows import CallKey, JobKey, NoteRow, RunRow
from procflow.record.fold.steps import attempt_of
from procflow.record.fold.view import RunFold
from procflow.record.reading.states import RecordState


class LiveSpans:
    """Gives each span as soon as the event that ends it is added.

    For a record as its recorder writes it, all of them together are those that ``trace_spans()`` gives afterwards.
    """

    def __init__(self) -> None:
        self._rows: Final = _OpenRows()
        self._fold: Final = RunFold(self._rows)
        self._known_maker: SpanMaker | None = None
        self._first_calls: dict[JobKey, int] = {}  # of attempts whose beginning is not known
        self._is_over = False

    def __repr__(self) -> str:
        return f"<LiveSpans, {len(self._rows.calls)} calls are open{', over' if self._is_over else ''}>"

    def add(self, event: RunEvent | Unknown) -> list[TraceSpan]:
        """Return the spans that ``event`` ends, usually none or one; the end of the run ends all that is open.

        Raises:
            UnexportableError: If something ended and the event that names the run did not come before.
        """
        if self._is_over:
            return []
        self._fold.add(event)
        match event:
            case ShStarted() | ShSpawned() | ShFinished():
                return self._after_call(event)
            case JobFinished() | JobSkipped():
                job = self._rows.jobs[JobKey(event.job_id, attempt_of(event))]
                if job.finished_seq != event.seq:
                    return []
                return [self._maker.job_span(job, first_call_ns=self._first_calls.pop(job.key, None))]
            case RunFinished():
                return self.finish(RecordState.FINISHED)
            case _:
                return []

    def finish(self, state: RecordState) -> list[TraceSpan]:
        """Return the spans of what is still open in a record that is over: it was lost.

        For a record that ends without an event that says so; nothing comes after it.

        Args:
            state: What the record is.  While it is running nothing is lost.

        Raises:
            UnexportableError: If the event that names the run is missing.
        """
        if self._is_over or state is RecordState.RUNNING:
            return []
        view = self._fold.view(state=state)
        maker = self._maker
        self._is_over = True
        spans = [maker.call_span(call, view.jobs.get(call.key.job)) for call in view.calls.values()]
        spans += [
            maker.job_span(job, first_call_ns=self._first_calls.get(job.key))
            for job in view.jobs.values()
            if job.synthesized
        ]
        self._rows.calls.clear()
        return [*spans, maker.run_span(view.run)]

    @property
    def _maker(self) -> SpanMaker:
        if self._known_maker is None:
            self._known_maker = SpanMaker(self._rows.run() or RunRow(first_seq=0))
        return self._known_maker

    def _after_call(self, event: ShStarted | ShSpawned | ShFinished) -> list[TraceSpan]:
        call = self._rows.calls[CallKey(event.job_id, event.attempt, event.sh)]
        job = self._rows.jobs[call.key.job]
        if job.started_seq is None and not isinstance(event, ShSpawned):
            start_ns = self._maker.axis.call_ns(call, job)
            self._first_calls[job.key] = min(self._first_calls.get(job.key, start_ns), start_ns)
        if call.finished_seq != event.seq:
            return []
        del self._rows.calls[call.key]
        return [self._maker.call_span(call, job)]


class _OpenRows(MemoryRows):
    """Rows without the notes, which no span shows."""

    __slots__ = ()

    def put_note(self, row: NoteRow) -> None:
        """Forget it."""
