"""What is remembered of runs: values that the state keeps and everybody else reads.

Owns their shape.  Must not know where they are kept (see ``state``), nor what follows from them (``planning.resume``).

The ledger is an aid and no authority: what is published, and how far, is said by the manifest at the destination (W4).  The
ledger knows what the destination cannot say: which runs there were, what they had finished when they died, and what they left.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from procflow_export.model.destination import DestinationConfig
from procflow_export.model.manifest import StoredCursor
from procflow_export.model.plan import UnitResult


class Standing(StrEnum):
    """How far a run, or an export in a run, has come."""

    RUNNING = "running"
    SUCCESS = "success"
    """An export: its manifest was published."""
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DIED = "died"
    """It was running when its process ended without a word."""

    @property
    def is_unfinished(self) -> bool:
        """Whether somebody may want to go on with it."""
        return self in (Standing.FAILED, Standing.CANCELLED, Standing.DIED)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one run of an export puts its parts.

    Attributes:
        destination: The destination, final; it names secrets and holds none.
        part_stem: What the keys of its own parts begin with.
    """

    destination: DestinationConfig
    part_stem: str


class SealedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How an export was cut, so that a later run can go on with exactly that.

    Attributes:
        digest: Of everything that must be the same for parts of two runs to be one set.
        cut: The cut, in the form of ``planning.resume``; ``None`` where later runs cannot go on with it.
        previous_run_id: The run whose set was published when it was made; ``None`` if there was none.
        base_run_id: The run whose published set it adds to; ``None`` if it replaces what is published.
        chunk_count: Number of chunks.
        consistency: ``snapshot`` or ``chunk``.
    """

    digest: str
    cut: bytes | None
    previous_run_id: str | None
    base_run_id: str | None
    chunk_count: int
    consistency: str


class ExportEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One export in one run.

    Attributes:
        run_id: The run.
        export: Name of the export.
        standing: How far it has come.
        mode: Its mode.
        place: Where it puts its parts.
        started_at: RFC 3339, UTC.
        finished_at: RFC 3339, UTC; ``None`` while it runs, and for one that died.
        plan: How it was cut; ``None`` before it was planned, and once a later run has begun and nobody can go on with it.
        resumed_from: The run whose parts it went on with, or means to as long as it has no plan.
        row_count: Rows of its parts, once it has ended.
        part_count: Parts.
        size_bytes: Bytes of its parts.
        retry_count: Attempts beyond the first.
        work_s: Seconds that its units took, added up: what the next run takes for its length.
        elapsed_s: Seconds from its first unit to its verdict.
        peak_rss_bytes: Largest resident size of a process that worked for it.
        manifest_key: The manifest that it published.
        code: Why it failed.
        message: The same in words.
        is_swept: Whether nothing of it is left at its destination that no manifest names.
    """

    run_id: str
    export: str
    standing: Standing
    mode: str
    place: Place
    started_at: str
    finished_at: str | None = None
    plan: SealedPlan | None = None
    resumed_from: str | None = None
    row_count: int = 0
    part_count: int = 0
    size_bytes: int = 0
    retry_count: int = 0
    work_s: float = 0.0
    elapsed_s: float = 0.0
    peak_rss_bytes: int = 0
    manifest_key: str | None = None
    code: str | None = None
    message: str | None = None
    is_swept: bool = False


class RunEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        run_id: A UUIDv7.
        standing: How far it has come.
        started_at: RFC 3339, UTC.
        finished_at: RFC 3339, UTC; ``None`` while it runs, and for one that died.
        engine: ``in-process`` or ``processes``.
        host: Name of the machine.
        pid: Its process there.
        release: Version of this program.
        exit_status: What the program exits with; ``None`` while it runs.
        exports: Its exports, in their order.
    """

    run_id: str
    standing: Standing
    started_at: str
    finished_at: str | None = None
    engine: str
    host: str
    pid: int
    release: str
    exit_status: int | None = None
    exports: tuple[str, ...] = ()


class ChunkStanding(StrEnum):
    """How far a chunk has come; it only moves forward, within one run."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ChunkEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk of an export in a run, once it was begun.

    Attributes:
        chunk: Its number.
        standing: How far it has come.
        attempts: How often it was begun.
        changed_at: RFC 3339, UTC.
        result: What it left behind, when it is done.
        code: Why its last attempt failed.
    """

    chunk: int
    standing: ChunkStanding
    attempts: int
    changed_at: str
    result: UnitResult | None = None
    code: str | None = None


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One part that was stored and recorded.

    Attributes:
        run_id: The run that recorded it last.
        export: Its export.
        key: Its key at the destination.
        row_count: Its rows.
        size_bytes: Its size.
        checksum: Digest of its bytes.
        recorded_at: RFC 3339, UTC.
        superseded_at: When a later run published a set without it; ``None`` if none did.
    """

    run_id: str
    export: str
    key: str
    row_count: int
    size_bytes: int
    checksum: str
    recorded_at: str
    superseded_at: str | None = None


class CursorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The published set of an export, as the state saw it last (W6).

    Attributes:
        export: The export.
        run_id: The run that published it.
        cursor: The cursor in its manifest.
        changed_at: RFC 3339, UTC.
    """

    export: str
    run_id: str
    cursor: StoredCursor | None
    changed_at: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who works on an export now.

    Attributes:
        run_id: The run; ``None`` for a command that changes the state by hand.
        pid: Its process.
        host: The machine.
        since: RFC 3339, UTC.
    """

    run_id: str | None
    pid: int
    host: str
    since: str
