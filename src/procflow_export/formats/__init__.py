"""File formats: batches of rows into the bytes of one part."""

from __future__ import annotations

from typing import assert_never

import pyarrow as pa

from procflow_export.formats.csv import CsvEncoder
from procflow_export.formats.failures import wrong_options
from procflow_export.formats.parquet import ParquetEncoder
from procflow_export.formats.port import ByteSink, PartEncoder
from procflow_export.formats.settings import UNBOUNDED, csv_settings, parquet_settings
from procflow_export.model.settings import Compression, Format, FormatOptions

__all__ = ("ByteSink", "PartEncoder", "file_suffix", "open_encoder")


def open_encoder(
    options: FormatOptions,
    schema: pa.Schema,
    sink: ByteSink,
    *,
    max_row_group_bytes: int = UNBOUNDED,
    large_columns: frozenset[int] = frozenset(),
) -> PartEncoder:
    """Return an encoder of one part that writes into ``sink``; use it as a context manager, in a worker thread.

    Args:
        options: How to encode.
        schema: Of the batches.
        sink: Where the bytes go.
        max_row_group_bytes: What a row group may have at most, whatever ``options`` say.
        large_columns: Those of the part before.

    Raises:
        DataError: When the options do not fit together, or the format cannot hold a column's type; no byte of a row was
            written then.
    """
    try:
        match options.format:
            case Format.PARQUET:
                settings = parquet_settings(options, max_row_group_bytes=max_row_group_bytes)
                return ParquetEncoder(settings, schema, sink, large_columns)
            case Format.CSV:
                return CsvEncoder(csv_settings(options), schema, sink)
            case _:
                assert_never(options.format)
    except ValueError as exc:
        raise wrong_options(options.format.value, exc) from exc


def file_suffix(options: FormatOptions) -> str:
    """Return the end of a part's name, with its dot: ``.parquet``, ``.csv``, ``.csv.gz`` or ``.csv.zst``."""
    if options.format is Format.PARQUET:
        return ".parquet"
    return ".csv" + {Compression.GZIP: ".gz", Compression.ZSTD: ".zst"}.get(options.compression, "")
