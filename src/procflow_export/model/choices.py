"""What an export may say about a column: another type than its source's, and what becomes of values that do not fit.

Owns the names of types and their grammar.  Pure text: which Arrow type a name stands for is in ``model.types``, and which
columns can have which is the business of each source.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

MAX_DECIMAL_PRECISION: Final = 76


class OnInvalid(StrEnum):
    """What becomes of a value that its column's Arrow type cannot hold (spec E-21); every changed value is counted."""

    ERROR = "error"
    """The export fails, and the error names column and row."""

    NULL = "null"
    """NULL."""

    TEXT = "text"
    """The column is the database's own text, which holds every value; bytes in it that are no UTF-8 become ``\\xNN``."""

    CLAMP = "clamp"
    """The nearest value that the type holds; where there is none (NaN, a date that never was), an error."""


class TypeName(StrEnum):
    """The types that a column can be given; the number in a name counts bytes."""

    BOOL = "bool"
    INT1 = "int1"
    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    UINT1 = "uint1"
    UINT2 = "uint2"
    UINT4 = "uint4"
    UINT8 = "uint8"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    DECIMAL = "decimal"
    TEXT = "text"
    ENUM = "enum"
    JSON = "json"
    UUID = "uuid"
    BINARY = "binary"
    WKB = "wkb"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMP_NS = "timestamp_ns"
    TIMESTAMP_TZ = "timestamp_tz"
    TIMESTAMP_TZ_NS = "timestamp_tz_ns"
    DURATION = "duration"
    LIST = "list"


INTEGERS: Final = frozenset(
    {
        TypeName.INT1,
        TypeName.INT2,
        TypeName.INT4,
        TypeName.INT8,
        TypeName.UINT1,
        TypeName.UINT2,
        TypeName.UINT4,
        TypeName.UINT8,
    }
)
FLOATS: Final = frozenset({TypeName.FLOAT4, TypeName.FLOAT8})
MOMENTS: Final = frozenset({TypeName.TIMESTAMP, TypeName.TIMESTAMP_NS, TypeName.TIMESTAMP_TZ, TypeName.TIMESTAMP_TZ_NS})

_ALIASES: Final[Mapping[str, TypeName]] = {
    "boolean": TypeName.BOOL,
    "tinyint": TypeName.INT1,
    "smallint": TypeName.INT2,
    "int16": TypeName.INT2,
    "int": TypeName.INT4,
    "integer": TypeName.INT4,
    "int32": TypeName.INT4,
    "bigint": TypeName.INT8,
    "int64": TypeName.INT8,
    "uint16": TypeName.UINT2,
    "uint32": TypeName.UINT4,
    "uint64": TypeName.UINT8,
    "real": TypeName.FLOAT4,
    "float32": TypeName.FLOAT4,
    "double": TypeName.FLOAT8,
    "double precision": TypeName.FLOAT8,
    "float64": TypeName.FLOAT8,
    "numeric": TypeName.DECIMAL,
    "string": TypeName.TEXT,
    "varchar": TypeName.TEXT,
    "char": TypeName.TEXT,
    "bpchar": TypeName.TEXT,
    "name": TypeName.TEXT,
    "dictionary": TypeName.ENUM,
    "jsonb": TypeName.JSON,
    "bytea": TypeName.BINARY,
    "blob": TypeName.BINARY,
    "varbinary": TypeName.BINARY,
    "timestamp without time zone": TypeName.TIMESTAMP,
    "timestamptz": TypeName.TIMESTAMP_TZ,
    "timestamp with time zone": TypeName.TIMESTAMP_TZ,
    "timestamp_utc": TypeName.TIMESTAMP_TZ,
    "timestamptz_ns": TypeName.TIMESTAMP_TZ_NS,
}
_DECIMAL: Final = re.compile(r"(?:decimal|numeric)\s*\(\s*(\d{1,3})\s*(?:,\s*([+-]?\d{1,3})\s*)?\)")
_LIST: Final = re.compile(r"list\s*<(.*)>")
_NEAR: Final = 0.6
ALLOWED: Final = ", ".join(
    {TypeName.DECIMAL: "decimal(p,s)", TypeName.LIST: "list<type>"}.get(name, name.value) for name in TypeName
)
"""Every type, as one line for people."""


class TypeTextError(ValueError):
    """A text names no type.

    Attributes:
        allowed: What may stand there.
        nearest: The type that was probably meant, if any resembles the text.
    """

    def __init__(self, message: str, *, allowed: str | None = None, nearest: str | None = None) -> None:
        self.allowed = allowed
        self.nearest = nearest
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenType:
    """A type as somebody wrote it.

    Attributes:
        name: Which one.
        precision: Digits of a decimal.
        scale: Digits after its point; never negative.
        element: What a list holds.
    """

    name: TypeName
    precision: int = 0
    scale: int = 0
    element: ChosenType | None = None

    def __str__(self) -> str:
        match self.name:
            case TypeName.DECIMAL:
                return f"decimal({self.precision},{self.scale})"
            case TypeName.LIST:
                return f"list<{self.element}>"
            case _:
                return self.name.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What an export wants of one column.

    Attributes:
        type: Another type than its source's; None keeps that.
        on_invalid: What becomes of values that the type cannot hold.
    """

    type: ChosenType | None = None
    on_invalid: OnInvalid = OnInvalid.ERROR


Choices: TypeAlias = Mapping[str, Choice]
"""What an export wants, by name of column."""

NO_CHOICES: Final[Choices] = MappingProxyType({})


def parse_type(text: str) -> ChosenType:
    """Return the type that a text names; case and white space do not matter.

    Raises:
        TypeTextError: If there is none, or its precision and scale do not go together.
    """
    words = " ".join(text.casefold().split())
    if match := _LIST.fullmatch(words):
        return ChosenType(name=TypeName.LIST, element=parse_type(match[1]))
    if match := _DECIMAL.fullmatch(words):
        return _decimal(int(match[1]), int(match[2] or 0))
    name = _ALIASES.get(words) or next((known for known in TypeName if known.value == words), None)
    if name is TypeName.DECIMAL:
        raise TypeTextError(
            "a decimal needs its digits, and how many of them stand after the point", allowed="decimal(p,s)"
        )
    if name is TypeName.LIST:
        raise TypeTextError("a list needs the type of its elements", allowed="list<type>")
    if words in {"interval", "month_day_nano"}:
        raise TypeTextError(
            "Parquet has no type for months, days and nanoseconds; an interval is ISO 8601 text", allowed="text"
        )
    if name is None:
        close = difflib.get_close_matches(
            words, [known.value for known in TypeName] + list(_ALIASES), n=1, cutoff=_NEAR
        )
        raise TypeTextError("there is no such type", allowed=ALLOWED, nearest=close[0] if close else None)
    return ChosenType(name=name)


def _decimal(precision: int, scale: int) -> ChosenType:
    if scale < 0:
        # Digits before the point that are always zero: Parquet has no such type, and a decimal without decimals holds them.
        precision, scale = precision - scale, 0
    if not 1 <= precision <= MAX_DECIMAL_PRECISION:
        raise TypeTextError(f"a decimal has 1 to {MAX_DECIMAL_PRECISION} digits")
    if scale > precision:
        raise TypeTextError("more digits after the point than digits", allowed=f"a scale of 0 to {precision}")
    return ChosenType(name=TypeName.DECIMAL, precision=precision, scale=scale)
