"""What a run record says of a run of exports.

Owns the choice: each export is a job, what happens to it are notes of that job.  What workers say is folded into the parent's
events, so that one process writes and each thing stands in the record once:

================== ====================================================
a worker says      the record has
================== ====================================================
``unit_started``   itself: which process took up which chunk
``unit_progress``  ``progress``: the sums over all workers of an export
``unit_warning``   ``warning``
``unit_finished``  ``part`` and ``chunk_finished``, or ``retry``, or the failure in ``finished``
``heartbeat``      nothing
================== ====================================================

The choice is pure: events in, events of the record out, times taken from the events.  Must not know files or sinks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from procflow.record import ErrorInfo, JobDeclared, JobFinished, JobStarted, Note
from procflow.record.events import CANCELLED, ERRORED, FAILED, SUCCEEDED
from procflow_export.model.codes import Kind
from procflow_export.model.errors import Failure
from procflow_export.model.events import (
    ChunkFinished,
    Finished,
    Heartbeat,
    PartWritten,
    Progress,
    ProgressInit,
    Retry,
    RunEvent,
    RunFinished,
    RunStarted,
    Started,
    Status,
    UnitEvent,
    UnitFinished,
    UnitProgress,
    UnitStarted,
    UnitWarning,
    Warned,
)
from procflow_export.model.notes import FIRST_ATTEMPT, note_of

if TYPE_CHECKING:
    from procflow.record.redaction.redactor import Json

Recorded: TypeAlias = JobDeclared | JobStarted | Note | JobFinished
"""What a run of exports writes; the rest of a record is its writer's."""

PROGRESS_NS: Final = 1_000_000_000
"""The least time between two notes of the progress of an export."""

PROGRESS_FRACTION: Final = 100
"""After that, a note each time that the run has grown longer by one part in so many: a day takes about 700 of them."""

_log = logging.getLogger("procflow_export.record")


class RunTranslation:
    """The events of one run, as a record says them."""

    def __init__(self, clean: Callable[[Json], Json] | None = None) -> None:
        """``clean`` takes secrets out of a JSON value; see ``model.notes.note_of()``."""
        self._clean = clean
        self._began_ns: dict[str, int] = {}
        self._next_progress_ns: dict[str, int] = {}

    def of(self, event: RunEvent | UnitEvent) -> Iterator[Recorded]:
        """Yield what the record has for ``event``; each event of the run is asked for once, in order.

        Raises:
            UnrecordableError: If a number of it is outside 64 bits.
        """
        match event:
            case RunStarted():
                yield note_of(event, clean=self._clean)
                yield from (JobDeclared(job_id=export) for export in event.exports)
            case Started():
                self._began_ns[event.export] = event.mono_ns
                yield JobStarted(job_id=event.export, attempt=FIRST_ATTEMPT)
                yield note_of(event, clean=self._clean)
            case Finished():
                yield note_of(event, clean=self._clean)
                yield from self._ending(event)
            case Progress():
                if self._is_due(event):
                    yield note_of(event, clean=self._clean)
            case UnitStarted() | ProgressInit() | PartWritten() | ChunkFinished() | Retry() | Warned() | RunFinished():
                yield note_of(event, clean=self._clean)
            case UnitProgress() | UnitWarning() | UnitFinished() | Heartbeat():
                pass
            case _:
                assert_never(event)

    def _ending(self, event: Finished) -> Iterator[Recorded]:
        began_ns = self._began_ns.pop(event.export, None)
        if began_ns is None:
            return  # cancelled before its turn: a declared job that is not begun is skipped by the record
        yield JobFinished(
            job_id=event.export,
            attempt=FIRST_ATTEMPT,
            outcome=outcome_of(event),
            duration_ns=max(0, event.mono_ns - began_ns),
            error=None if event.failure is None else self._error(event.failure),
        )

    def _error(self, failure: Failure) -> ErrorInfo:
        message = failure.message if self._clean is None else str(self._clean(failure.message))
        return ErrorInfo(type=failure.code.value, message=message)

    def _is_due(self, event: Progress) -> bool:
        if event.mono_ns < self._next_progress_ns.get(event.export, 0):
            return False
        self._next_progress_ns[event.export] = event.mono_ns + max(PROGRESS_NS, event.mono_ns // PROGRESS_FRACTION)
        return True


def outcome_of(event: Finished) -> str:
    """Return the word of the record for a verdict: ``errored`` where it is our bug."""
    match event.status:
        case Status.SUCCESS | Status.SKIPPED:
            return SUCCEEDED
        case Status.CANCELLED:
            return CANCELLED
        case Status.FAILED:
            is_bug = event.failure is not None and event.failure.code.kind is Kind.INTERNAL
            return ERRORED if is_bug else FAILED
        case _:
            assert_never(event.status)


class Recording:
    """Writes what happens in a run to its record; whatever goes wrong with that, the run goes on."""

    def __init__(self, write: Callable[[Recorded], None], *, clean: Callable[[Json], Json] | None = None) -> None:
        """``write`` takes one event of the record; ``clean`` takes secrets out of a JSON value."""
        self._write = write
        self._translation = RunTranslation(clean)
        self.unrecorded_count = 0
        """Events that could not be recorded: a number beyond 64 bits, a record that is over."""

    def hear(self, event: RunEvent | UnitEvent) -> None:
        """Write what the record has for ``event``."""
        try:
            for said in self._translation.of(event):
                self._write(said)
        except Exception as exc:  # noqa: BLE001 (isolated, as a sink is: an export is not lost for its record)
            self.unrecorded_count += 1
            if self.unrecorded_count == 1:
                _log.warning("an event is not in the record, the next ones are only counted: %s", exc)
