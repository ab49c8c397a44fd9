"""Blocks of binary ``COPY`` become Arrow batches, column by column.

Owns which reader a column has, and what is said of a value that does not fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import pyarrow as pa

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.types import Column, arrow_schema
from procflow_export.sources.arrays import Values
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.postgres.decoding import fixed, lists, texts
from procflow_export.sources.postgres.decoding.binary_cells import text_of
from procflow_export.sources.postgres.decoding.decimals import DecimalReader
from procflow_export.sources.postgres.decoding.fields import Block, Field, FramingError
from procflow_export.sources.postgres.decoding.framing import Framer, header_length
from procflow_export.sources.postgres.decoding.layout import MARK, layout_of
from procflow_export.sources.postgres.decoding.misfits import MisfitError, Misfits

Reader: TypeAlias = Callable[[Field], Values]


class BinaryDecoder:
    """Decodes the blocks of one result, in order."""

    def __init__(self, columns: Sequence[Column], *, key: str | None = None) -> None:
        """Prepare for the columns of a result.

        Args:
            columns: In the order that batches have.
            key: A column whose value names a row in errors.
        """
        layout = layout_of(columns)
        self._columns = layout.columns
        self._schema = arrow_schema(self._columns)
        self._places = [layout.place(index) for index in range(len(self._columns))]
        self._framer = Framer(layout.peeks(), layout.certain_widths, MARK if layout.has_mark else b"")
        self._misfits = [Misfits(column.on_invalid) for column in self._columns]
        self._readers = [
            reader_for(column.arrow_type, column.native_type, misfits)
            for column, misfits in zip(self._columns, self._misfits, strict=True)
        ]
        self._key = next((index for index, column in enumerate(self._columns) if column.name == key), None)
        self._is_begun = False
        self._row_count = 0
        self.changed_values: Counter[str] = Counter()

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of ``data``: the server sends each row as one message, and the driver whole messages."""
        return len(data)

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block."""
        try:
            begin = 0 if self._is_begun else header_length(block)
            self._is_begun = True
            fields = self._framer.fields(Block(block), begin)
            if fields is None:
                return pa.RecordBatch.from_pylist([], self._schema)
            arrays = [self._read(index, fields) for index in range(len(self._columns))]
        except FramingError as exc:
            raise SourceError(Code.SOURCE_FAILED, f"the server's rows cannot be read: {exc}") from exc
        self._row_count += len(fields[0])
        for column, misfits in zip(self._columns, self._misfits, strict=True):
            if misfits.changed_count:
                self.changed_values[column.name] = misfits.changed_count
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _read(self, index: int, fields: Sequence[Field]) -> Values:
        try:
            return self._readers[index](fields[self._places[index]])
        except MisfitError as exc:
            raise ValueRefusedError(
                self._columns[index],
                value=self._text(index, exc.index, fields),
                place=self._place(exc.index, fields),
                reason=exc.reason,
            ) from exc

    def _place(self, row: int, fields: Sequence[Field]) -> str:
        if self._key is None:
            return f"row {self._row_count + row + 1} of the chunk"
        return f"{self._columns[self._key].name} = {self._text(self._key, row, fields)}"

    def _text(self, index: int, row: int, fields: Sequence[Field]) -> str:
        column, raw = self._columns[index], fields[self._places[index]].raw(row)
        return "NULL" if raw is None else text_of(column.arrow_type, column.native_type, raw)


def reader_for(arrow_type: pa.DataType, native_type: str, misfits: Misfits) -> Reader:
    """Return what reads the values of a type."""
    types = pa.types
    if types.is_boolean(arrow_type):
        return fixed.read_bools
    if types.is_integer(arrow_type) or types.is_floating(arrow_type):
        return partial(fixed.read_numbers, arrow_type=arrow_type)
    if types.is_date(arrow_type):
        return partial(fixed.read_dates, misfits=misfits)
    if types.is_time(arrow_type):
        return partial(fixed.read_times, misfits=misfits)
    if types.is_timestamp(arrow_type):
        return partial(fixed.read_timestamps, arrow_type=arrow_type, misfits=misfits)
    if types.is_decimal(arrow_type):
        return DecimalReader(arrow_type, misfits).read
    if types.is_binary(arrow_type):
        return texts.read_bytes
    if types.is_dictionary(arrow_type):
        return partial(texts.read_enums, arrow_type=arrow_type, misfits=misfits)
    if types.is_list(arrow_type):
        elements = reader_for(arrow_type.value_type, native_type.removesuffix("[]"), misfits)
        return partial(lists.read_lists, arrow_type=arrow_type, read_elements=elements, misfits=misfits)
    if isinstance(arrow_type, pa.UuidType):
        return fixed.read_uuids
    if isinstance(arrow_type, pa.JsonType):
        return partial(texts.read_jsonb if native_type == "jsonb" else texts.read_json, misfits=misfits)
    if types.is_string(arrow_type):
        return partial(texts.read_texts, misfits=misfits)
    raise TypeError(f"{arrow_type} has no binary form")
