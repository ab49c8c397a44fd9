"""What a column of an Arrow type is in a file, in a few words: for reports and for the page of types.

Owns the words.  What Parquet makes of a type is read off a file that is written for it; what CSV makes of it is the business of
``cells``, whose rules are told here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, Final, assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from procflow_export.model.settings import Format

_UNITS: Final = {"microseconds": "us", "nanoseconds": "ns", "milliseconds": "ms"}


def file_form(file_format: Format, arrow_type: pa.DataType) -> str:
    """Return what a column of ``arrow_type`` is in a file of that format.

    Raises:
        pa.ArrowException: If there is no such thing.
        NotImplementedError: The same.
    """
    match file_format:
        case Format.PARQUET:
            return parquet_form(arrow_type)
        case Format.CSV:
            return csv_form(arrow_type)
        case _:
            assert_never(file_format)


def parquet_form(arrow_type: pa.DataType) -> str:
    """Return the physical type of a Parquet column, and what annotates it: ``INT64 TIMESTAMP(us, UTC)``.

    Raises:
        pa.ArrowException: If Parquet has no such type.
        NotImplementedError: The same.
    """
    file = io.BytesIO()
    schema = pa.schema([pa.field("value", arrow_type)])
    pq.ParquetWriter(file, schema, version="2.6", store_decimal_as_integer=True).close()
    return parquet_column_form(pq.read_metadata(file).schema.column(0))


def parquet_column_form(column: pq.ColumnSchema) -> str:
    """Return the same of a column of a file, the innermost one of a list."""
    physical = column.physical_type + (f"({column.length})" if column.length else "")
    form = f"{physical} {_annotation(json.loads(column.logical_type.to_json()))}".rstrip()
    for _ in range(column.path.count(".list.element")):
        form = f"LIST<{form}>"
    return form


def csv_form(arrow_type: pa.DataType) -> str:
    """Return what a cell of a CSV file looks like."""
    if isinstance(arrow_type, pa.UuidType):
        return "hyphenated digits"
    if isinstance(arrow_type, pa.BaseExtensionType):
        return csv_form(arrow_type.storage_type)
    return next((form for belongs, form in _CSV_FORMS if belongs(arrow_type)), "text")


def _annotation(logical: dict[str, Any]) -> str:
    match logical:
        case {"Type": "None"}:
            return ""
        case {"Type": "Int", "bitWidth": bits, "isSigned": is_signed}:
            return f"{'INT' if is_signed else 'UINT'}({bits})"
        case {"Type": "Decimal", "precision": precision, "scale": scale}:
            return f"DECIMAL({precision},{scale})"
        case {"Type": "Timestamp", "timeUnit": unit, "isAdjustedToUTC": is_utc}:
            return f"TIMESTAMP({_UNITS[unit]}{', UTC' if is_utc else ''})"
        case {"Type": "Time", "timeUnit": unit}:
            return f"TIME({_UNITS[unit]})"
        case _:
            return str(logical["Type"]).upper()


def _is_nanoseconds(arrow_type: pa.DataType) -> bool:
    return isinstance(arrow_type, pa.TimestampType) and arrow_type.unit == "ns"


def _is_instant(arrow_type: pa.DataType) -> bool:
    return isinstance(arrow_type, pa.TimestampType) and arrow_type.tz is not None


_CSV_FORMS: Final[tuple[tuple[Callable[[pa.DataType], bool], str], ...]] = (
    (pa.types.is_boolean, "true, false"),
    (pa.types.is_integer, "digits"),
    (pa.types.is_decimal, "digits, all decimals"),
    (pa.types.is_floating, "digits, NaN, inf"),
    (pa.types.is_date, "2024-02-29"),
    (pa.types.is_time, "12:34:56.000000"),
    (lambda kind: _is_instant(kind) and _is_nanoseconds(kind), "2024-02-29T12:34:56.000000000Z"),
    (_is_instant, "2024-02-29T12:34:56.000000Z"),
    (_is_nanoseconds, "2024-02-29T12:34:56.000000000"),
    (pa.types.is_timestamp, "2024-02-29T12:34:56.000000"),
    (pa.types.is_duration, "-12:34:56.000000"),
    (pa.types.is_binary, "hexadecimal"),
    (pa.types.is_list, "JSON array"),
)
