"""A run as spans of a trace, in the words of OpenTelemetry.

Owns the mapping from rows to spans.  Must not know OpenTelemetry's packages, nor how spans travel.

A row becomes a span when it has ended, as OpenTelemetry knows no span without an end: what is still open in a run that goes on has
none yet, and what was lost ends at the last event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from procflow.record import events as words
from procflow.record.errors import UnexportableError
from procflow.record.events import ErrorInfo
from procflow.record.exports import conventions as names
from procflow.record.exports.ids import job_uuid, parent_span_id, span_id, trace_id
from procflow.record.exports.times import TimeAxis, first_calls
from procflow.record.fold.rows import CallRow, JobRow, RunRow
from procflow.record.fold.view import RunView

AttributeValue: TypeAlias = str | int | tuple[str, ...]
"""What an attribute of a span can be here."""

_RECORDED_ARGV: Final = "redacted"
_NO_PROGRAM: Final = "call"
_UNSUCCESSFUL: Final = frozenset({words.FAILED, words.ERRORED})


class TraceSpanKind(Enum):
    """The two kinds of OpenTelemetry that are used here."""

    INTERNAL = "internal"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSpan:
    """One span, ended.

    Attributes:
        name: What ran: the run, the job, or the base name of the program.
        parent_id: The span that it belongs to; ``None`` if it is the root of its trace.
        has_remote_parent: Whether that span is of another program.
        start_ns: Nanoseconds since 1970, UTC.
        end_ns: The same, never before ``start_ns``.
        attributes: By the names of the semantic conventions.
        is_error: Whether its status is ERROR; else it is unset.
        status_text: What is said of the error, redacted as the record is; empty if nothing is.
    """

    name: str
    kind: TraceSpanKind
    trace_id: int
    span_id: int
    parent_id: int | None
    has_remote_parent: bool
    start_ns: int
    end_ns: int
    attributes: Mapping[str, AttributeValue]
    is_error: bool
    status_text: str


class SpanMaker:
    """Makes the spans of one run, whose ``run_started`` is known."""

    def __init__(self, run: RunRow) -> None:
        """Take ids and times from ``run``.

        Raises:
            UnexportableError: If the event that names the run is missing.
        """
        if run.run_id is None:
            raise UnexportableError("the event that names its run is missing")
        self._run_id: Final = run.run_id
        self._trace_id: Final = trace_id(run.run_id, run.trace)
        self.axis: Final = TimeAxis(run)
        self._shows_argv: Final = (
            run.redaction is not None and run.redaction.enabled and run.redaction.argv == _RECORDED_ARGV
        )

    def run_span(self, run: RunRow) -> TraceSpan:
        """Return the span of the run."""
        attributes: dict[str, AttributeValue] = {names.PIPELINE_RUN_ID: self._run_id}
        if run.name:
            attributes[names.PIPELINE_NAME] = run.name
        outcome = run.outcome or words.LOST
        attributes[names.PIPELINE_RESULT] = names.RESULTS.get(outcome, outcome)
        return self._span(
            name=run.name or "run",
            own_id=span_id(self._run_id),
            parent_id=parent_span_id(run.trace),
            start_ns=self.axis.run_ns,
            row=run,
            attributes=attributes,
            error_type=None if outcome == words.SUCCEEDED else outcome,
        )

    def job_span(self, job: JobRow, *, first_call_ns: int | None = None) -> TraceSpan:
        """Return the span of an attempt; ``first_call_ns`` is when its first call began."""
        outcome = job.outcome or words.LOST
        is_timeout = outcome in _UNSUCCESSFUL and _is_timeout(job.error)
        attributes: dict[str, AttributeValue] = {
            names.PIPELINE_RUN_ID: self._run_id,
            names.TASK_NAME: job.job_id,
            names.TASK_RUN_ID: str(job_uuid(self._run_id, job.key)),
            names.TASK_RUN_RESULT: names.RESULT_TIMEOUT if is_timeout else names.RESULTS.get(outcome, outcome),
            names.ATTEMPT: job.attempt,
        }
        return self._span(
            name=job.job_id or "job",
            own_id=span_id(self._run_id, job.key),
            parent_id=span_id(self._run_id),
            start_ns=self.axis.job_ns(job, first_call_ns=first_call_ns),
            row=job,
            attributes=attributes,
            error_type=_job_error(job, outcome, is_timeout=is_timeout),
            status_text=job.error.message if job.error is not None else "",
        )

    def call_span(self, call: CallRow, job: JobRow | None) -> TraceSpan:
        """Return the span of a call of ``job``."""
        program = call.argv[0] if call.argv else ""
        name = program.rstrip("/").rpartition("/")[2]
        attributes: dict[str, AttributeValue] = {names.ATTEMPT: call.attempt, names.SH: call.sh}
        if name:
            attributes[names.EXECUTABLE_NAME] = name
        if path := _executable_path(program, call.cwd):
            attributes[names.EXECUTABLE_PATH] = path
        if call.pid is not None:
            attributes[names.PROCESS_PID] = call.pid
        if call.exit_code is not None:
            attributes[names.EXIT_CODE] = call.exit_code
        if call.cwd:
            attributes[names.WORKING_DIRECTORY] = call.cwd
        if self._shows_argv and call.argv:
            attributes[names.COMMAND_ARGS] = call.argv
        return self._span(
            name=name or _NO_PROGRAM,
            own_id=span_id(self._run_id, call.key),
            parent_id=span_id(self._run_id, call.key.job),
            start_ns=self.axis.call_ns(call, job),
            row=call,
            attributes=attributes,
            error_type=_call_error(call),
            status_text=call.error.message if call.error is not None else "",
            kind=TraceSpanKind.CLIENT,
        )

    def _span(
        self,
        *,
        name: str,
        own_id: int,
        parent_id: int | None,
        start_ns: int,
        row: RunRow | JobRow | CallRow,
        attributes: dict[str, AttributeValue],
        error_type: str | None,
        status_text: str = "",
        kind: TraceSpanKind = TraceSpanKind.INTERNAL,
    ) -> TraceSpan:
        if error_type is not None:
            attributes[names.ERROR_TYPE] = error_type
        attributes[names.OUTCOME] = row.outcome or words.LOST
        return TraceSpan(
            name=name,
            kind=kind,
            trace_id=self._trace_id,
            span_id=own_id,
            parent_id=parent_id,
            has_remote_parent=isinstance(row, RunRow) and parent_id is not None,
            start_ns=start_ns,
            end_ns=TimeAxis.end_ns(start_ns, row),
            attributes=attributes,
            is_error=error_type is not None,
            status_text=status_text if error_type is not None else "",
        )


def trace_spans(view: RunView) -> list[TraceSpan]:
    """Return the spans of everything in ``view`` that has ended: the calls, the attempts, the run.

    Of a crashed run, what was open is lost: it ends at the last event, with the status ERROR and ``error.type`` ``lost``.  A job
    that was skipped has a span without length.  The same record gives the same spans, ids included, however often it is asked.

    Raises:
        UnexportableError: If the event that names the run is missing.
    """
    maker = SpanMaker(view.run)
    begun_ns = first_calls(maker.axis, view)
    spans = [maker.call_span(call, view.jobs.get(call.key.job)) for call in view.calls.values() if not call.is_open]
    spans += [maker.job_span(job, first_call_ns=begun_ns.get(job.key)) for job in view.jobs.values() if not job.is_open]
    if not view.run.is_open:
        spans.append(maker.run_span(view.run))
    return spans


def _executable_path(program: str, cwd: str | None) -> str | None:
    """Return the path of a program that was named by one; where a bare name was found, nobody has written down."""
    if program.startswith("/"):
        return program
    if "/" not in program or not (cwd or "").startswith("/"):
        return None
    return f"{(cwd or '').rstrip('/')}/{program.removeprefix('./')}"


def _call_error(call: CallRow) -> str | None:
    match call.outcome:
        case words.EXITED if call.exit_code is None:
            return names.ERROR_OTHER
        case words.EXITED:
            return str(call.exit_code) if call.exit_code else None
        case words.SIGNALED if call.signal:
            return call.signal
        case words.TIMED_OUT:
            return names.ERROR_TIMEOUT
        case words.SPAWN_FAILED if call.error is not None and call.error.type:
            return call.error.type
        case _:
            return call.outcome or words.LOST


def _is_timeout(error: ErrorInfo | None) -> bool:
    return error is not None and error.type.rpartition(".")[2] in names.TIMEOUT_ERRORS


def _job_error(job: JobRow, outcome: str, *, is_timeout: bool) -> str | None:
    if outcome in {words.SUCCEEDED, words.SKIPPED}:
        return None
    if is_timeout:
        return names.ERROR_TIMEOUT
    if outcome in {words.CANCELLED, words.LOST} or job.error is None or not job.error.type:
        return outcome
    return job.error.type
