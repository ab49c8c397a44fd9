"""PostGIS prints a geometry as hexadecimal EWKB; without its number of a reference system that is well-known binary.

Owns the prefix: one byte that says which end comes first, four of type and flags, and four of the number where a flag says so.
Geometries inside of others carry no number.  See <https://postgis.net/docs/using_postgis_dbmanagement.html#EWKB_EWKT>.
"""

from __future__ import annotations

from typing import Final, Literal

import pyarrow as pa

from procflow_export.sources.arrays import DoesNotFitError, Values
from procflow_export.sources.text_columns import unhexlify

_HAS_SRID: Final = 0x2000_0000
_PREFIX_BYTES: Final = 5
_SRID_BYTES: Final = 4


def to_wkb(texts: Values) -> Values:
    """Convert hexadecimal EWKB to the bytes of WKB.

    Raises:
        pa.ArrowInvalid: If a text is something else.
    """
    values = unhexlify(texts)
    return pa.array([None if value is None else _without_srid(value) for value in values.to_pylist()], pa.binary())


def _without_srid(value: bytes) -> bytes:
    if len(value) < _PREFIX_BYTES or value[0] > 1:
        raise DoesNotFitError("not a geometry")
    order: Literal["little", "big"] = "little" if value[0] else "big"
    kind = int.from_bytes(value[1:_PREFIX_BYTES], order)
    if not kind & _HAS_SRID:
        return value
    return value[:1] + (kind & ~_HAS_SRID).to_bytes(4, order) + value[_PREFIX_BYTES + _SRID_BYTES :]
