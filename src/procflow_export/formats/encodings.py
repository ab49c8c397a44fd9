"""How each column of a Parquet file is encoded: dictionary, statistics, codec.

Owns these choices.  They hold for a whole file and follow from the rows of its first row group alone, so that equal rows are
encoded equally (E-24).

* A dictionary on a column of mostly different values costs twice its time and gains nothing; per column it is worth having.
* A large value is copied six times more for statistics, and once or twice into a dictionary: columns that have some get neither.
  Where they do not compress (pictures, archives) they are stored as they are, which saves one copy and the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa

from procflow_export.formats._arrow import Column, data_of
from procflow_export.formats._arrow import kernels as pc
from procflow_export.formats.settings import CodecLevel, ParquetSettings
from procflow_export.model.settings import Compression

SAMPLE_SLICES: Final = 8
SAMPLE_SLICE_ROWS: Final = 2_048
DICTIONARY_MAX_DISTINCT: Final = 0.25
"""A dictionary pays when at most this share of the sampled values are different ones."""
SAMPLE_BYTES: Final = 256 * 1024
INCOMPRESSIBLE_RATIO: Final = 0.9
"""What compresses to more than this share of its size does not."""

_Codec: TypeAlias = Literal["zstd", "snappy", "gzip", "lz4", "none"]
_CODEC_NAMES: Final[dict[Compression, _Codec]] = {
    Compression.ZSTD: "zstd",
    Compression.SNAPPY: "snappy",
    Compression.GZIP: "gzip",
    Compression.LZ4: "lz4",  # pyarrow writes LZ4_RAW, the framing that every reader knows
    Compression.NONE: "none",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encodings:
    """What ``pyarrow.parquet.ParquetWriter`` is told of each column; lists and mappings go by Parquet path."""

    use_dictionary: Any
    write_statistics: Any
    compression: Any
    compression_level: Any


def choose_encodings(first_group: pa.Table, settings: ParquetSettings, large_columns: frozenset[int]) -> Encodings:
    """Return how a file is encoded whose first row group is ``first_group``.

    Args:
        first_group: Its rows, without dictionaries.
        settings: What was asked for.
        large_columns: Positions of the columns that have large values.
    """
    codec = settings.compression
    ordinary = [at for at in range(first_group.num_columns) if at not in large_columns]
    dictionaries = list(_dictionary_columns(first_group.select(ordinary)))
    if not large_columns:
        return Encodings(
            use_dictionary=dictionaries or False,
            write_statistics=settings.has_statistics,
            compression=_CODEC_NAMES[codec.codec],
            compression_level=codec.level,
        )
    paths = [leaf_path(field) for field in first_group.schema]
    bare = {at for at in large_columns if not _is_compressible(first_group.column(at), codec)}
    names = {path: _CODEC_NAMES[Compression.NONE if at in bare else codec.codec] for at, path in enumerate(paths)}
    levels = {path: codec.level for at, path in enumerate(paths) if at not in bare}
    return Encodings(
        use_dictionary=dictionaries or False,
        write_statistics=[paths[at] for at in ordinary] if settings.has_statistics else False,
        compression=names,
        compression_level=levels if codec.level is not None else None,
    )


def leaf_path(field: pa.Field[Any]) -> str:
    """Return the Parquet path of a column, or of the elements of its lists."""
    path, arrow_type = field.name, field.type
    while _is_list(arrow_type):
        path, arrow_type = f"{path}.list.element", arrow_type.value_type
    return path


def _is_list(arrow_type: pa.DataType) -> bool:
    return pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)


def _dictionary_columns(table: pa.Table) -> Iterator[str]:
    """Yield the Parquet paths of the leaf columns on which a dictionary pays."""
    for field, column in zip(table.schema, table.columns, strict=True):
        values = _sample(column)
        arrow_type = field.type
        while _is_list(arrow_type):
            arrow_type, values = arrow_type.value_type, values.flatten()
        if pa.types.is_nested(arrow_type) or pa.types.is_boolean(arrow_type) or pa.types.is_null(arrow_type):
            continue
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        present = len(values) - values.null_count
        if present and pc.count_distinct(values, mode="only_valid").as_py() <= max(
            1, DICTIONARY_MAX_DISTINCT * present
        ):
            yield leaf_path(field)


def _sample(column: Column) -> Column:
    """Evenly spaced slices: rows that stand together are often alike."""
    row_count, slice_rows = len(column), SAMPLE_SLICE_ROWS
    if row_count > SAMPLE_SLICES * slice_rows:
        step = (row_count - slice_rows) // (SAMPLE_SLICES - 1)
        chunks = [chunk for number in range(SAMPLE_SLICES) for chunk in column.slice(number * step, slice_rows).chunks]
        return pa.concat_arrays(chunks)
    return column.combine_chunks()


def _is_compressible(column: Column, codec: CodecLevel) -> bool:
    """Return whether compressing the middle of the column's first row makes it smaller."""
    if codec.codec is Compression.NONE:
        return True
    values = column.slice(0, 1).combine_chunks()
    while isinstance(values, pa.ExtensionArray) or _is_list(values.type):
        values = values.storage if isinstance(values, pa.ExtensionArray) else values.flatten()
    data = data_of(values)
    start = max(0, len(data) - SAMPLE_BYTES) // 2
    sample = bytes(data[start : start + SAMPLE_BYTES])
    if not sample:
        return True
    name: Any = "lz4_raw" if codec.codec is Compression.LZ4 else codec.codec.value
    packed = pa.Codec(name, compression_level=codec.level).compress(sample, asbytes=True)
    return len(packed) <= INCOMPRESSIBLE_RATIO * len(sample)
