"""Blocks of rows become Arrow batches, column by column.

Owns the order of the work, and naming a value that does not fit its column.  Must not know a connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.row_names import RowNames
from procflow_export.model.types import Column, arrow_schema
from procflow_export.sources.arrays import MisfitError, Values
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.mysql.decoding.fields import Field, binary_fields, text_fields
from procflow_export.sources.mysql.decoding.packets import FramingError, RowIndex, Rows, rows_of
from procflow_export.sources.mysql.decoding.values import binary_width, reader_for
from procflow_export.sources.mysql.types import WireField

_MAX_BLOCK_BYTES: Final = np.iinfo(np.int32).max


class PacketDecoder:
    """Decodes the blocks of one result, in order."""

    def __init__(
        self,
        columns: Sequence[Column],
        fields: Sequence[WireField],
        *,
        is_binary: bool,
        index: RowIndex | None = None,
        key: tuple[str, ...] = (),
        wanted: Sequence[Column] | None = None,
    ) -> None:
        """Prepare for the columns of a result.

        Args:
            columns: In the order of the SELECT list.
            fields: What the server sends for each of them.
            is_binary: Whether the rows are those of a prepared statement.
            index: Where the rows of the blocks begin, if that is known.
            key: Columns whose values name a row in errors.
            wanted: Those of ``columns`` that batches have, in their order; all by default.
        """
        self._columns = tuple(columns)
        places = {column.name: at for at, column in enumerate(self._columns)}
        self._wanted = tuple(places[column.name] for column in (columns if wanted is None else wanted))
        self._schema = arrow_schema(self._columns[at] for at in self._wanted)
        self._readers = tuple(
            reader_for(column, field, is_binary=is_binary) for column, field in zip(columns, fields, strict=True)
        )
        widths = tuple(binary_width(field) for field in fields)
        self._fields: Callable[[Rows], list[Field]] = (
            partial(binary_fields, widths=widths) if is_binary else partial(text_fields, count=len(fields))
        )
        self._index = index
        self._row_names = RowNames(tuple(places), key)
        self.changed_values: Counter[str] = Counter()

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of ``data``: only whole rows come here."""
        return len(data)

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block."""
        try:
            if len(block) > _MAX_BLOCK_BYTES:
                raise FramingError("a row is longer than 2 GiB")
            rows = rows_of(block, None if self._index is None else self._index.take(len(block)))
            if not len(rows.starts):
                return self._schema.empty_table().to_batches()[0]
            fields = self._fields(rows)
            arrays = [self._read(at, fields) for at in self._wanted]
        except FramingError as exc:
            raise SourceError(Code.SOURCE_FAILED, f"the server's rows cannot be read: {exc}") from exc
        self._row_names.row_count += len(rows.starts)
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _read(self, at: int, fields: Sequence[Field]) -> Values:
        column, reader, field = self._columns[at], self._readers[at], fields[at]
        try:
            values, changed_count = reader.read(field)
        except MisfitError as exc:
            value, place = reader.text(field, exc.index), self._place(exc.index, fields)
            raise ValueRefusedError(column, value=value, place=place, reason=exc.reason) from exc
        if changed_count:
            self.changed_values[column.name] += changed_count
        return values

    def _place(self, row: int, fields: Sequence[Field]) -> str:
        def text(at: int) -> str | None:
            field = fields[at]
            is_null = field.is_null is not None and field.is_null[row]
            return None if is_null else self._readers[at].text(field, row)

        return self._row_names.of(row, text)
