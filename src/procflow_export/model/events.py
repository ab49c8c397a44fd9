"""What happens in a run, as typed events.

Owns the two families: ``UnitEvent`` is what a worker says while it does one work unit, ``RunEvent`` what the run says
to its caller, to a screen and to a record.  Both travel in the envelope of ``procflow.record``.

Order of one export: ``started``, ``progress_init``, then ``progress``, ``part``, ``chunk_finished``, ``retry`` and
``warning`` in any number, then ``finished``.  ``run_started`` comes first and ``run_finished`` last.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from procflow.record.envelope import Event, EventCodec
from procflow_export.model.errors import Failure
from procflow_export.model.plan import UnitResult


class Status(StrEnum):
    """How an export or a run ended."""

    SUCCESS = "success"
    SKIPPED = "skipped"
    """There was nothing to do: what was published stays as it was."""
    FAILED = "failed"
    CANCELLED = "cancelled"


# ---- what a worker says about one unit


class UnitStarted(Event, tag="unit_started", frozen=True, kw_only=True):
    """A worker took a unit up, before it connects."""

    export: str
    chunk: int
    attempt: int = 1
    pid: int = 0


class UnitProgress(Event, tag="unit_progress", frozen=True, kw_only=True):
    """Rows and bytes of this attempt so far; at least one event a batch."""

    export: str
    chunk: int
    row_count: int
    size_bytes: int = 0
    peak_rss_bytes: int = 0


class UnitWarning(Event, tag="unit_warning", frozen=True, kw_only=True):
    """Something that did not stop the unit, but that its operator should know."""

    export: str
    chunk: int
    code: str
    message: str


class UnitFinished(Event, tag="unit_finished", frozen=True, kw_only=True):
    """The last word on a unit: exactly one of ``result`` and ``failure`` is set."""

    export: str
    chunk: int
    result: UnitResult | None = None
    failure: Failure | None = None


class Heartbeat(Event, tag="heartbeat", frozen=True, kw_only=True):
    """A worker is alive; sent when it had nothing else to say for a while."""

    peak_rss_bytes: int = 0


UnitEvent: TypeAlias = UnitStarted | UnitProgress | UnitWarning | UnitFinished | Heartbeat

UNIT_EVENT_TYPES: Final = (UnitStarted, UnitProgress, UnitWarning, UnitFinished, Heartbeat)
"""Every type of ``UnitEvent``."""


# ---- what a run says


class RunStarted(Event, tag="run_started", frozen=True, kw_only=True):
    """The run begins; nothing was read yet."""

    run_id: str
    exports: tuple[str, ...]
    engine: str
    max_units: int
    """How many work units run at once, at most."""


class Started(Event, tag="started", frozen=True, kw_only=True):
    """An export begins: it is about to be planned."""

    run_id: str
    export: str
    mode: str
    source: str
    """The engine of its source: ``postgres``, ``mysql``, ``sqlite``."""
    format: str


class ProgressInit(Event, tag="progress_init", frozen=True, kw_only=True):
    """The plan of an export is known."""

    export: str
    total_chunks: int
    row_estimate: int | None = None
    key: str | None = None
    """What the rows are cut by: a column, or several; None for one chunk."""
    cut: str | None = None
    """How, in words, the key included: ``slices of (a, b)``."""


class Progress(Event, tag="progress", frozen=True, kw_only=True):
    """Totals of an export so far; rows of an attempt that failed are taken back."""

    export: str
    chunks_done: int
    total_chunks: int
    row_count: int
    size_bytes: int = 0


class PartWritten(Event, tag="part", frozen=True, kw_only=True):
    """A part is complete at the destination and recorded; it counts once the export is published."""

    export: str
    chunk: int
    key: str
    row_count: int
    size_bytes: int


class ChunkFinished(Event, tag="chunk_finished", frozen=True, kw_only=True):
    """A chunk is done: all its parts are recorded."""

    export: str
    chunk: int
    row_count: int
    elapsed_s: float
    attempts: int = 1


class Retry(Event, tag="retry", frozen=True, kw_only=True):
    """A unit, or an export as a whole, failed in a way that may pass, and is tried again after ``delay_s``."""

    export: str
    chunk: int
    """The chunk; -1 for the whole export: while it was planned, or because its snapshot is lost and it starts over."""
    attempt: int
    """The attempt that failed."""
    delay_s: float
    failure: Failure


VALUES_CHANGED: Final = "VALUES_CHANGED"
"""Code of the warning that says how many values of a column its policy changed; the numbers are in ``Finished`` as well."""


class Warned(Event, tag="warning", frozen=True, kw_only=True):
    """Something that did not stop the export, but that its operator should know."""

    export: str
    code: str
    message: str
    chunk: int | None = None


class Finished(Event, tag="finished", frozen=True, kw_only=True):
    """The verdict on an export; nothing about it follows."""

    run_id: str
    export: str
    status: Status
    row_count: int = 0
    part_count: int = 0
    size_bytes: int = 0
    chunk_count: int = 0
    retry_count: int = 0
    elapsed_s: float = 0.0
    """Since its first work unit was given to the engine: neither planning nor waiting for a place counts."""
    peak_rss_bytes: int = 0
    longest_statement_s: float = 0.0
    """At the source, to read rows; it includes the time in which these waited for us."""
    longest_transaction_s: float = 0.0
    """At the source, one that only held a snapshot included."""
    consistency: str = ""
    """What was published: ``snapshot``, all parts show one state, or ``chunk``, parts may differ in time; else empty."""
    changed_values: dict[str, int] = msgspec.field(default_factory=dict)
    destination: str = ""
    """Directory or prefix that holds manifest and parts."""
    manifest: str | None = None
    """Key of the manifest that was published; None when nothing was."""
    skip_reason: str | None = None
    """Why there was nothing to do."""
    failure: Failure | None = None


class RunFinished(Event, tag="run_finished", frozen=True, kw_only=True):
    """The last event: every export has its verdict."""

    run_id: str
    status: Status
    succeeded: int
    failed: int
    cancelled: int
    row_count: int
    part_count: int
    size_bytes: int
    elapsed_s: float
    peak_rss_bytes: int
    exit_status: int
    longest_statement_s: float = 0.0
    """The longest of all exports, at their sources, those by which they were planned included."""
    longest_transaction_s: float = 0.0
    skipped: int = 0


RunEvent: TypeAlias = (
    RunStarted
    | Started
    | ProgressInit
    | Progress
    | PartWritten
    | ChunkFinished
    | Retry
    | Warned
    | Finished
    | RunFinished
)

RUN_EVENT_TYPES: Final = (
    RunStarted,
    Started,
    ProgressInit,
    Progress,
    PartWritten,
    ChunkFinished,
    Retry,
    Warned,
    Finished,
    RunFinished,
)
"""Every type of ``RunEvent``."""


def run_codec() -> EventCodec[RunEvent]:
    """Return a codec of the lines that a run writes for programs."""
    return EventCodec(RUN_EVENT_TYPES)
