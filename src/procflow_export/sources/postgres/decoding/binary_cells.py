"""What one value of binary ``COPY`` means, in plain Python.

Owns the binary forms, as the ``*_send`` functions of the server write them, and the text of a value for people.
"""

from __future__ import annotations

import struct
import uuid
from decimal import Decimal
from typing import Final

import pyarrow as pa

from procflow_export.sources.postgres import dates
from procflow_export.sources.postgres.decoding.cells import (
    ENOUGH,
    NOT_A_LIST,
    CellMisfitError,
    DecimalType,
    Settle,
    fitting_decimal,
    fitting_moment,
    fitting_time,
    refuse_infinity,
    utf8_text,
)

UNIX_EPOCH_DAYS: Final = 10_957
"""From 1970-01-01 to 2000-01-01, where the server begins to count."""
UNIX_EPOCH_US: Final = UNIX_EPOCH_DAYS * dates.DAY_US

_NUMERIC: Final = struct.Struct(">HhHH")
_DIGIT: Final = struct.Struct(">H")
_SPECIAL: Final = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_NEGATIVE: Final = 0x4000


def value_of(arrow_type: pa.DataType, native_type: str, raw: bytes | None, settle: Settle) -> object:
    """Return a value in the form in which ``pa.array`` takes it, dates and times as numbers.

    Args:
        arrow_type: What it is to become.
        native_type: The server's name of its type.
        raw: Its bytes; None for NULL.
        settle: Returns what takes the place of a value, or of an element of a list, that does not fit; or raises.

    Raises:
        ValueError: If the bytes are none of that type.
    """
    if raw is None:
        return None
    try:
        if pa.types.is_list(arrow_type):
            element_type, element_native = arrow_type.value_type, native_type.removesuffix("[]")
            return [value_of(element_type, element_native, element, settle) for element in elements_of(raw)]
        return _value(arrow_type, native_type, raw)
    except CellMisfitError as exc:
        return settle(exc)


def decimal_of(raw: bytes) -> Decimal:
    """Return the number that a ``numeric`` is, NaN and infinities included, with as many decimals as it displays."""
    count, weight, sign, scale = _NUMERIC.unpack_from(raw)
    if sign in _SPECIAL:
        return Decimal(_SPECIAL[sign])
    digits = "".join(f"{_DIGIT.unpack_from(raw, _NUMERIC.size + _DIGIT.size * index)[0]:04}" for index in range(count))
    number = Decimal(f"{'-' if sign == _NEGATIVE else ''}{digits or 0}E{4 * (weight - count + 1)}")
    return ENOUGH.quantize(number, Decimal(1).scaleb(-scale, ENOUGH))


def elements_of(raw: bytes) -> list[bytes | None]:
    """Return the elements of an array of one dimension.

    Raises:
        CellMisfitError: If it has several, or its lower bound is not 1.
    """
    (dimensions,) = struct.unpack_from(">i", raw)
    size, lower_bound = struct.unpack_from(">ii", raw, 12) if dimensions else (0, 1)
    if dimensions > 1 or lower_bound != 1:
        raise CellMisfitError(reason=NOT_A_LIST)
    position = 20 if dimensions else 12
    elements: list[bytes | None] = []
    for _ in range(size):
        (length,) = struct.unpack_from(">i", raw, position)
        position += 4
        elements.append(None if length < 0 else raw[position : position + length])
        position += max(length, 0)
    if position != len(raw):
        raise ValueError("the elements of an array do not fill it")
    return elements


def text_of(arrow_type: pa.DataType, native_type: str, raw: bytes) -> str:
    """Return a value as people write it; nothing where there is no way to."""
    types = pa.types
    if types.is_decimal(arrow_type):
        return format(decimal_of(raw), "f")
    if types.is_date(arrow_type):
        return _infinity(raw) or dates.date_text(_integer(raw, 4) + UNIX_EPOCH_DAYS)
    if types.is_timestamp(arrow_type):
        zone = "" if arrow_type.tz is None else "+00"
        return _infinity(raw) or dates.moment_text(_integer(raw, 8) + UNIX_EPOCH_US, zone)
    if types.is_time(arrow_type):
        return dates.time_text(_integer(raw, 8))
    if types.is_list(arrow_type):
        return ""
    try:
        value = _value(arrow_type, native_type, raw)
    except CellMisfitError:
        return ""
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if isinstance(arrow_type, pa.UuidType) else f"\\x{value.hex()}"
    return str(value)


def _value(arrow_type: pa.DataType, native_type: str, raw: bytes) -> object:
    types = pa.types
    if types.is_boolean(arrow_type):
        return _integer(raw, 1) == 1
    if types.is_integer(arrow_type):
        return _integer(raw, arrow_type.bit_width // 8)
    if types.is_floating(arrow_type):
        return struct.unpack(">f" if types.is_float32(arrow_type) else ">d", raw)[0]
    if isinstance(arrow_type, DecimalType):
        return fitting_decimal(decimal_of(raw), arrow_type)
    if types.is_date(arrow_type) or types.is_timestamp(arrow_type):
        if infinity := _infinity(raw):
            refuse_infinity(arrow_type.bit_width, is_negative=infinity.startswith("-"))
        epoch = UNIX_EPOCH_DAYS if types.is_date(arrow_type) else UNIX_EPOCH_US
        return fitting_moment(_integer(raw, arrow_type.bit_width // 8) + epoch, arrow_type.bit_width)
    if types.is_time(arrow_type):
        return fitting_time(_integer(raw, 8))
    if isinstance(arrow_type, pa.UuidType) or types.is_binary(arrow_type):
        return raw
    if native_type == "jsonb":
        if raw[:1] != b"\x01":
            raise ValueError("a jsonb document of an unknown version")
        raw = raw[1:]
    return utf8_text(raw)


def _infinity(raw: bytes) -> str:
    """Return which infinity a date or moment is; nothing if it is none."""
    latest = 2 ** (8 * len(raw) - 1) - 1
    return {latest: "infinity", -latest - 1: "-infinity"}.get(_integer(raw, len(raw)), "")


def _integer(raw: bytes, size: int) -> int:
    if len(raw) != size:
        raise ValueError(f"a value has {len(raw)} bytes where its type has {size}")
    return int.from_bytes(raw, "big", signed=True)
