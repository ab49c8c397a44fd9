"""Blocks of binary ``COPY`` become Arrow batches, column by column.

Owns which reader a column has, and what is said of a value that does not fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import pyarrow as pa

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.row_names import RowNames
from procflow_export.model.types import Column, arrow_schema
from procflow_export.sources.arrays import MisfitError, Values
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.postgres.decoding import fixed, lists, texts
from procflow_export.sources.postgres.decoding.binary_cells import text_of
from procflow_export.sources.postgres.decoding.cells import DecimalType
from procflow_export.sources.postgres.decoding.decimals import DecimalReader
from procflow_export.sources.postgres.decoding.fields import Block, Field, FramingError
from procflow_export.sources.postgres.decoding.framing import TRAILER, Framer, skip_header
from procflow_export.sources.postgres.decoding.layout import MARK, layout_of
from procflow_export.sources.postgres.decoding.misfits import Misfits

Reader: TypeAlias = Callable[[Field], Values]
FallibleReader: TypeAlias = Callable[[Field, Misfits], Values]

_NUMBERS: Final = frozenset({pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64()})
_PLAIN: Final[dict[pa.DataType, Reader]] = {
    pa.bool_(): fixed.read_bools,
    pa.uuid(): fixed.read_uuids,
    pa.binary(): texts.read_bytes,
}
_FALLIBLE: Final[dict[pa.DataType, FallibleReader]] = {
    pa.date32(): fixed.read_dates,
    pa.time64("us"): fixed.read_times,
    pa.timestamp("us"): fixed.read_timestamps,
    pa.timestamp("us", "UTC"): fixed.read_instants,
    pa.string(): texts.read_texts,
}


class BinaryDecoder:
    """Decodes the blocks of one result, in order."""

    def __init__(self, columns: Sequence[Column], *, key: tuple[str, ...] = ()) -> None:
        """Prepare for the columns of a result.

        Args:
            columns: In the order that batches have.
            key: Columns whose values name a row in errors.
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
        self._row_names = RowNames([column.name for column in self._columns], key)
        # Whether a statement's header comes next.
        self._is_between = True
        self.changed_values: Counter[str] = Counter()

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of ``data``: the server sends each row as one message, and the driver whole messages."""
        return len(data)

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block, which may be of several statements one after another."""
        batches: list[pa.RecordBatch] = []
        position = 0
        try:
            while position < len(block) or not batches:
                if self._is_between:
                    position = skip_header(block, position)
                    self._is_between = False
                fields, position = self._framer.fields(Block(block), position)
                batches.append(self._batch(fields))
                if position < len(block):
                    position += len(TRAILER)
                    self._is_between = True
        except FramingError as exc:
            raise SourceError(Code.SOURCE_FAILED, f"the server's rows cannot be read: {exc}") from exc
        return batches[0] if len(batches) == 1 else pa.concat_batches(batches)  # type: ignore[attr-defined]  # newer than the stubs

    def _batch(self, fields: Sequence[Field]) -> pa.RecordBatch:
        arrays = [self._read(index, fields) for index in range(len(self._columns))]
        self._row_names.row_count += len(fields[0])
        for column, misfits in zip(self._columns, self._misfits, strict=True):
            if misfits.changed_count:
                self.changed_values[column.name] = misfits.changed_count
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _read(self, index: int, fields: Sequence[Field]) -> Values:
        try:
            return self._readers[index](fields[self._places[index]])
        except MisfitError as exc:
            row = exc.index
            raise ValueRefusedError(
                self._columns[index],
                value=self._text(index, row, fields) or "NULL",
                place=self._row_names.of(row, lambda at: self._text(at, row, fields)),
                reason=exc.reason,
            ) from exc

    def _text(self, index: int, row: int, fields: Sequence[Field]) -> str | None:
        column, raw = self._columns[index], fields[self._places[index]].raw(row)
        return None if raw is None else text_of(column.arrow_type, column.native_type, raw)


def reader_for(arrow_type: pa.DataType, native_type: str, misfits: Misfits) -> Reader:
    """Return what reads the values of a type."""
    if isinstance(arrow_type, DecimalType):
        return DecimalReader(arrow_type, misfits).read
    if isinstance(arrow_type, pa.ListType):
        elements = reader_for(arrow_type.value_type, native_type.removesuffix("[]"), misfits)
        return partial(lists.read_lists, arrow_type=arrow_type, read_elements=elements, misfits=misfits)
    if isinstance(arrow_type, pa.DictionaryType):
        return partial(texts.read_enums, arrow_type=arrow_type, misfits=misfits)
    if isinstance(arrow_type, pa.JsonType):
        return partial(texts.read_jsonb if native_type == "jsonb" else texts.read_json, misfits=misfits)
    if arrow_type in _NUMBERS:
        return partial(fixed.read_numbers, arrow_type=arrow_type)
    if arrow_type in _PLAIN:
        return _PLAIN[arrow_type]
    read = _FALLIBLE[arrow_type]
    return lambda field: read(field, misfits)
