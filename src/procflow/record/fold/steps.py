"""What one event does to one row.

Owns the rules of the fold, each a function from a row, or none, and an event to a row.  Must not know where rows are kept.

Every function is total: no event is refused.  Where two events say the same thing of a row, that with the lower number holds, so the
order in which they arrive does not matter.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec

from procflow.record.events import (
    SKIPPED,
    CancelRequested,
    JobDeclared,
    JobFinished,
    JobSkipped,
    JobStarted,
    Note,
    RecordEvent,
    RunFinished,
    RunStarted,
    ShFinished,
    ShSpawned,
    ShStarted,
    word_of_today,
)
from procflow.record.fold.rows import DECLARED_ATTEMPT, CallRow, JobRow, NoteRow, Row, RunRow

JobEvent: TypeAlias = JobDeclared | JobStarted | JobFinished | JobSkipped
CallEvent: TypeAlias = ShStarted | ShSpawned | ShFinished

R = TypeVar("R", bound=Row)

replace = msgspec.structs.replace


def step_run(row: RunRow | None, event: RecordEvent) -> RunRow:
    """Return the run after ``event``, which need not speak of it: every event may be the last."""
    row = row or RunRow(first_seq=event.seq)
    row = seen(row, event.seq, event.at_ms, event.mono_ns)
    match event:
        case RunStarted() if _holds(row.started_seq, event):
            return _started(
                row,
                event,
                run_id=event.run_id,
                name=event.name,
                format=event.format,
                procflow=event.procflow,
                python=event.python,
                platform=event.platform,
                host=event.host,
                pid=event.pid,
                pid_start=event.pid_start,
                boot_id=event.boot_id,
                meta=event.meta,
                redaction=event.redaction,
                trace=event.trace,
            )
        case RunFinished() if _holds(row.finished_seq, event):
            return _finished(row, event, event.outcome, event.duration_ns, totals=event.totals)
        case CancelRequested() if _holds(row.cancel_seq, event):
            return replace(row, cancel_seq=event.seq, cancel_reason=event.reason, cancel_signal=event.signal)
        case _:
            return row


def seen(row: RunRow, seq: int, at_ms: int, mono_ns: int) -> RunRow:
    """Return the run after an event of which only the envelope is known."""
    if seq > row.last_seq:
        return replace(row, first_seq=min(row.first_seq, seq), last_seq=seq, last_at_ms=at_ms, last_mono_ns=mono_ns)
    return replace(row, first_seq=seq) if seq < row.first_seq else row


def step_job(row: JobRow | None, event: JobEvent) -> JobRow:
    """Return the attempt that ``event`` speaks of, after it."""
    row = _touched(row, event) if row else job_stub(event.job_id, attempt_of(event), event.seq)
    match event:
        case JobDeclared() if _holds(row.declared_seq, event):
            return replace(row, declared_seq=event.seq, after=event.after)
        case JobStarted() if _holds(row.started_seq, event):
            return _started(row, event)
        case JobFinished() if _holds(row.finished_seq, event):
            return _finished(row, event, event.outcome, event.duration_ns, error=event.error, because=())
        case JobSkipped() if _holds(row.finished_seq, event):
            return _finished(row, event, SKIPPED, 0, error=None, because=event.because)
        case _:
            return row


def attempt_of(event: JobEvent) -> int:
    """Return which attempt an event speaks of: what is declared or skipped is the first one."""
    return event.attempt if isinstance(event, JobStarted | JobFinished) else DECLARED_ATTEMPT


def job_stub(job_id: str, attempt: int, seq: int) -> JobRow:
    """Return the row of an attempt of which only the name is known."""
    return JobRow(first_seq=seq, job_id=job_id, attempt=attempt)


def job_with_call(row: JobRow | None, event: CallEvent) -> JobRow:
    """Return the attempt that the call of ``event`` belongs to."""
    row = _touched(row, event) if row else job_stub(event.job_id, event.attempt, event.seq)
    return row if row.has_calls else replace(row, has_calls=True)


def step_call(row: CallRow | None, event: CallEvent) -> CallRow:
    """Return the call that ``event`` speaks of, after it."""
    if row is None:
        row = CallRow(first_seq=event.seq, job_id=event.job_id, attempt=event.attempt, sh=event.sh)
    row = _touched(row, event)
    match event:
        case ShStarted() if _holds(row.started_seq, event):
            return _started(
                row,
                event,
                argv=event.argv,
                argv_b64=event.argv_b64,
                cmd=event.cmd,
                cwd=event.cwd,
                cwd_b64=event.cwd_b64,
                shell=event.shell,
                env_set=event.env_set,
                env_unset=event.env_unset,
                env=event.env,
                timeout_ms=event.timeout_ms,
                log_path=event.log,
                pipe=event.pipe,
                cut=event.cut,
            )
        case ShSpawned() if _holds(row.spawned_seq, event):
            return replace(row, spawned_seq=event.seq, pid=event.pid, pid_start=event.pid_start)
        case ShFinished() if _holds(row.finished_seq, event):
            return _finished(
                row,
                event,
                event.outcome,
                event.duration_ns,
                exit_code=event.exit_code,
                signal=event.signal,
                stdout_bytes=event.stdout_bytes,
                stderr_bytes=event.stderr_bytes,
                log_dropped_bytes=event.log_dropped_bytes,
                escalated=event.escalated,
                usage=event.usage,
                error=event.error,
            )
        case _:
            return row


def step_note(row: NoteRow | None, event: Note) -> NoteRow:
    """Return the note of ``event``; a second one with its number changes nothing."""
    return row or NoteRow(
        seq=event.seq,
        key=event.key,
        value=event.value,
        at_ms=event.at_ms,
        job_id=event.job_id,
        attempt=event.attempt,
        sh=event.sh,
    )


def _holds(seq: int | None, event: RecordEvent) -> bool:
    """Whether ``event`` has the say over fields that the event with the number ``seq`` has set."""
    return seq is None or event.seq < seq


def _touched(row: R, event: RecordEvent) -> R:
    return replace(row, first_seq=event.seq) if event.seq < row.first_seq else row


def _started(row: R, event: RecordEvent, **fields: object) -> R:
    return replace(row, started_seq=event.seq, started_at_ms=event.at_ms, start_mono_ns=event.mono_ns, **fields)


def _finished(row: R, event: RecordEvent, outcome: str, duration_ns: int, **fields: object) -> R:
    return replace(
        row,
        finished_seq=event.seq,
        finished_at_ms=event.at_ms,
        duration_ns=max(duration_ns, 0),
        outcome=word_of_today(outcome),
        synthesized=False,
        **fields,
    )
