"""From configuration and profile to the plan of one export, and from the plan to its work units.

Owns every default that depends on more than one key.  ``check`` and ``run`` plan here, so that what one shows the other
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from procflow_export.config.sizes import parse_size
from procflow_export.config.structs import ColumnConfig, CompressionProfile, Config, ExportConfig, Mode
from procflow_export.model.choices import Choice, Choices, parse_type
from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.plan import Query, Relation, Selection, WorkUnit
from procflow_export.model.settings import (
    Compression,
    CsvOptions,
    DestinationConfig,
    Environment,
    Format,
    FormatOptions,
    ParquetOptions,
    ReadLimits,
    SourceConfig,
    TuningProfile,
)
from procflow_export.model.types import Column, LogicalType, encode_columns
from procflow_export.planning.chunks import Chunks, cut_table, is_sparse
from procflow_export.planning.memory import batch_rows, estimated_row_bytes
from procflow_export.planning.names import part_stem, resolved_destination

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
        destination: The directory of this export in this run.
    """

    run_id: str
    export: ExportConfig
    selection: Selection
    source: SourceConfig
    format: FormatOptions
    destination: DestinationConfig

    @property
    def choices(self) -> Choices:
        """What the export wants of its columns."""
        return choices_of(self.export)

    @property
    def limits(self) -> ReadLimits:
        """What a chunk reader of this export may do."""
        return self.source.tuning.limits()

    @property
    def max_attempts(self) -> int:
        """Tries per work unit."""
        return self.export.chunk_max_attempts or self.limits.max_retries + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What the source says about the chunk key.

    Attributes:
        column: The key.
        low: Smallest value; None when no row has one.
        high: Largest value, inclusive.
        has_nulls: Whether a row has none.
    """

    column: str
    low: int | None
    high: int | None
    has_nulls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What will be done for one export.

    Attributes:
        target: What was known before.
        columns: The columns, resolved once for all chunks.
        encoded_columns: The same as bytes, as they travel.
        chunks: The chunks.
        row_estimate: Rows that are expected; None when nobody knows.
        row_bytes: Estimated size of a decoded row.
        warnings: What the operator should know.
    """

    target: Target
    columns: tuple[Column, ...]
    encoded_columns: bytes
    chunks: Chunks
    row_estimate: int | None
    row_bytes: int
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the export."""
        return self.target.export.name

    @property
    def parallel(self) -> int:
        """Chunks of this export that may be worked on at once."""
        return min(self.target.export.parallel, len(self.chunks))

    @property
    def unit_rows(self) -> int | None:
        """Rows that one unit is expected to have."""
        return None if self.row_estimate is None else -(-self.row_estimate // len(self.chunks))

    def unit(self, index: int, *, attempt: int = 1) -> WorkUnit:
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
            part_stem=part_stem(self.name, target.run_id, index),
            batch_rows=batch_rows(target.limits, self.row_bytes),
            row_estimate=self.unit_rows,
            attempt=attempt,
        )


def target_of(config: Config, export: ExportConfig, *, run_id: str, started_at: datetime) -> Target:
    """Return everything about ``export`` that needs no database.

    Args:
        config: A checked configuration.
        export: One of its exports.
        run_id: The run.
        started_at: When the run began, UTC.
    """
    selection = selection_of(export)
    source = config.source_of(export)
    tuning = export.tuning.merged_over(source.tuning)
    if tuning.profile is None and source.environment is Environment.LOCAL:
        tuning = msgspec.structs.replace(tuning, profile=TuningProfile.FAST)
    return Target(
        run_id=run_id,
        export=export,
        selection=selection,
        source=msgspec.structs.replace(source, tuning=tuning),
        format=format_of(export),
        destination=resolved_destination(
            config.destination_of(export),
            export=export.name,
            selection=selection,
            run_id=run_id,
            started_at=started_at,
        ),
    )


def selection_of(export: ExportConfig) -> Selection:
    """Return what ``export`` reads."""
    if export.table is None:
        assert export.query is not None, "a checked export has a table or a query"
        return Query(text=export.query)
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


def chunk_key(target: Target, *, columns: tuple[Column, ...], integer_key: str | None) -> str | None:
    """Return the column whose bounds the source must be asked for; None when the export is one chunk.

    Args:
        target: The export.
        columns: Its columns.
        integer_key: The key that the source found by itself.

    Raises:
        PlanError: If the mode needs a key and there is none, or the one that is named does not exist or is no integer.
    """
    if target.export.mode is not Mode.CHUNKED:
        return None
    named = target.export.chunk_column
    if named is None:
        if integer_key is None:
            raise PlanError(
                Code.PLAN_KEY_MISSING, f"{target.selection} has no single NOT NULL integer column with a unique index"
            )
        return integer_key
    key = next((column for column in columns if column.name == named), None)
    if key is None:
        error = PlanError(Code.PLAN_KEY_MISSING, f"there is no column {named!r} to cut {target.selection} by")
        if similar := [column.name for column in columns if column.name.casefold() == named.casefold()]:
            error.add_note(f"the column is spelled {similar[0]!r}")
        raise error
    # Texts, enums and floats may look like integers, but a database orders them otherwise, and ranges would miss rows.
    # A year is no integer either: MySQL reads a bound of two digits as a year of this century.
    if key.source_meaning is not LogicalType.INTEGER:
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE,
            f"the column {named!r} of {target.selection} is of type {key.native_type}: only integers can be cut by range",
        )
    return named


def plan_export(
    target: Target, *, columns: tuple[Column, ...], row_estimate: int | None, key: KeyFacts | None
) -> ExportPlan:
    """Return the plan of one export.

    Args:
        target: The export.
        columns: Its columns, from the source's profile.
        row_estimate: Rows that are expected, from the same profile.
        key: The bounds of the column that ``chunk_key()`` named; None when it named none.

    Raises:
        PlanError: If the key makes too many ranges.
    """
    export = target.export
    chunks = Chunks()
    if key is not None:
        chunks = cut_table(
            key.column,
            low=key.low,
            high=key.high,
            has_nulls=key.has_nulls,
            chunk_size=export.chunk_size,
            chunk_count=export.chunk_count,
            row_estimate=row_estimate,
        )
    warnings = []
    if is_sparse(chunks, row_estimate):
        warnings.append(
            f"the keys of {chunks.column!r} are sparse: {len(chunks)} chunks for about {row_estimate} rows; "
            "a larger chunk_size, or chunk_count, would be faster"
        )
    return ExportPlan(
        target=target,
        columns=columns,
        encoded_columns=encode_columns(columns),
        chunks=chunks,
        row_estimate=row_estimate,
        row_bytes=estimated_row_bytes(columns),
        warnings=tuple(warnings),
    )
