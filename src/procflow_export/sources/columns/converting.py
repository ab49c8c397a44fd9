"""A decoder whose columns have the types that the user chose.

Owns the second half of the way: what a decoder of the wire made of a block is converted, column by column, in the same worker
thread.  Must not know a wire format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from procflow_export.model.types import Column, arrow_schema
from procflow_export.sources.arrays import MisfitError
from procflow_export.sources.blocks import BlockDecoder
from procflow_export.sources.columns.conversions import chosen_values
from procflow_export.sources.failures import ValueRefusedError


def converting(decoder: BlockDecoder, columns: Sequence[Column], *, key: str | None = None) -> BlockDecoder:
    """Return a decoder of ``columns`` on top of one of ``[column.carried() for column in columns]``.

    Args:
        decoder: What decodes the columns in the form in which they travel.
        columns: In the order of that decoder.
        key: A column whose value names a row in errors.
    """
    if all(column.carrier is None for column in columns):
        return decoder
    return _ConvertingDecoder(decoder, columns, key)


class _ConvertingDecoder:
    def __init__(self, decoder: BlockDecoder, columns: Sequence[Column], key: str | None) -> None:
        self._decoder = decoder
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)
        self._conversions = [None if column.carrier is None else chosen_values(column) for column in columns]
        self._key = next((at for at, column in enumerate(self._columns) if column.name == key), None)
        self._row_count = 0
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
        self._row_count += carried.num_rows
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _place(self, row: int, batch: pa.RecordBatch) -> str:
        if self._key is None:
            return f"row {self._row_count + row + 1} of the chunk"
        key = batch.column(self._key)[row].as_py()
        return f"{self._columns[self._key].name} = {'NULL' if key is None else key}"


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
