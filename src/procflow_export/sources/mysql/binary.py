"""Rows of the binary protocol become rows of the text protocol, every digit kept.

The text form of FLOAT has six digits and that of DOUBLE(M,D) has D decimals; the binary form has the number itself.  A
table is read with an expression around such a column, but a query cannot be: as a derived table the server may store its
rows first, and clamps DOUBLE(M,D) to M digits without a word.  So these queries, and only these, are prepared and read in
binary form.  Translating costs a Python step for every value; all other reads stay free of that.

Pure: bytes in, bytes out.  Protocol:
<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html>.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct, error
from typing import Final, TypeAlias

from pymysql.constants import FIELD_TYPE

from procflow_export.sources.mysql.packets import MAX_PAYLOAD, FramingError, split_rows
from procflow_export.sources.mysql.types import WireField

_Reader: TypeAlias = Callable[[bytes, int], tuple[bytes, int]]

_NULL: Final = b"\xfb"
_INTEGERS: Final = {
    FIELD_TYPE.TINY: ("<b", "<B"),
    FIELD_TYPE.SHORT: ("<h", "<H"),
    FIELD_TYPE.INT24: ("<i", "<I"),
    FIELD_TYPE.LONG: ("<i", "<I"),
    FIELD_TYPE.LONGLONG: ("<q", "<Q"),
    FIELD_TYPE.YEAR: ("<H", "<H"),
}
_DATE_LENGTHS: Final = frozenset({0, 4, 7, 11})
_TIME_LENGTHS: Final = frozenset({0, 8, 12})
_date = Struct("<HBB").unpack_from
_clock = Struct("<BBB").unpack_from
_time = Struct("<BIBBB").unpack_from
_micros = Struct("<I").unpack_from


class TextRows:
    """Translates the blocks of one binary result."""

    def __init__(self, fields: Sequence[WireField]) -> None:
        self._readers = tuple(_reader(field) for field in fields)
        self._values_at = 1 + (len(fields) + 9) // 8

    def translate(self, block: bytes) -> bytes:
        """Return the rows of a block of whole binary packets as text packets.

        Raises:
            FramingError: If a row's values do not fill its packet exactly.
        """
        data, starts, ends = split_rows(block)
        out = bytearray()
        for start, end in zip(starts, ends, strict=True):
            try:
                payload = self._row(data[start:end])
            except (IndexError, error) as exc:
                raise FramingError("a row ends before its last field") from exc
            _append_packets(out, payload)
        return bytes(out)

    def _row(self, row: bytes) -> bytes:
        if row[0] != 0:
            raise FramingError("a row begins with another byte than 0")
        position = self._values_at
        parts = []
        for index, read in enumerate(self._readers, start=2):  # two bits of the mask are reserved
            if row[1 + index // 8] >> index % 8 & 1:
                parts.append(_NULL)
            else:
                text, position = read(row, position)
                parts.append(text)
        if position != len(row):
            raise FramingError("a row does not end with its last field")
        return b"".join(parts)


def _append_packets(out: bytearray, payload: bytes) -> None:
    position = 0
    while True:
        part = payload[position : position + MAX_PAYLOAD]
        out += len(part).to_bytes(4, "little")
        out += part
        position += MAX_PAYLOAD
        if len(part) < MAX_PAYLOAD:
            return


def _reader(field: WireField) -> _Reader:
    code = field.type_code
    if code in _INTEGERS:
        return _number(Struct(_INTEGERS[code][field.is_unsigned]))
    if code == FIELD_TYPE.FLOAT:
        return _number(Struct("<f"))
    if code == FIELD_TYPE.DOUBLE:
        return _number(Struct("<d"))
    if code in {FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE}:
        return lambda row, at: _read_date(row, at, has_time=False)
    if code in {FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP}:
        return lambda row, at: _read_date(row, at, has_time=True)
    if code == FIELD_TYPE.TIME:
        return _read_time
    return _read_text


def _number(form: Struct) -> _Reader:
    unpack, size = form.unpack_from, form.size

    def read(row: bytes, at: int) -> tuple[bytes, int]:
        # repr() is the shortest text that gives the number back; a float32 is exact as a float64.
        return _short(repr(unpack(row, at)[0])), at + size

    return read


def _read_date(row: bytes, at: int, *, has_time: bool) -> tuple[bytes, int]:
    length = row[at]
    if length not in _DATE_LENGTHS:
        raise FramingError("a date has an impossible length")
    year, month, day = _date(row, at + 1) if length else (0, 0, 0)
    text = f"{year:04d}-{month:02d}-{day:02d}"
    if has_time:
        hour, minute, second = _clock(row, at + 5) if length > 4 else (0, 0, 0)
        text += f" {hour:02d}:{minute:02d}:{second:02d}"
        if length > 7:
            text += f".{_micros(row, at + 8)[0]:06d}"
    return _short(text), at + 1 + length


def _read_time(row: bytes, at: int) -> tuple[bytes, int]:
    length = row[at]
    if length not in _TIME_LENGTHS:
        raise FramingError("a time has an impossible length")
    is_negative, days, hours, minutes, seconds = _time(row, at + 1) if length else (0, 0, 0, 0, 0)
    text = f"{'-' if is_negative else ''}{days * 24 + hours:02d}:{minutes:02d}:{seconds:02d}"
    if length > 8:
        text += f".{_micros(row, at + 9)[0]:06d}"
    return _short(text), at + 1 + length


def _read_text(row: bytes, at: int) -> tuple[bytes, int]:
    """Return a text with its length before it, which has the same form in both protocols."""
    mark = row[at]
    if mark < 251:
        end = at + 1 + mark
    else:
        size = {252: 2, 253: 3, 254: 8}.get(mark)
        if size is None:
            raise FramingError("a field has an impossible length")
        end = at + 1 + size + int.from_bytes(row[at + 1 : at + 1 + size], "little")
    if end > len(row):
        raise FramingError("a field goes beyond its row")
    return row[at:end], end


def _short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode("ascii")
