"""What a source must do: describe a selection, and read a chunk of it as Arrow batches.

Owns the ``Source`` contract, which one conformance suite checks for every database, and the values it returns.  Must not
know any driver, and not what happens to the batches.

**Exactness** (spec E-20).  A batch holds the database's own values or the read fails with an error that names the
column; nothing is rounded, truncated, replaced or turned into NULL on the way.

**Bounds.**  A chunk reader holds about ``READ_BUFFER_BYTES`` of wire data and one decoded block beside the batch that the
caller works on, whatever the size of the table; a caller that stops asking makes the server wait.

**Cancellation.**  Every method may be cancelled at every await.  A connection that was in use is then closed, not reused:
the server sees the socket close and gives the statement up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import pyarrow as pa

from procflow_export.model.choices import NO_CHOICES, Choices
from procflow_export.model.plan import Selection, Snapshot, TableChunk
from procflow_export.model.types import Column

KIB: Final = 1024
MIB: Final = 1024 * KIB

READ_BUFFER_BYTES: Final = 4 * MIB
"""Wire bytes that may wait for the decoder before the server is made to wait."""

BLOCK_BYTES: Final = 1 * MIB
"""Wire bytes that are decoded in one go, unless a single row is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProfile:
    """What is known of a selection before it is read.

    Attributes:
        columns: In the order of the selection; never empty, names unique.
        row_estimate: From the statistics that the database keeps; ``None`` where it has none.  Never a count.
        integer_key: A NOT NULL integer column with a full (not partial) primary or unique index of its own, so that key
            ranges over it cut the table without loss; ``None`` for queries and where there is no such column.
    """

    columns: tuple[Column, ...]
    row_estimate: int | None
    integer_key: str | None

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or ``None``."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBounds:
    """The lowest and the highest key, both inclusive; integers of any size.

    ``low`` and ``high`` are both ``None`` exactly when there is no row with a key that is not NULL: a bound that could
    not be read is an error, never an empty range.
    """

    low: int | None
    high: int | None
    has_nulls: bool

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("a key range has both bounds or none")

    @property
    def is_empty(self) -> bool:
        """Whether no row has a key, NULL keys included."""
        return self.low is None and not self.has_nulls


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRequest:
    """What a chunk reader is to read.

    Attributes:
        selection: What to read.
        columns: All or some columns of ``profile(selection)``, in the order wanted.
        chunk: Which of its rows.
        batch_rows: The most rows in a batch.
        snapshot: The state to read them in; None reads what is committed when the statement begins.
    """

    selection: Selection
    columns: tuple[Column, ...]
    chunk: TableChunk
    batch_rows: int
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

    def record_statement(self, elapsed_s: float) -> None:
        """Count one finished statement."""
        self.statement_count += 1
        self.longest_statement_s = max(self.longest_statement_s, elapsed_s)

    def record_transaction(self, elapsed_s: float) -> None:
        """Take note of a transaction that has ended."""
        self.longest_transaction_s = max(self.longest_transaction_s, elapsed_s)


@runtime_checkable
class Source(Protocol):
    """One database, open for reading; every statement runs read-only, with the session in UTC.

    Several chunk readers may be open at once: each one uses a connection of its own, and a connection is kept for the
    next reader.  The caller bounds how many are open.
    """

    @property
    def statistics(self) -> ReadStatistics:
        """Live figures of everything but chunk readers, which have their own."""
        ...

    @property
    def description(self) -> str:
        """The database's product and version, for people; no host, user or secret."""
        ...

    async def profile(self, selection: Selection, choices: Choices = NO_CHOICES) -> TableProfile:
        """Return columns, row estimate and integer key of a selection, without reading its rows.

        The same resolver serves ``check`` and ``run`` (spec E-22).  SQLite alone has columns without any type: for those
        the values' types are looked up in one pass.

        Args:
            selection: What to describe.
            choices: What the export wants of columns: other types, and what becomes of values that do not fit.

        Raises:
            ExportError: If the selection does not exist or cannot be exported: no columns, or two of one name; or if a
                choice names no column of it, or a type that the column cannot be given.
        """
        ...

    async def key_bounds(self, selection: Selection, column: str) -> KeyBounds:
        """Return the lowest and highest key, and whether any key is NULL (presence, not a count).

        Both bounds are ``None`` exactly when no row has a key that is not NULL: a bound that cannot be read is an error,
        never an empty range.

        Raises:
            ExportError: If the column is missing or its bounds are not integers.
        """
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
            ExportError: While iterating: the connection failed, or a value does not fit its column.
        """
        ...
