"""What ``COPY`` writes: rows in its binary and in its text format, as the server's sources say, for tests of decoders."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_SPECIAL = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}


def binary_row(fields: Sequence[bytes | None]) -> bytes:
    """A row of the binary format; None is NULL."""
    return len(fields).to_bytes(2, "big") + b"".join(map(binary_field, fields))


def binary_field(value: bytes | None) -> bytes:
    """A field of a row, or an element of an array."""
    return b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value


def binary_numeric(number: Decimal) -> bytes:
    """What ``numeric_send`` writes."""
    if not number.is_finite():
        return struct.pack(">HhHH", 0, 0, _SPECIAL[str(number)], 0)
    sign, _, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    units = int("".join(map(str, number.as_tuple().digits))) * 10 ** (exponent % 4)
    place = exponent // 4
    digits: list[int] = []
    while units:
        units, digit = divmod(units, 10_000)
        digits.insert(0, digit)
    weight = place + len(digits) - 1 if digits else 0
    while digits and not digits[-1]:
        digits.pop()
    head = struct.pack(">HhHH", len(digits), weight, 0x4000 if sign and digits else 0, max(0, -exponent))
    return head + b"".join(digit.to_bytes(2, "big") for digit in digits)


def binary_array(elements: Sequence[bytes | None], *, dimensions: int = 1, lower_bound: int = 1) -> bytes:
    """What ``array_send`` writes; of several dimensions all but the first have size 1."""
    if not elements:
        dimensions = 0
    sizes = [len(elements), *[1] * (dimensions - 1)][:dimensions]
    has_nulls = any(element is None for element in elements)
    head = struct.pack(">iiI", dimensions, has_nulls, 23) + b"".join(
        struct.pack(">ii", size, lower_bound) for size in sizes
    )
    return head + b"".join(map(binary_field, elements))


def text_row(fields: Sequence[str | None]) -> bytes:
    """A row of the text format; None is NULL."""
    return ("\t".join(map(text_field, fields)) + "\n").encode()


def text_field(value: str | None) -> str:
    """A field of a row."""
    return "\\N" if value is None else "".join(_ESCAPES.get(character, character) for character in value)
