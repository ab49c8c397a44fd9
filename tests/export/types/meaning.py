"""What values mean, whoever writes them down: the database as text, pyarrow, DuckDB, a cell of a CSV file.

Each of these becomes one plain Python value that can be compared.  Dates and times go through NumPy, whose calendar has no end,
so that nothing here is shared with the code that is tested.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

_BC = re.compile(r"(\d{4,7})(-.*) BC")


def of_text(text: str | None, arrow_type: pa.DataType) -> Any:
    """What a database's own text of a value means in a column of that type."""
    types = pa.types
    if text is None:
        return None
    if types.is_dictionary(arrow_type):
        return text
    if isinstance(arrow_type, pa.UuidType):
        return uuid.UUID(text).int
    if isinstance(arrow_type, pa.BaseExtensionType):
        return text
    if types.is_boolean(arrow_type):
        return {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}[text]
    if types.is_integer(arrow_type):
        return int(text)
    if types.is_floating(arrow_type):
        number = float(np.float32(text)) if arrow_type.bit_width == 32 else float(text)
        return number_of(number)
    if types.is_decimal(arrow_type):
        return Decimal(text)
    if types.is_binary(arrow_type):
        return bytes.fromhex(text.removeprefix("\\x"))
    if types.is_date(arrow_type):
        return _ticks(text, "D")
    if types.is_timestamp(arrow_type):
        return _ticks(text.removesuffix("+00").removesuffix("Z"), arrow_type.unit)
    if types.is_time(arrow_type) or types.is_duration(arrow_type):
        return _clock(text)
    if types.is_list(arrow_type):
        elements = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        return [_of_element(element, arrow_type.value_type) for element in elements]
    return text


def _of_element(element: Any, arrow_type: pa.DataType) -> Any:
    if isinstance(element, bool):
        return element
    if isinstance(element, str) and pa.types.is_timestamp(arrow_type):
        element = element.replace("T", " ").removesuffix(":00") if "+" in element else element.replace("T", " ")
    return of_text(element, arrow_type) if not isinstance(element, list) else element


def of_arrow(values: Any) -> list[Any]:
    """What a column means that pyarrow read from Parquet."""
    types, arrow_type = pa.types, values.type
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if types.is_dictionary(arrow_type):
        return of_arrow(values.dictionary_decode())
    if types.is_list(arrow_type):
        return [of_arrow(value.values) if value.is_valid else None for value in values]
    if isinstance(arrow_type, pa.BaseExtensionType):
        values = values.storage
    elif types.is_date(arrow_type):
        values = values.cast(pa.int32())
    elif types.is_temporal(arrow_type):
        values = values.cast(pa.int64())
    return [None if value is None else _of_python(value, arrow_type) for value in values.to_pylist()]


def _of_python(value: Any, arrow_type: pa.DataType) -> Any:
    if isinstance(arrow_type, pa.UuidType):
        return int.from_bytes(value, "big")
    return number_of(value) if isinstance(value, float) else value


def duckdb_expression(name: str, arrow_type: pa.DataType) -> str:
    """What to select in DuckDB, so that ``of_duckdb()`` understands it."""
    types = pa.types
    if types.is_date(arrow_type):
        return f"CAST({name} - DATE '1970-01-01' AS BIGINT)"
    if types.is_timestamp(arrow_type):
        return f"{'epoch_ns' if arrow_type.unit == 'ns' else 'epoch_us'}({name})"
    if types.is_time(arrow_type):
        return f"epoch_us({name})"
    if types.is_list(arrow_type):
        return f"[{duckdb_expression('element', arrow_type.value_type)} for element in {name}]"
    return name


def of_duckdb(value: Any, arrow_type: pa.DataType) -> Any:
    """What a value means that DuckDB read from Parquet."""
    if value is None:
        return None
    if pa.types.is_list(arrow_type):
        return [of_duckdb(element, arrow_type.value_type) for element in value]
    if isinstance(value, uuid.UUID):
        return value.int
    return number_of(value) if isinstance(value, float) else value


def of_cell(cell: str | None, arrow_type: pa.DataType) -> Any:
    """What a cell of a CSV file means."""
    types = pa.types
    if cell is None:
        return None
    if types.is_list(arrow_type):
        return [
            None if element is None else of_cell(_cell_text(element), arrow_type.value_type)
            for element in json.loads(cell, parse_int=str, parse_float=str)
        ]
    if types.is_floating(arrow_type):
        number = float(np.float32(cell)) if arrow_type.bit_width == 32 else float(cell)
        return number_of(number)
    return of_text(cell, arrow_type)


def _cell_text(element: Any) -> str:
    return str(element).lower() if isinstance(element, bool) else str(element)


def number_of(value: float) -> str:
    """A float as a text that tells −0 from 0 and equals itself."""
    return "nan" if math.isnan(value) else value.hex()


def _ticks(text: str, unit: Any) -> int:
    bc = _BC.fullmatch(text)
    if bc:
        text = f"-{int(bc[1]) - 1:04d}{bc[2].removesuffix('+00')}"
    return int(np.datetime64(text, unit).astype(np.int64))


def _clock(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    hours, minutes, *rest = text.lstrip("-").split(":")
    seconds = Decimal(rest[0]) if rest else Decimal(0)
    return sign * int((int(hours) * 3600 + int(minutes) * 60 + seconds) * 1_000_000)
