"""Rows of SQLite values become Arrow arrays, column by column.

Owns the check of every value against its column.  Must not touch a database: where a refused value stands in the table is
found out by whoever can ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import pyarrow as pa

from procflow_export.model.types import Column, LogicalType, arrow_schema
from procflow_export.sources.arrays import Values
from procflow_export.sources.text_columns import conversion_for, first_failure

Value: TypeAlias = int | float | str | bytes | None

_NONE: Final = type(None)
_STORED_AS: Final[dict[LogicalType, frozenset[type]]] = {
    LogicalType.INTEGER: frozenset({int, _NONE}),
    LogicalType.BOOL: frozenset({int, _NONE}),
    LogicalType.FLOAT: frozenset({float, int, _NONE}),
    LogicalType.DECIMAL: frozenset({int, float, str, _NONE}),
    LogicalType.OTHER: frozenset({int, float, str, _NONE}),
    LogicalType.BYTES: frozenset({bytes, _NONE}),
}
_TEXT_ONLY: Final = frozenset({str, _NONE})
_TRUTH_VALUES: Final = frozenset({0, 1, None})
_MAX_EXACT_FLOAT: Final = 2**53


class RefusedError(Exception):
    """A value does not fit its column."""

    def __init__(self, column: Column, value: Value, reason: str) -> None:
        self.column = column
        self.value = value
        self.reason = reason
        super().__init__(reason)


class RowDecoder:
    """Turns rows into batches; holds no state between them."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)

    def decode(self, rows: Sequence[tuple[Value, ...]]) -> pa.RecordBatch:
        """Return the rows as one batch.

        Raises:
            RefusedError: For the first column with a value that does not fit.
        """
        arrays = [
            decode_column(column, values) for column, values in zip(self._columns, zip(*rows, strict=True), strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def decode_column(column: Column, values: Sequence[Value]) -> Values:
    """Return one column.

    Raises:
        RefusedError: If a value does not fit; it holds the first one.
    """
    allowed = _STORED_AS.get(column.logical_type, _TEXT_ONLY)
    if not set(map(type, values)) <= allowed:
        odd = next(value for value in values if type(value) not in allowed)
        raise RefusedError(column, odd, f"it is stored as {_storage_class(odd)}")
    match column.logical_type:
        case LogicalType.INTEGER | LogicalType.BYTES | LogicalType.TEXT:
            return pa.array(values, column.arrow_type)
        case LogicalType.BOOL:
            if not set(values) <= _TRUTH_VALUES:
                wrong = next(value for value in values if value not in _TRUTH_VALUES)
                raise RefusedError(column, wrong, "a truth value is stored as 0 or 1")
            return pa.array(values, pa.int64()).cast(pa.bool_())
        case LogicalType.FLOAT:
            return _floats(column, values)
        case LogicalType.DECIMAL:
            return _decimals(column, values)
        case LogicalType.OTHER:
            return pa.array([_text(value) for value in values], pa.string())
        case _:
            texts = pa.array(values, pa.string())
            convert = conversion_for(column)
            try:
                return convert(texts)
            except pa.ArrowInvalid as exc:
                raise RefusedError(column, values[first_failure(texts, convert)], str(exc)) from exc


def _floats(column: Column, values: Sequence[Value]) -> Values:
    for value in values:
        if type(value) is int and abs(value) > _MAX_EXACT_FLOAT and int(float(value)) != value:
            raise RefusedError(column, value, "it has more digits than a float holds")
    return pa.array([float(value) if type(value) is int else value for value in values], pa.float64())


def _decimals(column: Column, values: Sequence[Value]) -> Values:
    # A REAL was rounded to binary when it was stored; its shortest decimal form is what SQLite itself shows for it.
    texts = pa.array([_text(value) for value in values], pa.string())

    def convert(array: Values) -> Values:
        return array.cast(column.arrow_type)

    try:
        return convert(texts)
    except pa.ArrowInvalid as exc:
        raise RefusedError(column, values[first_failure(texts, convert)], str(exc)) from exc


def _text(value: Value) -> str | None:
    return value if value is None or type(value) is str else repr(value)


def _storage_class(value: Value) -> str:
    return {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}.get(type(value), "NULL")
