"""How the values of a column get from the form in which they travel to the type that was chosen.

Owns the choice of the conversion.  Every conversion is exact or raises ``pa.ArrowInvalid``: no digit is rounded away, no
time zone forgotten, nothing is cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import pyarrow as pa

from procflow_export.model.types import BYTES_CARRIER, Carrier, Column, LogicalType
from procflow_export.sources.arrays import DoesNotFitError, Values
from procflow_export.sources.arrays import kernels as pc
from procflow_export.sources.columns import moments, numbers
from procflow_export.sources.columns.ewkb import to_wkb
from procflow_export.sources.columns.lists import element_type, fitted_lists
from procflow_export.sources.columns.nearest import nearest
from procflow_export.sources.columns.policies import Fitting, fitted
from procflow_export.sources.columns.texts import decoded_texts
from procflow_export.sources.text_columns import UUID_BYTES, Conversion, to_bool, to_bytes, to_uuid


def chosen_values(column: Column) -> Callable[[Values], tuple[Values, int]]:
    """Return what turns the values of a chosen column into its type by its policy, and says how many were changed.

    It raises ``MisfitError`` for a value that does not fit and must not be changed, or cannot be.
    """
    if column.carrier == BYTES_CARRIER and pa.types.is_string(column.arrow_type):
        return partial(decoded_texts, on_invalid=column.on_invalid)
    if pa.types.is_list(column.arrow_type):
        elements = _element_fitting(element_type(column.arrow_type))
        return partial(fitted_lists, arrow_type=column.arrow_type, elements=elements, on_invalid=column.on_invalid)
    return partial(fitted, fitting=fitting_of(column), on_invalid=column.on_invalid)


def fitting_of(column: Column) -> Fitting:
    """Return what turns the values of a chosen column, in the form in which they travel, into its type."""
    assert column.carrier is not None, "a column of its source's own type is not converted"
    convert = _conversion(column.carrier, column)
    return text_fitting(column, convert)


def text_fitting(column: Column, convert: Conversion) -> Fitting:
    """Return the fitting of a column whose texts ``convert`` turns into its type."""
    return Fitting(convert=convert, nearest=partial(_nearest, kind=column.logical_type, arrow_type=column.arrow_type))


def _nearest(misfits: Values, kind: LogicalType, arrow_type: pa.DataType) -> Values:
    if pa.types.is_binary(misfits.type):
        return pa.array([None] * len(misfits), arrow_type)
    texts = [nearest(text, arrow_type) for text in misfits.cast(pa.string()).to_pylist()]
    if not any(texts):
        return pa.array([None] * len(texts), arrow_type)
    return text_conversion(kind, arrow_type)(pa.array(texts, pa.string()))


def _conversion(carrier: Carrier, column: Column) -> Conversion:
    travels_as = carrier.arrow_type
    if pa.types.is_string(travels_as):
        return text_conversion(column.logical_type, column.arrow_type)
    if pa.types.is_binary(travels_as):
        return _bytes_conversion(column)
    if pa.types.is_floating(travels_as) and pa.types.is_floating(column.arrow_type):
        return partial(_to_narrower_float, arrow_type=column.arrow_type)
    if pa.types.is_boolean(travels_as):
        return lambda values: values.cast(pa.int8()).cast(column.arrow_type)
    if carrier.logical_type is LogicalType.BITS:
        return _bits_conversion(column)
    convert = text_conversion(column.logical_type, column.arrow_type)
    return lambda values: convert(values.cast(pa.string()))


def text_conversion(kind: LogicalType, arrow_type: pa.DataType) -> Conversion:
    """Return what turns texts, as any of the databases prints them, into ``arrow_type``."""
    if kind in _TYPED:
        return partial(_TYPED[kind], arrow_type=arrow_type)
    return _FIXED.get(kind, _unchanged)


def _unchanged(values: Values) -> Values:
    return values


def _element_fitting(arrow_type: pa.DataType) -> Fitting:
    if pa.types.is_binary(arrow_type):
        return Fitting(convert=to_bytes)
    kind = _kind_of(arrow_type)
    return Fitting(
        convert=text_conversion(kind, arrow_type), nearest=partial(_nearest, kind=kind, arrow_type=arrow_type)
    )


def _kind_of(arrow_type: pa.DataType) -> LogicalType:
    """Return what an element of a list means: its Arrow type says it."""
    types = pa.types
    if isinstance(arrow_type, pa.UuidType):
        return LogicalType.UUID
    if types.is_timestamp(arrow_type):
        return LogicalType.TIMESTAMP if arrow_type.tz is None else LogicalType.INSTANT
    kinds = (
        (types.is_boolean, LogicalType.BOOL),
        (types.is_integer, LogicalType.INTEGER),
        (types.is_floating, LogicalType.FLOAT),
        (types.is_decimal, LogicalType.DECIMAL),
        (types.is_date, LogicalType.DATE),
        (types.is_time, LogicalType.TIME),
        (types.is_string, LogicalType.TEXT),
    )
    return next(kind for belongs, kind in kinds if belongs(arrow_type))


def _bytes_conversion(column: Column) -> Conversion:
    match column.logical_type:
        case LogicalType.UUID:
            return _uuid_of_bytes
        case LogicalType.TEXT | LogicalType.OTHER:
            return lambda values: values.cast(pa.string())
        case _:
            return _unchanged


def _uuid_of_bytes(values: Values) -> Values:
    if pc.all(pc.equal(pc.binary_length(values), UUID_BYTES)).as_py() is False:
        raise DoesNotFitError("not the 16 bytes of a UUID")
    return pa.ExtensionArray.from_storage(pa.uuid(), values.cast(pa.binary(UUID_BYTES)))


def _to_narrower_float(values: Values, arrow_type: pa.DataType) -> Values:
    floats = values.cast(arrow_type)
    kept = pc.equal(floats.cast(values.type), values)
    if pc.all(pc.or_(kept, pc.is_nan(values))).as_py() is False:
        raise DoesNotFitError("a float of fewer bits does not hold all digits")
    return floats


def _bits_conversion(column: Column) -> Conversion:
    match column.logical_type:
        case LogicalType.BOOL:
            return lambda values: to_bool(values.cast(pa.string()))
        case LogicalType.TEXT | LogicalType.OTHER:
            width = int("".join(filter(str.isdigit, column.native_type)) or 1)
            return lambda values: pa.array(
                [None if value is None else f"{value:0{width}b}" for value in values.to_pylist()], pa.string()
            )
        case _:
            return lambda values: values.cast(column.arrow_type)


def _to_json(texts: Values) -> Values:
    for text in pc.unique(texts).to_pylist():
        if text is not None:
            _check_json(text)
    return pa.ExtensionArray.from_storage(pa.json_(), texts)


def _check_json(text: str) -> None:
    try:
        json.loads(text, parse_int=_ignored, parse_float=_ignored, parse_constant=_refused)
    except (ValueError, RecursionError) as exc:
        raise DoesNotFitError("not JSON") from exc


def _ignored(_: str) -> None:
    return None


def _refused(constant: str) -> None:
    raise ValueError(constant)


def _to_enum(texts: Values, arrow_type: pa.DataType) -> Values:
    return texts.dictionary_encode().cast(arrow_type)


_TYPED: Final[Mapping[LogicalType, Callable[..., Values]]] = {
    LogicalType.INTEGER: numbers.to_integer,
    LogicalType.YEAR: numbers.to_integer,
    LogicalType.FLOAT: numbers.to_float,
    LogicalType.DECIMAL: numbers.to_decimal,
    LogicalType.TIMESTAMP: moments.to_timestamp,
    LogicalType.INSTANT: moments.to_instant,
    LogicalType.ENUM: _to_enum,
}
_FIXED: Final[Mapping[LogicalType, Conversion]] = {
    LogicalType.BOOL: to_bool,
    LogicalType.DATE: moments.to_date,
    LogicalType.TIME: moments.to_time,
    LogicalType.DURATION: moments.to_duration,
    LogicalType.UUID: to_uuid,
    LogicalType.JSON: _to_json,
    LogicalType.BYTES: lambda texts: texts.cast(pa.binary()),
    LogicalType.GEOMETRY: to_wkb,
}
