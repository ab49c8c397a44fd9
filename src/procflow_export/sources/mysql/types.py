"""Which Arrow type a MySQL or MariaDB column gets, and how a column is selected so that its text is exact.

Owns the type table.  Must not touch a connection.

One resolver serves tables and queries: what the server says of a result's columns (protocol type, flags, lengths).  The
catalog only adds the names that people know the types by.  Protocol values:
<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset_column_definition.html>.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import pyarrow as pa
from pymysql.constants import FIELD_TYPE, FLAG

from procflow_export.model.choices import TypeName
from procflow_export.model.types import (
    BYTES_CARRIER,
    ENUM,
    ENUM_CARRIER,
    Carrier,
    Column,
    Fidelity,
    LogicalType,
    decimal_type,
)
from procflow_export.sources import sql
from procflow_export.sources.columns.choices import Offers, offers_for

BINARY_CHARSET: Final = 63
NOT_FIXED_DECIMALS: Final = 31
VECTOR: Final = 242
_GEOMETRIES: Final = frozenset(
    {
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    }
)

_NOT_SENT_AS_TEXT: Final = frozenset(
    {
        LogicalType.INTEGER,
        LogicalType.FLOAT,
        LogicalType.YEAR,
        LogicalType.DATE,
        LogicalType.TIMESTAMP,
        LogicalType.INSTANT,
        LogicalType.DURATION,
    }
)
"""What the binary protocol sends as numbers, not as text."""

_Kind: TypeAlias = tuple[LogicalType, pa.DataType, Fidelity, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireField:
    """A column as the server describes it in a result."""

    name: str
    type_code: int
    flags: int
    charset: int
    length: int
    decimals: int

    @property
    def is_unsigned(self) -> bool:
        return bool(self.flags & FLAG.UNSIGNED)


_INTEGERS: Final[dict[int, tuple[str, pa.DataType, pa.DataType]]] = {
    FIELD_TYPE.TINY: ("tinyint", pa.int8(), pa.uint8()),
    FIELD_TYPE.SHORT: ("smallint", pa.int16(), pa.uint16()),
    FIELD_TYPE.INT24: ("mediumint", pa.int32(), pa.uint32()),
    FIELD_TYPE.LONG: ("int", pa.int32(), pa.uint32()),
    FIELD_TYPE.LONGLONG: ("bigint", pa.int64(), pa.uint64()),
}
_FIXED: Final[dict[int, _Kind]] = {
    FIELD_TYPE.FLOAT: (LogicalType.FLOAT, pa.float32(), Fidelity.EXACT, "float"),
    FIELD_TYPE.DOUBLE: (LogicalType.FLOAT, pa.float64(), Fidelity.EXACT, "double"),
    FIELD_TYPE.YEAR: (LogicalType.YEAR, pa.int16(), Fidelity.EXACT, "year"),
    FIELD_TYPE.DATE: (LogicalType.DATE, pa.date32(), Fidelity.EXACT, "date"),
    FIELD_TYPE.NEWDATE: (LogicalType.DATE, pa.date32(), Fidelity.EXACT, "date"),
    FIELD_TYPE.DATETIME: (LogicalType.TIMESTAMP, pa.timestamp("us"), Fidelity.EXACT, "datetime"),
    FIELD_TYPE.TIMESTAMP: (LogicalType.INSTANT, pa.timestamp("us", "UTC"), Fidelity.EXACT, "timestamp"),
    FIELD_TYPE.TIME: (LogicalType.DURATION, pa.duration("us"), Fidelity.EXACT, "time"),
    FIELD_TYPE.JSON: (LogicalType.JSON, pa.json_(), Fidelity.EXACT, "json"),
    FIELD_TYPE.GEOMETRY: (LogicalType.GEOMETRY, pa.binary(), Fidelity.COMPATIBLE, "geometry"),
    FIELD_TYPE.NULL: (LogicalType.TEXT, pa.string(), Fidelity.EXACT, "null"),
    VECTOR: (LogicalType.BYTES, pa.binary(), Fidelity.COMPATIBLE, "vector"),
}


def column(field: WireField, *, native_type: str | None, is_nullable: bool) -> Column:
    """Return the column for a field of a result.

    Args:
        field: The server's description.
        native_type: The catalog's name of the type; ``None`` where there is none (queries).
        is_nullable: Whether NULL is allowed.
    """
    logical_type, arrow_type, fidelity, name = _kind(field)
    return Column(
        name=field.name,
        native_type=native_type or name,
        logical_type=logical_type,
        arrow_type=arrow_type,
        is_nullable=is_nullable,
        fidelity=fidelity,
        carrier=ENUM_CARRIER if logical_type is LogicalType.ENUM else None,
    )


def offers(native: Column) -> Offers:
    """Return the types that a column can be given under ``columns:``, and how its values then travel."""
    found = dict(offers_for(native))
    if native.logical_type is LogicalType.BYTES:
        # The text of a binary string is what its bytes spell.
        found[TypeName.TEXT] = BYTES_CARRIER
    if native.logical_type is LogicalType.BITS or native.native_type.startswith("bit("):
        found[TypeName.TEXT] = Carrier(logical_type=native.logical_type, arrow_type=native.arrow_type)
    return found


def projection(selected: Column, *, is_binary: bool) -> str:
    """Return the SELECT expression of a column.

    The text form of FLOAT has six digits, that of DOUBLE(M,D) has D decimals: as a plain DOUBLE every digit is sent.  The
    binary form has the number itself.

    Args:
        selected: The column.
        is_binary: Whether the rows are sent in binary form.
    """
    name = sql.MYSQL.identifier(selected.name)
    if selected.logical_type is LogicalType.GEOMETRY:
        return f"ST_AsBinary({name})"
    if is_geometry(selected):
        return f"ST_AsText({name})"
    is_printed = travels_as_text(selected)
    may_lose_digits = selected.native_type.lower().startswith("float") or has_fixed_digits(selected)
    if may_lose_digits and (is_printed or not is_binary):
        name = f"{name} * 1e0"
    return f"CAST({name} AS CHAR)" if is_printed and is_binary else name


def travels_as_text(selected: Column) -> bool:
    """Whether a column travels as the text that the server makes of its values, where the binary form has another."""
    return selected.carried().logical_type is LogicalType.OTHER and selected.source_meaning in _NOT_SENT_AS_TEXT


def is_geometry(selected: Column) -> bool:
    """Whether a column holds geometries, in whatever form they travel."""
    return selected.source_meaning is LogicalType.GEOMETRY or selected.native_type.partition("(")[0] in _GEOMETRIES


def has_fixed_digits(selected: Column) -> bool:
    """Whether a column is FLOAT(M,D) or DOUBLE(M,D): an expression of such a type may have more digits than that.

    Where the server stores the rows of a query first, it cuts values to M digits and D decimals without a warning.
    """
    return selected.source_meaning is LogicalType.FLOAT and "(" in selected.native_type


def _kind(field: WireField) -> _Kind:
    code = field.type_code
    if code in _INTEGERS:
        name, signed, unsigned = _INTEGERS[code]
        if field.is_unsigned:
            return LogicalType.INTEGER, unsigned, Fidelity.EXACT, f"{name} unsigned"
        return LogicalType.INTEGER, signed, Fidelity.EXACT, name
    if code in {FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL}:
        return _decimal(field)
    if code == FIELD_TYPE.BIT:
        if field.length == 1:
            return LogicalType.BOOL, pa.bool_(), Fidelity.COMPATIBLE, "bit(1)"
        return LogicalType.BITS, pa.uint64(), Fidelity.COMPATIBLE, f"bit({field.length})"
    if code in {FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE}:
        logical_type, arrow_type, fidelity, name = _FIXED[code]
        if field.decimals < NOT_FIXED_DECIMALS:
            name = f"{name}({field.length},{field.decimals})"
        return logical_type, arrow_type, fidelity, name
    if code in _FIXED:
        return _FIXED[code]
    if code == FIELD_TYPE.ENUM or field.flags & FLAG.ENUM:
        return LogicalType.ENUM, ENUM, Fidelity.EXACT, "enum"
    if field.charset == BINARY_CHARSET and not field.flags & FLAG.SET:
        return LogicalType.BYTES, pa.binary(), Fidelity.EXACT, "binary"
    return LogicalType.TEXT, pa.string(), Fidelity.EXACT, "set" if field.flags & FLAG.SET else "text"


def _decimal(field: WireField) -> _Kind:
    # The length counts the characters of the longest value: digits, a point if there are decimals, a sign.
    precision = field.length - (1 if field.decimals else 0) - (0 if field.is_unsigned else 1)
    name = f"decimal({precision},{field.decimals})" + (" unsigned" if field.is_unsigned else "")
    arrow_type = decimal_type(precision, field.decimals)
    if arrow_type is None:
        return LogicalType.OTHER, pa.string(), Fidelity.TEXT, name
    return LogicalType.DECIMAL, arrow_type, Fidelity.EXACT, name
