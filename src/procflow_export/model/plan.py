"""What is exported and how it is cut: selections, chunks, work units and their results.

Owns the values that go from the planner to an engine, maybe in another process, and back.  No I/O.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import msgspec

from procflow_export.model.destination import DestinationConfig
from procflow_export.model.keys import Bound, Key, KeyKind, KeyPart, integer_value
from procflow_export.model.masks import masked_repr
from procflow_export.model.secrets import is_secret_name
from procflow_export.model.settings import FormatOptions, SourceConfig


class Relation(msgspec.Struct, frozen=True, kw_only=True, tag="relation", tag_field="kind", omit_defaults=True):
    """A table or view, whole.

    Attributes:
        schema: Its schema (PostgreSQL), database (MySQL) or attached name (SQLite); None is the connection's own.
        table: Its name, as the catalog spells it.
    """

    schema: str | None = None
    table: str

    def __str__(self) -> str:
        return self.table if self.schema is None else f"{self.schema}.{self.table}"


Scalar: TypeAlias = str | int | float | bool | None
ParameterValue: TypeAlias = Scalar | tuple[Scalar, ...]
"""One value, or those of a list such as ``IN (:ids)``."""


class Query(msgspec.Struct, frozen=True, kw_only=True, tag="query", tag_field="kind", omit_defaults=True):
    """The rows of one SELECT statement.  Its ``repr`` shows neither the text nor the values: both may hold secrets.

    Attributes:
        text: The statement, without a trailing semicolon.
        parameters: Values of the placeholders (``:name``) in ``text``, by name; without any, ``text`` is sent as it is.
    """

    text: str
    parameters: dict[str, ParameterValue] = msgspec.field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Digest of text and parameters; a parameter with the name of a secret counts by its name, so that nobody can guess it."""
        shown = {name: None if is_secret_name(name) else value for name, value in sorted(self.parameters.items())}
        return hashlib.sha256(self.text.encode() + (b"\0" + msgspec.json.encode(shown) if shown else b"")).hexdigest()

    def __str__(self) -> str:
        return "query"

    def __repr__(self) -> str:
        return f"<Query, {len(self.text)} characters, parameters: {', '.join(self.parameters) or 'none'}>"


Selection: TypeAlias = Relation | Query


class Everything(msgspec.Struct, frozen=True, kw_only=True, tag="everything", tag_field="kind"):
    """All rows of the selection."""


class KeyRange(msgspec.Struct, frozen=True, kw_only=True, tag="key_range", tag_field="kind", omit_defaults=True):
    """The rows whose key lies between two bounds; never one whose key is NULL in any part.

    Attributes:
        key: What the rows are ordered by.
        low: Where the range begins; ``None`` begins before the first key.
        high: Where it ends; ``None`` ends behind the last key.
    """

    key: Key
    low: Bound | None = None
    high: Bound | None = None

    @property
    def column(self) -> str:
        """The column that the rows are ordered by first."""
        return self.key[0].column

    @staticmethod
    def of_integers(column: str, low: int, high: int) -> KeyRange:
        """Return the range ``low <= column < high``."""
        return KeyRange(
            key=(KeyPart(column=column, kind=KeyKind.INTEGER),),
            low=Bound((integer_value(low),), is_inclusive=True),
            high=Bound((integer_value(high),), is_inclusive=False),
        )


class NullKeys(msgspec.Struct, frozen=True, kw_only=True, tag="null_keys", tag_field="kind"):
    """The rows whose key is NULL in some part, which no range holds."""

    key: Key

    @property
    def column(self) -> str:
        """The first column of the key."""
        return self.key[0].column


TableChunk: TypeAlias = KeyRange | NullKeys | Everything


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One state of a database that several readers share (spec E-11), by a name that only its source understands.

    It lives as long as whoever holds it; see ``sources.port``.

    Attributes:
        name: What a reader asks its source for.
        is_joined: Whether only connections read it that joined when it was taken (see ``Source.join_snapshot``), not
            any connection that names it.
    """

    name: str
    is_joined: bool = False


class WorkUnit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One chunk of one export: all that a worker needs, in whatever process it runs.  Its ``repr`` shows no secret.

    Attributes:
        run_id: The run, a UUIDv7.
        export: Name of the export.
        index: Number of the chunk, from 0.
        selection: What the export reads.
        chunk: Which of its rows this unit reads.
        order: The key in whose order an index gives these rows, if any: what lets a source read them in short statements.
        columns: The columns as the planner resolved them, from ``model.types.encode_columns()``: every chunk of an
            export is read with the same types.
        source: How to connect; its tuning holds the merged limits.
        format: How to encode.
        destination: Where to; the path is absolute, placeholders are filled in.
        part_stem: Name of the parts without part number and suffix: ``<stem>-p000.parquet``.
        batch_rows: Rows that a batch should have so that it stays under the byte limit.
        snapshot: The state that all chunks of the export are read in; None reads whatever is committed by then.
        row_estimate: Rows that are expected; None when nobody knows.
        row_key: Columns whose values name a row in messages; without, rows are named by their number.
        writes_empty: Whether there is a part also when there are no rows, so that a reader finds the columns.
        attempt: 1 for the first try.
        keeps_connection: Whether the worker may keep its connection for the next unit.
        secrets: What must not be shown, beside what gives access to the source: whoever shows what a worker says takes it out.
    """

    run_id: str
    export: str
    index: int
    selection: Selection
    chunk: TableChunk
    columns: bytes
    source: SourceConfig
    format: FormatOptions
    destination: DestinationConfig
    part_stem: str
    batch_rows: int
    order: Key = ()
    snapshot: Snapshot | None = None
    row_estimate: int | None = None
    row_key: tuple[str, ...] = ()
    writes_empty: bool = False
    attempt: int = 1
    keeps_connection: bool = True
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return masked_repr(self, "secrets")


class PartRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file that a destination acknowledged.

    Attributes:
        key: Name relative to the destination of the export.
        row_count: Rows in it.
        size_bytes: Size as stored.
        checksum: ``<algorithm>:<hex>`` over the stored bytes.
        chunk: Number of the chunk it belongs to, in its run.
        scope: What of the table it holds, where later runs export that anew; ``None`` where they do not.
        bounds: The rows it was read by: those of its chunk, of which it may hold only some.
        values: ``<algorithm>:<Base64>``: a checksum of the values of each column as they were read, in the order of the
            columns, then one of whole rows (see ``checks.values``).
    """

    key: str
    row_count: int
    size_bytes: int
    checksum: str
    chunk: int
    scope: str | None = None
    bounds: TableChunk | None = None
    values: str | None = None


class UnitResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a finished work unit leaves behind.

    Attributes:
        index: Number of the chunk.
        parts: Its parts, in the order of their rows; empty when the chunk had no rows.
        row_count: Rows read; the sum over ``parts``.
        schema_fingerprint: Digest of the schema that was written; equal for all chunks of an export.
        elapsed_s: From the first statement to the last acknowledged part.
        peak_rss_bytes: Largest resident size of the process that did the work, so far.
        longest_statement_s: Longest single statement at the source.
        longest_transaction_s: Longest transaction at the source, from its first statement to its end.
        changed_values: Values that a policy changed, per column.
    """

    index: int
    parts: tuple[PartRecord, ...]
    row_count: int
    schema_fingerprint: str
    elapsed_s: float
    peak_rss_bytes: int = 0
    longest_statement_s: float = 0.0
    longest_transaction_s: float = 0.0
    changed_values: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.size_bytes for part in self.parts)
