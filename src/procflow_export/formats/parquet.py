"""Parquet files whose bytes depend on their rows alone.

Owns row groups, dictionaries, statistics and metadata.  Must not know where bytes go or how rows were read.

``pyarrow.parquet`` writes one row group per call and lets page and group boundaries follow the chunks it is given.  So
that equal rows give equal bytes (E-24), however a source cut them into batches, this encoder

* writes rows in strips (see ``strips``), and ends a row group between two of them, where the *rows* say so;
* decides how columns are encoded from the rows of the first row group (see ``encodings``);
* gives a column that arrives dictionary-encoded a dictionary of its own in every row group, in the order in which its
  values appear there: batches disagree about dictionaries;
* writes no time, host or path.  ``created_by`` is the library's name and version, which the library does not let us
  choose: the promise holds within one version of pyarrow.

Memory: the pending row group, and the encoded pages of one column: up to three times the largest value, beside that value
(see ``large_rows``); and what the footer will say (see ``footers``).
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Final, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq

from procflow_export.formats._arrow import Column
from procflow_export.formats.encodings import choose_encodings
from procflow_export.formats.failures import not_encodable, null_in_required_column, unsupported_type
from procflow_export.formats.footers import FooterBound
from procflow_export.formats.large_rows import LargeRows
from procflow_export.formats.port import ByteSink
from procflow_export.formats.settings import ParquetSettings
from procflow_export.formats.strips import STRIP_ROWS, Strip, StripCutter
from procflow_export.model.types import NATIVE_TYPE_KEY

STRIPS_PER_GROUP: Final = 4
"""Row groups end between strips: so many fit into one that bytes end, however many columns there are."""
WRITE_BYTES: Final = 256 * 1024
"""Pages are a few KiB each: they are handed on together, because every write takes the lock of the interpreter."""
NATIVE_TYPES_KEY: Final = b"procflow.native_types"
"""File metadata for readers that see no Arrow schema: JSON, column name to native type."""


class ParquetEncoder:
    """A ``PartEncoder`` for Parquet."""

    def __init__(
        self, settings: ParquetSettings, schema: pa.Schema, sink: ByteSink, large_columns: frozenset[int] = frozenset()
    ) -> None:
        self._settings = settings
        self._file_schema = _file_schema(schema)
        self._plain = _PlainRows(self._file_schema)
        self._required = [position for position, field in enumerate(schema) if not field.nullable]
        self._sink = _ArrowSink(sink)
        self._stream = pa.BufferedOutputStream(pa.PythonFile(cast("Any", self._sink), mode="w"), WRITE_BYTES)
        self._strips = StripCutter(
            self._plain.schema,
            max_rows=min(STRIP_ROWS, settings.row_group_rows),
            max_bytes=settings.row_group_bytes // STRIPS_PER_GROUP,
        )
        self._footer = FooterBound(settings, self._strips.weights, len(schema))
        self._large_rows = LargeRows(self._strips.weights, large_columns)
        self._group: list[Strip] = []
        self._group_rows = 0
        self._group_bytes = 0
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
        written = self._written_bytes()
        ratio = written / self._encoded_from_bytes if self._encoded_from_bytes else 1.0
        return written + round((self._group_bytes + self._strips.pending_bytes) * ratio)

    @property
    def large_columns(self) -> frozenset[int]:
        return self._large_rows.columns

    @property
    def is_full(self) -> bool:
        return self._large_rows.has_ended

    def room_for(self, batch: pa.RecordBatch) -> int:
        rows = self._plain.of(batch)
        cell_bytes = self._encoded_from_bytes + self._group_bytes + self._strips.pending_bytes
        footer_room = self._footer.room_for(rows, row_count=self._row_count, cell_bytes=cell_bytes)
        return min(self._large_rows.room_for(rows), footer_room)

    def write(self, batch: pa.RecordBatch) -> None:
        self._require_open()
        rows = self._plain.of(batch)
        for position in self._required:
            if rows.column(position).null_count:
                raise null_in_required_column(self._file_schema.field(position))
        self._large_rows.note(rows)
        self._row_count += rows.num_rows
        for strip in self._strips.cut(rows):
            self._add(strip)

    def finish(self) -> int:
        self._require_open()
        if not self._strips.is_empty:
            self._add(self._strips.take())
        if self._group or self._writer is None:
            self._write_row_group()
        try:
            assert self._writer is not None
            self._writer.close()
            self._stream.flush()
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

    def _written_bytes(self) -> int:
        return self._sink.size_bytes if self._is_closed else self._stream.tell()

    def _release(self) -> None:
        self._writer = None
        self._strips = StripCutter(self._plain.schema)
        self._group = []
        self._group_rows = self._group_bytes = 0

    def _add(self, strip: Strip) -> None:
        limit_rows, limit_bytes = self._settings.row_group_rows, self._settings.row_group_bytes
        if self._group and self._group_bytes + strip.cell_bytes > limit_bytes:
            self._write_row_group()
        self._group.append(strip)
        self._group_rows += strip.rows.num_rows
        self._group_bytes += strip.cell_bytes
        if self._group_rows == limit_rows or self._group_bytes >= limit_bytes:
            self._write_row_group()
        self._strips.max_rows = min(STRIP_ROWS, limit_rows - self._group_rows)

    def _write_row_group(self) -> None:
        table = pa.Table.from_batches([strip.rows for strip in self._group], schema=self._plain.schema)
        self._encoded_from_bytes += self._group_bytes
        self._group = []
        self._group_rows = self._group_bytes = 0
        try:
            if self._writer is None:
                self._writer = self._open_writer(table)
            if table.num_rows:
                self._writer.write_table(self._plain.undone(table), row_group_size=table.num_rows)
        except pa.ArrowException as exc:
            raise not_encodable("parquet", exc) from exc

    def _open_writer(self, first_group: pa.Table) -> pq.ParquetWriter:
        encodings = choose_encodings(first_group, self._settings, self._large_rows.columns)
        return pq.ParquetWriter(
            self._stream,
            self._file_schema,
            version="2.6",
            data_page_version="1.0",
            compression=encodings.compression,
            compression_level=encodings.compression_level,
            use_dictionary=encodings.use_dictionary,
            write_statistics=encodings.write_statistics,
            store_schema=True,
            store_decimal_as_integer=True,
        )


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
    """The schema as written, native types noted."""
    native_types = {
        field.name: field.metadata[NATIVE_TYPE_KEY].decode()
        for field in schema
        if field.metadata and NATIVE_TYPE_KEY in field.metadata
    }
    metadata: dict[bytes | str, bytes | str] = dict(cast("Any", schema.metadata) or {})
    if native_types:
        metadata[NATIVE_TYPES_KEY] = json.dumps(native_types, ensure_ascii=False).encode()
    return schema.with_metadata(cast("Any", metadata or None))


class _PlainRows:
    """Rows without dictionaries, and back."""

    def __init__(self, schema: pa.Schema) -> None:
        self._encoded = {
            position: field.type for position, field in enumerate(schema) if pa.types.is_dictionary(field.type)
        }
        self.schema = schema
        for position, arrow_type in self._encoded.items():
            self.schema = self.schema.set(position, schema.field(position).with_type(arrow_type.value_type))

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self._encoded:
            return batch
        columns: list[Column] = batch.columns
        for position in self._encoded:
            columns[position] = columns[position].dictionary_decode()
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def undone(self, table: pa.Table) -> pa.Table:
        for position, arrow_type in self._encoded.items():
            values: Column = table.column(position).combine_chunks()
            encoded = values.dictionary_encode()
            column = pa.DictionaryArray.from_arrays(
                encoded.indices.cast(arrow_type.index_type), encoded.dictionary, ordered=arrow_type.ordered
            )
            table = table.set_column(position, self.schema.field(position).with_type(arrow_type), column)
        return table


def _refuse_unwritable_types(schema: pa.Schema) -> None:
    """Write an empty file into nothing, so that a type that Parquet lacks is refused before the first row is read."""
    for field in schema:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field]), version="2.6").close()
        except (pa.ArrowException, NotImplementedError) as exc:
            raise unsupported_type("parquet", field, exc) from exc
