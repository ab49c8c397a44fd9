"""Columns of a block become Arrow arrays.

Owns which conversion a column gets: by what the server sends (its protocol type and the row form) and by the column's own
type.  Must not know where values lie, nor what becomes of a value that does not fit: that is asked of ``Refuse``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pymysql.constants import FIELD_TYPE

from procflow_export.model.choices import OnInvalid
from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.arrays import Values, buffer_of
from procflow_export.sources.arrays import kernels as pc
from procflow_export.sources.columns.texts import decoded_texts
from procflow_export.sources.mysql.decoding import digits, moments
from procflow_export.sources.mysql.decoding.fields import Field, Mask
from procflow_export.sources.mysql.types import WireField
from procflow_export.sources.text_columns import Conversion, conversion_for, refused_rows

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
_MOMENTS: Final = frozenset({FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP})
_RAW: Final = frozenset({LogicalType.BYTES, LogicalType.GEOMETRY})
_DIGITS: Final = frozenset({LogicalType.DECIMAL, LogicalType.MONEY, LogicalType.INTEGER, LogicalType.YEAR})
_BITS_BYTES: Final = 8
NOT_UTF8: Final = "the text is not valid UTF-8"
_LIMB_BITS: Final = 64


class Refuse(Protocol):
    """Is told which rows of a column hold a value that does not fit; returns only if they are to become something else.

    That is NULL, or for texts that are no UTF-8 what ``OnInvalid.TEXT`` says.
    """

    def __call__(self, wrong: Mask, text: Callable[[int], str], reason: str = "") -> None: ...


Reader: TypeAlias = Callable[[Field, Refuse], Values]
"""Makes the array of one column of a block."""


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
        return lambda field, refuse: _bits(field, column, refuse)
    if is_binary:
        if code in _INTEGER_BYTES:
            number = f"<{'u' if wire.is_unsigned or code == FIELD_TYPE.YEAR else 'i'}{_INTEGER_BYTES[code]}"
            return lambda field, refuse: _fitted(_numbers(field, number), column, refuse)
        if code in _FLOAT_BYTES:
            return lambda field, refuse: _fitted(_numbers(field, f"<f{_FLOAT_BYTES[code]}"), column, refuse)
        if code in _DATES:
            return lambda field, refuse: _date(field, column, refuse)
        if code in _MOMENTS:
            is_instant = code == FIELD_TYPE.TIMESTAMP
            return lambda field, refuse: _moment(field, column, refuse, zone="UTC" if is_instant else None)
        if code == FIELD_TYPE.TIME:
            return lambda field, refuse: _time(field, column, refuse)
    if column.logical_type in _RAW:
        return lambda field, _: octets(field)
    if column.logical_type in _DIGITS:
        return lambda field, refuse: _decimals(field, column, refuse)
    return lambda field, refuse: _texts(field, column, refuse)


# --- numbers --------------------------------------------------------------------------------------------------------


def _numbers(field: Field, dtype: str) -> Values:
    values = field.gather(dtype)
    if field.is_null is not None:
        values[field.is_null] = 0
    return _array(pa.from_numpy_dtype(values.dtype), values, field.is_null)


def _decimals(field: Field, column: Column, refuse: Refuse) -> Values:
    """Convert decimals and integers that are sent as digits."""
    arrow_type = column.arrow_type
    is_decimal = pa.types.is_decimal(arrow_type)
    values = digits.numbers(field, arrow_type.scale if is_decimal else 0)
    if values is None:
        return _texts(field, column, refuse)
    if not is_decimal:
        return _fitted(_array(pa.int64(), values, field.is_null), column, refuse)
    if arrow_type.precision < digits.MAX_DIGITS and int(np.abs(values).max()) >= 10**arrow_type.precision:
        return _texts(field, column, refuse)
    limbs = np.empty((len(values), arrow_type.bit_width // _LIMB_BITS), np.int64)
    limbs[:, 0] = values
    limbs[:, 1:] = (values >> (_LIMB_BITS - 1))[:, None]
    return _array(arrow_type, limbs, field.is_null)


def _bits(field: Field, column: Column, refuse: Refuse) -> Values:
    """Convert the bytes of BIT(n), the highest first."""
    values = field.tail(0).byteswap()
    if field.longest < _BITS_BYTES:
        values &= (np.uint64(1) << (8 * field.lengths).astype(np.uint64)) - np.uint64(1)
    if field.is_null is not None:
        values[field.is_null] = 0
    if column.logical_type is LogicalType.BOOL:
        return _array(pa.bool_(), np.packbits(values != 0, bitorder="little"), field.is_null, count=len(values))
    return _fitted(_array(pa.uint64(), values, field.is_null), column, refuse)


# --- dates and times ------------------------------------------------------------------------------------------------


def _date(field: Field, column: Column, refuse: Refuse) -> Values:
    days, wrong = moments.dates(field)
    is_null = _checked(field, wrong, refuse, has_time=False)
    return _fitted(_array(pa.date32(), days.astype(np.int32), is_null), column, refuse)


def _moment(field: Field, column: Column, refuse: Refuse, *, zone: str | None) -> Values:
    micros, wrong = moments.moments(field)
    is_null = _checked(field, wrong, refuse, has_time=True)
    return _fitted(_array(pa.timestamp("us", zone), micros, is_null), column, refuse)


def _time(field: Field, column: Column, refuse: Refuse) -> Values:
    return _fitted(_array(pa.duration("us"), moments.times(field), field.is_null), column, refuse)


def _checked(field: Field, wrong: Mask, refuse: Refuse, *, has_time: bool) -> Mask | None:
    """Return which rows are NULL, after those that are wrong were refused."""
    if not wrong.any():
        return field.is_null
    if field.is_null is not None:
        wrong &= ~field.is_null
        if not wrong.any():
            return field.is_null
    refuse(wrong, lambda row: moments.moment_text(field.value(row), has_time=has_time))
    return wrong if field.is_null is None else wrong | field.is_null


# --- texts ----------------------------------------------------------------------------------------------------------


def octets(field: Field) -> Values:
    """Return the bytes of the values as they came: one copy inside Arrow, no object for a cell."""
    count = len(field)
    if field.width is not None:
        ends = buffer_of(np.arange(count + 1, dtype=np.int32) * field.width)
        data = buffer_of(field.gather(f"V{field.width}")) if field.width else pa.py_buffer(b"")
    else:
        # Every second entry of an array over the whole block is a value; those between are what lies between values.
        bounds = np.empty(2 * count, np.int32)
        bounds[0::2] = field.starts
        bounds[1::2] = field.starts + field.lengths
        entries = pa.Array.from_buffers(pa.binary(), 2 * count - 1, [None, buffer_of(bounds), pa.py_buffer(field.data)])
        places = pa.array(np.arange(0, 2 * count, 2, dtype=np.int32))
        _, ends, data = pc.take(entries, places, boundscheck=False).buffers()
    validity = None if field.is_null is None else _validity(field.is_null)
    return pa.Array.from_buffers(pa.binary(), count, [validity, ends, data])


def _texts(field: Field, column: Column, refuse: Refuse) -> Values:
    values = octets(field)
    if column.on_invalid is OnInvalid.TEXT:
        return _escaped_texts(values, refuse)
    texts = _converted(values, _to_string, refuse, NOT_UTF8)
    return _converted(texts, _conversion(column), refuse)


def _escaped_texts(values: Values, refuse: Refuse) -> Values:
    try:
        return _to_string(values)
    except pa.ArrowInvalid:
        refuse(refused_rows(values, _to_string), lambda _: "", NOT_UTF8)
        return decoded_texts(values, OnInvalid.TEXT)[0]


def _to_string(values: Values) -> Values:
    # The cast refuses bytes that are not UTF-8.
    return values.cast(pa.string())


def _conversion(column: Column) -> Conversion:
    return conversion_for(column, {LogicalType.INSTANT: _to_instant})


def _to_instant(texts: Values) -> Values:
    """Convert the text of TIMESTAMP: the session's zone is UTC, so it has none."""
    return texts.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.timestamp("us", "UTC"))


# --- what all share -------------------------------------------------------------------------------------------------


def _fitted(values: Values, column: Column, refuse: Refuse) -> Values:
    """Return values of the column's type."""
    arrow_type = column.arrow_type
    if values.type.equals(arrow_type):
        return values
    return _converted(values, lambda part: part.cast(arrow_type), refuse)


def _converted(values: Values, convert: Conversion, refuse: Refuse, reason: str = "") -> Values:
    try:
        return convert(values)
    except pa.ArrowInvalid:
        wrong = refused_rows(values, convert)
        refuse(wrong, lambda row: "" if values.type == pa.binary() else shown(values, row), reason)
        return convert(pc.if_else(pa.array(~wrong), values, pa.scalar(None, values.type)))


def shown(values: Values, row: int) -> str:
    """Return one value as text, for a message."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    value = values.slice(row, 1)
    if pa.types.is_binary(value.type) or pa.types.is_fixed_size_binary(value.type):
        return "NULL" if value.null_count else f"0x{value[0].as_py().hex()}"
    return value.cast(pa.string())[0].as_py() or "NULL"


def _array(
    arrow_type: pa.DataType, values: npt.NDArray[Any], is_null: Mask | None, *, count: int | None = None
) -> Values:
    validity = None if is_null is None else _validity(is_null)
    return pa.Array.from_buffers(arrow_type, len(values) if count is None else count, [validity, buffer_of(values)])


def _validity(is_null: Mask) -> pa.Buffer:
    return buffer_of(np.packbits(~is_null, bitorder="little"))
