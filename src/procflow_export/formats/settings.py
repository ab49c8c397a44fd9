"""The choices that encoders act on, checked and with every default filled in.

Owns the meaning of codecs, levels and row-group strategies.  Must not know pyarrow or how a file is written:
``check`` can ask here without opening anything, and gets the errors that ``run`` would get.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self, assert_never

from procflow_export.model.settings import (
    AUTO_ROW_GROUP_BYTES,
    Compression,
    CsvFloats,
    CsvQuoting,
    FormatOptions,
    RowGroupStrategy,
)

MIB: Final = 1024 * 1024
ROW_GROUP_MAX_ROWS: Final = 1024 * 1024


UNBOUNDED: Final = 1 << 62

LEVELS: Final = {Compression.ZSTD: range(1, 23), Compression.GZIP: range(10)}
"""The levels that a codec takes; a codec that is not listed takes none."""

DEFAULT_LEVELS: Final = {Compression.ZSTD: 3, Compression.GZIP: 6}

CSV_CODECS: Final = frozenset({Compression.NONE, Compression.GZIP, Compression.ZSTD})


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecLevel:
    """A codec and its level; ``level`` is ``None`` exactly when the codec takes none."""

    codec: Compression
    level: int | None

    @classmethod
    def of(cls, codec: Compression, level: int | None = None) -> Self:
        """Check ``level`` against ``codec`` and fill in the default.

        Raises:
            ValueError: When the codec takes no level, or not this one.
        """
        allowed = LEVELS.get(codec)
        if level is None:
            return cls(codec=codec, level=DEFAULT_LEVELS.get(codec))
        if allowed is None:
            raise ValueError(f"{codec.value} takes no compression level")
        if level not in allowed:
            raise ValueError(f"{codec.value} takes levels {allowed[0]} to {allowed[-1]}, not {level}")
        return cls(codec=codec, level=level)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSettings:
    """How a Parquet file is written.

    A row group holds at most ``row_group_rows`` rows and, unless a single row is larger, at most ``row_group_bytes`` of
    cells before encoding.  Both depend on the rows alone, not on how they were cut into batches.
    """

    compression: CodecLevel
    row_group_rows: int = ROW_GROUP_MAX_ROWS
    row_group_bytes: int = AUTO_ROW_GROUP_BYTES
    has_statistics: bool = True

    def __post_init__(self) -> None:
        if self.row_group_rows < 1:
            raise ValueError("row_group_rows must be at least 1")
        if self.row_group_bytes < 1:
            raise ValueError("row_group_bytes must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvSettings:
    """How a CSV file is written; the defaults are those of docs/reference/outputs.md."""

    compression: CodecLevel = CodecLevel(codec=Compression.NONE, level=None)
    delimiter: str = ","
    null_text: str = ""
    quoting: CsvQuoting = CsvQuoting.NEEDED
    has_header: bool = True
    floats: CsvFloats = CsvFloats.FULL

    def __post_init__(self) -> None:
        if self.compression.codec not in CSV_CODECS:
            raise ValueError(f"csv files can be compressed with gzip or zstd, not {self.compression.codec.value}")
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter.isalnum():
            raise ValueError("the csv delimiter is one ASCII character that is neither a letter nor a digit")
        if self.delimiter in '"\r\n\0+-.:_':
            raise ValueError(f"the csv delimiter cannot be {self.delimiter!r}")
        if any(character in self.null_text for character in f'"\r\n{self.delimiter}'):
            raise ValueError("the csv null text holds no quote, line break or delimiter")


def parquet_settings(options: FormatOptions, *, max_row_group_bytes: int = UNBOUNDED) -> ParquetSettings:
    """Return what a Parquet encoder acts on.

    Args:
        options: What was asked for.
        max_row_group_bytes: What a row group may have whatever was asked for: rows that wait for it are in memory.

    Raises:
        ValueError: When codec, level and row-group options do not fit together.
    """
    compression = CodecLevel.of(options.compression, options.compression_level)
    parquet = options.parquet
    rows, most = ROW_GROUP_MAX_ROWS, max_row_group_bytes
    match parquet.row_group_strategy:
        case RowGroupStrategy.AUTO:
            most = min(most, AUTO_ROW_GROUP_BYTES)
        case RowGroupStrategy.FIXED_ROWS:
            if parquet.row_group_rows is None:
                raise ValueError("row_group_strategy fixed_rows needs row_group_rows")
            rows = parquet.row_group_rows
        case RowGroupStrategy.FIXED_MEMORY:
            limit_mb = min(parquet.target_row_group_mb, parquet.max_row_group_mb or parquet.target_row_group_mb)
            most = min(most, limit_mb * MIB)
        case _:
            assert_never(parquet.row_group_strategy)
    return ParquetSettings(
        compression=compression, row_group_rows=rows, row_group_bytes=most, has_statistics=parquet.statistics
    )


def csv_settings(options: FormatOptions) -> CsvSettings:
    """Return what a CSV encoder acts on.

    Raises:
        ValueError: When codec, level, delimiter or NULL text do not fit together.
    """
    return CsvSettings(
        compression=CodecLevel.of(options.compression, options.compression_level),
        delimiter=options.csv.delimiter,
        null_text=options.csv.null_text,
        quoting=options.csv.quoting,
        has_header=options.csv.header,
        floats=options.csv.floats,
    )
