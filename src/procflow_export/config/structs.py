"""What a configuration says, as structs: one field per key of the file.

Owns the shape, the defaults and the meaning of every key; the reference page and the JSON Schema are made of it.  Rules
that hold between keys are in ``config.rules``.  Settings that also travel with a work unit are in ``model.settings``.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from procflow_export.model.choices import OnInvalid
from procflow_export.model.destination import DestinationConfig, Verify
from procflow_export.model.masks import masked_repr
from procflow_export.model.plan import ParameterValue
from procflow_export.model.settings import (
    DEFAULT_MEMORY_MB,
    MIN_MEMORY_MB,
    Compression,
    Consistency,
    CsvOptions,
    Days,
    Format,
    ParquetOptions,
    Positive,
    SourceConfig,
    Tuning,
)

if TYPE_CHECKING:
    from procflow.redaction import Secret


class Mode(StrEnum):
    """Which rows an export reads, and how it cuts them."""

    FULL = "full"
    """All rows, by one reader."""
    CHUNKED = "chunked"
    """All rows, range by range of a key."""
    INCREMENTAL = "incremental"
    """The rows that are new since the run before, by the order of a cursor."""
    TIME_WINDOW = "time_window"
    """The rows of the last days, again by every run."""


class CursorMode(StrEnum):
    """Which columns the cursor of an incremental export is."""

    SINGLE_COLUMN = "single_column"
    COALESCE = "coalesce"
    """The fallback column counts where the cursor column is NULL."""


class TimeColumnType(StrEnum):
    """What the time column of a window holds."""

    TIMESTAMP = "timestamp"
    """A date or a timestamp; without a zone it is taken for UTC."""
    UNIX = "unix"
    """Seconds since 1970, as a number."""


class CompressionProfile(StrEnum):
    """A codec and its level by purpose."""

    NONE = "none"
    FAST = "fast"
    BALANCED = "balanced"
    COMPACT = "compact"


class ColumnConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an export wants of one column.

    Attributes:
        type: Another type than its source's, for example ``decimal(10,2)``; every value must fit it.
        on_invalid: What becomes of a value that the type cannot hold.
    """

    type: str | None = None
    on_invalid: OnInvalid = OnInvalid.ERROR


class Settle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a row is old enough to move the cursor of an incremental export, by the clock of the source.

    Attributes:
        column: Date or timestamp that says how old a row is, without a zone in UTC; the cursor by default.
        after: The age, for example ``30s``, ``15m``, ``1h`` or ``1d``.
    """

    column: str | None = None
    after: str


class ExportConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One table or query, and what it becomes.  Its ``repr`` shows neither a query nor the values of its parameters.

    Attributes:
        name: Unique; part of file names.
        source: Name of one of ``sources``; not needed when there is only one source.
        table: ``name`` or ``schema.name``; exactly one of ``table``, ``query`` and ``query_file``.
        query: One SELECT statement; ``:name`` in it stands for a value of ``parameters``.
        query_file: File with one SELECT statement, inside the directory of the configuration file.
        parameters: Values of the placeholders of the query: text, numbers, ``true``, ``false``, ``null``, or a list of them.
        mode: Which rows are read, and whether at once or in chunks.
        cursor_column: Column that grows with every new or changed row; needed by ``incremental``.
        incremental_cursor_mode: Whether ``cursor_fallback_column`` counts where ``cursor_column`` is NULL.
        cursor_fallback_column: The column that counts then; with ``coalesce`` only.
        settle: How old a row must be to move the cursor, so that rows that are committed late are not passed by.
        time_column: Column that says when a row is from; needed by ``time_window``.
        time_column_type: What ``time_column`` holds; ``timestamp`` by default.
        days_window: How many days before today are exported, today besides; needed by ``time_window``.
        chunk_column: Column whose ranges are the chunks: an integer, or a date or timestamp with ``chunk_by_days``; a
            ``table`` finds its own key.
        chunk_by_key: Unique key, one column or a list, whose slices of ``chunk_size`` rows are the chunks.
        chunk_by_days: Days in a range of ``chunk_column``.
        chunk_size: Width of a range of integers, or rows in a slice; 100 000 unless ``chunk_count`` is given.
        chunk_count: Number of equal ranges or slices, instead of ``chunk_size``.
        keyset_incremental: Go on behind the last key of the run before; with ``chunk_by_key`` only.
        chunk_max_attempts: Tries per chunk; ``tuning.max_retries`` + 1 by default.
        columns: Types and policies by column: ``amount: decimal(10,2)``, or a mapping; a column of ``table`` may be named
            with it, as ``orders.amount``.
        parallel: Chunks of this export that are read at the same time.
        consistency: ``snapshot``: all parts show one state of the database, or the export fails.  ``chunk``: short
            transactions, and chunks may differ in time.  Without it, ``snapshot`` where it can be had; where it cannot,
            the run warns before it reads and goes on with ``chunk``.
        format: What the files are.
        compression: Codec; ``zstd`` for Parquet and ``none`` for CSV by default.
        compression_level: Level of ``zstd`` (1 to 22) or ``gzip`` (0 to 9).
        compression_profile: ``none``, ``fast`` (snappy), ``balanced`` (zstd 3) or ``compact`` (zstd 9), instead of
            ``compression``.
        parquet: Options of Parquet files.
        csv: Options of CSV files.
        max_file_size: Size at which a chunk continues in a further file, for example ``512MB`` (binary units).
        destination: Where the files go; the configuration's own ``destination`` by default.
        verify: How an object store's copy of a part is compared with what was sent; as the destination says by default.
        tuning: Limits of this export; each value replaces the source's.
    """

    name: str
    source: str | None = None
    table: str | None = None
    query: str | None = None
    query_file: str | None = None
    parameters: dict[str, ParameterValue] = msgspec.field(default_factory=dict)
    mode: Mode
    cursor_column: str | None = None
    incremental_cursor_mode: CursorMode | None = None
    cursor_fallback_column: str | None = None
    settle: Settle | None = None
    time_column: str | None = None
    time_column_type: TimeColumnType | None = None
    days_window: Days | None = None
    chunk_column: str | None = None
    chunk_by_key: str | list[str] | None = None
    chunk_by_days: Positive | None = None
    chunk_size: Positive | None = None
    chunk_count: Positive | None = None
    keyset_incremental: bool = False
    chunk_max_attempts: Positive | None = None
    columns: dict[str, str | ColumnConfig] | None = None
    parallel: Positive = 1
    consistency: Consistency | None = None
    format: Format
    compression: Compression | None = None
    compression_level: int | None = None
    compression_profile: CompressionProfile | None = None
    parquet: ParquetOptions | None = None
    csv: CsvOptions | None = None
    max_file_size: str | int | None = None
    destination: DestinationConfig | None = None
    verify: Verify | None = None
    tuning: Tuning = Tuning()

    def column_name(self, key: str) -> str:
        """Return the column that a key of ``columns`` names: ``amount``, and for a table ``orders.amount`` as well."""
        if self.table is not None:
            for prefix in (f"{self.table}.", f"{self.table.rpartition('.')[2]}."):
                if key.startswith(prefix) and key != prefix:
                    return key.removeprefix(prefix)
        return key

    @property
    def is_cumulative(self) -> bool:
        """Whether a run adds to the published set, instead of replacing it."""
        return self.mode in (Mode.INCREMENTAL, Mode.TIME_WINDOW) or self.keyset_incremental

    def __repr__(self) -> str:
        return masked_repr(self, "query", "parameters")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A whole configuration.

    Attributes:
        source: The database of every export.
        sources: Several databases by name, instead of ``source``; every export names its own.
        destination: Where files go unless an export says otherwise.
        exports: What is exported; at least one.
        memory_mb: Memory that each process of a run may have for its exports, its own libraries included.
        parallel_exports: Run exports as tasks of one process, unless the next key or the command line says otherwise.
        parallel_export_processes: Run exports in child processes, which is the default of the command line.
    """

    source: SourceConfig | None = None
    sources: dict[str, SourceConfig] = msgspec.field(default_factory=dict)
    destination: DestinationConfig | None = None
    exports: list[ExportConfig]
    memory_mb: Annotated[int, msgspec.Meta(ge=MIN_MEMORY_MB)] = DEFAULT_MEMORY_MB
    parallel_exports: bool = False
    parallel_export_processes: bool = False

    def source_of(self, export: ExportConfig) -> SourceConfig:
        """Return the source that ``export`` reads; the configuration must have been checked."""
        if export.source is not None:
            return self.sources[export.source]
        return self.source if self.source is not None else next(iter(self.sources.values()))

    def destination_of(self, export: ExportConfig) -> DestinationConfig:
        """Return the destination of ``export``; the configuration must have been checked."""
        destination = export.destination or self.destination
        assert destination is not None, "a checked configuration has a destination for every export"
        return destination if export.verify is None else msgspec.structs.replace(destination, verify=export.verify)


class LoadedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration without errors, ready to run.

    Paths in it are absolute and queries are read, so that it means the same in every working directory.

    Attributes:
        config: The configuration.
        base_dir: Directory that relative paths started at: the file's own.
        file: The file; None when the configuration came from memory.
        warnings: What was found that does not stop a run, one line each.
        secrets: Values that must not be shown, because a variable or parameter with the name of a secret holds them; those
            of sources are not among them.
    """

    config: Config
    base_dir: Path
    file: Path | None = None
    warnings: tuple[str, ...] = ()
    secrets: frozenset[Secret[str]] = frozenset()

    @property
    def state_directory(self) -> Path | None:
        """Where the state is kept unless somebody says otherwise: beside the file, ``shop.state`` for ``shop.yaml``."""
        return None if self.file is None else self.file.with_suffix(".state")
