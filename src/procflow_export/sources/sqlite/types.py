"""Which Arrow type a SQLite column gets.

Owns the rules from declared type to column.  Must not touch a database.

SQLite stores any value in any column; the declared type only makes it prefer a storage class.  So the declared type
decides what a column *promises*, every value is checked against it, and one that breaks the promise is an error.  A
column without a declared type (mostly an expression of a query) gets its type from the storage classes that its values
have.  Rules of affinity: <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import pyarrow as pa

from procflow_export.model.choices import TypeName
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.types import BYTES_CARRIER, Column, Fidelity, LogicalType, decimal_type
from procflow_export.sources.columns.choices import Offers, offers_for

_DECIMAL: Final = re.compile(r"(?:NUMERIC|DECIMAL|DEC)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")

_NAMED: Final[dict[str, tuple[LogicalType, pa.DataType, Fidelity]]] = {
    "BOOLEAN": (LogicalType.BOOL, pa.bool_(), Fidelity.COMPATIBLE),
    "BOOL": (LogicalType.BOOL, pa.bool_(), Fidelity.COMPATIBLE),
    "DATE": (LogicalType.DATE, pa.date32(), Fidelity.COMPATIBLE),
    "DATETIME": (LogicalType.TIMESTAMP, pa.timestamp("us"), Fidelity.COMPATIBLE),
    "TIMESTAMP": (LogicalType.TIMESTAMP, pa.timestamp("us"), Fidelity.COMPATIBLE),
    "TIME": (LogicalType.TIME, pa.time64("us"), Fidelity.COMPATIBLE),
    "JSON": (LogicalType.JSON, pa.json_(), Fidelity.COMPATIBLE),
}

_SAYS_NOTHING: Final = frozenset({"", "ANY"})
_SAYS_NOTHING_OF_EXPRESSION: Final = frozenset({"", "ANY", "NUM", "BLOB"})
"""For an expression of a view or query, SQLite 3.41 and later reports these two where it knows no better."""


def declared_column(name: str, declared: str, *, is_nullable: bool, is_expression: bool) -> Column | None:
    """Return the column that a declared type promises, or ``None`` where it promises nothing.

    Args:
        name: Its name.
        declared: Its type as declared, or as SQLite reports it for a view.
        is_nullable: Whether NULL is allowed.
        is_expression: Whether the column may be an expression: one of a view or a query.
    """
    words = " ".join(declared.upper().split())
    if words in (_SAYS_NOTHING_OF_EXPRESSION if is_expression else _SAYS_NOTHING):
        return None
    match = _DECIMAL.fullmatch(words)
    if match:
        arrow_type = decimal_type(int(match.group(1)), int(match.group(2) or 0))
        if arrow_type is not None:
            kind = (LogicalType.DECIMAL, arrow_type, Fidelity.COMPATIBLE)
        else:
            kind = (LogicalType.OTHER, pa.string(), Fidelity.TEXT)
    else:
        kind = _NAMED.get(words.partition("(")[0].strip()) or _by_affinity(words)
    logical_type, arrow_type, fidelity = kind
    return Column(
        name=name,
        native_type=declared,
        logical_type=logical_type,
        arrow_type=arrow_type,
        is_nullable=is_nullable,
        fidelity=fidelity,
    )


def offers(native: Column) -> Offers:
    """Return the types that a column can be given under ``columns:``, and how its values then travel.

    A column may hold values of every kind, whatever it declares, so what has no type of its own can become all that a text can.
    """
    if native.logical_type is LogicalType.OTHER:
        native = replace(native, logical_type=LogicalType.TEXT)
    found = dict(offers_for(native))
    if TypeName.BINARY in found:
        found[TypeName.BINARY] = BYTES_CARRIER
    return found


def _by_affinity(words: str) -> tuple[LogicalType, pa.DataType, Fidelity]:
    if "INT" in words:
        return LogicalType.INTEGER, pa.int64(), Fidelity.EXACT
    if any(part in words for part in ("CHAR", "CLOB", "TEXT")):
        return LogicalType.TEXT, pa.string(), Fidelity.EXACT
    if "BLOB" in words:
        return LogicalType.BYTES, pa.binary(), Fidelity.EXACT
    if any(part in words for part in ("REAL", "FLOA", "DOUB")):
        return LogicalType.FLOAT, pa.float64(), Fidelity.EXACT
    return LogicalType.OTHER, pa.string(), Fidelity.TEXT


def observed_column(name: str, classes: frozenset[str], *, is_nullable: bool, is_chosen: bool) -> Column:
    """Return the column for values of these storage classes (``integer``, ``real``, ``text``, ``blob``).

    Args:
        name: Its name.
        classes: Those of its values.
        is_nullable: Whether NULL is allowed.
        is_chosen: Whether the user chose a type for it.

    Raises:
        DataError: If bytes and other values are mixed, for which no type keeps the difference, and nobody chose one.
    """
    arrow_type: pa.DataType
    fidelity = Fidelity.EXACT
    if not classes or classes == {"text"}:
        logical_type, arrow_type = LogicalType.TEXT, pa.string()
    elif classes == {"integer"}:
        logical_type, arrow_type = LogicalType.INTEGER, pa.int64()
    elif classes <= {"integer", "real"}:
        logical_type, arrow_type = LogicalType.FLOAT, pa.float64()
    elif classes == {"blob"}:
        logical_type, arrow_type = LogicalType.BYTES, pa.binary()
    elif is_chosen or "blob" not in classes:
        logical_type, arrow_type, fidelity = LogicalType.OTHER, pa.string(), Fidelity.TEXT
    else:
        raise DataError(
            Code.TYPE_NOT_SUPPORTED,
            f"the column {name!r} mixes bytes with other values: give it a type under `columns:`",
        )
    return Column(
        name=name,
        native_type="/".join(sorted(classes)) or "null",
        logical_type=logical_type,
        arrow_type=arrow_type,
        is_nullable=is_nullable,
        fidelity=fidelity,
    )
