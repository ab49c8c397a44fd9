"""The decoders that say what is right: row by row and cell by cell, without NumPy.

Owns the walk through a block of either format.  Slow and obvious: the fast decoders are compared with these, and the one for
text leaves to them the blocks that it cannot read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol, TypeAlias

import pyarrow as pa

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.row_names import RowNames
from procflow_export.model.types import Column, OnInvalid, arrow_schema
from procflow_export.sources.arrays import Values
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.postgres.decoding import binary_cells, text_cells
from procflow_export.sources.postgres.decoding.cells import CellMisfitError, Settle
from procflow_export.sources.postgres.decoding.fields import FramingError
from procflow_export.sources.postgres.decoding.framing import TRAILER, is_trailer, skip_header, walk_row
from procflow_export.sources.postgres.decoding.layout import layout_of

Row: TypeAlias = Sequence[bytes | None]


class Form(Protocol):
    """What differs between the formats."""

    def results(self, block: bytes) -> list[list[Row]]:
        """Return the fields of each row, in the order of the columns, None for NULL; one list for each statement's share."""
        ...

    def value(self, column: Column, raw: bytes | None, settle: Settle) -> object:
        """Return a value in the form in which ``pa.array`` takes it."""
        ...

    def text(self, column: Column, raw: bytes) -> str:
        """Return a value as people write it."""
        ...


class BinaryForm:
    """Binary ``COPY``."""

    def __init__(self, columns: Sequence[Column]) -> None:
        layout = layout_of(columns)
        self._field_count = len(layout.peeks())
        self._places = [layout.place(index) for index in range(len(columns))]
        self._is_between = True

    def results(self, block: bytes) -> list[list[Row]]:
        """Return the fields of each row, for every statement that has a share of the block."""
        position = 0
        rows: list[Row] = []
        results = [rows]
        while position < len(block):
            if self._is_between:
                position = skip_header(block, position)
                self._is_between = False
                continue
            if is_trailer(block, position):
                position += len(TRAILER)
                self._is_between = True
                rows = []
                results.append(rows)
                continue
            lengths, end = walk_row(block, position, self._field_count)
            fields: list[bytes | None] = []
            position += 2
            for length in lengths:
                position += 4
                fields.append(None if length < 0 else block[position : position + length])
                position += max(length, 0)
            if position != end:
                raise FramingError("the fields of a row do not fill it")
            rows.append([fields[place] for place in self._places])
        return results

    def value(self, column: Column, raw: bytes | None, settle: Settle) -> object:
        """Return a value in the form in which ``pa.array`` takes it."""
        return binary_cells.value_of(column.arrow_type, column.native_type, raw, settle)

    def text(self, column: Column, raw: bytes) -> str:
        """Return a value as people write it."""
        return binary_cells.text_of(column.arrow_type, column.native_type, raw)


class TextForm:
    """Text ``COPY``."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._field_count = len(columns)

    def results(self, block: bytes) -> list[list[Row]]:
        """Return the fields of each row; where a statement ends, nobody sees."""
        lines = block.split(b"\n")
        if lines.pop():
            raise FramingError("a row has no end")
        rows = [[text_cells.unescaped(field) for field in line.split(b"\t")] for line in lines]
        if any(len(row) != self._field_count for row in rows):
            raise FramingError(f"a row has another number of fields than {self._field_count}")
        return [list(rows)]

    def value(self, column: Column, raw: bytes | None, settle: Settle) -> object:
        """Return a value in the form in which ``pa.array`` takes it."""
        return text_cells.value_of(column.arrow_type, raw, settle)

    def text(self, column: Column, raw: bytes) -> str:  # noqa: ARG002 (a text needs no column)
        """Return a value as people write it; nothing if it is no text."""
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return ""


class ReferenceDecoder:
    """Decodes the blocks of one result, in order.

    Attributes:
        row_names: Names its rows; knows how many came before the next block.
        changed_values: How many values a column's ``on_invalid`` changed so far, by column name.
    """

    def __init__(self, columns: Sequence[Column], form: Form, *, key: tuple[str, ...] = ()) -> None:
        """Prepare for the columns of a result.

        Args:
            columns: In the order that batches have.
            form: Which format it is.
            key: Columns whose values name a row in errors.
        """
        self._columns = tuple(columns)
        self._form = form
        self.row_names = RowNames([column.name for column in columns], key)
        self.changed_values: Counter[str] = Counter()

    def cut(self, data: bytes | bytearray) -> int:
        """Return the length of ``data``, which holds whole rows only."""
        return len(data)

    def decode(self, block: bytes) -> pa.RecordBatch:
        """Return the rows of a block."""
        try:
            # One statement after the other: the first value that does not fit is that of the first of them.
            batches = [self._batch(rows) for rows in self._form.results(block)]
        except (FramingError, ValueError, KeyError) as exc:
            raise SourceError(Code.SOURCE_FAILED, f"the server's rows cannot be read: {exc}") from exc
        return batches[0] if len(batches) == 1 else pa.concat_batches(batches)  # type: ignore[attr-defined]  # newer than the stubs

    def _batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        arrays = [self._array(index, rows) for index in range(len(self._columns))]
        self.row_names.row_count += len(rows)
        return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(self._columns))

    def _array(self, index: int, rows: Sequence[Row]) -> Values:
        column = self._columns[index]
        values = [
            self._form.value(column, row[index], partial(self._settle, index, number, row))
            for number, row in enumerate(rows)
        ]
        return array_of(column.arrow_type, values)

    def _settle(self, index: int, number: int, row: Row, misfit: CellMisfitError) -> object:
        column = self._columns[index]
        if column.on_invalid is OnInvalid.NULL or (column.on_invalid is OnInvalid.CLAMP and misfit.nearest is not None):
            self.changed_values[column.name] += 1
            return None if column.on_invalid is OnInvalid.NULL else misfit.nearest
        raw = row[index]
        if column.on_invalid is OnInvalid.TEXT and pa.types.is_string(column.arrow_type) and raw is not None:
            self.changed_values[column.name] += 1
            return raw.decode(errors="backslashreplace")
        place = self.row_names.of(number, lambda at: self._text(at, row))
        raise ValueRefusedError(
            column, value=self._text(index, row) or "NULL", place=place, reason=misfit.reason
        ) from misfit

    def _text(self, index: int, row: Row) -> str | None:
        raw = row[index]
        return None if raw is None else self._form.text(self._columns[index], raw)


def array_of(arrow_type: pa.DataType, values: Sequence[object]) -> Values:
    """Return an Arrow array of values as ``pa.array`` takes them; lists may be of any type."""
    if not pa.types.is_list(arrow_type):
        return pa.array(values, arrow_type)
    lists = [value if isinstance(value, list) else None for value in values]
    elements = [element for value in lists for element in value or ()]
    offsets = [0]
    for value in lists:
        offsets.append(offsets[-1] + len(value or ()))
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        array_of(arrow_type.value_type, elements),
        type=arrow_type,
        mask=pa.array([value is None for value in lists], pa.bool_()),
    )
