"""Blocks of text-protocol rows become Arrow batches, column by column.

Owns finding every field of every row, and the conversions that are particular to MySQL.  Must not know a connection.

A row is a sequence of length-prefixed texts.  Column after column, the prefixes of all rows are gathered at once, which
gives the place of the column's texts and of the next prefixes; after the last column every row must end where its packet
ends, which proves the whole block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.types import Column, LogicalType, arrow_schema
from procflow_export.sources.arrays import Values, buffer_of
from procflow_export.sources.arrays import kernels as pc
from procflow_export.sources.columns.conversions import text_fitting
from procflow_export.sources.columns.policies import MisfitError, fitted
from procflow_export.sources.columns.texts import decoded_texts
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.mysql.binary import TextRows
from procflow_export.sources.mysql.packets import FramingError, split_rows
from procflow_export.sources.text_columns import conversion_for, validity_bitmap

Positions: TypeAlias = npt.NDArray[np.int64]

NULL_MARK: Final = 251
_LONG_LENGTHS: Final = ((252, 2), (253, 3), (254, 8))
_BITS_BYTES: Final = 8
_RAW: Final = frozenset({LogicalType.BYTES, LogicalType.GEOMETRY})


class PacketDecoder:
    """Decodes the blocks of one result, in order."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        key: str | None = None,
        wanted: Sequence[Column] | None = None,
        binary: TextRows | None = None,
    ) -> None:
        """Prepare for the columns of a result.

        Args:
            columns: In the order of the SELECT list.
            key: A column whose value names a row in errors.
            wanted: Those of ``columns`` that batches have, in their order; all by default.
            binary: What makes text rows of the blocks, where they are binary.
        """
        self._columns = tuple(columns)
        places = {column.name: at for at, column in enumerate(self._columns)}
        self._wanted = tuple(places[column.name] for column in (columns if wanted is None else wanted))
        self._schema = arrow_schema(self._columns[at] for at in self._wanted)
        self._binary = binary
        self._key = next((at for at, column in enumerate(self._columns) if column.name == key), None)
        self._row_count = 0
        self.changed_values: Counter[str] = Counter()

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of ``data``: the scanner lets only whole rows through."""
        return len(data)

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block."""
        try:
            rows = block if self._binary is None else self._binary.translate(block)
            fields = split_fields(rows, len(self._columns))
        except FramingError as exc:
            raise SourceError(Code.SOURCE_FAILED, f"the server's rows cannot be read: {exc}") from exc
        arrays = [self._convert(self._columns[at], fields[at], fields) for at in self._wanted]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._row_count += batch.num_rows
        return batch

    def _convert(self, column: Column, values: Values, fields: Sequence[Values]) -> Values:
        if column.logical_type in _RAW:
            return values
        try:
            converted, changed_count = _fitted(column, values)
        except MisfitError as exc:
            shown = values[exc.row].as_py().decode(errors="backslashreplace")
            raise ValueRefusedError(column, value=shown, place=self._place(exc.row, fields), reason=exc.reason) from exc
        if changed_count:
            self.changed_values[column.name] += changed_count
        return converted

    def _place(self, row: int, fields: Sequence[Values]) -> str:
        if self._key is None:
            return f"row {self._row_count + row + 1} of the chunk"
        key = fields[self._key][row].as_py()
        shown = "NULL" if key is None else key.decode(errors="replace")
        return f"{self._columns[self._key].name} = {shown}"


def split_fields(block: bytes, column_count: int) -> list[Values]:
    """Return one binary array for each column of a block of rows.

    Raises:
        FramingError: If a row's fields do not fill its packet exactly.
    """
    data, start_list, end_list = split_rows(block)
    if len(data) > np.iinfo(np.int32).max:
        raise FramingError("a row is longer than 2 GiB")
    payload = np.frombuffer(data, np.uint8)
    position = np.array(start_list, np.int64)
    ends = np.array(end_list, np.int64)
    buffer = pa.py_buffer(data)
    columns = []
    try:
        for _ in range(column_count):
            is_null, start, position = _next_field(payload, position)
            if (position > ends).any():
                raise FramingError("a field goes beyond its row")
            columns.append(_binary_array(buffer, start, position, is_null))
    except IndexError as exc:
        raise FramingError("a row ends before its last field") from exc
    if not (position == ends).all():
        raise FramingError("a row goes on after its last field")
    return columns


def _next_field(
    payload: npt.NDArray[np.uint8], position: Positions
) -> tuple[npt.NDArray[np.bool_] | None, Positions, Positions]:
    """Return which rows are NULL, where the texts begin, and where they end, for the fields whose prefix is at ``position``."""
    prefix = payload[position]
    start = position + 1
    length = prefix.astype(np.int64)
    is_null = None
    if len(prefix) and int(prefix.max()) >= NULL_MARK:
        mask = prefix == NULL_MARK
        if mask.any():
            is_null = mask
            length[mask] = 0
        for mark, size in _LONG_LENGTHS:
            rows = np.flatnonzero(prefix == mark)
            if len(rows):
                at = start[rows]
                value = np.zeros(len(rows), np.int64)
                for byte in range(size):
                    value |= payload[at + byte].astype(np.int64) << (8 * byte)
                if (value < 0).any():
                    raise FramingError("a field has an impossible length")
                length[rows] = value
                start[rows] += size
    return is_null, start, start + length


def _binary_array(buffer: pa.Buffer, start: Positions, end: Positions, is_null: npt.NDArray[np.bool_] | None) -> Values:
    """Return the texts as an array of their own: one copy inside Arrow, no object for a cell."""
    count = len(start)
    # Every second entry of an array over the whole buffer is a field; the entries between are what lies between fields.
    offsets = np.empty(2 * count, np.int32)
    offsets[0::2] = start
    offsets[1::2] = end
    if not count:
        return pa.array([], pa.binary())
    all_entries = pa.Array.from_buffers(pa.binary(), 2 * count - 1, [None, buffer_of(offsets), buffer])
    fields = pc.take(all_entries, pa.array(np.arange(0, 2 * count, 2, dtype=np.int64)))
    validity = None if is_null is None else buffer_of(np.packbits(~is_null, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(), count, [validity, *fields.buffers()[1:]])


def _fitted(column: Column, values: Values) -> tuple[Values, int]:
    """Return a column in its type, and how many values were changed."""
    if column.logical_type in {LogicalType.BITS, LogicalType.BOOL}:
        bits = _to_uint64(values)
        return bits if column.logical_type is LogicalType.BITS else pc.not_equal(bits, 0), 0
    texts, recoded_count = decoded_texts(values, column.on_invalid)
    convert = conversion_for(column, {LogicalType.INSTANT: _to_instant})
    converted, changed_count = fitted(texts, text_fitting(column, convert), column.on_invalid)
    return converted, recoded_count + changed_count


def _to_uint64(values: Values) -> Values:
    """Convert the big-endian bytes of BIT(n), which are as many in every row."""
    widths = pc.unique(pc.drop_null(pc.binary_length(values))).to_pylist()
    if len(widths) > 1 or any(not 0 < width <= _BITS_BYTES for width in widths):
        raise pa.ArrowInvalid("not the bytes of a BIT column")
    width = widths[0] if widths else 1
    filled = pc.fill_null(values, b"\0" * width)
    raw = np.frombuffer(filled.buffers()[2] or b"", np.uint8)
    start = int(np.frombuffer(filled.buffers()[1], np.int32)[filled.offset]) if len(filled) else 0
    padded = np.zeros((len(values), _BITS_BYTES), np.uint8)
    padded[:, _BITS_BYTES - width :] = raw[start : start + len(values) * width].reshape(len(values), width)
    numbers = padded.view(">u8").astype("<u8").ravel()
    return pa.Array.from_buffers(pa.uint64(), len(values), [validity_bitmap(values), buffer_of(numbers)])


def _to_instant(texts: Values) -> Values:
    """Convert the text of TIMESTAMP: the session's zone is UTC, so it has none."""
    return texts.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.timestamp("us", "UTC"))
