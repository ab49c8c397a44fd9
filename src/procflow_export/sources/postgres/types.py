"""Which Arrow type a PostgreSQL type gets.

Owns the type table.  Must not touch a connection, nor know how values travel (``decoding/layout.py``).

Every type has an exact text form, the one that its output function prints under the session's settings (``session.py``), so
a type without an entry here is exported as that text.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from procflow_export.model.types import Column, Fidelity, LogicalType, decimal_type

NUMERIC: Final = "numeric"
_VARHDRSZ: Final = 4

_EXACT: Final[dict[str, tuple[LogicalType, pa.DataType]]] = {
    "bool": (LogicalType.BOOL, pa.bool_()),
    "int2": (LogicalType.INTEGER, pa.int16()),
    "int4": (LogicalType.INTEGER, pa.int32()),
    "int8": (LogicalType.INTEGER, pa.int64()),
    "oid": (LogicalType.INTEGER, pa.int64()),
    "float4": (LogicalType.FLOAT, pa.float32()),
    "float8": (LogicalType.FLOAT, pa.float64()),
    "text": (LogicalType.TEXT, pa.string()),
    "varchar": (LogicalType.TEXT, pa.string()),
    "bpchar": (LogicalType.TEXT, pa.string()),
    "name": (LogicalType.TEXT, pa.string()),
    "json": (LogicalType.JSON, pa.json_()),
    "jsonb": (LogicalType.JSON, pa.json_()),
    "uuid": (LogicalType.UUID, pa.uuid()),
    "bytea": (LogicalType.BYTES, pa.binary()),
    "date": (LogicalType.DATE, pa.date32()),
    "time": (LogicalType.TIME, pa.time64("us")),
    "timestamp": (LogicalType.TIMESTAMP, pa.timestamp("us")),
    "timestamptz": (LogicalType.INSTANT, pa.timestamp("us", "UTC")),
}

_MONEY: Final = pa.decimal128(19, 2)


def column(
    name: str, *, base_type: str, is_builtin: bool, category: str, native_type: str, typmod: int, is_nullable: bool
) -> Column:
    """Return the column for a type of the catalog.

    Args:
        name: The column's name.
        base_type: ``pg_type.typname``, of the type under all domains.
        is_builtin: Whether that type is one of PostgreSQL's own, so that its name means what it says.
        category: ``e`` for an enum, ``A`` for an array, anything else otherwise.
        native_type: What people call it, modifiers included.
        typmod: The type modifier; -1 for none.
        is_nullable: Whether NULL is allowed.
    """
    arrow_type: pa.DataType = pa.string()
    logical_type, fidelity = LogicalType.OTHER, Fidelity.TEXT
    if category == "A":
        logical_type, fidelity = LogicalType.ARRAY, Fidelity.COMPATIBLE
    elif category == "e":
        logical_type, fidelity = LogicalType.ENUM, Fidelity.EXACT
    elif is_builtin and base_type == NUMERIC:
        decimal = _numeric(typmod)
        if decimal is not None:
            logical_type, arrow_type, fidelity = LogicalType.DECIMAL, decimal, Fidelity.EXACT
    elif is_builtin and base_type == "money":
        logical_type, arrow_type, fidelity = LogicalType.MONEY, _MONEY, Fidelity.COMPATIBLE
    elif is_builtin and base_type in _EXACT:
        logical_type, arrow_type = _EXACT[base_type]
        fidelity = Fidelity.EXACT
    return Column(
        name=name,
        native_type=native_type,
        logical_type=logical_type,
        arrow_type=arrow_type,
        is_nullable=is_nullable,
        fidelity=fidelity,
    )


def _numeric(typmod: int) -> pa.DataType | None:
    """Return the decimal of a numeric's type modifier; its scale is signed since PostgreSQL 15."""
    if typmod < _VARHDRSZ:
        return None
    packed = typmod - _VARHDRSZ
    scale = ((packed & 0x7FF) ^ 1024) - 1024
    return decimal_type((packed >> 16) & 0xFFFF, scale)
