"""What is known of a run, its jobs, its calls and its notes.

Owns the rows: the same in memory and in a database.  Must not know how they come about.

A row is named by ids and numbers, never by a time.  It may be a stub, made by an event that speaks of it before, or without, the one
that begins it.  ``*_seq`` says which event a group of fields comes from: where several speak of the same, the first one in the
record holds, in whatever order they arrive.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from procflow.record.events import ErrorInfo, RedactionInfo, Totals, Trace, Usage

DECLARED_ATTEMPT = 1
"""The attempt that a declared job is, and that a skipped one would have been."""


class JobKey(NamedTuple):
    """Names one attempt at a job."""

    job_id: str
    attempt: int


class CallKey(NamedTuple):
    """Names one call."""

    job_id: str
    attempt: int
    sh: int

    @property
    def job(self) -> JobKey:
        """The attempt that the call belongs to."""
        return JobKey(self.job_id, self.attempt)


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run, a job and a call have in common.

    Attributes:
        first_seq: Lowest number of an event that speaks of it; rows are listed in this order.
        started_seq: The event that began it; ``None`` for a stub, and for a job that was only declared.
        finished_seq: The event that ended it; ``None`` if open, and if ``synthesized``.
        started_at_ms: Wall clock when it began.
        start_mono_ns: The same moment on the clock of the run.
        finished_at_ms: Wall clock when it ended; set together with ``outcome``.
        duration_ns: By the monotonic clock of the writer, never negative.
        outcome: How it ended; ``None`` while it is open.
        synthesized: Whether the ending was made up by recovery.
    """

    first_seq: int
    started_seq: int | None = None
    finished_seq: int | None = None
    started_at_ms: int | None = None
    start_mono_ns: int | None = None
    finished_at_ms: int | None = None
    duration_ns: int | None = None
    outcome: str | None = None
    synthesized: bool = False

    @property
    def is_open(self) -> bool:
        """Whether no ending is known."""
        return self.outcome is None


class RunRow(Row, frozen=True, kw_only=True, omit_defaults=True):
    """The run itself; ``last_*`` are of the event with the highest number, of whatever type."""

    run_id: str | None = None
    name: str | None = None
    format: tuple[int, int] | None = None
    procflow: str | None = None
    python: str | None = None
    platform: str | None = None
    host: str | None = None
    pid: int | None = None
    pid_start: int | None = None
    boot_id: str | None = None
    meta: dict[str, str] | None = None
    redaction: RedactionInfo | None = None
    trace: Trace | None = None
    totals: Totals | None = None
    cancel_seq: int | None = None
    cancel_reason: str | None = None
    cancel_signal: str | None = None
    last_seq: int = -1
    last_at_ms: int | None = None
    last_mono_ns: int | None = None


class JobRow(Row, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt at a job.

    Attributes:
        declared_seq: The event that declared it.
        after: The jobs that it waits for; on the row of the first attempt.
        because: The failed jobs for which it was skipped.
        has_calls: Whether a call of it is known; then it began, whatever was lost.
    """

    job_id: str
    attempt: int
    declared_seq: int | None = None
    after: tuple[str, ...] = ()
    because: tuple[str, ...] = ()
    has_calls: bool = False
    error: ErrorInfo | None = None

    @property
    def key(self) -> JobKey:
        """What names this row."""
        return JobKey(self.job_id, self.attempt)

    @property
    def has_begun(self) -> bool:
        """Whether this attempt was ever begun, as far as is known."""
        return self.started_seq is not None or self.has_calls or self.declared_seq is None


class CallRow(Row, frozen=True, kw_only=True, omit_defaults=True):
    """One call of ``sh``: what was asked for, the process, and how it ended."""

    job_id: str
    attempt: int
    sh: int
    argv: tuple[str, ...] = ()
    argv_b64: tuple[str, ...] | None = None
    cmd: str | None = None
    cwd: str | None = None
    cwd_b64: str | None = None
    shell: bool = False
    env_set: tuple[str, ...] = ()
    env_unset: tuple[str, ...] = ()
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    log_path: str | None = None
    pipe: str | None = None
    cut: dict[str, int] | None = None
    spawned_seq: int | None = None
    pid: int | None = None
    pid_start: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    log_dropped_bytes: int = 0
    escalated: bool = False
    usage: Usage | None = None
    error: ErrorInfo | None = None

    @property
    def key(self) -> CallKey:
        """What names this row."""
        return CallKey(self.job_id, self.attempt, self.sh)


class NoteRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One note; ``seq`` names it."""

    seq: int
    key: str
    value: object
    at_ms: int
    job_id: str | None = None
    attempt: int | None = None
    sh: int | None = None
