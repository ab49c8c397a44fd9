"""MySQL's row forms the obvious way: what servers send for values, and the slow decoder that takes it apart cell by cell.

The reference for ``procflow_export.sources.mysql``: it shares nothing with the decoders there but the description of a
result's columns.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
from hypothesis import strategies as st
from pymysql.constants import FIELD_TYPE, FLAG

from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.mysql.types import WireField

LARGEST = 2**24 - 1
EPOCH = dt.datetime(1970, 1, 1)
UTF8 = 45
BINARY = 63

Cell = bytes | None
"""A value in one of the row forms, its length before it where it has one; ``None`` for NULL."""


# --- what a server sends --------------------------------------------------------------------------------------------


def prefixed(value: bytes) -> bytes:
    """A value with its length before it."""
    size = len(value)
    if size < 251:
        return bytes([size]) + value
    if size < 2**16:
        return b"\xfc" + size.to_bytes(2, "little") + value
    if size < 2**24:
        return b"\xfd" + size.to_bytes(3, "little") + value
    return b"\xfe" + size.to_bytes(8, "little") + value


def text_row(cells: Sequence[Cell]) -> bytes:
    return b"".join(b"\xfb" if cell is None else cell for cell in cells)


def binary_row(cells: Sequence[Cell]) -> bytes:
    mask = sum(1 << bit for bit, cell in enumerate(cells, start=2) if cell is None)
    return b"\0" + mask.to_bytes((len(cells) + 9) // 8, "little") + b"".join(cell for cell in cells if cell is not None)


def packets(payloads: Sequence[bytes], *, sequence: int = 5) -> bytes:
    """Rows as they travel: each in as many packets as it takes."""
    parts = []
    for payload in payloads:
        for at in range(0, len(payload) + 1, LARGEST):
            part = payload[at : at + LARGEST]
            parts.append(len(part).to_bytes(3, "little") + bytes([sequence % 256]) + part)
            sequence += 1
    return b"".join(parts)


# --- the slow decoder -----------------------------------------------------------------------------------------------


def payloads_of(block: bytes) -> Iterator[bytes]:
    """The rows in a block of packets."""
    payload = b""
    while block:
        length = int.from_bytes(block[:3], "little")
        payload, block = payload + block[4 : 4 + length], block[4 + length :]
        if length < LARGEST:
            yield payload
            payload = b""


def cut_prefixed(row: bytes) -> tuple[bytes, bytes]:
    """A value that has its length before it, and what follows it."""
    mark, rest = row[0], row[1:]
    width = {252: 2, 253: 3, 254: 8}.get(mark, 0)
    length = int.from_bytes(rest[:width], "little") if width else mark
    return rest[width : width + length], rest[width + length :]


def text_cells(row: bytes, fields: Sequence[WireField]) -> list[Cell]:
    cells: list[Cell] = []
    for _ in fields:
        if row[0] == 0xFB:
            cell, row = None, row[1:]
        else:
            cell, row = cut_prefixed(row)
        cells.append(cell)
    assert not row
    return cells


def binary_cells(row: bytes, fields: Sequence[WireField]) -> list[Cell]:
    width = (len(fields) + 9) // 8
    mask, row = int.from_bytes(row[1 : 1 + width], "little"), row[1 + width :]
    cells: list[Cell] = []
    for bit, field in enumerate(fields, start=2):
        if mask >> bit & 1:
            cells.append(None)
        elif fixed := WIDTHS.get(field.type_code):
            cells.append(row[:fixed])
            row = row[fixed:]
        else:
            cell, row = cut_prefixed(row)
            cells.append(cell)
    assert not row
    return cells


WIDTHS = {
    FIELD_TYPE.TINY: 1,
    FIELD_TYPE.SHORT: 2,
    FIELD_TYPE.YEAR: 2,
    FIELD_TYPE.INT24: 4,
    FIELD_TYPE.LONG: 4,
    FIELD_TYPE.LONGLONG: 8,
    FIELD_TYPE.FLOAT: 4,
    FIELD_TYPE.DOUBLE: 8,
}


def binary_value(cell: bytes, field: WireField) -> Any:
    """A cell of a binary row as a Python value; texts stay bytes."""
    match field.type_code:
        case FIELD_TYPE.FLOAT | FIELD_TYPE.DOUBLE:
            return struct.unpack("<f" if len(cell) == 4 else "<d", cell)[0]
        case code if code in WIDTHS:
            return int.from_bytes(cell, "little", signed=not field.is_unsigned and code != FIELD_TYPE.YEAR)
        case FIELD_TYPE.DATE:
            return dt.date(*struct.unpack("<HBB", cell))
        case FIELD_TYPE.DATETIME | FIELD_TYPE.TIMESTAMP:
            return dt.datetime(*struct.unpack("<HBBBBBI", cell.ljust(11, b"\0")))
        case FIELD_TYPE.TIME:
            sign, days, hours, minutes, seconds, micros = struct.unpack("<BIBBBI", cell.ljust(12, b"\0"))
            span = dt.timedelta(days, seconds, micros, 0, minutes, hours)
            return -span if sign else span
        case _:
            return cell


def text_value(cell: bytes, field: WireField) -> Any:
    """A cell of a text row as a Python value; texts stay bytes."""
    match field.type_code:
        case FIELD_TYPE.FLOAT | FIELD_TYPE.DOUBLE:
            return float(cell)
        case code if code in WIDTHS:
            return int(cell)
        case FIELD_TYPE.DATE:
            return dt.date.fromisoformat(cell.decode())
        case FIELD_TYPE.DATETIME | FIELD_TYPE.TIMESTAMP:
            return dt.datetime.fromisoformat(cell.decode())
        case FIELD_TYPE.TIME:
            hours, minutes, seconds = cell.decode().lstrip("-").split(":")
            span = dt.timedelta(hours=int(hours), minutes=int(minutes)) + int(Decimal(seconds) * 10**6) * MICROSECOND
            return -span if cell.startswith(b"-") else span
        case _:
            return cell


MICROSECOND = dt.timedelta(microseconds=1)


def typed(value: Any, column: Column) -> Any:
    """A value as the column's type wants it from Python."""
    match column.logical_type:
        case LogicalType.BOOL:
            return value != b"\0"
        case LogicalType.BITS:
            return int.from_bytes(value, "big")
        case LogicalType.DECIMAL:
            return Decimal(value.decode())
        case LogicalType.INSTANT:
            return value.replace(tzinfo=dt.UTC)
        case LogicalType.TEXT | LogicalType.ENUM | LogicalType.JSON | LogicalType.OTHER:
            return value.decode()
        case _:
            return value


def decode_slowly(
    block: bytes, columns: Sequence[Column], fields: Sequence[WireField], *, is_binary: bool
) -> list[Any]:
    """The arrays of a block, each value by itself."""
    cells_of, value_of = (binary_cells, binary_value) if is_binary else (text_cells, text_value)
    rows = [cells_of(payload, fields) for payload in payloads_of(block)]
    arrays: list[Any] = []
    for at, (column, field) in enumerate(zip(columns, fields, strict=True)):
        cells = [row[at] for row in rows]
        values = [None if cell is None else typed(value_of(cell, field), column) for cell in cells]
        arrow_type: Any = column.arrow_type
        if isinstance(arrow_type, pa.BaseExtensionType):
            storage = pa.array(values, arrow_type.storage_type)
            arrays.append(pa.ExtensionArray.from_storage(arrow_type, storage))
        else:
            arrays.append(pa.array(values, arrow_type))
    return arrays


# --- columns of every type ------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A column, the values it may hold, and what a server sends for one in each row form."""

    field: WireField
    values: st.SearchStrategy[Any]
    text: Callable[[Any], bytes]
    binary: Callable[[Any], bytes]


def wire_field(code: int, *, flags: int = 0, charset: int = BINARY, length: int = 20, decimals: int = 0) -> WireField:
    return WireField(name="?", type_code=code, flags=flags, charset=charset, length=length, decimals=decimals)


def plain(value: Any) -> bytes:
    return prefixed(str(value).encode())


def integer(code: int, bits: int, form: str, *, is_unsigned: bool) -> Kind:
    low, high = (0, 2**bits - 1) if is_unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = st.integers(low, high) | st.sampled_from([low, high, 0, 1, 9, 10]) | st.integers(0, 99)
    flags = FLAG.UNSIGNED if is_unsigned else 0
    pack = struct.Struct("<" + (form.upper() if is_unsigned else form)).pack
    return Kind(wire_field(code, flags=flags), values, plain, pack)


def zerofilled(code: int, bits: int, form: str, width: int) -> Kind:
    kind = integer(code, bits, form, is_unsigned=True)
    return kind._replace(text=lambda value: prefixed(str(value).zfill(width).encode()))


def decimal(precision: int, scale: int) -> Kind:
    # The length that servers announce counts a sign, and a point if there is one.
    field = wire_field(FIELD_TYPE.NEWDECIMAL, length=precision + 1 + (scale > 0), decimals=scale)
    most = 10**precision - 1
    digits = st.integers(0, precision).flatmap(lambda n: st.integers(-(10**n) + 1, 10**n - 1)) | st.sampled_from(
        [most, -most, 0]
    )

    def text(value: int) -> bytes:
        shown = str(abs(value)).zfill(scale + 1)
        shown = shown[: len(shown) - scale] + "." + shown[len(shown) - scale :] if scale else shown
        return prefixed(("-" * (value < 0) + shown).encode())

    return Kind(field, digits, text, text)


def moment(code: int, decimals: int) -> Kind:
    low = dt.datetime(1, 1, 1) if code == FIELD_TYPE.DATETIME else dt.datetime(1970, 1, 1)
    step = 10 ** (6 - decimals)
    values = st.datetimes(low).map(lambda value: value.replace(microsecond=value.microsecond // step * step))
    values |= st.dates(low.date()).map(lambda value: dt.datetime(value.year, value.month, value.day))
    values |= st.datetimes(low).map(lambda value: value.replace(microsecond=0))

    def text(value: dt.datetime) -> bytes:
        shown = value.isoformat(" ", "microseconds")
        return prefixed(shown[: -6 + decimals if decimals else -7].encode() if decimals < 6 else shown.encode())

    def binary(value: dt.datetime) -> bytes:
        parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
        whole = struct.pack("<HBBBBBI", *parts)
        return prefixed(whole if parts[6] else whole[:7] if any(parts[3:]) else whole[:4])

    return Kind(wire_field(code, decimals=decimals), values, text, binary)


def time(decimals: int) -> Kind:
    most = 839 * 3600 * 10**6 - 1
    step = 10 ** (6 - decimals)
    values = st.integers(-most, most) | st.sampled_from([0, most, -most, 86400 * 10**6 - 1, -86400 * 10**6])

    def parts(micros: int) -> tuple[bool, int, int, int, int]:
        seconds, fraction = divmod(abs(micros) // step * step, 10**6)
        return micros < 0 and seconds + fraction > 0, seconds // 3600, seconds // 60 % 60, seconds % 60, fraction

    def text(micros: int) -> bytes:
        sign, hours, minutes, seconds, fraction = parts(micros)
        shown = f"{'-' * sign}{hours:02d}:{minutes:02d}:{seconds:02d}.{fraction:06d}"
        return prefixed(shown[: len(shown) - 6 + decimals if decimals else -7].encode())

    def binary(micros: int) -> bytes:
        sign, hours, minutes, seconds, fraction = parts(micros)
        whole = struct.pack("<BIBBBI", sign, hours // 24, hours % 24, minutes, seconds, fraction)
        return prefixed(whole if fraction else whole[:8] if any((hours, minutes, seconds)) else b"")

    return Kind(wire_field(FIELD_TYPE.TIME, decimals=decimals), values, text, binary)


def date() -> Kind:
    return Kind(
        wire_field(FIELD_TYPE.DATE, length=10),
        st.dates(),
        lambda value: prefixed(value.isoformat().encode()),
        lambda value: prefixed(struct.pack("<HBB", value.year, value.month, value.day)),
    )


def floating(code: int, form: str, values: st.SearchStrategy[float]) -> Kind:
    return Kind(wire_field(code, decimals=31), values, plain, struct.Struct(form).pack)


def bits(length: int) -> Kind:
    def raw(value: int) -> bytes:
        return prefixed(value.to_bytes((length + 7) // 8, "big"))

    return Kind(wire_field(FIELD_TYPE.BIT, length=length), st.integers(0, 2**length - 1), raw, raw)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["", "NULL", "x" * 63, "x" * 64, "x" * 65, "é" * 125, "y" * 250, "y" * 251, "ü" * 300]
)


def text(code: int, *, flags: int = 0) -> Kind:
    return Kind(
        wire_field(code, charset=UTF8, flags=flags),
        TEXTS,
        lambda value: prefixed(value.encode()),
        lambda value: prefixed(value.encode()),
    )


def octets(code: int) -> Kind:
    values = st.binary(max_size=20) | st.sampled_from(
        [b"\xff" * 250, b"\xfe" * 251, packets([b"ab", b"c"], sequence=7) * 9]
    )
    return Kind(wire_field(code), values, prefixed, prefixed)


KINDS = [
    *(
        integer(code, width, form, is_unsigned=is_unsigned)
        for code, width, form in (
            (FIELD_TYPE.TINY, 8, "b"),
            (FIELD_TYPE.SHORT, 16, "h"),
            (FIELD_TYPE.INT24, 24, "i"),
            (FIELD_TYPE.LONG, 32, "i"),
            (FIELD_TYPE.LONGLONG, 64, "q"),
        )
        for is_unsigned in (False, True)
    ),
    zerofilled(FIELD_TYPE.LONG, 32, "i", 10),
    zerofilled(FIELD_TYPE.LONGLONG, 64, "q", 20),
    Kind(
        wire_field(FIELD_TYPE.YEAR, flags=FLAG.UNSIGNED | FLAG.ZEROFILL, length=4),
        st.integers(1901, 2155) | st.just(0),
        lambda value: prefixed(f"{value:04d}".encode()),
        struct.Struct("<H").pack,
    ),
    *(
        decimal(precision, scale)
        for precision, scale in (
            (1, 0), (1, 1), (5, 2), (9, 0), (10, 3), (15, 2), (16, 7), (17, 8), (18, 0), (18, 4), (18, 9), (18, 17),
            (18, 18), (19, 0), (20, 10), (30, 15), (38, 0), (38, 30), (39, 2), (65, 30),
        )
    ),
    floating(FIELD_TYPE.FLOAT, "<f", st.floats(width=32, allow_nan=False, allow_infinity=False)),
    floating(FIELD_TYPE.DOUBLE, "<d", st.floats(allow_nan=False, allow_infinity=False)),
    date(),
    *(moment(code, decimals) for code in (FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP) for decimals in range(7)),
    *(time(decimals) for decimals in range(7)),
    *(bits(length) for length in (1, 2, 8, 9, 33, 63, 64)),
    text(FIELD_TYPE.VAR_STRING),
    text(FIELD_TYPE.STRING, flags=FLAG.ENUM),
    text(FIELD_TYPE.STRING, flags=FLAG.SET),
    text(FIELD_TYPE.JSON),
    octets(FIELD_TYPE.BLOB),
    octets(FIELD_TYPE.STRING),
    octets(FIELD_TYPE.GEOMETRY),
    octets(242),  # VECTOR
]  # fmt: skip
NULL_KIND = Kind(wire_field(FIELD_TYPE.NULL), st.nothing(), plain, plain)
