"""Columns: what a source promises about each one, as a value that formats and checks can rely on.

Owns the Arrow type, the native name, and how faithful the one is to the other.  Must not know any driver.

Arrow types that need a word: a UUID is ``pa.uuid()`` and a JSON document ``pa.json_()``, both canonical extension types
(storage: 16 bytes, text).  Code that needs the bare bytes or text takes ``array.storage``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import pyarrow as pa

NATIVE_TYPE_KEY: Final = b"procflow.native_type"
LOGICAL_TYPE_KEY: Final = b"procflow.logical_type"
FIDELITY_KEY: Final = b"procflow.fidelity"
ON_INVALID_KEY: Final = b"procflow.on_invalid"

MAX_DECIMAL128_PRECISION: Final = 38
MAX_DECIMAL_PRECISION: Final = 76


class Fidelity(Enum):
    """How much of the native value the Arrow value keeps."""

    EXACT = "exact"
    """Same value, same meaning: the native value can be rebuilt from it."""

    COMPATIBLE = "compatible"
    """Same value under another type or a documented rule; some of the native type's meaning is not in the Arrow type."""

    TEXT = "text"
    """The database's own text form, because Arrow has no such type or its precision is not known."""


class OnInvalid(Enum):
    """What becomes of a value that its column's Arrow type cannot hold (spec E-21); every changed value is counted."""

    ERROR = "error"
    """The export fails, and the error names column and row."""

    NULL = "null"
    CLAMP = "clamp"
    """The nearest value that the type holds; where there is none (NaN, a date that never was), an error."""


class LogicalType(Enum):
    """What a column means, whatever carries it."""

    BOOL = "bool"
    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"
    MONEY = "money"
    TEXT = "text"
    ENUM = "enum"
    JSON = "json"
    UUID = "uuid"
    BYTES = "bytes"
    BITS = "bits"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    """Wall-clock time without a zone."""
    INSTANT = "instant"
    """A point in time, in UTC."""
    DURATION = "duration"
    YEAR = "year"
    ARRAY = "array"
    """A nested value as JSON text."""
    GEOMETRY = "geometry"
    """Well-known binary."""
    OTHER = "other"
    """No Arrow type of its own: the native text form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a selection.

    Attributes:
        name: As the database names it; unique within a selection.
        native_type: The database's own name of the type, with its modifiers, for example ``numeric(10,2)``.
        logical_type: What the column means.
        arrow_type: What every batch carries for it.
        is_nullable: False only where the database guarantees it.
        fidelity: How faithful ``arrow_type`` is to ``native_type``.
        on_invalid: What becomes of values that ``arrow_type`` cannot hold.
    """

    name: str
    native_type: str
    logical_type: LogicalType
    arrow_type: pa.DataType
    is_nullable: bool = True
    fidelity: Fidelity = Fidelity.EXACT
    on_invalid: OnInvalid = OnInvalid.ERROR

    def field(self) -> pa.Field[pa.DataType]:
        """Return the Arrow field, with native type, logical type and fidelity in its metadata."""
        metadata: dict[bytes | str, bytes | str] = {
            NATIVE_TYPE_KEY: self.native_type.encode(),
            LOGICAL_TYPE_KEY: self.logical_type.value.encode(),
            FIDELITY_KEY: self.fidelity.value.encode(),
        }
        if self.on_invalid is not OnInvalid.ERROR:
            metadata[ON_INVALID_KEY] = self.on_invalid.value.encode()
        return pa.field(self.name, self.arrow_type, nullable=self.is_nullable, metadata=metadata)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Return the schema that every batch of these columns has."""
    return pa.schema([column.field() for column in columns])


def schema_fingerprint(columns: Iterable[Column]) -> str:
    """Return a digest of names, types and nullability; equal schemas have equal ones."""
    text = "\n".join(
        f"{column.name!r} {column.arrow_type} {'null' if column.is_nullable else 'not null'}" for column in columns
    )
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def decimal_type(precision: int, scale: int) -> pa.DataType | None:
    """Return the narrowest Arrow decimal that holds every ``numeric(precision, scale)``, or ``None`` if none does.

    A negative scale (digits rounded away before the point) becomes scale 0 with the digits it needs; a scale above the
    precision needs as many digits as the scale.
    """
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale, 1)
    if precision <= MAX_DECIMAL128_PRECISION:
        return pa.decimal128(precision, scale)
    if precision <= MAX_DECIMAL_PRECISION:
        return pa.decimal256(precision, scale)
    return None


def encode_columns(columns: Iterable[Column]) -> bytes:
    """Return the columns as bytes, for another process; ``decode_columns()`` gives them back equal."""
    data: bytes = arrow_schema(columns).serialize().to_pybytes()
    return data


def decode_columns(data: bytes) -> tuple[Column, ...]:
    """Return the columns that ``encode_columns()`` was given.

    Raises:
        ValueError: If ``data`` was not made by it.
    """
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(data))
        return tuple(_column(field) for field in schema)
    except (pa.ArrowInvalid, OSError, KeyError) as exc:
        raise ValueError("not the columns of a work unit") from exc


def _column(field: pa.Field[pa.DataType]) -> Column:
    metadata = field.metadata or {}
    return Column(
        name=field.name,
        native_type=metadata[NATIVE_TYPE_KEY].decode(),
        logical_type=LogicalType(metadata[LOGICAL_TYPE_KEY].decode()),
        arrow_type=field.type,
        is_nullable=field.nullable,
        fidelity=Fidelity(metadata[FIDELITY_KEY].decode()),
        on_invalid=OnInvalid(metadata.get(ON_INVALID_KEY, OnInvalid.ERROR.value.encode()).decode()),
    )
