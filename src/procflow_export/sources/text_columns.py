"""A column of texts, as a database prints values, becomes a column of its Arrow type.

Owns the exact conversions that more than one database needs, and the search for the row that does not convert.  Must not
know a database: what is particular to one is given as ``extra``.

Everything here works on whole columns.  A value that the type cannot hold raises ``pa.ArrowInvalid``; nothing is rounded
and nothing becomes NULL.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, assert_never

import numpy as np
import pyarrow as pa

from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.arrays import DoesNotFitError, Values, buffer_of
from procflow_export.sources.arrays import kernels as pc
from procflow_export.sources.columns.moments import to_duration, to_time

Conversion: TypeAlias = Callable[[Values], Values]
"""From a string array to an array of the same length; NULLs stay where they are."""

UUID_BYTES: Final = 16


def conversion_for(column: Column, extra: Mapping[LogicalType, Conversion] | None = None) -> Conversion:
    """Return what turns the texts of a column into its Arrow type.

    Args:
        column: Its logical type selects the conversion, its Arrow type is the result's.
        extra: Conversions of one database that come before those of this module.
    """
    arrow_type = column.arrow_type
    special = None if extra is None else extra.get(column.logical_type)
    if special is not None:
        return special
    kind = column.logical_type
    match kind:
        case LogicalType.BOOL:
            return to_bool
        case LogicalType.INTEGER | LogicalType.YEAR | LogicalType.FLOAT | LogicalType.DECIMAL | LogicalType.MONEY:
            return lambda texts: texts.cast(arrow_type)
        case LogicalType.DATE | LogicalType.TIMESTAMP | LogicalType.INSTANT:
            return lambda texts: texts.cast(arrow_type)
        case LogicalType.TIME:
            return to_time
        case LogicalType.DURATION:
            return to_duration
        case LogicalType.UUID:
            return to_uuid
        case LogicalType.JSON:
            return lambda texts: pa.ExtensionArray.from_storage(pa.json_(), texts)
        case LogicalType.TEXT | LogicalType.ENUM | LogicalType.ARRAY | LogicalType.OTHER:
            return lambda texts: texts
        case LogicalType.BYTES | LogicalType.BITS | LogicalType.GEOMETRY:
            raise TypeError(f"{kind.value} has no text form that all databases share")
        case _:
            assert_never(kind)


def first_failure(values: Values, convert: Conversion) -> int:
    """Return the index of the first value that ``convert`` refuses, in a column of which it refuses at least one."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(values.slice(low, middle - low))
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low


def to_bool(texts: Values) -> Values:
    """Convert ``t`` and ``f``, ``1`` and ``0``, ``true`` and ``false``."""
    is_true = pc.is_in(texts, value_set=pa.array(["t", "1", "true"]))
    is_false = pc.is_in(texts, value_set=pa.array(["f", "0", "false"]))
    known = pc.or_(is_true, is_false)
    if not pc.all(pc.or_(known, texts.is_null())).as_py() and len(texts):
        raise DoesNotFitError("not a truth value")
    return pc.if_else(known, is_true, pa.scalar(None, pa.bool_()))


def to_uuid(texts: Values) -> Values:
    """Convert 32 hexadecimal digits with or without hyphens."""
    digits = pc.replace_substring(texts, "-", "")
    lengths = pc.binary_length(digits)
    if not pc.all(pc.equal(lengths, 2 * UUID_BYTES)).as_py() and pc.count(lengths).as_py():
        raise DoesNotFitError("not a UUID")
    raw = unhexlify(pc.fill_null(digits, "00" * UUID_BYTES))
    return uuid_array(raw.buffers()[2], texts)


def uuid_array(data: pa.Buffer, like: Values) -> Values:
    """Return UUIDs over 16 bytes a row, NULL where ``like`` is NULL."""
    storage = pa.Array.from_buffers(pa.binary(UUID_BYTES), len(like), [validity_bitmap(like), data])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def to_bytes(texts: Values) -> Values:
    """Convert PostgreSQL's hexadecimal form of bytes: backslash, ``x``, and two digits a byte."""
    has_prefix = pc.all(pc.starts_with(texts, "\\x")).as_py()
    if has_prefix is False:
        raise DoesNotFitError("not the hexadecimal form of bytea")
    return unhexlify(pc.binary_replace_slice(texts.cast(pa.binary()), start=0, stop=2, replacement=b""))


def unhexlify(digits: Values) -> Values:
    """Convert texts of hexadecimal digits to the bytes that they spell."""
    texts = pa.concat_arrays([digits]) if digits.offset else digits
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1)
    start, stop = int(offsets[0]), int(offsets[-1])
    if (np.diff(offsets) & 1).any():
        raise DoesNotFitError("an odd number of hexadecimal digits")
    try:
        data = binascii.unhexlify(memoryview(texts.buffers()[2] or b"")[start:stop])
    except binascii.Error as exc:
        raise DoesNotFitError("not hexadecimal digits") from exc
    halves = ((offsets - start) // 2).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(texts), [validity_bitmap(texts), buffer_of(halves), pa.py_buffer(data)]
    )


def validity_bitmap(values: Values) -> pa.Buffer | None:
    """Return the bitmap of the rows that are not NULL, beginning at bit 0; ``None`` if no row is NULL."""
    if not values.null_count:
        return None
    present: pa.Buffer = pa.concat_arrays([values.is_valid()]).buffers()[1]
    return present
