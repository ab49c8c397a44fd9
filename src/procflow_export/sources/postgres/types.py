"""Which Arrow type a PostgreSQL type gets.

Owns the type table.  Must not touch a connection, nor know how values travel (``decoding/layout.py``).

Every type has an exact text form, the one that its output function prints under the session's settings (``session.py``), so
a type without an entry here is exported as that text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from procflow_export.model.choices import FLOATS, INTEGERS, TypeName
from procflow_export.model.types import (
    ENUM,
    JSON_CARRIER,
    TEXT_CARRIER,
    Column,
    Fidelity,
    LogicalType,
    decimal_type,
)
from procflow_export.sources.columns.choices import Offers, offers_for

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

_LISTED: Final = frozenset(_EXACT) - {"oid", "json", "jsonb"}
"""The types of elements whose arrays are lists."""

_BY_NAME: Final[dict[str, frozenset[TypeName]]] = {
    NUMERIC: INTEGERS | FLOATS | {TypeName.DECIMAL},
    "time with time zone": frozenset({TypeName.TIME}),
    "geometry": frozenset({TypeName.WKB}),
    "geography": frozenset({TypeName.WKB}),
}
"""What else the text of a type without an Arrow type can become."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementFacts:
    """What the catalog says of an array beyond its own type.

    Attributes:
        base_type: ``pg_type.typname`` of its elements' type.
        is_builtin: Whether that type is one of PostgreSQL's own.
        category: ``e`` for enums, ``d`` for domains, anything else otherwise.
        dimensions: As declared; 0 where nobody says.
    """

    base_type: str
    is_builtin: bool
    category: str
    dimensions: int


def column(
    name: str,
    *,
    base_type: str,
    is_builtin: bool,
    category: str,
    native_type: str,
    typmod: int,
    is_nullable: bool,
    element: ElementFacts | None = None,
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
        element: What an array holds.
    """
    arrow_type: pa.DataType = pa.string()
    logical_type, fidelity = LogicalType.OTHER, Fidelity.TEXT
    if category == "A":
        logical_type, fidelity = LogicalType.ARRAY, Fidelity.COMPATIBLE
        listed = None if element is None else _list_type(element)
        if listed is not None:
            arrow_type, fidelity = listed, Fidelity.EXACT
    elif category == "e":
        logical_type, arrow_type, fidelity = LogicalType.ENUM, ENUM, Fidelity.EXACT
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


def offers(native: Column) -> Offers:
    """Return the types that a column can be given under ``columns:``, and how its values then travel."""
    found = dict(offers_for(native))
    if native.logical_type is LogicalType.ARRAY:
        found |= {TypeName.LIST: JSON_CARRIER, TypeName.JSON: JSON_CARRIER}
    if native.logical_type is LogicalType.OTHER:
        found[TypeName.JSON] = JSON_CARRIER
        word = native.native_type.rpartition(".")[2].partition("(")[0]
        found |= dict.fromkeys(_BY_NAME.get(word, ()), TEXT_CARRIER)
    return found


def _list_type(element: ElementFacts) -> pa.DataType | None:
    """Return the list for a flat array, or ``None`` where JSON is its form."""
    if element.dimensions > 1:
        return None
    if element.category == "e":
        return pa.list_(pa.string())
    if element.is_builtin and element.base_type in _LISTED:
        return pa.list_(_EXACT[element.base_type][1])
    return None


def _numeric(typmod: int) -> pa.DataType | None:
    """Return the decimal of a numeric's type modifier; its scale is signed since PostgreSQL 15."""
    if typmod < _VARHDRSZ:
        return None
    packed = typmod - _VARHDRSZ
    scale = ((packed & 0x7FF) ^ 1024) - 1024
    return decimal_type((packed >> 16) & 0xFFFF, scale)
