"""Parquet files whose bytes depend on their rows alone.

Owns row groups, dictionaries, statistics and metadata.  Must not know where bytes go or how rows were read.

``pyarrow.parquet`` writes one row group per call and lets page and group boundaries follow the chunks it is given.  So
that equal rows give equal bytes (E-24), however a source cut them into batches, this encoder

* collects one row group of columns, ends it where the *rows* say so (a number of rows, a number of cell bytes), and hands it
  over as one contiguous chunk per column;
* decides about dictionaries from evenly spaced slices of the first row group.  A dictionary on a column of mostly
  different values costs twice its time and gains nothing; per column it is worth having;
* writes no time, host or path.  ``created_by`` is the library's name and version, which the library does not let us
  choose: the promise holds within one version of pyarrow.

Memory: the pending row group, plus its largest column once more while it is handed over, plus encoded pages.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from procflow_export.formats._arrow import Column, offsets_of
from procflow_export.formats._arrow import kernels as pc
from procflow_export.formats.failures import not_encodable, null_in_required_column, unsupported_type
from procflow_export.formats.port import ByteSink
from procflow_export.formats.settings import ParquetSettings
from procflow_export.model.settings import Compression
from procflow_export.model.types import NATIVE_TYPE_KEY

SAMPLE_SLICES: Final = 8
SAMPLE_SLICE_ROWS: Final = 2_048
DICTIONARY_MAX_DISTINCT: Final = 0.25
"""A dictionary pays when at most this share of the sampled values are different ones."""
NATIVE_TYPES_KEY: Final = b"procflow.native_types"
"""File metadata for readers that see no Arrow schema: JSON, column name to native type."""
_VARIABLE_WIDTH: Final = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
_CODEC_NAMES: Final[dict[Compression, Literal["zstd", "snappy", "gzip", "lz4", "none"]]] = {
    Compression.ZSTD: "zstd",
    Compression.SNAPPY: "snappy",
    Compression.GZIP: "gzip",
    Compression.LZ4: "lz4",  # pyarrow writes LZ4_RAW, the framing that every reader knows
    Compression.NONE: "none",
}


class ParquetEncoder:
    """A ``PartEncoder`` for Parquet."""

    def __init__(self, settings: ParquetSettings, schema: pa.Schema, sink: ByteSink) -> None:
        self._settings = settings
        self._schema = schema
        self._file_schema = _file_schema(schema)
        self._sink = _ArrowSink(sink)
        self._weights = [_ByteWeight(field.type) for field in schema]
        self._pending: list[list[Column]] = [[] for _ in schema]
        self._pending_rows = 0
        self._pending_bytes = 0
        self._encoded_from_bytes = 0
        self._row_count = 0
        self._writer: pq.ParquetWriter | None = None
        self._is_closed = False
        _refuse_unwritable_types(self._file_schema)

    @property
    def row_count(self) -> int:
        return self._row_count

    @property
    def part_bytes_estimate(self) -> int:
        """Stored bytes, plus pending rows at the ratio of the row groups before (one to one before the first)."""
        ratio = self._sink.size_bytes / self._encoded_from_bytes if self._encoded_from_bytes else 1.0
        return self._sink.size_bytes + round(self._pending_bytes * ratio)

    def write(self, batch: pa.RecordBatch) -> None:
        self._require_open()
        for position, field in enumerate(self._schema):
            if not field.nullable and batch.column(position).null_count:
                raise null_in_required_column(field)
        meters = [weight.meter(column) for weight, column in zip(self._weights, batch.columns, strict=True)]
        start = 0
        while start < batch.num_rows:
            stop = self._last_row_of_group(meters, start, batch.num_rows)
            if stop > start:
                for position, column in enumerate(batch.columns):
                    self._pending[position].append(column.slice(start, stop - start))
                self._pending_rows += stop - start
                self._pending_bytes += sum(meter.bytes_between(start, stop) for meter in meters)
            if stop < batch.num_rows or self._pending_rows == self._settings.row_group_rows:
                self._write_row_group()
            start = stop
        self._row_count += batch.num_rows

    def finish(self) -> int:
        self._require_open()
        if self._pending_rows or self._writer is None:
            self._write_row_group()
        try:
            assert self._writer is not None
            self._writer.close()
        except pa.ArrowException as exc:
            raise not_encodable("parquet", exc) from exc
        self._is_closed = True
        self._release()
        return self._row_count

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._sink.abandon()  # the writer writes a footer when it is collected: it must go nowhere
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._is_closed:
            raise ValueError("the encoder is closed")

    def _release(self) -> None:
        self._writer = None
        self._pending = [[] for _ in self._schema]
        self._pending_rows = self._pending_bytes = 0

    def _last_row_of_group(self, meters: list[_Meter], start: int, row_count: int) -> int:
        """Return where the pending row group ends: after as many rows of the batch as still fit, at least one a group."""
        stop = min(row_count, start + self._settings.row_group_rows - self._pending_rows)
        limit = self._settings.row_group_bytes
        if limit is None:
            return stop
        room = limit - self._pending_bytes
        if sum(meter.bytes_between(start, stop) for meter in meters) <= room:
            return stop
        low, high = start, stop  # the sum grows with the row: the last row that fits is found by halving
        while low < high - 1:
            middle = (low + high) // 2
            if sum(meter.bytes_between(start, middle) for meter in meters) <= room:
                low = middle
            else:
                high = middle
        return low if low > start or self._pending_rows else start + 1

    def _write_row_group(self) -> None:
        columns = []
        for position, field in enumerate(self._file_schema):
            chunks, self._pending[position] = self._pending[position], []
            columns.append(_contiguous(chunks, field.type))
        table = pa.Table.from_arrays(columns, schema=self._file_schema)
        try:
            if self._writer is None:
                self._writer = self._open_writer(table)
            if table.num_rows:
                self._writer.write_table(table, row_group_size=table.num_rows)
        except pa.ArrowException as exc:
            raise not_encodable("parquet", exc) from exc
        self._encoded_from_bytes += self._pending_bytes
        self._pending_rows = self._pending_bytes = 0

    def _open_writer(self, first_group: pa.Table) -> pq.ParquetWriter:
        compression = self._settings.compression
        return pq.ParquetWriter(
            pa.PythonFile(cast("Any", self._sink), mode="w"),
            self._file_schema,
            version="2.6",
            data_page_version="1.0",
            compression=_CODEC_NAMES[compression.codec],
            compression_level=compression.level,
            use_dictionary=cast("Any", _dictionary_columns(first_group) or False),
            write_statistics=self._settings.has_statistics,
            store_schema=True,
            store_decimal_as_integer=True,
        )


_ByteCounts: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]


class _ArrowSink:
    """What pyarrow needs of a file: it also asks for the position, and closes."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink: ByteSink | None = sink
        self.size_bytes = 0

    @property
    def closed(self) -> bool:
        return False

    def write(self, data: bytes) -> int:
        if self._sink is not None:
            self._sink.write(data)
        self.size_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        self._sink = None


def _file_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as written: dictionary columns as plain ones (batches disagree about dictionaries), native types noted."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema
    ]
    native_types = {
        field.name: field.metadata[NATIVE_TYPE_KEY].decode()
        for field in schema
        if field.metadata and NATIVE_TYPE_KEY in field.metadata
    }
    metadata: dict[bytes | str, bytes | str] = dict(cast("Any", schema.metadata) or {})
    if native_types:
        metadata[NATIVE_TYPES_KEY] = json.dumps(native_types, ensure_ascii=False).encode()
    return pa.schema(fields, metadata=metadata or None)


def _refuse_unwritable_types(schema: pa.Schema) -> None:
    """Write an empty file into nothing, so that a type that Parquet lacks is refused before the first row is read."""
    for field in schema:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field]), version="2.6").close()
        except (pa.ArrowException, NotImplementedError) as exc:
            raise unsupported_type("parquet", field, exc) from exc


def _contiguous(chunks: list[Column], arrow_type: pa.DataType) -> Column:
    plain = [chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk for chunk in chunks]
    if not plain:
        return pa.array([], arrow_type)
    return plain[0] if len(plain) == 1 else pa.concat_arrays(plain)


def _dictionary_columns(table: pa.Table) -> list[str]:
    """Return the Parquet paths of the leaf columns on which a dictionary pays."""
    paths = []
    for field, column in zip(table.schema, table.columns, strict=True):
        values = _sample(column.combine_chunks())
        path, arrow_type = field.name, field.type
        while pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
            path, arrow_type, values = f"{path}.list.element", arrow_type.value_type, values.flatten()
        if pa.types.is_nested(arrow_type) or pa.types.is_boolean(arrow_type) or pa.types.is_null(arrow_type):
            continue
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        present = len(values) - values.null_count
        if present and pc.count_distinct(values, mode="only_valid").as_py() <= max(
            1, DICTIONARY_MAX_DISTINCT * present
        ):
            paths.append(path)
    return paths


def _sample(column: Column) -> Column:
    """Evenly spaced slices: rows that stand together are often alike."""
    if len(column) <= SAMPLE_SLICES * SAMPLE_SLICE_ROWS:
        return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    step = (len(column) - SAMPLE_SLICE_ROWS) // (SAMPLE_SLICES - 1)
    return pa.concat_arrays([column.slice(number * step, SAMPLE_SLICE_ROWS) for number in range(SAMPLE_SLICES)])


class _ByteWeight:
    """How many bytes the cells of a type take before encoding; depends on the values alone, not on buffers or slices."""

    def __init__(self, arrow_type: pa.DataType) -> None:
        while isinstance(arrow_type, pa.BaseExtensionType):
            arrow_type = arrow_type.storage_type
        self._is_dictionary = pa.types.is_dictionary(arrow_type)
        self._bytes_per_row = _fixed_bytes(arrow_type)

    def meter(self, column: Column) -> _Meter:
        if self._is_dictionary:
            column = column.dictionary_decode()
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        return _Meter(_bytes_before_row(column), self._bytes_per_row)


class _Meter:
    """Cell bytes between two rows of one column of one batch, in constant time."""

    __slots__ = ("_before", "_bytes_per_row")

    def __init__(self, before: _ByteCounts | None, bytes_per_row: int) -> None:
        self._before = before
        self._bytes_per_row = bytes_per_row

    def bytes_between(self, start: int, stop: int) -> int:
        fixed = (stop - start) * self._bytes_per_row
        return fixed if self._before is None else fixed + int(self._before[stop]) - int(self._before[start])


def _fixed_bytes(arrow_type: pa.DataType) -> int:
    try:
        return max(1, arrow_type.bit_width // 8)
    except ValueError:
        return 4  # the length word of a variable value


def _bytes_before_row(column: Column) -> _ByteCounts | None:
    """Bytes of variable values before each row (one entry more than rows); ``None`` for fixed-width types."""
    arrow_type = column.type
    if any(is_text(arrow_type) for is_text in _VARIABLE_WIDTH):
        return offsets_of(column)
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        offsets = column.offsets.to_numpy().astype(np.int64)
        values = column.values
        while isinstance(values, pa.ExtensionArray):
            values = values.storage
        before = _bytes_before_row(values)
        weights: _ByteCounts = offsets * _fixed_bytes(values.type) if before is None else before[offsets] + offsets * 4
        return weights
    return None
