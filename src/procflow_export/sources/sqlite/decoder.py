"""Rows of SQLite values become Arrow arrays, column by column.

Owns the check of every value against its column, and what the column's policy makes of one that does not fit.  Must not touch
a database: where a refused value stands in the table is found out by whoever can ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, TypeAlias

import pyarrow as pa

from procflow_export.model.choices import OnInvalid
from procflow_export.model.types import Column, LogicalType, arrow_schema
from procflow_export.sources.arrays import DoesNotFitError, Values
from procflow_export.sources.arrays import kernels as pc
from procflow_export.sources.columns.conversions import fitting_of, text_conversion, text_fitting
from procflow_export.sources.columns.policies import checked_nulls
from procflow_export.sources.text_columns import Conversion, conversion_for, first_failure

Value: TypeAlias = int | float | str | bytes | None

_NONE: Final = type(None)
_STORED_AS: Final[dict[LogicalType, frozenset[type]]] = {
    LogicalType.INTEGER: frozenset({int, _NONE}),
    LogicalType.BOOL: frozenset({int, _NONE}),
    LogicalType.FLOAT: frozenset({float, int, _NONE}),
    LogicalType.DECIMAL: frozenset({int, float, str, _NONE}),
    LogicalType.OTHER: frozenset({int, float, str, _NONE}),
    # A document that is a number is stored as one: the declared type has numeric affinity.
    LogicalType.JSON: frozenset({int, float, str, _NONE}),
    LogicalType.BYTES: frozenset({bytes, _NONE}),
}
_TEXT_ONLY: Final[frozenset[type]] = frozenset({str, _NONE})
_SPELLED: Final[frozenset[type]] = frozenset({bytes, str, _NONE})
_TRUTH_VALUES: Final = frozenset({0, 1, None})
_MAX_EXACT_FLOAT: Final = 2**53


class UndecodedText(bytes):
    """A stored text that is not UTF-8."""


def decode_text(data: bytes) -> str | UndecodedText:
    """Return the text that its bytes spell; a ``text_factory`` where texts that spell none do not end the export."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return UndecodedText(data)


class RefusedError(Exception):
    """A value does not fit its column."""

    def __init__(self, column: Column, value: Value, reason: str) -> None:
        self.column = column
        self.value = value
        self.reason = reason
        super().__init__(reason)


class RowDecoder:
    """Turns rows into batches.

    Attributes:
        changed_values: How many values a column's ``on_invalid`` changed so far, by column name.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)
        self.changed_values: Counter[str] = Counter()

    def decode(self, rows: Sequence[tuple[Value, ...]]) -> pa.RecordBatch:
        """Return the rows as one batch.

        Raises:
            RefusedError: For the first column with a value that does not fit and must not be changed, or cannot be.
        """
        arrays = []
        for column, values in zip(self._columns, zip(*rows, strict=True), strict=True):
            array, changed_count = fitted_column(column, values)
            if changed_count:
                self.changed_values[column.name] += changed_count
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def fitted_column(column: Column, values: Sequence[Value]) -> tuple[Values, int]:
    """Return one column by its policy, and how many of its values were changed.

    Raises:
        RefusedError: If a value does not fit and must not be changed, or cannot be; it holds the first one.
    """
    try:
        return decode_column(column, values), 0
    except RefusedError:
        if column.on_invalid is OnInvalid.ERROR:
            raise
    # 1 and 1.0 are one key of a mapping, but not one value here.
    kinds = [(type(value), value) for value in values]
    found = {kind: _substitute(column, kind[1]) for kind in dict.fromkeys(kinds)}
    substitutes = {kind: substitute for kind, substitute in found.items() if substitute is not None}
    kept = decode_column(column, [None if kind in substitutes else kind[1] for kind in kinds])
    is_changed = [kind in substitutes for kind in kinds]
    if column.on_invalid is OnInvalid.NULL:
        return kept, sum(is_changed)
    ordered = pa.concat_arrays(list(substitutes.values()))
    places = {kind: place for place, kind in enumerate(substitutes)}
    fill = ordered.take(pa.array([places.get(kind) for kind in kinds], pa.int32()))
    return pc.if_else(pa.array(is_changed, pa.bool_()), fill, kept), sum(is_changed)


def _substitute(column: Column, value: Value) -> Values | None:
    """Return what a value becomes, as an array of one; ``None`` if the column can hold it as it is.

    Raises:
        RefusedError: If there is nothing that it could become.
    """
    try:
        decode_column(column, (value,))
    except RefusedError as exc:
        refused = exc
    else:
        return None
    match column.on_invalid:
        case OnInvalid.NULL:
            return pa.array([None], column.arrow_type)
        case OnInvalid.TEXT:
            return pa.array([_shown(value)], column.arrow_type)
        case _:
            nearest = text_fitting(column, _unchanged).nearest
            found = (
                None if isinstance(value, bytes) or nearest is None else nearest(pa.array([_text(value)], pa.string()))
            )
            if found is None or found.null_count:
                reason = refused.reason and f", {refused.reason}"
                raise RefusedError(column, value, f"no value is near it{reason}") from refused
            return found


def decode_column(column: Column, values: Sequence[Value]) -> Values:
    """Return one column, all of whose values fit.

    Raises:
        RefusedError: If a value does not fit; it holds the first one.
    """
    if column.carrier is not None:
        return _chosen(column, values)
    allowed = _STORED_AS.get(column.logical_type, _TEXT_ONLY)
    _require(column, values, allowed)
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
        case LogicalType.OTHER:
            return pa.array([_text(value) for value in values], pa.string())
        case _:
            # A REAL was rounded to binary when it was stored; its shortest decimal form is what SQLite itself shows for it.
            texts = pa.array([_text(value) for value in values], pa.string())
            return _converted(column, values, texts, _conversion(column))


def _conversion(column: Column) -> Conversion:
    if column.logical_type is LogicalType.JSON:
        return text_conversion(column.logical_type, column.arrow_type)
    return conversion_for(column)


def _chosen(column: Column, values: Sequence[Value]) -> Values:
    """Return a column of the type that the user chose."""
    convert = fitting_of(column).convert
    carried = column.carried()
    match carried.logical_type:
        case LogicalType.OTHER:
            return _converted(
                column, values, pa.array([_as_text(column, value) for value in values], pa.string()), convert
            )
        case LogicalType.BYTES:
            _require(column, values, _SPELLED)
            data = [value.encode() if isinstance(value, str) else value for value in values]
            return _converted(column, values, pa.array(data, pa.binary()), convert)
        case _:
            return _converted(column, values, decode_column(carried, values), convert)


def _converted(column: Column, values: Sequence[Value], carried: Values, convert: Conversion) -> Values:
    try:
        return checked_nulls(convert(carried), carried.null_count)
    except pa.ArrowInvalid as exc:
        reason = str(exc) if isinstance(exc, DoesNotFitError) else ""
        raise RefusedError(column, values[first_failure(carried, convert)], reason) from exc


def _require(column: Column, values: Sequence[Value], allowed: frozenset[type]) -> None:
    if not set(map(type, values)) <= allowed:
        odd = next(value for value in values if type(value) not in allowed)
        raise RefusedError(column, odd, _why_odd(odd))


def _as_text(column: Column, value: Value) -> str | None:
    """Return SQLite's own text of a value; that of bytes is what they spell."""
    if not isinstance(value, bytes):
        return _text(value)
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise RefusedError(column, value, _why_odd(value)) from exc


def _floats(column: Column, values: Sequence[Value]) -> Values:
    for value in values:
        if type(value) is int and abs(value) > _MAX_EXACT_FLOAT and int(float(value)) != value:
            raise RefusedError(column, value, "it has more digits than a float holds")
    return pa.array([float(value) if type(value) is int else value for value in values], pa.float64())


def _text(value: Value) -> str | None:
    return value if value is None or type(value) is str else repr(value)


def _shown(value: Value) -> str | None:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else _text(value)


def _why_odd(value: Value) -> str:
    if isinstance(value, UndecodedText):
        return "the text is not valid UTF-8"
    stored_as = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}.get(type(value), "NULL")
    return f"it is stored as {stored_as}"


def _unchanged(values: Values) -> Values:
    return values
