"""A decoder whose columns have the types that the user chose.

Owns the second half of the way: what a decoder of the wire made of a block is converted, column by column, in the same worker
thread.  Must not know a wire format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from procflow_export.model.row_names import RowNames
from procflow_export.model.types import Column, arrow_schema
from procflow_export.sources.arrays import MisfitError
from procflow_export.sources.blocks import BlockDecoder
from procflow_export.sources.columns.conversions import chosen_values
from procflow_export.sources.failures import ValueRefusedError


def converting(decoder: BlockDecoder, columns: Sequence[Column], *, key: tuple[str, ...] = ()) -> BlockDecoder:
    """Return a decoder of ``columns`` on top of one of ``[column.carried() for column in columns]``.

    Args:
        decoder: What decodes the columns in the form in which they travel.
        columns: In the order of that decoder.
        key: Columns whose values name a row in errors.
    """
    if all(column.carrier is None for column in columns):
        return decoder
    return _ConvertingDecoder(decoder, columns, key)


class _ConvertingDecoder:
    def __init__(self, decoder: BlockDecoder, columns: Sequence[Column], key: tuple[str, ...]) -> None:
        self._decoder = decoder
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)
        self._conversions = [None if column.carrier is None else chosen_values(column) for column in columns]
        self._row_names = RowNames([column.name for column in columns], key)
        # One counter for both: what a wire decoder changes is counted beside what is changed here.
        self.changed_values: Counter[str] = decoder.changed_values

    def cut(self, data: bytes | bytearray) -> int:
        return self._decoder.cut(data)

    def decode(self, block: bytes) -> pa.RecordBatch:
        carried = self._decoder.decode(block)
        arrays = []
        for column, convert, values in zip(self._columns, self._conversions, carried.columns, strict=True):
            if convert is None:
                arrays.append(values)
                continue
            try:
                converted, changed_count = convert(values)
            except MisfitError as exc:
                shown = values[exc.index].as_py()
                raise ValueRefusedError(
                    column, value=_shown(shown), place=self._place(exc.index, carried), reason=exc.reason
                ) from exc
            if changed_count:
                self.changed_values[column.name] += changed_count
            arrays.append(converted)
        self._row_names.row_count += carried.num_rows
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _place(self, row: int, batch: pa.RecordBatch) -> str:
        def text(at: int) -> str | None:
            value = batch.column(at)[row].as_py()
            return None if value is None else _shown(value)

        return self._row_names.of(row, text)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
