"""Blocks of rows become Arrow batches, column by column.

Owns the order of the work and what becomes of values that do not fit their column.  Must not know a connection.
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
from procflow_export.model.types import Column, OnInvalid, arrow_schema
from procflow_export.sources.arrays import Values
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.mysql.decoding.fields import Field, Mask, binary_fields, text_fields
from procflow_export.sources.mysql.decoding.packets import FramingError, RowIndex, Rows, rows_of
from procflow_export.sources.mysql.decoding.values import binary_width, reader_for, shown
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
        key: str | None = None,
        wanted: Sequence[Column] | None = None,
    ) -> None:
        """Prepare for the columns of a result.

        Args:
            columns: In the order of the SELECT list.
            fields: What the server sends for each of them.
            is_binary: Whether the rows are those of a prepared statement.
            index: Where the rows of the blocks begin, if that is known.
            key: A column whose value names a row in errors.
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
        self._key = None if key is None else places.get(key)
        self._row_count = 0
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
        self._row_count += len(rows.starts)
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _read(self, at: int, fields: Sequence[Field]) -> Values:
        column = self._columns[at]

        def refuse(wrong: Mask, text: Callable[[int], str], reason: str = "") -> None:
            # No value that the servers send has a nearest one that fits: a date that never was has none, nor has a broken text.
            if column.on_invalid not in {OnInvalid.NULL, OnInvalid.TEXT}:
                row = int(wrong.argmax())
                raise ValueRefusedError(column, value=text(row), place=self._place(row, fields), reason=reason)
            self.changed_values[column.name] += int(wrong.sum())

        return self._readers[at](fields[at], refuse)

    def _place(self, row: int, fields: Sequence[Field]) -> str:
        if self._key is None:
            return f"row {self._row_count + row + 1} of the chunk"
        keys = self._readers[self._key](fields[self._key], _ignore)
        return f"{self._columns[self._key].name} = {shown(keys, row)}"


def _ignore(wrong: Mask, text: Callable[[int], str], reason: str = "") -> None:
    """Let values that do not fit become NULL: they only name a row."""
