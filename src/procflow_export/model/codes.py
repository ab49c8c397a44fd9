"""The stable error codes: what each means for the exit status, for a retry, and for the operator.

Owns the registry.  Messages may change from release to release, codes do not; programs match on codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class Kind(StrEnum):
    """What a failure asks of whoever reads it; the kind alone decides the exit status."""

    FIX = "fix"
    """Configuration, permissions or environment: change something, a retry cannot help."""
    RETRY = "retry"
    """It may work later as it is."""
    INTEGRITY = "integrity"
    """Data read and data written differ."""
    DRIFT = "drift"
    """The source no longer has the shape that was agreed on."""
    REFUSED = "refused"
    """Stopped on purpose: a human must decide."""
    INTERNAL = "internal"
    """A bug of ours."""
    USAGE = "usage"
    """The command line is wrong."""
    CANCELLED = "cancelled"
    """Somebody asked the run to stop."""


class ExitStatus(IntEnum):
    """Exit statuses of ``python -m procflow_export``."""

    OK = 0
    FIX = 1
    RETRY = 2
    INTEGRITY = 3
    DRIFT = 4
    REFUSED = 5
    INTERNAL = 6
    USAGE = 64
    INTERRUPTED = 130
    TERMINATED = 143


_STATUS: Final = {
    Kind.FIX: ExitStatus.FIX,
    Kind.RETRY: ExitStatus.RETRY,
    Kind.INTEGRITY: ExitStatus.INTEGRITY,
    Kind.DRIFT: ExitStatus.DRIFT,
    Kind.REFUSED: ExitStatus.REFUSED,
    Kind.INTERNAL: ExitStatus.INTERNAL,
    Kind.USAGE: ExitStatus.USAGE,
    Kind.CANCELLED: ExitStatus.INTERRUPTED,
}

WORST_FIRST: Final = (
    ExitStatus.INTERNAL,
    ExitStatus.INTEGRITY,
    ExitStatus.DRIFT,
    ExitStatus.REFUSED,
    ExitStatus.FIX,
    ExitStatus.RETRY,
)
"""Of several failed exports, the first of these that occurs is the exit status of the run."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    kind: Kind
    action: str
    extra_delay_s: float = 0.0


class Code(StrEnum):
    """Why something failed."""

    CONFIG_UNREADABLE = "CONFIG_UNREADABLE"
    CONFIG_INVALID = "CONFIG_INVALID"
    CONFIG_NOT_SUPPORTED = "CONFIG_NOT_SUPPORTED"

    SOURCE_UNREACHABLE = "SOURCE_UNREACHABLE"
    SOURCE_AUTH_FAILED = "SOURCE_AUTH_FAILED"
    SOURCE_TLS_FAILED = "SOURCE_TLS_FAILED"
    SOURCE_DENIED = "SOURCE_DENIED"
    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    SOURCE_QUERY_INVALID = "SOURCE_QUERY_INVALID"
    SOURCE_NOT_SUPPORTED = "SOURCE_NOT_SUPPORTED"
    SOURCE_FAILED = "SOURCE_FAILED"
    SOURCE_STATEMENT_TIMEOUT = "SOURCE_STATEMENT_TIMEOUT"
    SOURCE_CONNECTION_LOST = "SOURCE_CONNECTION_LOST"
    SOURCE_SHUTTING_DOWN = "SOURCE_SHUTTING_DOWN"
    SOURCE_TOO_MANY_CONNECTIONS = "SOURCE_TOO_MANY_CONNECTIONS"
    SOURCE_OUT_OF_RESOURCES = "SOURCE_OUT_OF_RESOURCES"
    SOURCE_DEADLOCK = "SOURCE_DEADLOCK"
    SOURCE_LOCKED = "SOURCE_LOCKED"
    SOURCE_SNAPSHOT_LOST = "SOURCE_SNAPSHOT_LOST"
    SOURCE_SNAPSHOT_REFUSED = "SOURCE_SNAPSHOT_REFUSED"

    TYPE_NOT_SUPPORTED = "TYPE_NOT_SUPPORTED"
    VALUE_REFUSED = "VALUE_REFUSED"
    VALUE_TOO_LARGE = "VALUE_TOO_LARGE"
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"

    PLAN_COLUMN_UNKNOWN = "PLAN_COLUMN_UNKNOWN"
    PLAN_KEY_MISSING = "PLAN_KEY_MISSING"
    PLAN_KEY_NOT_USABLE = "PLAN_KEY_NOT_USABLE"
    PLAN_TOO_MANY_CHUNKS = "PLAN_TOO_MANY_CHUNKS"

    CURSOR_NOT_OWNED = "CURSOR_NOT_OWNED"
    REPAIR_NOT_POSSIBLE = "REPAIR_NOT_POSSIBLE"

    FORMAT_FAILED = "FORMAT_FAILED"

    DESTINATION_DENIED = "DESTINATION_DENIED"
    DESTINATION_NOT_USABLE = "DESTINATION_NOT_USABLE"
    DESTINATION_FULL = "DESTINATION_FULL"
    DESTINATION_UNAVAILABLE = "DESTINATION_UNAVAILABLE"
    DESTINATION_FAILED = "DESTINATION_FAILED"
    DESTINATION_MISMATCH = "DESTINATION_MISMATCH"

    PUBLISHED_MEANWHILE = "PUBLISHED_MEANWHILE"
    EXPORT_LEASED = "EXPORT_LEASED"
    STATE_NOT_USABLE = "STATE_NOT_USABLE"
    STATE_FAILED = "STATE_FAILED"
    ROW_COUNT_MISMATCH = "ROW_COUNT_MISMATCH"
    SCHEMA_CHANGED = "SCHEMA_CHANGED"

    WORKER_NOT_STARTED = "WORKER_NOT_STARTED"
    WORKER_DIED = "WORKER_DIED"
    WORKER_PROTOCOL = "WORKER_PROTOCOL"

    ENVIRONMENT = "ENVIRONMENT"
    USAGE = "USAGE"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"

    @property
    def kind(self) -> Kind:
        """What the failure asks of whoever reads it."""
        return _MEANINGS[self].kind

    @property
    def action(self) -> str:
        """What the operator does next: one sentence."""
        return _MEANINGS[self].action

    @property
    def is_transient(self) -> bool:
        """Whether the same work may succeed when it is tried again."""
        return self.kind is Kind.RETRY

    @property
    def extra_delay_s(self) -> float:
        """Seconds that a retry waits beyond its back-off, because the server needs them."""
        return _MEANINGS[self].extra_delay_s

    @property
    def exit_status(self) -> ExitStatus:
        """Exit status of a run that failed for this reason alone."""
        return _STATUS[self.kind]


_MEANINGS: Final[dict[Code, _Meaning]] = {
    Code.CONFIG_UNREADABLE: _Meaning(Kind.FIX, "Check that the configuration file exists, is readable and parses."),
    Code.CONFIG_INVALID: _Meaning(Kind.FIX, "Correct the findings; each names its file, line and key."),
    Code.CONFIG_NOT_SUPPORTED: _Meaning(Kind.FIX, "Remove the key, or use a release that supports it."),
    Code.SOURCE_UNREACHABLE: _Meaning(Kind.FIX, "Check host, port and network of the source, or the path of its file."),
    Code.SOURCE_AUTH_FAILED: _Meaning(Kind.FIX, "Check user, password and database of the source."),
    Code.SOURCE_TLS_FAILED: _Meaning(Kind.FIX, "Check the `tls` block of the source and the server's certificate."),
    Code.SOURCE_DENIED: _Meaning(Kind.FIX, "Grant the user SELECT on what the export reads."),
    Code.SOURCE_NOT_FOUND: _Meaning(Kind.FIX, "Check the names of schema, table and columns."),
    Code.SOURCE_QUERY_INVALID: _Meaning(Kind.FIX, "Correct the query; the server's message says where it stopped."),
    Code.SOURCE_NOT_SUPPORTED: _Meaning(
        Kind.FIX, "Do what the message says; the page on connecting lists what is supported."
    ),
    Code.SOURCE_FAILED: _Meaning(Kind.FIX, "Read the server's message; it fits no class that a retry would help."),
    Code.SOURCE_STATEMENT_TIMEOUT: _Meaning(
        Kind.FIX, "Use smaller chunks (`mode: chunked`), or raise `tuning.statement_timeout_s`."
    ),
    Code.SOURCE_CONNECTION_LOST: _Meaning(Kind.RETRY, "Run again; look at the server's log if it repeats."),
    Code.SOURCE_SHUTTING_DOWN: _Meaning(Kind.RETRY, "Run again when the server is back.", 15.0),
    Code.SOURCE_TOO_MANY_CONNECTIONS: _Meaning(
        Kind.RETRY, "Lower `parallel` or the number of processes, or raise the server's connection limit.", 15.0
    ),
    Code.SOURCE_OUT_OF_RESOURCES: _Meaning(Kind.RETRY, "Check memory and disk of the server, then run again.", 5.0),
    Code.SOURCE_DEADLOCK: _Meaning(Kind.RETRY, "Run again.", 1.0),
    Code.SOURCE_LOCKED: _Meaning(Kind.RETRY, "Run again when whoever holds the lock is done."),
    Code.SOURCE_SNAPSHOT_LOST: _Meaning(
        Kind.RETRY, "Run again; with `consistency: chunk` parts may differ in time, and no snapshot is needed.", 1.0
    ),
    Code.SOURCE_SNAPSHOT_REFUSED: _Meaning(
        Kind.FIX, "Give the user what the message names, or accept parts that differ in time: `consistency: chunk`."
    ),
    Code.TYPE_NOT_SUPPORTED: _Meaning(Kind.FIX, "Choose another type under `columns:`, or leave the column out."),
    Code.VALUE_REFUSED: _Meaning(
        Kind.REFUSED,
        "Correct the value at the source, or decide what becomes of it: `on_invalid` of the column under `columns:`.",
    ),
    Code.PLAN_COLUMN_UNKNOWN: _Meaning(
        Kind.FIX, "Spell the column as the source does; `check --type-report` lists them."
    ),
    Code.VALUE_TOO_LARGE: _Meaning(
        Kind.REFUSED, "Raise `tuning.max_value_mb` and give the process the memory, or leave the column out."
    ),
    Code.BATCH_TOO_LARGE: _Meaning(
        Kind.REFUSED, "Raise `tuning.max_batch_memory_mb`, or set `on_batch_memory_exceeded: auto_shrink`."
    ),
    Code.PLAN_KEY_MISSING: _Meaning(
        Kind.FIX, "Correct the column's name; or name a `chunk_column` or `chunk_by_key`, or use `mode: full`."
    ),
    Code.PLAN_KEY_NOT_USABLE: _Meaning(
        Kind.FIX, "Choose a column or key that the message allows, or use `mode: full`."
    ),
    Code.PLAN_TOO_MANY_CHUNKS: _Meaning(Kind.FIX, "Raise `chunk_size`, or set `chunk_count` instead."),
    Code.CURSOR_NOT_OWNED: _Meaning(
        Kind.REFUSED,
        "Decide: `state accept` if the rows are the same as before, `state reset` to export everything anew.",
    ),
    Code.REPAIR_NOT_POSSIBLE: _Meaning(
        Kind.REFUSED, "Decide: a larger `days_window` for one run, or the old parts from a backup."
    ),
    Code.FORMAT_FAILED: _Meaning(Kind.FIX, "Read the message; another format or compression may hold the data."),
    Code.DESTINATION_DENIED: _Meaning(Kind.FIX, "Grant write access to the destination."),
    Code.DESTINATION_NOT_USABLE: _Meaning(Kind.FIX, "Correct the destination's settings."),
    Code.DESTINATION_FULL: _Meaning(Kind.FIX, "Free space at the destination."),
    Code.DESTINATION_UNAVAILABLE: _Meaning(Kind.RETRY, "Run again when the destination answers.", 0.5),
    Code.DESTINATION_FAILED: _Meaning(Kind.FIX, "Read the destination's message."),
    Code.DESTINATION_MISMATCH: _Meaning(Kind.INTEGRITY, "Check the storage: what was written does not read back."),
    Code.PUBLISHED_MEANWHILE: _Meaning(Kind.RETRY, "Run again: another run of the export published in the meantime."),
    Code.EXPORT_LEASED: _Meaning(Kind.RETRY, "Wait until the other run or command has ended; it ends by itself."),
    Code.STATE_NOT_USABLE: _Meaning(Kind.FIX, "Do what the message says, or name another place: `--state DIR`."),
    Code.STATE_FAILED: _Meaning(Kind.FIX, "Check space and health of the disk that the state is on."),
    Code.ROW_COUNT_MISMATCH: _Meaning(Kind.INTEGRITY, "Do not use the parts; nothing was published. Report it."),
    Code.SCHEMA_CHANGED: _Meaning(Kind.DRIFT, "The table changed while it was exported: run again."),
    Code.WORKER_NOT_STARTED: _Meaning(Kind.FIX, "Check limits of processes and memory on this machine."),
    Code.WORKER_DIED: _Meaning(Kind.RETRY, "Look at the worker's last lines; if it was killed, memory may be short."),
    Code.WORKER_PROTOCOL: _Meaning(Kind.INTERNAL, "Report it with the run's log."),
    Code.ENVIRONMENT: _Meaning(Kind.FIX, "Correct the environment as the message says."),
    Code.USAGE: _Meaning(Kind.USAGE, "See `--help`."),
    Code.CANCELLED: _Meaning(Kind.CANCELLED, "Nothing was published; run again."),
    Code.INTERNAL: _Meaning(Kind.INTERNAL, "Report it with the traceback."),
}


def worst(statuses: Iterable[ExitStatus]) -> ExitStatus:
    """Return the exit status of a run whose exports ended with ``statuses``.

    Cancelled exports count only when nothing worse happened; an interrupted run as a whole is the caller's to judge.
    """
    seen = set(statuses)
    for status in (*WORST_FIRST, ExitStatus.USAGE, ExitStatus.TERMINATED, ExitStatus.INTERRUPTED):
        if status in seen:
            return status
    return ExitStatus.OK
