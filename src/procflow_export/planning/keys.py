"""Which key an export is cut by, and in which way: decided from its configuration and what the catalog says.

Owns the choice and its refusals.  What it costs to cut that way is asked of the database afterwards, by whoever may ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from procflow_export.config.structs import ExportConfig
from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.keys import Indexes, Key, KeyKind, KeyPart
from procflow_export.model.plan import Query, Selection
from procflow_export.model.types import Column, LogicalType

CALENDAR_KINDS: Final = (KeyKind.DATE, KeyKind.TIMESTAMP, KeyKind.INSTANT)
_KINDS: Final = {
    LogicalType.INTEGER: KeyKind.INTEGER,
    LogicalType.DECIMAL: KeyKind.DECIMAL,
    LogicalType.TEXT: KeyKind.TEXT,
    LogicalType.BYTES: KeyKind.BYTES,
    LogicalType.UUID: KeyKind.UUID,
    LogicalType.DATE: KeyKind.DATE,
    LogicalType.TIMESTAMP: KeyKind.TIMESTAMP,
    LogicalType.INSTANT: KeyKind.INSTANT,
}
_SET: Final = re.compile(r"set(\(.*\))?", re.IGNORECASE | re.DOTALL)


def key_kind(column: Column) -> KeyKind | None:
    """Return the kind of key that a column can be, or ``None``.

    Floats are none, because their text does not always lead back to them; neither are types whose order is not that of
    their text and that the database compares with texts otherwise (MySQL's ``enum``, ``set``, ``year``).
    """
    meaning = column.source_meaning  # what a column becomes in the file does not change how the database orders it
    if meaning is LogicalType.TEXT and _SET.fullmatch(column.native_type):
        return None
    if meaning is LogicalType.OTHER and column.native_type == "numeric":
        return KeyKind.DECIMAL
    return _KINDS.get(meaning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Ranges of an integer column: of ``width`` keys, or ``count`` equal ones."""

    part: KeyPart
    width: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Windows of whole days, UTC, of a date or a time."""

    part: KeyPart
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Slices of about ``rows`` rows in the order of a key, or about ``count`` equal ones."""

    key: Key
    rows: int | None = None
    count: int | None = None


Way: TypeAlias = Ranges | Days | Slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the source's profile says of the selection.

    Attributes:
        selection: What the export reads.
        columns: Its columns.
        indexes: What cuts it well.
        row_estimate: Rows that are expected; None when nobody knows.
    """

    selection: Selection
    columns: tuple[Column, ...]
    indexes: Indexes
    row_estimate: int | None

    def part(self, name: str, fallback: str | None = None) -> KeyPart:
        """Return a column, or the first of two that is not NULL, as a part of a key.

        Raises:
            PlanError: If there is no such column, or its values cannot be bounds.
        """
        column = self._column(name)
        kind = self._kind(column)
        if fallback is None:
            return KeyPart(column=name, kind=kind, is_nullable=column.is_nullable)
        other = self._column(fallback)
        if self._kind(other) is not kind:
            raise PlanError(
                Code.PLAN_KEY_NOT_USABLE,
                f"{name!r} is of type {column.native_type} and {fallback!r} of type {other.native_type}: the one cannot"
                " stand in for the other",
            )
        return KeyPart(column=name, kind=kind, fallback=fallback, is_nullable=column.is_nullable and other.is_nullable)

    def usable_keys(self) -> list[Key]:
        """Return the keys that identify every row and whose values can be bounds, the primary key first."""
        by_name = {column.name: column for column in self.columns}
        return [
            tuple(self.part(name) for name in names)
            for names in self.indexes.unique_keys
            if all(name in by_name and key_kind(by_name[name]) is not None for name in names)
        ]

    def leads_index(self, part: KeyPart) -> bool:
        """Whether bounds on the part are found without reading the table, as far as the catalog tells."""
        return part.fallback is None and part.column in self.indexes.leading_columns

    def _column(self, name: str) -> Column:
        found = next((column for column in self.columns if column.name == name), None)
        if found is None:
            error = PlanError(Code.PLAN_KEY_MISSING, f"{self.selection} has no column {name!r}")
            if similar := [column.name for column in self.columns if column.name.casefold() == name.casefold()]:
                error.add_note(f"the column is spelled {similar[0]!r}")
            raise error
        return found

    def _kind(self, column: Column) -> KeyKind:
        kind = key_kind(column)
        if kind is None:
            raise PlanError(
                Code.PLAN_KEY_NOT_USABLE,
                f"the column {column.name!r} of {self.selection} is of type {column.native_type}, whose values cannot be"
                " bounds",
            )
        return kind


def chunked_way(export: ExportConfig, facts: Facts) -> tuple[Way, tuple[str, ...]]:
    """Return how a chunked export is cut, and what its operator should know of that.

    Raises:
        PlanError: If a key is named that does not exist or cannot be used, or none is named and there is none.
    """
    if export.chunk_by_key is not None:
        key, notes = named_key(export.chunk_by_key, facts)
        return Slices(key=key, rows=export.chunk_size, count=export.chunk_count), notes
    if export.chunk_column is not None:
        part = facts.part(export.chunk_column)
        notes = index_notes(part, facts, each="chunk")
        if export.chunk_by_days is not None:
            _require_kind(part, CALENDAR_KINDS, facts, "days need a date or a timestamp")
            return Days(part=part, days=export.chunk_by_days), notes
        _require_kind(
            part, (KeyKind.INTEGER,), facts, "only integers can be cut by range; name the key as `chunk_by_key`"
        )
        return Ranges(part=part, width=export.chunk_size, count=export.chunk_count), notes
    keys = facts.usable_keys()
    integer = next((key[0] for key in keys if len(key) == 1 and key[0].kind is KeyKind.INTEGER), None)
    if integer is not None:
        return Ranges(part=integer, width=export.chunk_size, count=export.chunk_count), ()
    if not keys:
        raise PlanError(
            Code.PLAN_KEY_MISSING,
            f"{facts.selection} has no unique key that is never NULL, whole and of types that can be bounds",
        )
    return Slices(key=keys[0], rows=export.chunk_size, count=export.chunk_count), ()


def reading_order(key: Key, facts: Facts) -> Key:
    """Return the key in whose order an index gives the rows of a chunk, so that they can be read piece by piece; or nothing.

    A unique key, where there is one that begins like the chunk's own: no two rows share a place in its order.

    Args:
        key: What the chunk is cut by; empty for a chunk of everything.
        facts: What is known of the table.
    """
    unique = facts.usable_keys()
    if not key:
        # The first key of all, or none: in the order of another index the rows of a table lie scattered.
        first = facts.indexes.unique_keys[:1]
        return next((order for order in unique[:1] if (tuple(part.column for part in order),) == first), ())
    for order in unique:
        if order[: len(key)] == key:
            return order
    return key[:1] if facts.leads_index(key[0]) else ()


def described(key: Sequence[KeyPart]) -> str:
    """Return a key as people write it; nothing for no key."""
    names = ", ".join(map(str, key))
    return names if len(key) < 2 else f"({names})"


def index_notes(part: KeyPart, facts: Facts, *, each: str) -> tuple[str, ...]:
    """Return a remark if bounds on ``part`` need the whole table, every ``each`` time; a query's indexes are not known."""
    if isinstance(facts.selection, Query) or facts.leads_index(part):
        return ()
    return (f"no index begins with {part}: every {each} reads the whole table",)


def named_key(named: str | Sequence[str], facts: Facts) -> tuple[Key, tuple[str, ...]]:
    """Return the key that a configuration names, and what its operator should know of it.

    Raises:
        PlanError: If it is no key of the table; of a query, if a column is missing or cannot be a bound.
    """
    names = (named,) if isinstance(named, str) else tuple(named)
    key = tuple(facts.part(name) for name in names)
    if isinstance(facts.selection, Query):
        return key, (
            f"whether an index serves {described(key)} is not known of a query: without one, every slice sorts it",
        )
    if names not in facts.indexes.unique_keys:
        usable = ", ".join(described(key) for key in facts.usable_keys())
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE,
            f"{described(key)} is no key of {facts.selection}: that needs a unique index over exactly these columns, in this"
            f" order, whole, valid and never NULL; {f'usable: {usable}' if usable else 'the table has none'}",
        )
    return key, ()


def _require_kind(part: KeyPart, kinds: Iterable[KeyKind], facts: Facts, why: str) -> None:
    if part.kind not in kinds:
        native = next(column.native_type for column in facts.columns if column.name == part.column)
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE, f"the column {part.column!r} of {facts.selection} is of type {native}: {why}"
        )
