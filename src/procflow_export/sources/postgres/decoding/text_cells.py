"""What one value of text ``COPY`` means, in plain Python.

Owns the text forms, as the output functions of the server print them under our settings (``session.py``), and the escapes of
the format: see "Text Format" on <https://www.postgresql.org/docs/current/sql-copy.html>.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

import pyarrow as pa

from procflow_export.sources.postgres import dates
from procflow_export.sources.postgres.decoding.cells import (
    CellMisfitError,
    DecimalType,
    Settle,
    fitting_decimal,
    fitting_moment,
    fitting_time,
    refuse_infinity,
    utf8_text,
)

NULL: Final = b"\\N"

_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_BOOLS: Final = {"t": True, "f": False}


def value_of(arrow_type: pa.DataType, raw: bytes | None, settle: Settle) -> object:
    """Return a value in the form in which ``pa.array`` takes it, dates and times as numbers.

    Args:
        arrow_type: What it is to become.
        raw: Its text without escapes; None for NULL.
        settle: Returns what takes the place of a value that does not fit, or raises.

    Raises:
        ValueError: If the text is none of that type.
    """
    if raw is None:
        return None
    try:
        return _value(arrow_type, utf8_text(raw))
    except CellMisfitError as exc:
        return settle(exc)


def unescaped(field: bytes) -> bytes | None:
    """Return the text of a field; None for NULL."""
    if field == NULL:
        return None
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), field)


def _value(arrow_type: pa.DataType, text: str) -> object:
    types = pa.types
    if types.is_boolean(arrow_type):
        return _BOOLS[text]
    if types.is_integer(arrow_type):
        return int(text)
    if types.is_floating(arrow_type):
        return float(text)
    if isinstance(arrow_type, DecimalType):
        return fitting_decimal(Decimal(text), arrow_type)
    if types.is_date(arrow_type) or types.is_timestamp(arrow_type):
        if text in {"infinity", "-infinity"}:
            refuse_infinity(arrow_type.bit_width, is_negative=text.startswith("-"))
        if types.is_date(arrow_type):
            return fitting_moment(dates.days_of(text), arrow_type.bit_width)
        moment = dates.microseconds_of(text, has_zone=arrow_type.tz is not None)
        return fitting_moment(moment, arrow_type.bit_width)
    if types.is_time(arrow_type):
        return fitting_time(dates.time_of(text))
    return text
