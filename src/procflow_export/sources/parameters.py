"""What stands in a statement for a parameter of a query: a literal of its value, or a placeholder that SQLite binds.

Owns the one way in which a value becomes text of a statement.  Must not know a connection.  PostgreSQL's ``COPY`` and MySQL's derived
tables bind nothing, so there it is a literal.

**Nothing in a value can end the literal**, whatever the server makes of quotes and backslashes: of a text, only letters, digits and
characters outside of ASCII stand in it as they are.  PostgreSQL gets the rest as escapes of an ``E''`` text, MySQL gets bytes in
hexadecimal, which no ``sql_mode`` changes.

**Types.**  An integer, a float and a boolean are what they are.  A text has no type of its own in PostgreSQL: like a text in
quotes, and a bind parameter without a type, it takes the type that its place asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from procflow_export.model.plan import ParameterValue, Query, Scalar, Selection
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import filled

_ITEM: Final = "$"
"""Between the name of a list and the number of a value of it; in no name of a configuration."""


def postgres(_name: str, value: ParameterValue) -> str:
    """Return PostgreSQL's literal, or those of a list."""
    return _each(value, postgres_literal)


def mysql(_name: str, value: ParameterValue) -> str:
    """Return MySQL's literal, or those of a list."""
    return _each(value, mysql_literal)


def sqlite(name: str, value: ParameterValue) -> str:
    """Return SQLite's placeholder, or one for each value of a list; ``bound()`` has their values."""
    return ", ".join(f":{item}" for item in _bound(name, value))


def bound(selection: Selection) -> Mapping[str, Scalar]:
    """Return the values of SQLite's placeholders in a statement over ``selection``."""
    if not isinstance(selection, Query):
        return {}
    return {item: value for name, given in selection.parameters.items() for item, value in _bound(name, given).items()}


def without_values(query: Query) -> Query:
    """Return a query of SQLite with the same columns and no parameters, for a view, which binds nothing: they are NULL."""
    nothing = dict.fromkeys(query.parameters, "NULL")
    return Query(text=filled(query.text, SourceType.SQLITE, nothing))


def postgres_literal(value: Scalar) -> str:
    """Return the SQL of a value for PostgreSQL; a text must not hold a NUL, which no text of PostgreSQL does."""
    match value:
        case str():
            escaped = (char if char.isalnum() or not char.isascii() else f"\\x{ord(char):02X}" for char in value)
            return f"E'{''.join(escaped)}'"
        case float():
            return f"'{value!r}'::pg_catalog.float8"
        case _:
            return _plain(value)


def mysql_literal(value: Scalar) -> str:
    """Return the SQL of a value for MySQL and MariaDB; a float must be finite, as they have no other."""
    match value:
        case str():
            # With an introducer it is a text; alone it would be bytes.
            return f"_utf8mb4 X'{value.encode().hex()}'"
        case float():
            # Without an exponent it would be a DECIMAL.
            text = repr(value)
            return _signed(text if "e" in text else f"{text}e0")
        case _:
            return _plain(value)


def _bound(name: str, value: ParameterValue) -> dict[str, Scalar]:
    if isinstance(value, tuple):
        return {f"{name}{_ITEM}{index}": item for index, item in enumerate(value)}
    return {name: value}


def _each(value: ParameterValue, literal: Callable[[Scalar], str]) -> str:
    return ", ".join(map(literal, value)) if isinstance(value, tuple) else literal(value)


def _plain(value: int | None) -> str:
    if value is None:
        return "NULL"
    return str(value).upper() if isinstance(value, bool) else _signed(str(value))


def _signed(number: str) -> str:
    # Alone, the sign would join a minus before it to the beginning of a comment.
    return f"({number})" if number.startswith("-") else number
