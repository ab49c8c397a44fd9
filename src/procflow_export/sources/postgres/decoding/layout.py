"""In which form, and in which order, the columns of a result travel in binary ``COPY``.

Owns what both sides must agree on: the SELECT list that is sent, and what the decoder expects.  Pure.

*Form.*  Where we read a binary form, the column is cast to the very type whose form that is: the statement itself says what comes,
whatever domain or kin of the type the column has (the server drops a cast to the same type).  Texts are not cast: they are
sent as they are, while a cast to ``text`` would strip the padding of ``char(n)``.  All other types travel as the text that their
output function prints.  That is what ``concat`` makes of a value, not always what a cast to ``text`` makes of it: the cast of
an ``inet`` adds a netmask.

*Order.*  Columns of a fixed width that are never NULL come first: they mark the beginnings of rows and need no search of their own
(``framing.py``).  Then those of a fixed width, then ``char(n)``, which mostly has one, then all others.  A result without a
column of the first kind gets one in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from procflow_export.model.types import Column, LogicalType
from procflow_export.sources import sql

MARK: Final = b"\xcf\xc6"
"""What begins every row that has no beginning of its own: never part of a valid UTF-8 text."""
NUMERIC_HEAD_BYTES: Final = 16
"""The header of a numeric, and the digits that most have."""
MARK_EXPRESSION: Final = f"({int.from_bytes(MARK, 'big', signed=True)})::pg_catalog.int2"

_JSON_TYPES: Final = frozenset({"json", "jsonb"})
_CASTS: Final[dict[pa.DataType, tuple[str, int | None]]] = {
    pa.bool_(): ("bool", 1),
    pa.int16(): ("int2", 2),
    pa.int32(): ("int4", 4),
    pa.int64(): ("int8", 8),
    pa.float32(): ("float4", 4),
    pa.float64(): ("float8", 8),
    pa.date32(): ("date", 4),
    pa.time64("us"): ("time", 8),
    pa.timestamp("us"): ("timestamp", 8),
    pa.timestamp("us", "UTC"): ("timestamptz", 8),
    pa.uuid(): ("uuid", 16),
    pa.binary(): ("bytea", None),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the columns of a result travel.

    Attributes:
        columns: In the order that batches have.
        order: Their indices in the order in which they travel.
        has_mark: Whether a column of its own comes before them.
        certain_widths: Widths of the fields at the front that have a fixed one and are never NULL, the mark's included.
    """

    columns: tuple[Column, ...]
    order: tuple[int, ...]
    has_mark: bool
    certain_widths: tuple[int, ...]

    def select_list(self) -> list[str]:
        """Return the expressions that the server is to send."""
        expressions = [projection(self.columns[index]) for index in self.order]
        return [MARK_EXPRESSION, *expressions] if self.has_mark else expressions

    def peeks(self) -> list[int]:
        """Return for each field how many bytes are looked at, however long its value is."""
        widths = [_peek(self.columns[index]) for index in self.order]
        return [len(MARK), *widths] if self.has_mark else widths

    def place(self, index: int) -> int:
        """Return which field of a row the column of that index is."""
        return self.order.index(index) + self.has_mark


def layout_of(columns: Sequence[Column]) -> Layout:
    """Return how these columns travel."""
    order = sorted(range(len(columns)), key=lambda index: _rank(columns[index]))
    certain = [fixed_width(columns[index]) or 0 for index in order if _rank(columns[index]) == 0]
    return Layout(
        columns=tuple(columns),
        order=tuple(order),
        has_mark=not certain,
        certain_widths=tuple(certain) or (len(MARK),),
    )


def projection(column: Column) -> str:
    """Return the SELECT expression of a column."""
    name = sql.POSTGRES.identifier(column.name)
    match column.logical_type:
        case LogicalType.TEXT | LogicalType.ENUM:
            return name
        case LogicalType.JSON:
            return name if column.native_type in _JSON_TYPES else exact_text(name)
        case LogicalType.ARRAY:
            if not pa.types.is_list(column.arrow_type):
                return f"pg_catalog.array_to_json({name})"
            element = column.arrow_type.value_type
            return f"{name}::pg_catalog.{_cast(element)}[]" if _cast(element) else name
        case _:
            cast = _cast(column.arrow_type)
            return f"{name}::pg_catalog.{cast}" if cast else exact_text(name)


def exact_text(expression: str) -> str:
    """Return an expression for the text that the output function of a value's type prints; NULL stays NULL."""
    # IS NOT NULL would be false for a composite value with a NULL in it.
    return f"CASE WHEN {expression} IS DISTINCT FROM NULL THEN pg_catalog.concat({expression}) END"


def fixed_width(column: Column) -> int | None:
    """Return the bytes of every value of a column, NULLs aside; None if that depends on the value."""
    return _CASTS.get(column.arrow_type, ("", None))[1]


def _peek(column: Column) -> int:
    return NUMERIC_HEAD_BYTES if pa.types.is_decimal(column.arrow_type) else fixed_width(column) or 0


def _cast(arrow_type: pa.DataType) -> str | None:
    return "numeric" if pa.types.is_decimal(arrow_type) else _CASTS.get(arrow_type, (None, None))[0]


def _rank(column: Column) -> int:
    if fixed_width(column) is not None:
        return 1 if column.is_nullable else 0
    return 2 if column.native_type.startswith("character(") else 3
