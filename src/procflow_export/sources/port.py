"""What a source must do: describe a selection, and read a chunk of it as Arrow batches.

Owns the ``Source`` contract, which one conformance suite checks for every database, and the values it returns.  Must not
know any driver, and not what happens to the batches.

**Exactness** (spec E-20).  A batch holds the database's own values or the read fails with an error that names the
column; nothing is rounded, truncated, replaced or turned into NULL on the way.

**Bounds.**  A chunk reader holds about ``READ_BUFFER_BYTES`` of wire data and one decoded block beside the batch that the
caller works on, whatever the size of the table; a caller that stops asking makes the server wait.  A row that is larger
than that is the only thing that a reader holds, and once the caller asks for the next batch, it is gone.

**Snapshots** (spec E-11).  Readers in several processes read one state of the database while somebody holds it.  There are
two kinds.  A state that the server *exports* has a name, and any connection may import it as long as its holder lives
(PostgreSQL).  A state that is *joined* belongs to connections that began to read it while nobody could write (MySQL,
SQLite): readers are prepared first; then every one joins inside ``SnapshotHolder.locked()``, which says afterwards whether
all of them see the same.

**Cancellation.**  Every method may be cancelled at every await.  A connection that was in use is then closed, not reused:
the server sees the socket close and gives the statement up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import NO_INDEXES, Indexes, Key, KeyValues
from procflow_export.model.plan import KeyRange, Selection, Snapshot, TableChunk
from procflow_export.model.types import Column

KIB: Final = 1024
MIB: Final = 1024 * KIB

READ_BUFFER_BYTES: Final = 2 * MIB
"""Wire bytes that may wait for the decoder before the server is made to wait."""

BLOCK_BYTES: Final = 3 * MIB // 2
"""Wire bytes that are decoded in one go, unless a single row is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProfile:
    """What is known of a selection before it is read.

    Attributes:
        columns: In the order of the selection; never empty, names unique.
        row_estimate: From the statistics that the database keeps; ``None`` where it has none.  Never a count.
        indexes: What cuts it well; nothing is known of a query's.
        notes: What the operator should know of its rows.
    """

    columns: tuple[Column, ...]
    row_estimate: int | None
    indexes: Indexes = NO_INDEXES
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or ``None``."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySearch:
    """Which key is to be found, of the rows of a selection in the order of their keys.

    Attributes:
        selection: Where.
        within: The range of keys that are looked at, and by that the key.
        among: Further chunks that a row must be in to count.
        nth: Which of them, from 1.
        is_from_end: Whether they are counted from the last one.
    """

    selection: Selection
    within: KeyRange
    among: tuple[TableChunk, ...] = ()
    nth: int = 1
    is_from_end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRequest:
    """What a chunk reader is to read.

    Attributes:
        selection: What to read.
        columns: All or some columns of ``profile(selection)``, in the order wanted.
        chunk: Which of its rows.
        batch_rows: The most rows in a batch.
        batch_bytes: Decoded bytes that a batch should stay under; a single row may have more.
        order: A key in whose order an index gives the rows of the chunk; empty where there is none.  It begins like the key of
            a range of keys, or is the first part of that.  It lets a source read the chunk in several short statements.
        row_key: Columns whose values name a row in errors; without, rows are named by their number.
        snapshot: The state to read them in; None reads what is committed when the statement begins.
    """

    selection: Selection
    columns: tuple[Column, ...]
    chunk: TableChunk
    batch_rows: int
    batch_bytes: int = 4 * MIB
    order: Key = ()
    row_key: tuple[str, ...] = ()
    snapshot: Snapshot | None = None


@dataclass(slots=True)
class ReadStatistics:
    """What reading did to the server, and to values, so far; the figures only grow.

    Attributes:
        statement_count: Statements that were finished.
        longest_statement_s: Longest time between sending a statement and its last byte, the time in which the caller
            did not ask for more included.
        longest_transaction_s: Longest transaction, from its first statement to its end.
        received_bytes: Wire bytes of chunk data.
        changed_values: How many values ``Column.on_invalid`` changed, by column name.
    """

    statement_count: int = 0
    longest_statement_s: float = 0.0
    longest_transaction_s: float = 0.0
    received_bytes: int = 0
    changed_values: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def statement(self) -> Iterator[None]:
        """Count what the block asks as one statement, also if it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.record_statement(time.monotonic() - started)

    def record_statement(self, elapsed_s: float) -> None:
        """Count one finished statement."""
        self.statement_count += 1
        self.longest_statement_s = max(self.longest_statement_s, elapsed_s)

    def record_transaction(self, elapsed_s: float) -> None:
        """Take note of a transaction that has ended."""
        self.longest_transaction_s = max(self.longest_transaction_s, elapsed_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPrice:
    """How many connections a snapshot takes beside those that read.

    Attributes:
        holder: As long as it is held.
        preparing: More, until the first unit may begin: for the lock, and to read bounds.
        is_joined: Whether every reader keeps its connection as long as the snapshot; see ``Snapshot.is_joined``.
    """

    holder: int
    preparing: int
    is_joined: bool


class SnapshotHolder(Protocol):
    """Keeps one state of a database for others to read, from ``Source.hold_snapshot()`` to the end of its block."""

    @property
    def snapshot(self) -> Snapshot:
        """What readers are told to read."""
        ...

    @property
    def held_s(self) -> float:
        """How long the holder's transaction has lasted."""
        ...

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Keep writers out, as far as the database can, while all prepared readers join.

        Does nothing for a state that is exported.  May be entered again where ``is_one_state`` says no.

        Raises:
            SourceError: ``SOURCE_SNAPSHOT_REFUSED`` if a lock is not permitted or not granted soon: behind a lock
                request that waits, a server lets nobody else begin either.
        """
        ...

    @property
    def is_one_state(self) -> bool:
        """Whether all readers that joined inside the last ``locked()`` see the same."""
        ...

    async def wait_lost(self) -> SourceError:
        """Wait until the state can no longer be joined or imported, and return why; forever, if that shows in readers only."""
        ...


@runtime_checkable
class Source(Protocol):
    """One database, open for reading; every statement runs read-only, with the session in UTC.

    Several chunk readers may be open at once: each one uses a connection of its own, and a connection is kept for the
    next reader, unless ``close_idle()`` is called.  The caller bounds how many are open.
    """

    @property
    def statistics(self) -> ReadStatistics:
        """Live figures of everything but chunk readers, which have their own."""
        ...

    @property
    def description(self) -> str:
        """The database's product and version, for people; no host, user or secret."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know of the way to the server, once a connection was made; no host, user or secret."""
        ...

    @property
    def identity(self) -> str:
        """Which database it is, as one text without user or secret: what is said here again is the same data."""
        ...

    async def profile(
        self, selection: Selection, choices: Choices = NO_CHOICES, snapshot: Snapshot | None = None
    ) -> TableProfile:
        """Return columns, row estimate and indexes of a selection, without reading its rows.

        The same resolver serves ``check`` and ``run`` (spec E-22).  SQLite alone has columns without any type: for those
        the values' types are looked up in one pass.

        Args:
            selection: What to describe.
            choices: What the export wants of columns: other types, and what becomes of values that do not fit.
            snapshot: The state in which to look; None looks at what is committed now.

        Raises:
            ExportError: If the selection does not exist or cannot be exported: no columns, or two of one name; or if a
                choice names no column of it, or a type that the column cannot be given.
        """
        ...

    async def find_key(self, search: KeySearch, snapshot: Snapshot | None = None) -> KeyValues | None:
        """Return one key, or ``None`` when there are fewer rows than that; with a snapshot, of its rows.

        The database orders and compares, by the columns' own collations.  With an index that begins with the key's columns
        no row is read.

        Raises:
            ExportError: If a column is missing, or the key cannot be read exactly: that is never taken for "no rows".
        """
        ...

    async def has_rows(self, selection: Selection, chunk: TableChunk, snapshot: Snapshot | None = None) -> bool:
        """Return whether a chunk has any row: the first one ends the search, and nothing is counted."""
        ...

    async def now(self) -> datetime:
        """Return the time of the database's clock, in UTC, to the second."""
        ...

    def read_chunk(
        self, request: ChunkRequest, statistics: ReadStatistics
    ) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        """Read the rows of one chunk in batches of at most ``request.batch_rows`` rows.

        Every batch has the schema ``arrow_schema(request.columns)``; no batch is empty; a chunk without rows gives none.
        Leaving the block ends the statement, however it is left.

        Args:
            request: What to read.
            statistics: Is kept up to date while the rows are read, and complete once the block was left.

        Raises:
            ExportError: While iterating: the connection failed, a value does not fit its column, or the snapshot of the
                request can no longer be read (``SOURCE_SNAPSHOT_LOST``).
        """
        ...

    @property
    def snapshot_price(self) -> SnapshotPrice:
        """What ``hold_snapshot()`` takes."""
        ...

    async def check_snapshot(self, selection: Selection) -> None:
        """Find out whether ``hold_snapshot()`` would be refused, as far as that can be told without keeping anybody waiting.

        Raises:
            SourceError: ``SOURCE_SNAPSHOT_REFUSED`` if it would.
        """
        ...

    def hold_snapshot(self, selection: Selection) -> AbstractAsyncContextManager[SnapshotHolder]:
        """Fix one state of what a selection reads, for readers of this and other processes.

        Leaving the block ends the state for everybody who has not begun to read it.

        Raises:
            SourceError: ``SOURCE_SNAPSHOT_REFUSED`` if this selection, user or server gives no such state.
        """
        ...

    async def prepare_readers(self, snapshot: Snapshot, count: int) -> None:
        """Open ``count`` connections that will read a joined snapshot, so that joining takes one round trip."""
        ...

    async def join_snapshot(self, snapshot: Snapshot) -> None:
        """Begin to read, or begin again, with every connection that was prepared: what is committed now."""
        ...

    async def leave_snapshot(self, snapshot: Snapshot) -> None:
        """Close the connections that read a joined snapshot; none may be reading."""
        ...

    async def close_idle(self) -> None:
        """Close the connections that nobody uses now and that read no snapshot."""
        ...
