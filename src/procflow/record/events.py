"""What is said about a run: the events of wire format 1.0, and their words.

Owns the types, the outcome words and the synonyms.  Must not know how events become lines, who emits them, nor what a reader makes of
them.

A type or a field is never renamed and never changes its meaning.  A field that comes later has a default, so that this version's
lines stay readable; it raises the minor version.  What an old reader would misunderstand is named in ``RunStarted.requires``.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from procflow.record.envelope import Event

FORMAT: Final = (1, 0)
"""Major and minor version of what this release writes."""

FEATURES: Final[frozenset[str]] = frozenset()
"""The words in ``RunStarted.requires`` that this release understands."""

MAX_JOB_ID_BYTES: Final = 1024
"""The longest job id; it is a key, so it is never cut to make a line fit."""

MAX_NOTE_BYTES: Final = 8 << 10
"""The longest value of a note, as JSON."""

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
ERRORED: Final = "errored"
CANCELLED: Final = "cancelled"
SKIPPED: Final = "skipped"
EXITED: Final = "exited"
SIGNALED: Final = "signaled"
TIMED_OUT: Final = "timed_out"
SPAWN_FAILED: Final = "spawn_failed"
DETACHED: Final = "detached"
"""Of a call whose ending nobody knows: it was let go, or outlived its run or every attempt to end it."""
LOST: Final = "lost"
"""Never written by a producer: recovery says it of what was open when its writer died."""

SH_OUTCOMES: Final = (EXITED, SIGNALED, TIMED_OUT, CANCELLED, SPAWN_FAILED, DETACHED, LOST)
JOB_OUTCOMES: Final = (SUCCEEDED, FAILED, ERRORED, CANCELLED, SKIPPED, LOST)
RUN_OUTCOMES: Final = (SUCCEEDED, FAILED, ERRORED, CANCELLED, LOST)

TYPE_SYNONYMS: Final[dict[str, str]] = {}
"""Names of types that a released version wrote and this one does not, with the names of today."""

WORD_SYNONYMS: Final[dict[str, str]] = {}
"""The same for outcome words.  An event keeps the word that it was read with; ``word_of_today()`` is for who judges it."""


class RedactionInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was taken out of this record before it was written.

    Attributes:
        enabled: Whether anything was.
        rules: Names of the rules that were in force.
        argv: How arguments were recorded: ``redacted``, ``program`` (only the first word) or ``none``.
    """

    enabled: bool
    rules: tuple[str, ...]
    argv: str = "redacted"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The span outside this run that it belongs to, in hexadecimal."""

    trace_id: str
    parent_span_id: str


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An exception: its class and its message, redacted."""

    type: str
    message: str


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a process used (``getrusage(2)``): microseconds and KiB."""

    user_us: int
    sys_us: int
    max_rss_kb: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What a run counted: job attempts, calls, events that were not written, and places where a secret was taken out."""

    jobs: int
    sh: int
    dropped: int
    redacted: int


class RecordEvent(Event, frozen=True, kw_only=True):
    """Base of every event of a run.

    Attributes:
        cut: Which texts were cut so that the line keeps its bound, with their original sizes in bytes.
    """

    cut: dict[str, int] | None = None


class RunStarted(RecordEvent, tag="run_started", frozen=True, kw_only=True):
    """A record begins; always the first line.

    Attributes:
        format: Major and minor version of the format.
        requires: Features without which this record is misunderstood.
        run_id: UUIDv7 of the run.
        meta: What the caller says about the run.
        procflow: Release that writes.
        pid: The writing process.
        pid_start: Its start in kernel ticks, against the reuse of ``pid``.
        boot_id: The boot that ``pid`` and ``pid_start`` belong to.
    """

    format: tuple[int, int]
    run_id: str
    name: str
    procflow: str
    python: str
    platform: str
    host: str
    pid: int
    redaction: RedactionInfo
    requires: tuple[str, ...] = ()
    meta: dict[str, str] | None = None
    pid_start: int | None = None
    boot_id: str | None = None
    trace: Trace | None = None


class JobDeclared(RecordEvent, tag="job_declared", frozen=True, kw_only=True):
    """A job is going to run after those of ``after``, unless one of them fails."""

    job_id: str
    after: tuple[str, ...] = ()


class JobStarted(RecordEvent, tag="job_started", frozen=True, kw_only=True):
    """An attempt at a job begins; attempts count from 1."""

    job_id: str
    attempt: int


class ShStarted(RecordEvent, tag="sh_started", frozen=True, kw_only=True):
    """A command is about to be started; written before the spawn.

    Attributes:
        sh: 1, 2, ... within the attempt, in the order of the calls.
        argv: The words given to exec, readable.
        argv_b64: The same words as bytes in base64; only if one of them is not UTF-8.
        cmd: For people: the words quoted for a shell, or the script of a shell call.
        shell: Whether a shell runs ``cmd``.
        cwd: Where it runs, readable; ``cwd_b64`` likewise.
        env_set: Names of the variables that the caller set.
        env_unset: Names of those that the caller took away.
        env: Values of the variables that are to be recorded, as the child has them.
        timeout_ms: What the call may take.
        log: Path of its output log, relative to the directory of the run.
        pipe: Shared by the stages of one pipeline.
    """

    job_id: str
    attempt: int
    sh: int
    argv: tuple[str, ...]
    cmd: str
    cwd: str
    argv_b64: tuple[str, ...] | None = None
    cwd_b64: str | None = None
    shell: bool = False
    env_set: tuple[str, ...] = ()
    env_unset: tuple[str, ...] = ()
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    log: str | None = None
    pipe: str | None = None


class ShSpawned(RecordEvent, tag="sh_spawned", frozen=True, kw_only=True):
    """The command of a call runs.

    Attributes:
        pid: Its process id.
        pid_start: Its start in kernel ticks, against the reuse of ``pid``.
    """

    job_id: str
    attempt: int
    sh: int
    pid: int
    pid_start: int | None = None


class ShFinished(RecordEvent, tag="sh_finished", frozen=True, kw_only=True):
    """A call is over.

    Attributes:
        outcome: One of ``SH_OUTCOMES``, or a word of a later version.
        exit_code: Only if the process exited.
        signal: Name of the signal, only if one ended the process.
        stdout_bytes: All that the process wrote, whatever was kept of it.
        log_dropped_bytes: What the log leaves out.
        escalated: Whether a stop needed more than its first signal.
    """

    job_id: str
    attempt: int
    sh: int
    outcome: str
    duration_ns: int
    stdout_bytes: int
    stderr_bytes: int
    exit_code: int | None = None
    signal: str | None = None
    log_dropped_bytes: int = 0
    escalated: bool = False
    usage: Usage | None = None
    error: ErrorInfo | None = None


class JobFinished(RecordEvent, tag="job_finished", frozen=True, kw_only=True):
    """An attempt at a job is over; ``outcome`` is one of ``JOB_OUTCOMES``, or a word of a later version."""

    job_id: str
    attempt: int
    outcome: str
    duration_ns: int
    error: ErrorInfo | None = None


class JobSkipped(RecordEvent, tag="job_skipped", frozen=True, kw_only=True):
    """A declared job will not be started, because those jobs before it failed."""

    job_id: str
    because: tuple[str, ...]


class Note(RecordEvent, tag="note", frozen=True, kw_only=True):
    """What the caller wants to be known of the run, a job or a call.

    Attributes:
        key: Holds a dot, so that it never meets a word of this format.
        value: Any JSON, at most ``MAX_NOTE_BYTES`` long: ``note_value()`` looks after that.
    """

    key: str
    value: object
    job_id: str | None = None
    attempt: int | None = None
    sh: int | None = None


class CancelRequested(RecordEvent, tag="cancel_requested", frozen=True, kw_only=True):
    """Somebody wants the run to end; ``signal`` if that is how it was said."""

    reason: str
    signal: str | None = None


class EventsDropped(RecordEvent, tag="events_dropped", frozen=True, kw_only=True):
    """Events with these numbers could not be written; ``count`` of them are lost."""

    count: int
    first_seq: int
    last_seq: int
    reason: str


class RunFinished(RecordEvent, tag="run_finished", frozen=True, kw_only=True):
    """A run is over; always the last line."""

    outcome: str
    duration_ns: int
    totals: Totals


RunEvent: TypeAlias = (
    RunStarted
    | JobDeclared
    | JobStarted
    | ShStarted
    | ShSpawned
    | ShFinished
    | JobFinished
    | JobSkipped
    | Note
    | CancelRequested
    | EventsDropped
    | RunFinished
)

EVENT_TYPES: Final = (
    RunStarted,
    JobDeclared,
    JobStarted,
    ShStarted,
    ShSpawned,
    ShFinished,
    JobFinished,
    JobSkipped,
    Note,
    CancelRequested,
    EventsDropped,
    RunFinished,
)
"""Every type of ``RunEvent``."""


def word_of_today(outcome: str) -> str:
    """Return the word that this release uses for ``outcome``; a word that it does not know stays."""
    return WORD_SYNONYMS.get(outcome, outcome)
