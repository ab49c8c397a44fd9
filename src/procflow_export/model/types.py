"""Columns: what a source promises about each one, as a value that formats and checks can rely on.

Owns the Arrow type, the native name, and how faithful the one is to the other.  Must not know any driver.

Arrow types that need a word: a UUID is ``pa.uuid()`` and a JSON document ``pa.json_()``, both canonical extension types
(storage: 16 bytes, text).  Code that needs the bare bytes or text takes ``array.storage``.  An enum is a dictionary of
texts; batches of one column may have different dictionaries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import pyarrow as pa

from procflow_export.model.choices import MAX_DECIMAL_PRECISION, ChosenType, TypeName
from procflow_export.model.choices import OnInvalid as OnInvalid  # noqa: PLC0414 (a part of every column)

NATIVE_TYPE_KEY: Final = b"procflow.native_type"
LOGICAL_TYPE_KEY: Final = b"procflow.logical_type"
FIDELITY_KEY: Final = b"procflow.fidelity"
ON_INVALID_KEY: Final = b"procflow.on_invalid"
_CARRIER_KEY: Final = b"procflow.carrier"
_CHOSEN_FROM_KEY: Final = b"procflow.chosen_from"

MAX_DECIMAL128_PRECISION: Final = 38

ENUM: Final = pa.dictionary(pa.int32(), pa.string())
"""One of a few texts."""


class Fidelity(Enum):
    """How much of the native value the Arrow value keeps."""

    EXACT = "exact"
    """Same value, same meaning: the native value can be rebuilt from it."""

    COMPATIBLE = "compatible"
    """Same value under another type or a documented rule; some of the native type's meaning is not in the Arrow type."""

    TEXT = "text"
    """The database's own text form, because Arrow has no such type or its precision is not known."""


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
    """Several values in one: a list, or JSON text."""
    GEOMETRY = "geometry"
    """Well-known binary."""
    OTHER = "other"
    """No Arrow type of its own: the native text form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """The form in which a column's values leave the database, where that is not the form that batches have."""

    logical_type: LogicalType
    arrow_type: pa.DataType


TEXT_CARRIER: Final = Carrier(logical_type=LogicalType.OTHER, arrow_type=pa.string())
"""The database's own text."""
JSON_CARRIER: Final = Carrier(logical_type=LogicalType.ARRAY, arrow_type=pa.string())
"""JSON text that the database makes of a value."""
ENUM_CARRIER: Final = Carrier(logical_type=LogicalType.ENUM, arrow_type=pa.string())
"""The labels of an enum, which become a dictionary."""
BYTES_CARRIER: Final = Carrier(logical_type=LogicalType.BYTES, arrow_type=pa.binary())


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
        carrier: The form in which its values travel, where that is another than ``arrow_type``; they are converted by column,
            and each one is checked.
        chosen_from: What the source's own type means, where the user chose another.
    """

    name: str
    native_type: str
    logical_type: LogicalType
    arrow_type: pa.DataType
    is_nullable: bool = True
    fidelity: Fidelity = Fidelity.EXACT
    on_invalid: OnInvalid = OnInvalid.ERROR
    carrier: Carrier | None = None
    chosen_from: LogicalType | None = None

    @property
    def source_meaning(self) -> LogicalType:
        """What the source's own type means, whatever the user chose."""
        return self.chosen_from or self.logical_type

    def carried(self) -> Column:
        """Return the column as it leaves the database: what a decoder makes, before values are converted."""
        if self.carrier is None:
            return self
        return replace(self, logical_type=self.carrier.logical_type, arrow_type=self.carrier.arrow_type, carrier=None)

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
    return fields_fingerprint(
        pa.schema([pa.field(column.name, column.arrow_type, column.is_nullable) for column in columns])
    )


def fields_fingerprint(schema: pa.Schema) -> str:
    """Return what ``schema_fingerprint()`` says of the columns of a file."""
    text = "\n".join(
        f"{field.name!r} {_as_exported(field.type)} {'null' if field.nullable else 'not null'}" for field in schema
    )
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _as_exported(arrow_type: pa.DataType) -> pa.DataType:
    """Return the type as batches have it: Parquet gives the elements of a list another name."""
    return pa.list_(_as_exported(arrow_type.value_type)) if pa.types.is_list(arrow_type) else arrow_type


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


_NAMED: Final[Mapping[TypeName, tuple[LogicalType, pa.DataType]]] = {
    TypeName.BOOL: (LogicalType.BOOL, pa.bool_()),
    TypeName.INT1: (LogicalType.INTEGER, pa.int8()),
    TypeName.INT2: (LogicalType.INTEGER, pa.int16()),
    TypeName.INT4: (LogicalType.INTEGER, pa.int32()),
    TypeName.INT8: (LogicalType.INTEGER, pa.int64()),
    TypeName.UINT1: (LogicalType.INTEGER, pa.uint8()),
    TypeName.UINT2: (LogicalType.INTEGER, pa.uint16()),
    TypeName.UINT4: (LogicalType.INTEGER, pa.uint32()),
    TypeName.UINT8: (LogicalType.INTEGER, pa.uint64()),
    TypeName.FLOAT4: (LogicalType.FLOAT, pa.float32()),
    TypeName.FLOAT8: (LogicalType.FLOAT, pa.float64()),
    TypeName.TEXT: (LogicalType.TEXT, pa.string()),
    TypeName.ENUM: (LogicalType.ENUM, ENUM),
    TypeName.JSON: (LogicalType.JSON, pa.json_()),
    TypeName.UUID: (LogicalType.UUID, pa.uuid()),
    TypeName.BINARY: (LogicalType.BYTES, pa.binary()),
    TypeName.WKB: (LogicalType.GEOMETRY, pa.binary()),
    TypeName.DATE: (LogicalType.DATE, pa.date32()),
    TypeName.TIME: (LogicalType.TIME, pa.time64("us")),
    TypeName.TIMESTAMP: (LogicalType.TIMESTAMP, pa.timestamp("us")),
    TypeName.TIMESTAMP_NS: (LogicalType.TIMESTAMP, pa.timestamp("ns")),
    TypeName.TIMESTAMP_TZ: (LogicalType.INSTANT, pa.timestamp("us", "UTC")),
    TypeName.TIMESTAMP_TZ_NS: (LogicalType.INSTANT, pa.timestamp("ns", "UTC")),
    TypeName.DURATION: (LogicalType.DURATION, pa.duration("us")),
}


def chosen_arrow_type(chosen: ChosenType) -> tuple[LogicalType, pa.DataType]:
    """Return what a type that somebody wrote means, and the Arrow type for it."""
    match chosen:
        case ChosenType(name=TypeName.LIST, element=ChosenType() as element):
            return LogicalType.ARRAY, pa.list_(chosen_arrow_type(element)[1])
        case ChosenType(name=TypeName.DECIMAL, precision=precision, scale=scale):
            arrow_type = decimal_type(precision, scale)
            assert arrow_type is not None, "a chosen decimal was checked when it was parsed"
            return LogicalType.DECIMAL, arrow_type
        case _:
            return _NAMED[chosen.name]


def encode_columns(columns: Iterable[Column]) -> bytes:
    """Return the columns as bytes, for another process; ``decode_columns()`` gives them back equal."""
    return _serialized(pa.schema([_encoded(column) for column in columns]))


def decode_columns(data: bytes) -> tuple[Column, ...]:
    """Return the columns that ``encode_columns()`` was given.

    Raises:
        ValueError: If ``data`` was not made by it.
    """
    try:
        return tuple(_decoded(field) for field in _deserialized(data))
    except (pa.ArrowInvalid, OSError, KeyError) as exc:
        raise ValueError("not the columns of a work unit") from exc


def _encoded(column: Column) -> pa.Field[pa.DataType]:
    field = column.field()
    metadata: dict[bytes | str, bytes | str] = {key: value for key, value in (field.metadata or {}).items()}  # noqa: C416
    if column.carrier is not None:
        carrier = pa.field("", column.carrier.arrow_type, metadata=_logical(column.carrier.logical_type))
        metadata[_CARRIER_KEY] = _serialized(pa.schema([carrier]))
    if column.chosen_from is not None:
        metadata[_CHOSEN_FROM_KEY] = column.chosen_from.value.encode()
    return field.with_metadata(metadata)


def _decoded(field: pa.Field[pa.DataType]) -> Column:
    metadata = field.metadata or {}
    carrier = chosen_from = None
    if _CARRIER_KEY in metadata:
        (carried,) = _deserialized(metadata[_CARRIER_KEY])
        carrier = Carrier(logical_type=_logical_type(carried.metadata or {}), arrow_type=carried.type)
    if _CHOSEN_FROM_KEY in metadata:
        chosen_from = LogicalType(metadata[_CHOSEN_FROM_KEY].decode())
    return Column(
        name=field.name,
        native_type=metadata[NATIVE_TYPE_KEY].decode(),
        logical_type=_logical_type(metadata),
        arrow_type=field.type,
        is_nullable=field.nullable,
        fidelity=Fidelity(metadata[FIDELITY_KEY].decode()),
        on_invalid=OnInvalid(metadata.get(ON_INVALID_KEY, OnInvalid.ERROR.value.encode()).decode()),
        carrier=carrier,
        chosen_from=chosen_from,
    )


def _logical(logical_type: LogicalType) -> dict[bytes | str, bytes | str]:
    return {LOGICAL_TYPE_KEY: logical_type.value.encode()}


def _logical_type(metadata: Mapping[bytes, bytes]) -> LogicalType:
    return LogicalType(metadata[LOGICAL_TYPE_KEY].decode())


def _serialized(schema: pa.Schema) -> bytes:
    data: bytes = schema.serialize().to_pybytes()
    return data


def _deserialized(data: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(data))
