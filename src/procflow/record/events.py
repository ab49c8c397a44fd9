"""What is said about a run: the events of wire format 1.0, their words, and their codec.

Owns the types, the outcome words, the synonyms and the rules for numbers and text on a line.  Must not know who emits an event, nor
what a reader makes of it.

A type or a field is never renamed and never changes its meaning.  A field that comes later has a default, so that this version's
lines stay readable; it raises the minor version.  What an old reader would misunderstand is named in ``RunStarted.requires``.

Three things that JSON allows, or that msgspec lets pass, never stand on a line, because some reader of it would fail: integers
outside 64 bits, which no database column holds, numbers that are no finite float, and bytes that are no UTF-8.  msgspec does not look
into fields that it skips, so the codec looks itself, cheaply: nineteen digits in a row or an exponent of three digits make a line
suspect, and only a suspect line is walked through.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from procflow.record.envelope import Event, EventCodec, MalformedEventError, Unknown
from procflow.record.errors import UnrecordableError

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
LOST: Final = "lost"
"""Never written by a producer: recovery says it of what was open when its writer died."""

SH_OUTCOMES: Final = (EXITED, SIGNALED, TIMED_OUT, CANCELLED, SPAWN_FAILED, LOST)
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


class RecordCodec(EventCodec[RunEvent]):
    """Turns events of a run into lines and lines into events, under the rules for numbers and text.

    Not safe for use by two threads at once.
    """

    def __init__(self) -> None:
        super().__init__(EVENT_TYPES, synonyms=TYPE_SYNONYMS)

    def encode(self, event: Event) -> bytes:
        """Return ``event`` as one line of JSON, with its newline.  Text that is no Unicode is made readable.

        Raises:
            UnrecordableError: If it holds a number or a value that JSON has no place for.
        """
        try:
            line = super().encode(event)
        except UnicodeEncodeError:
            line = super().encode(msgspec.convert(_without_surrogates(msgspec.to_builtins(event)), type(event)))
        except (TypeError, RecursionError) as exc:
            raise UnrecordableError(str(exc)) from exc
        if _is_suspect(line) and not _numbers_fit(msgspec.json.decode(line)):
            raise UnrecordableError("an integer is outside 64 bits")
        return line

    def decode(self, line: bytes) -> RunEvent | Unknown:
        """Return the event on ``line`` (with or without its newline).

        Raises:
            MalformedEventError: If the line is no event, a broken one of a known type, or one without a number; if it is no
                UTF-8; if a number on it does not fit 64 bits.
        """
        event = super().decode(line)
        head = event.head if isinstance(event, Unknown) else event
        if head.seq < 0 or head.mono_ns < 0:
            raise MalformedEventError(line.rstrip(b"\r\n"), "its number or its moment is missing")
        if line.isascii():
            fits = not _is_suspect(line) or _all_numbers_fit(line)
        else:
            fits = _is_utf8(line) and (not _is_suspect(line) or _all_numbers_fit(line))
        if not fits:
            raise MalformedEventError(line.rstrip(b"\r\n"), "a number does not fit, or the text is no UTF-8")
        return event


def word_of_today(outcome: str) -> str:
    """Return the word that this release uses for ``outcome``; a word that it does not know stays."""
    return WORD_SYNONYMS.get(outcome, outcome)


def note_value(value: object) -> object:
    """Return ``value`` as it will be read back: dicts with string keys, lists, strings, numbers, booleans, ``None``.

    Raises:
        UnrecordableError: If it is longer than ``MAX_NOTE_BYTES`` as JSON, or holds what a record cannot: an integer outside 64
            bits, NaN, an infinity, a type that JSON does not know.
    """
    try:
        text = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value)))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnrecordableError(f"the value is no JSON: {exc}") from exc
    if len(text) > MAX_NOTE_BYTES:
        raise UnrecordableError(f"the value takes {len(text)} bytes, {MAX_NOTE_BYTES} are allowed")
    try:
        read: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise UnrecordableError(f"the value is no JSON: {exc}") from exc
    if not _numbers_fit(read) or not _is_finite(value):
        raise UnrecordableError("a number is outside 64 bits, or no number")
    return read


_MAX_INT: Final = 2**63 - 1
_MIN_INT: Final = -(2**63)
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789E", b"000000000e")


def _is_suspect(line: bytes) -> bool:
    """Whether a number may not fit.  Two searches for fixed bytes cost a tenth of one for a pattern."""
    alike = line.translate(_DIGITS_ALIKE, b"+")
    return b"0000000000000000000" in alike or b"e000" in alike


def _all_numbers_fit(line: bytes) -> bool:
    try:
        return _numbers_fit(msgspec.json.decode(line))
    except (msgspec.DecodeError, RecursionError):
        return False


def _numbers_fit(value: object) -> bool:
    return not any(type(leaf) is int and not _MIN_INT <= leaf <= _MAX_INT for leaf in _leaves(value))


def _is_finite(value: object) -> bool:
    # NaN and the infinities are written as null, so they are looked for before that.
    return not any(isinstance(leaf, float) and (leaf - leaf) != 0 for leaf in _leaves(msgspec.to_builtins(value)))


def _leaves(value: object) -> list[object]:
    found: list[object] = []
    open_values = [value]
    while open_values:
        item = open_values.pop()
        if isinstance(item, dict):
            open_values += item.values()
        elif isinstance(item, list | tuple):
            open_values += item
        else:
            found.append(item)
    return found


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_surrogates(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case _:
            return value
