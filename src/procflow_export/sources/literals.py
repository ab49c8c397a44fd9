"""Values of a query's parameters as SQL, where a database cannot bind them: PostgreSQL's ``COPY``, and MySQL's derived tables.

Owns the one way in which a value becomes text of a statement.  Must not know a connection.

**Nothing in a value can end the literal**, whatever the server makes of quotes and backslashes: of a text, only letters, digits and
characters outside of ASCII stand in it as they are.  PostgreSQL gets the rest as escapes of an ``E''`` text, MySQL gets bytes in
hexadecimal, which no ``sql_mode`` changes.

**Types.**  An integer, a float and a boolean are what they are.  A text has no type of its own in PostgreSQL: like a text in
quotes, and a bind parameter without a type, it takes the type that its place asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from procflow_export.model.plan import ParameterValue, Query, Scalar, Selection
from procflow_export.model.settings import SourceType
from procflow_export.model.statements import filled

_Literal: TypeAlias = Callable[[Scalar], str]


def with_literals(selection: Selection, engine: SourceType) -> Selection:
    """Return a selection without parameters that reads the same rows: each placeholder is a literal of its value."""
    if not isinstance(selection, Query) or not selection.parameters:
        return selection
    literal = _LITERALS[engine]
    values = {name: _listed(value, literal) for name, value in selection.parameters.items()}
    return Query(text=filled(selection.text, engine, values))


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


_LITERALS: Final[dict[SourceType, _Literal]] = {
    SourceType.POSTGRES: postgres_literal,
    SourceType.MYSQL: mysql_literal,
}


def _listed(value: ParameterValue, literal: _Literal) -> str:
    return ", ".join(map(literal, value)) if isinstance(value, tuple) else literal(value)


def _plain(value: int | None) -> str:
    if value is None:
        return "NULL"
    return str(value).upper() if isinstance(value, bool) else _signed(str(value))


def _signed(number: str) -> str:
    # Alone, the sign would join a minus before it to the beginning of a comment.
    return f"({number})" if number.startswith("-") else number
