"""CSV files: RFC 4180 where it speaks, and one fixed rule where it does not (E-24; docs/reference/outputs.md).

Owns quoting, NULL text, header, line ends and the compression of the text.  Must not know how a value becomes text
(``cells`` does) or where the bytes go.

Rows are never assembled one by one: each column becomes a column of finished cells, Arrow joins the columns into one
column of lines, and the data buffer of that column *is* the file's next bytes.  A batch is worked on in slices, so that
memory is bounded by the slice and not by what the caller hands over.
"""

from __future__ import annotations

import zlib
from types import TracebackType
from typing import Final, Protocol, Self

import numpy as np
import pyarrow as pa

from procflow_export.formats._arrow import Column, data_of
from procflow_export.formats._arrow import kernels as pc
from procflow_export.formats.cells import TEXT, UnsupportedTypeError, renderer_for
from procflow_export.formats.failures import null_in_required_column, unsupported_type
from procflow_export.formats.port import ByteSink
from procflow_export.formats.settings import MIB, CodecLevel, CsvSettings
from procflow_export.model.settings import Compression, CsvQuoting

SLICE_ROWS: Final = 16_384
SLICE_BYTES: Final = 4 * MIB
ZSTD_FRAME_BYTES: Final = 4 * MIB


class _TextSink(Protocol):
    def write(self, data: memoryview) -> None: ...

    def finish(self) -> None: ...

    @property
    def bytes_estimate(self) -> int: ...


class CsvEncoder:
    """A ``PartEncoder`` for CSV."""

    def __init__(self, settings: CsvSettings, schema: pa.Schema, sink: ByteSink) -> None:
        self._settings = settings
        self._schema = schema
        self._row_count = 0
        self._is_closed = False
        self._renderers = []
        for field in schema:
            try:
                self._renderers.append(renderer_for(field.type, floats=settings.floats))
            except UnsupportedTypeError as exc:
                raise unsupported_type("csv", field, exc) from exc
        self._special = np.zeros(256, dtype=bool)
        self._special[[ord(character) for character in f'"\r\n{settings.delimiter}']] = True
        self._special_class = "[" + "".join(f"\\x{ord(c):02x}" for c in f'"\r\n{settings.delimiter}') + "]"
        self._out = _text_sink(settings.compression, sink)
        if settings.has_header:
            self._write_header()

    @property
    def row_count(self) -> int:
        return self._row_count

    @property
    def part_bytes_estimate(self) -> int:
        return self._out.bytes_estimate

    @property
    def large_columns(self) -> frozenset[int]:
        return frozenset()

    @property
    def is_full(self) -> bool:
        return False

    def room_for(self, batch: pa.RecordBatch) -> int:
        return batch.num_rows

    def write(self, batch: pa.RecordBatch) -> None:
        if self._is_closed:
            raise ValueError("the encoder is closed")
        for position, field in enumerate(self._schema):
            if not field.nullable and batch.column(position).null_count:
                raise null_in_required_column(field)
        rows_per_slice = SLICE_ROWS
        if batch.num_rows:
            rows_per_slice = max(1, min(SLICE_ROWS, SLICE_BYTES * batch.num_rows // max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, rows_per_slice):
            self._write_slice(batch.slice(start, rows_per_slice))
        self._row_count += batch.num_rows

    def finish(self) -> int:
        if self._is_closed:
            raise ValueError("the encoder is closed")
        self._out.finish()
        self._is_closed = True
        return self._row_count

    def close(self) -> None:
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write_header(self) -> None:
        names = [self._quoted(pa.array([name], TEXT)) for name in self._schema.names]
        self._write_lines(names or [pa.array([""], TEXT)])

    def _write_slice(self, batch: pa.RecordBatch) -> None:
        columns = [
            self._finished(render(column)) for render, column in zip(self._renderers, batch.columns, strict=True)
        ]
        self._write_lines(columns or [pa.array([""] * batch.num_rows, TEXT)])

    def _finished(self, cells: Column) -> Column:
        return pc.fill_null(self._quoted(cells), pa.scalar(self._settings.null_text, TEXT))

    def _quoted(self, cells: Column) -> Column:
        """Quote the cells that need it: special characters inside, or a text that would read as NULL."""
        looks_null = pc.equal(cells, self._settings.null_text)
        if self._settings.null_text:
            looks_null = pc.or_(looks_null, pc.equal(cells, ""))
        if self._settings.quoting is CsvQuoting.ALL:
            rows = cells.is_valid()
        elif self._has_special(cells):
            rows = pc.fill_null(
                pc.or_(pc.match_substring_regex(cells, self._special_class), looks_null), pa.scalar(value=False)
            )
        else:
            rows = pc.fill_null(looks_null, pa.scalar(value=False))
        if not pc.any(rows).as_py():
            return cells
        escaped = pc.replace_substring(cells.filter(rows), '"', '""')
        quote = pa.scalar('"', TEXT)
        quoted = pc.binary_join_element_wise(quote, escaped, quote, pa.scalar("", TEXT))
        return pc.replace_with_mask(cells, rows, quoted)

    def _has_special(self, cells: Column) -> bool:
        """Whether any byte of the column is special: one table look-up a byte, far cheaper than a regular expression."""
        return bool(self._special[np.frombuffer(data_of(cells), dtype=np.uint8)].any())

    def _write_lines(self, columns: list[Column]) -> None:
        columns[-1] = pc.binary_join_element_wise(columns[-1], pa.scalar("\n", TEXT), pa.scalar("", TEXT))
        lines = pc.binary_join_element_wise(*columns, pa.scalar(self._settings.delimiter, TEXT))
        self._out.write(data_of(lines))


def _text_sink(compression: CodecLevel, sink: ByteSink) -> _TextSink:
    if compression.codec is Compression.GZIP:
        return _GzipText(sink, 6 if compression.level is None else compression.level)
    if compression.codec is Compression.ZSTD:
        return _ZstdText(sink, compression.level)
    return _PlainText(sink)


class _PlainText:
    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self.bytes_estimate = 0

    def write(self, data: memoryview) -> None:
        self._sink.write(data)
        self.bytes_estimate += len(data)

    def finish(self) -> None:
        pass


class _GzipText:
    """One gzip member; zlib writes no time and no name into its header, so equal text gives equal bytes."""

    def __init__(self, sink: ByteSink, level: int) -> None:
        self._sink = sink
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, wbits=31)
        self.bytes_estimate = 0

    def write(self, data: memoryview) -> None:
        self._put(self._compressor.compress(data))

    def finish(self) -> None:
        self._put(self._compressor.flush())

    def _put(self, data: bytes) -> None:
        if data:
            self._sink.write(data)
            self.bytes_estimate += len(data)


class _ZstdText:
    """Consecutive zstd frames of ``ZSTD_FRAME_BYTES`` of text each, as RFC 8878 allows.

    pyarrow's streaming compressor takes no level; its one-shot codec does.  Frames are cut by size alone, never where a
    batch happened to end, and at 4 MiB cost nothing in size.
    """

    def __init__(self, sink: ByteSink, level: int | None) -> None:
        self._sink = sink
        self._codec = pa.Codec("zstd", compression_level=level)
        self._pending = bytearray()
        self._stored_bytes = 0

    @property
    def bytes_estimate(self) -> int:
        return self._stored_bytes + len(self._pending) // 4

    def write(self, data: memoryview) -> None:
        self._pending += data
        while len(self._pending) >= ZSTD_FRAME_BYTES:
            self._put_frame(ZSTD_FRAME_BYTES)

    def finish(self) -> None:
        if self._pending or not self._stored_bytes:
            self._put_frame(len(self._pending))

    def _put_frame(self, length: int) -> None:
        frame = self._codec.compress(bytes(self._pending[:length]), asbytes=True)
        del self._pending[:length]
        self._sink.write(frame)
        self._stored_bytes += len(frame)
