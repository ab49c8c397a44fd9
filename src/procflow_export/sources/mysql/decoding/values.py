"""Columns of a block become Arrow arrays.

Owns which conversion a column gets: by what the server sends (its protocol type and the row form) and by the column's own
type.  Must not know where values lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pymysql.constants import FIELD_TYPE

from procflow_export.model.types import Column, LogicalType, OnInvalid
from procflow_export.sources.arrays import MisfitError, Values, buffer_of, cut_out
from procflow_export.sources.columns.conversions import text_fitting
from procflow_export.sources.columns.moments import to_instant
from procflow_export.sources.columns.policies import fitted
from procflow_export.sources.columns.texts import decoded_texts
from procflow_export.sources.mysql.decoding import digits, moments
from procflow_export.sources.mysql.decoding.fields import Field, Mask
from procflow_export.sources.mysql.types import WireField
from procflow_export.sources.text_columns import Conversion, conversion_for

Fitted: TypeAlias = tuple[Values, int]
"""An array of a column's type, and how many of its values were changed so that they fit."""

_INTEGER_BYTES: Final = {
    FIELD_TYPE.TINY: 1,
    FIELD_TYPE.SHORT: 2,
    FIELD_TYPE.YEAR: 2,
    FIELD_TYPE.INT24: 4,
    FIELD_TYPE.LONG: 4,
    FIELD_TYPE.LONGLONG: 8,
}
_FLOAT_BYTES: Final = {FIELD_TYPE.FLOAT: 4, FIELD_TYPE.DOUBLE: 8}
_DATES: Final = frozenset({FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE})
_MOMENTS: Final = {FIELD_TYPE.DATETIME: None, FIELD_TYPE.TIMESTAMP: "UTC"}
_RAW: Final = frozenset({LogicalType.BYTES, LogicalType.GEOMETRY})
_DIGITS: Final = frozenset({LogicalType.DECIMAL, LogicalType.MONEY, LogicalType.INTEGER, LogicalType.YEAR})
_Decimal: TypeAlias = pa.Decimal128Type | pa.Decimal256Type
_BITS_BYTES: Final = 8
NOT_UTF8: Final = "the text is not valid UTF-8"
_LIMB_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Reader:
    """How the values of one column are read.

    Attributes:
        read: Makes an array of all; raises ``MisfitError`` for a value that does not fit and must not be changed.
        text: Returns one value, which is not NULL, as people write it.
    """

    read: Callable[[Field], Fitted]
    text: Callable[[Field, int], str]


def binary_width(wire: WireField) -> int | None:
    """Return how many bytes a value has in a binary row, or ``None`` where its length stands before it."""
    return 0 if wire.type_code == FIELD_TYPE.NULL else (_INTEGER_BYTES | _FLOAT_BYTES).get(wire.type_code)


def reader_for(column: Column, wire: WireField, *, is_binary: bool) -> Reader:
    """Return what reads a column.

    Args:
        column: Whose type the array gets.
        wire: What the server sends for it.
        is_binary: Whether in binary rows.
    """
    code = wire.type_code
    if code == FIELD_TYPE.BIT:
        return _numeric(_bits, column)
    if is_binary and (number := _number_type(wire)) is not None:
        return _numeric(partial(_numbers, dtype=number), column)
    if is_binary and code in _DATES:
        return Reader(partial(_dates, column=column), partial(_moment_text, has_time=False))
    if is_binary and code in _MOMENTS:
        return Reader(partial(_moments, column=column, zone=_MOMENTS[code]), partial(_moment_text, has_time=True))
    if is_binary and code == FIELD_TYPE.TIME:
        return _numeric(_times, column)
    if column.logical_type in _RAW:
        return Reader(lambda field: (octets(field), 0), lambda field, row: f"0x{field.value(row).hex()}")
    return Reader(_text_reader(column), lambda field, row: field.value(row).decode(errors="backslashreplace"))


# --- numbers --------------------------------------------------------------------------------------------------------


def _number_type(wire: WireField) -> str | None:
    """Return the form of the numbers that a binary row holds; ``None`` if it holds none."""
    code = wire.type_code
    if code in _FLOAT_BYTES:
        return f"<f{_FLOAT_BYTES[code]}"
    if code not in _INTEGER_BYTES:
        return None
    return f"<{'u' if wire.is_unsigned or code == FIELD_TYPE.YEAR else 'i'}{_INTEGER_BYTES[code]}"


def _numeric(numbers: Callable[[Field], Values], column: Column) -> Reader:
    return Reader(
        lambda field: _cast(numbers(field), column),
        lambda field, row: str(numbers(field)[row].as_py()),
    )


def _numbers(field: Field, dtype: str) -> Values:
    values = field.gather(dtype)
    if field.is_null is not None:
        values[field.is_null] = 0
    return _array(pa.from_numpy_dtype(values.dtype), values, field.is_null)


def _bits(field: Field) -> Values:
    """Return the numbers that the bytes of BIT(n) are, the highest first."""
    values = field.tail(0).byteswap()
    if field.longest < _BITS_BYTES:
        values &= (np.uint64(1) << (8 * field.lengths).astype(np.uint64)) - np.uint64(1)
    if field.is_null is not None:
        values[field.is_null] = 0
    return _array(pa.uint64(), values, field.is_null)


# --- dates and times ------------------------------------------------------------------------------------------------


def _dates(field: Field, column: Column) -> Fitted:
    days, never_was = moments.dates(field)
    is_null, changed_count = _settled(never_was, field.is_null, column.on_invalid)
    return _cast(_array(pa.date32(), days.astype(np.int32), is_null), column, changed_count)


def _moments(field: Field, column: Column, zone: str | None) -> Fitted:
    micros, never_was = moments.moments(field)
    is_null, changed_count = _settled(never_was, field.is_null, column.on_invalid)
    return _cast(_array(pa.timestamp("us", zone), micros, is_null), column, changed_count)


def _times(field: Field) -> Values:
    return _array(pa.duration("us"), moments.times(field), field.is_null)


def _moment_text(field: Field, row: int, *, has_time: bool) -> str:
    return moments.moment_text(field.value(row), has_time=has_time)


def _settled(misfits: Mask, is_null: Mask | None, on_invalid: OnInvalid) -> tuple[Mask | None, int]:
    """Return which values are NULL by a column's policy, and how many more that makes; nothing is near to these misfits.

    Args:
        misfits: Which values do not fit; of a NULL it may say anything.
        is_null: Which values are NULL; ``None`` if none is.
        on_invalid: The policy.

    Raises:
        MisfitError: For the first misfit, if it must not become NULL.
    """
    if is_null is not None:
        misfits = misfits & ~is_null
    count = int(np.count_nonzero(misfits))
    if not count:
        return is_null, 0
    if on_invalid is not OnInvalid.NULL:
        raise MisfitError(int(misfits.argmax()), "there is no such date")
    return misfits if is_null is None else misfits | is_null, count


# --- texts ----------------------------------------------------------------------------------------------------------


def octets(field: Field) -> Values:
    """Return the bytes of the values as they came: one copy inside Arrow, no object for a cell."""
    count = len(field)
    if field.width is not None:
        ends = buffer_of(np.arange(count + 1, dtype=np.int32) * field.width)
        data = buffer_of(field.gather(f"V{field.width}")) if field.width else pa.py_buffer(b"")
    else:
        ends, data = cut_out(field.data, field.starts, field.starts + field.lengths)
    validity = None if field.is_null is None else _validity(field.is_null)
    return pa.Array.from_buffers(pa.binary(), count, [validity, ends, data])


def _text_reader(column: Column) -> Callable[[Field], Fitted]:
    read = partial(_texts, column=column, convert=_conversion(column))
    if column.logical_type not in _DIGITS:
        return read

    def read_digits(field: Field) -> Fitted:
        numbers = _digits(field, column.arrow_type)
        return read(field) if numbers is None else _cast(numbers, column)

    return read_digits


def _texts(field: Field, column: Column, convert: Conversion) -> Fitted:
    texts, recoded_count = decoded_texts(octets(field), column.on_invalid)
    values, changed_count = fitted(texts, text_fitting(column, convert), column.on_invalid)
    return values, recoded_count + changed_count


def _conversion(column: Column) -> Conversion:
    # The session's zone is UTC, so the text of TIMESTAMP has none.
    return conversion_for(column, {LogicalType.INSTANT: partial(to_instant, arrow_type=column.arrow_type)})


def _digits(field: Field, arrow_type: pa.DataType) -> Values | None:
    """Return the numbers that digits make; ``None`` if they are not written as usual or do not fit."""
    if not isinstance(arrow_type, _Decimal):
        values = digits.numbers(field, 0)
        return None if values is None else _array(pa.int64(), values, field.is_null)
    values = digits.numbers(field, arrow_type.scale)
    if values is None or int(np.abs(values).max()) >= 10**arrow_type.precision:
        return None
    limbs = np.empty((len(values), arrow_type.bit_width // _LIMB_BITS), np.int64)
    limbs[:, 0] = values
    limbs[:, 1:] = (values >> (_LIMB_BITS - 1))[:, None]
    return _array(arrow_type, limbs, field.is_null)


# --- what all share -------------------------------------------------------------------------------------------------


def _cast(values: Values, column: Column, changed_count: int = 0) -> Fitted:
    """Return values as the column's type: another than theirs only if the column changed since it was planned, or is BIT."""
    arrow_type = column.arrow_type
    if values.type.equals(arrow_type):
        return values, changed_count
    values, count = fitted(values, text_fitting(column, lambda part: part.cast(arrow_type)), column.on_invalid)
    return values, changed_count + count


def _array(arrow_type: pa.DataType, values: npt.NDArray[Any], is_null: Mask | None) -> Values:
    validity = None if is_null is None else _validity(is_null)
    return pa.Array.from_buffers(arrow_type, len(values), [validity, buffer_of(values)])


def _validity(is_null: Mask) -> pa.Buffer:
    return buffer_of(np.packbits(~is_null, bitorder="little"))
