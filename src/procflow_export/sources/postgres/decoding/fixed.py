"""Fields of a fixed width become Arrow arrays: numbers, truth values, dates, times, UUIDs.

Owns their binary forms; see the ``*_send`` functions of the server's sources.  Everything is in network byte order, dates
and moments count from the year 2000.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from procflow_export.sources.arrays import Values, buffer_of
from procflow_export.sources.postgres.dates import DAY_US
from procflow_export.sources.postgres.decoding.binary_cells import UNIX_EPOCH_DAYS, UNIX_EPOCH_US
from procflow_export.sources.postgres.decoding.fields import Field, Mask, Numbers
from procflow_export.sources.postgres.decoding.misfits import Misfits

_BYTE: Final = np.dtype("u1")
_DATE: Final = np.dtype(">i4")
_MOMENT: Final = np.dtype(">i8")
_UUID: Final = np.dtype((np.void, 16))


def array_of(arrow_type: pa.DataType, values: Numbers, is_null: Mask | None) -> Values:
    """Return an Arrow array over the memory of ``values``, which are contiguous."""
    return pa.Array.from_buffers(arrow_type, len(values), [validity(is_null), buffer_of(values)])


def validity(is_null: Mask | None) -> pa.Buffer | None:
    """Return the bitmap of the values that are not NULL; None if none is NULL."""
    return None if is_null is None else buffer_of(np.packbits(~is_null, bitorder="little"))


def read_numbers(field: Field, arrow_type: pa.DataType) -> Values:
    """Return integers or floats."""
    dtype = np.dtype(arrow_type.to_pandas_dtype())
    return array_of(arrow_type, _native(field, dtype.newbyteorder(">")), field.is_null)


def read_bools(field: Field) -> Values:
    """Return truth values."""
    values = field.fixed(_BYTE)
    bits = buffer_of(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(field), [validity(field.is_null), bits])


def read_uuids(field: Field) -> Values:
    """Return UUIDs."""
    values = np.ascontiguousarray(field.fixed(_UUID))
    storage = pa.Array.from_buffers(pa.binary(_UUID.itemsize), len(field), [validity(field.is_null), buffer_of(values)])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def read_dates(field: Field, misfits: Misfits) -> Values:
    """Return dates; an infinity does not fit."""
    return _read_moments(field, pa.date32(), _DATE, UNIX_EPOCH_DAYS, misfits)


def read_timestamps(field: Field, misfits: Misfits) -> Values:
    """Return wall-clock times; an infinity, and what 64 bits do not hold since 1970, does not fit."""
    return _read_moments(field, pa.timestamp("us"), _MOMENT, UNIX_EPOCH_US, misfits)


def read_instants(field: Field, misfits: Misfits) -> Values:
    """Return points in time; an infinity, and what 64 bits do not hold since 1970, does not fit."""
    return _read_moments(field, pa.timestamp("us", "UTC"), _MOMENT, UNIX_EPOCH_US, misfits)


def read_times(field: Field, misfits: Misfits) -> Values:
    """Return times of day; 24:00 does not fit."""
    values = _native(field, _MOMENT)
    is_null = field.is_null
    if len(values) and values.max() >= DAY_US:
        misfit = values >= DAY_US
        is_null = misfits.settle(misfit, is_null)
        values[misfit] = DAY_US - 1
    return array_of(pa.time64("us"), values, is_null)


def _read_moments(field: Field, arrow_type: pa.DataType, dtype: np.dtype[Any], epoch: int, misfits: Misfits) -> Values:
    values = _native(field, dtype)
    is_null = field.is_null
    bounds = np.iinfo(dtype)
    latest = int(bounds.max) - epoch
    if len(values) and (values.max() > latest or values.min() == bounds.min):
        late, early = values > latest, values == bounds.min
        is_null = misfits.settle(late | early, is_null)
        values += epoch
        # Not the lowest number of all: many readers take that one for no time.
        values[late], values[early] = bounds.max, bounds.min + 1
    else:
        values += epoch
    return array_of(arrow_type, values, is_null)


def _native(field: Field, dtype: np.dtype[Any]) -> Numbers:
    return field.fixed(dtype).astype(dtype.newbyteorder("="))
