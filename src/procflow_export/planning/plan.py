"""From configuration and profile to the plan of one export, and from the plan to its work units.

Owns every default that depends on more than one key.  ``check`` and ``run`` plan here, so that what one shows the other
does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from procflow_export.config.sizes import parse_size
from procflow_export.config.structs import ColumnConfig, CompressionProfile, Config, ExportConfig, LoadedConfig
from procflow_export.model.choices import Choice, Choices, parse_type
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.keys import Key, KeyValues
from procflow_export.model.manifest import Continuation, CursorOwner, Manifest, StoredCursor
from procflow_export.model.plan import Query, Relation, Selection, Snapshot, WorkUnit
from procflow_export.model.settings import (
    Compression,
    Consistency,
    CsvOptions,
    Environment,
    Format,
    FormatOptions,
    ParquetOptions,
    ReadLimits,
    SourceConfig,
    TuningProfile,
)
from procflow_export.model.types import Column, encode_columns, schema_fingerprint
from procflow_export.planning.chunks import Chunks
from procflow_export.planning.cursors import NULL_SCOPE, owner_of
from procflow_export.planning.keys import Facts, reading_order
from procflow_export.planning.memory import batch_rows, estimated_row_bytes
from procflow_export.planning.names import part_stem, resolved_destination

if TYPE_CHECKING:
    from procflow.redaction import Secret

_PROFILES: Final = {
    CompressionProfile.NONE: (Compression.NONE, None),
    CompressionProfile.FAST: (Compression.SNAPPY, None),
    CompressionProfile.BALANCED: (Compression.ZSTD, 3),
    CompressionProfile.COMPACT: (Compression.ZSTD, 9),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One export of one run, as far as it is known before its source was asked.

    Attributes:
        run_id: The run, a UUIDv7.
        export: The export's configuration.
        selection: What it reads.
        source: Its source, with the limits of source and export merged.
        format: How parts are encoded.
        destination: The directory of this export's manifest in this run.
        part_directory: What the names of its parts begin with: nothing, or a directory below that and a slash.
        secrets: What must not be shown, beside what gives access to source and destination.
        environ: Where references of the destination are looked up; ``None`` is the environment of this process.
    """

    run_id: str
    export: ExportConfig
    selection: Selection
    source: SourceConfig
    format: FormatOptions
    destination: DestinationConfig
    part_directory: str = ""
    secrets: frozenset[Secret[str]] = frozenset()
    environ: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def choices(self) -> Choices:
        """What the export wants of its columns."""
        return choices_of(self.export)

    @property
    def limits(self) -> ReadLimits:
        """What a chunk reader of this export may do."""
        return self.source.tuning.limits()

    def owner(self, source: str) -> CursorOwner:
        """Return what a cursor of this export belongs to; ``source`` is the identity of its source."""
        return owner_of(
            self.export,
            selection=self.selection,
            source=source,
            destination=self.destination.location,
            options=self.format,
        )

    @property
    def max_attempts(self) -> int:
        """Tries per work unit; what went into a stream cannot be written again."""
        if self.destination.type is DestinationType.STDOUT:
            return 1
        return self.export.chunk_max_attempts or self.limits.max_retries + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How an export is cut into chunks, and what that says about the run after it.

    Attributes:
        chunks: The chunks; none when there is nothing to export.
        description: The way, in words; empty for one chunk of everything.
        notes: What the operator should know of it.
        scopes: Scope of each range, where later runs export it anew; empty where they do not.
        position: Where the cursor stands after this run.
    """

    chunks: Chunks
    description: str = ""
    notes: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    position: KeyValues | None = None


WHOLE: Final = Cut(chunks=Chunks())
"""One reader reads everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What will be done for one export.

    Attributes:
        target: What was known before.
        columns: The columns, resolved once for all chunks.
        encoded_columns: The same as bytes, as they travel.
        cut: How it is cut.
        order: The key in whose order an index gives the rows of a chunk; empty where there is none.
        row_estimate: Rows that are expected; None when nobody knows.
        row_bytes: Estimated size of a decoded row.
        row_key: Columns whose values name a row in messages.
        snapshot: The state that all chunks are read in; None when each reads what is committed by then.
        cursor: Where the next run goes on; None when it does not.
        continuation: The set that the run adds to; None when it replaces whatever is published.
        writes_empty: Whether there is a part without rows if there are no rows.
        warnings: What the operator should know.
        digest: Of everything that must be the same for a later run to go on with parts of this one.
        previous_run_id: The run whose set was published when this was planned; None if there was none.
        resumed_from: The run whose finished chunks are kept; None if the export is read from its beginning.
    """

    target: Target
    columns: tuple[Column, ...]
    encoded_columns: bytes
    cut: Cut
    row_estimate: int | None
    row_bytes: int
    order: Key = ()
    row_key: tuple[str, ...] = ()
    snapshot: Snapshot | None = None
    cursor: StoredCursor | None = None
    continuation: Continuation | None = None
    writes_empty: bool = True
    warnings: tuple[str, ...] = ()
    digest: str = ""
    previous_run_id: str | None = None
    resumed_from: str | None = None

    @property
    def name(self) -> str:
        """Name of the export."""
        return self.target.export.name

    @property
    def chunks(self) -> Chunks:
        """The chunks."""
        return self.cut.chunks

    @property
    def is_nothing_new(self) -> bool:
        """Whether there is nothing to read and nothing to publish."""
        return len(self.chunks) == 0

    @property
    def parallel(self) -> int:
        """Chunks of this export that may be worked on at once."""
        return min(self.target.export.parallel, len(self.chunks))

    @property
    def unit_rows(self) -> int | None:
        """Rows that one unit is expected to have."""
        return None if self.row_estimate is None else -(-self.row_estimate // max(1, len(self.chunks)))

    def scope(self, index: int) -> str | None:
        """Return what of the table chunk ``index`` holds, where later runs export that anew."""
        return scope_of(self.cut, index) if self.target.export.is_cumulative else None

    @property
    def consistency(self) -> Consistency:
        """What the parts have in common: one chunk is one state without further ado."""
        is_one_state = self.snapshot is not None or len(self.chunks) == 1
        return Consistency.SNAPSHOT if is_one_state else Consistency.CHUNK

    def unit(self, index: int, *, attempt: int = 1, keeps_connection: bool = True) -> WorkUnit:
        """Return the work unit of chunk ``index``."""
        target = self.target
        return WorkUnit(
            run_id=target.run_id,
            export=self.name,
            index=index,
            selection=target.selection,
            chunk=self.chunks[index],
            columns=self.encoded_columns,
            source=target.source,
            format=target.format,
            destination=target.destination,
            part_stem=target.part_directory + part_stem(self.name, target.run_id, index),
            batch_rows=batch_rows(target.limits, self.row_bytes),
            order=self.order,
            snapshot=self.snapshot,
            row_estimate=self.unit_rows,
            row_key=self.row_key,
            # The first chunk: readers of the published set find the columns there.
            writes_empty=self.writes_empty and index == 0,
            attempt=attempt,
            keeps_connection=keeps_connection,
            secrets=tuple(sorted(secret.reveal() for secret in target.secrets)),
        )


def target_of(
    config: Config,
    export: ExportConfig,
    *,
    run_id: str,
    started_at: datetime,
    secrets: frozenset[Secret[str]] = frozenset(),
    environ: Mapping[str, str] | None = None,
) -> Target:
    """Return everything about ``export`` that needs no database.

    Args:
        config: A checked configuration.
        export: One of its exports.
        run_id: The run.
        started_at: When the run began, UTC.
        secrets: Those of the configuration; see ``LoadedConfig``.
        environ: Where references are looked up; ``None`` is the environment of this process.
    """
    selection = selection_of(export)
    source = config.source_of(export)
    tuning = export.tuning.merged_over(source.tuning)
    if tuning.profile is None and source.environment is Environment.LOCAL:
        tuning = msgspec.structs.replace(tuning, profile=TuningProfile.FAST)
    destination, part_directory = resolved_destination(
        config.destination_of(export),
        export=export.name,
        selection=selection,
        run_id=run_id,
        started_at=started_at,
        is_cumulative=export.is_cumulative,
    )
    return Target(
        run_id=run_id,
        export=export,
        selection=selection,
        source=msgspec.structs.replace(source, tuning=tuning),
        format=format_of(export),
        destination=destination,
        part_directory=part_directory,
        secrets=secrets,
        environ=environ,
    )


def targets_of(
    loaded: LoadedConfig,
    wanted: Collection[str] | None,
    *,
    run_id: str,
    started_at: datetime,
    environ: Mapping[str, str] | None = None,
) -> list[Target]:
    """Return the exports of a configuration, or those that are ``wanted``, as one run would see them."""
    return [
        target_of(loaded.config, export, run_id=run_id, started_at=started_at, secrets=loaded.secrets, environ=environ)
        for export in loaded.config.exports
        if wanted is None or export.name in wanted
    ]


def selection_of(export: ExportConfig) -> Selection:
    """Return what ``export`` reads."""
    if export.table is None:
        assert export.query is not None, "a checked export has a table or a query"
        return Query(text=export.query, parameters=export.parameters)
    schema, _, table = export.table.rpartition(".")
    return Relation(schema=schema or None, table=table)


def choices_of(export: ExportConfig) -> Choices:
    """Return what a checked ``export`` wants of its columns, by the names that they have there."""
    return {export.column_name(key): _choice(wanted) for key, wanted in (export.columns or {}).items()}


def _choice(wanted: str | ColumnConfig) -> Choice:
    if isinstance(wanted, str):
        return Choice(type=parse_type(wanted))
    return Choice(type=None if wanted.type is None else parse_type(wanted.type), on_invalid=wanted.on_invalid)


def format_of(export: ExportConfig) -> FormatOptions:
    """Return how the parts of ``export`` are encoded."""
    if export.compression_profile is not None:
        compression, level = _PROFILES[export.compression_profile]
    else:
        default = Compression.ZSTD if export.format is Format.PARQUET else Compression.NONE
        compression, level = export.compression or default, export.compression_level
    return FormatOptions(
        format=export.format,
        compression=compression,
        compression_level=level,
        max_file_bytes=None if export.max_file_size is None else parse_size(export.max_file_size),
        parquet=export.parquet or ParquetOptions(),
        csv=export.csv or CsvOptions(),
    )


def scope_of(cut: Cut, index: int) -> str | None:
    """Return the scope of chunk ``index`` of an export that adds to its set."""
    if index == cut.chunks.range_count:
        return NULL_SCOPE
    return cut.scopes[index] if cut.scopes else None


def plan_export(
    target: Target,
    facts: Facts,
    cut: Cut = WHOLE,
    *,
    previous: Manifest | None = None,
    owner: CursorOwner | None = None,
    snapshot: Snapshot | None = None,
) -> ExportPlan:
    """Return the plan of one export.

    Args:
        target: The export.
        facts: What is known of its table or query.
        cut: How it is cut.
        previous: The set that it goes on from; None when it begins anew.
        owner: What its cursor belongs to; None when it has none.
        snapshot: The state that the cut was made in, for all chunks to be read in.
    """
    continuation = None
    warnings = list(cut.notes)
    if previous is not None and owner is not None:
        scopes = (scope_of(cut, index) for index in range(len(cut.chunks)))
        continuation = Continuation(run_id=previous.run_id, scopes=frozenset(scope for scope in scopes if scope))
        if schema_fingerprint(facts.columns) != previous.schema_fingerprint:
            warnings.append(
                "the columns are not those of the run before: the parts of the published set differ in their columns"
            )
    return ExportPlan(
        target=target,
        snapshot=snapshot,
        columns=facts.columns,
        encoded_columns=encode_columns(facts.columns),
        cut=cut,
        row_estimate=facts.row_estimate if cut.chunks.low is None else None,  # nobody counts the rows behind a bound
        row_bytes=estimated_row_bytes(facts.columns),
        order=reading_order(cut.chunks.key, facts),
        row_key=_row_key(facts, cut),
        cursor=None if owner is None else StoredCursor(owner=owner, key=cut.chunks.key, position=cut.position),
        continuation=continuation,
        writes_empty=continuation is None or previous is None or not continuation.kept(previous),
        warnings=tuple(warnings),
    )


def _row_key(facts: Facts, cut: Cut) -> tuple[str, ...]:
    """Return the columns whose values tell a row from the others, or nearly."""
    return next(iter(facts.indexes.unique_keys), tuple(part.column for part in cut.chunks.key))
