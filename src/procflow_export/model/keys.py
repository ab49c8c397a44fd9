"""Keys: what orders the rows of a table, and the values that stand on that order.

Owns how a key and its values travel from planner to worker and from run to run.  A value is the database's own, as exact
text, and only the database ever compares two of them: collations, signs and calendars are its business.  No I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec


class KeyKind(StrEnum):
    """What kind of value a key has; it says how the value is written in a statement."""

    INTEGER = "integer"
    """Of any size: ``-12``."""
    DECIMAL = "decimal"
    """``-1.50``; PostgreSQL has ``NaN`` and infinities, too."""
    TEXT = "text"
    BYTES = "bytes"
    """Lower-case hexadecimal digits."""
    UUID = "uuid"
    DATE = "date"
    """``2026-03-04``, or however the database writes a date outside the years 1 to 9999."""
    TIMESTAMP = "timestamp"
    """Wall-clock time: ``2026-03-04 05:06:07.000001``."""
    INSTANT = "instant"
    """A point in time, always in UTC and saying so: ``2026-03-04 05:06:07+00``."""


class KeyValue(msgspec.Struct, frozen=True):
    """One value of one key part, exactly.

    Attributes:
        kind: How to read the text.
        text: The value.
    """

    kind: KeyKind
    text: str

    def __str__(self) -> str:
        return self.text


class KeyPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column of a key, or the first of two columns that is not NULL.

    Attributes:
        column: The column.
        kind: Kind of its values.
        fallback: The column that counts where ``column`` is NULL.
        is_nullable: Whether the part may be NULL; such rows are in no range (see ``NullKeys``).
    """

    column: str
    kind: KeyKind
    fallback: str | None = None
    is_nullable: bool = False

    def __str__(self) -> str:
        return self.column if self.fallback is None else f"coalesce({self.column}, {self.fallback})"


Key: TypeAlias = tuple[KeyPart, ...]
"""What rows are ordered by: the first part, among equal values the second, and so on."""

KeyValues: TypeAlias = tuple[KeyValue, ...]
"""A place in the order of a key: a value for each of its parts, or for the leading ones."""


class Bound(msgspec.Struct, frozen=True):
    """Where a range of keys ends.

    Attributes:
        values: For the leading parts of the key, or all: fewer values stand for every key that begins with them.
        is_inclusive: Whether the keys at ``values`` are in the range.
    """

    values: KeyValues
    is_inclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """What a table's indexes offer to whoever cuts it.

    Attributes:
        unique_keys: Columns of each unique index that identifies every row: whole (no partial index, no expression, no
            prefix), valid, and never NULL; the primary key first.
        leading_columns: Columns that an index for ranges begins with, so that bounds on them are found without a scan.
    """

    unique_keys: tuple[tuple[str, ...], ...] = ()
    leading_columns: frozenset[str] = frozenset()


NO_INDEXES: Final = Indexes()

_INTEGER: Final = re.compile(r"-?[0-9]+")


def integer_value(value: int) -> KeyValue:
    """Return an integer as a key's value."""
    return KeyValue(KeyKind.INTEGER, str(value))


def is_integer_text(text: str) -> bool:
    """Whether ``text`` is an integer in its one spelling."""
    return _INTEGER.fullmatch(text) is not None
