"""Key values in SQL text: how each database writes one, and how it is asked for the text of one.

Owns both directions, so that what was read is what is compared.  Nothing here depends on a session's settings but its time
zone and date style, which every session of ours pins (MySQL has no literal for an instant that says its zone), and no value
can end its literal: digits are checked, and texts are quoted or travel as hexadecimal digits.

A literal never says its type where the database finds it by itself: ``'…'`` beside a column of PostgreSQL becomes that
column's type, whatever it is, and the column's index serves the comparison.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import Key, KeyKind, KeyValue, KeyValues, is_integer_text

_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_HEX: Final = re.compile(r"([0-9a-fA-F]{2})*")
_TIME: Final = re.compile(r"[0-9A-Za-z :.+\-]+")
_MIDNIGHT: Final = " 00:00:00"
UTC_SUFFIX: Final = "+00"
"""What the text of every instant ends in."""


def postgres(value: KeyValue) -> str:
    """Return PostgreSQL's literal."""
    match value.kind:
        case KeyKind.INTEGER:
            return _checked(value, is_integer_text(value.text))
        case KeyKind.BYTES:
            return f"'\\x{_checked(value, _HEX.fullmatch(value.text))}'"
        case _:
            return _quoted(value)


def postgres_text(expression: str, kind: KeyKind) -> str:
    """Return the expression for the text of a key in PostgreSQL."""
    if kind is KeyKind.BYTES:
        return f"pg_catalog.encode({expression}, 'hex')"
    return f"({expression})::pg_catalog.text"


def mysql(value: KeyValue) -> str:
    """Return MySQL's literal."""
    match value.kind:
        case KeyKind.INTEGER:
            return _checked(value, is_integer_text(value.text))
        case KeyKind.DECIMAL:
            return _checked(value, _DECIMAL.fullmatch(value.text))
        case KeyKind.BYTES:
            return f"X'{_checked(value, _HEX.fullmatch(value.text))}'"
        case KeyKind.DATE | KeyKind.TIMESTAMP | KeyKind.INSTANT:
            return f"'{_checked(value, _TIME.fullmatch(value.text)).removesuffix(UTC_SUFFIX)}'"
        case _:
            # Quotes and backslashes mean what the server's sql_mode says; hexadecimal digits mean one thing.
            return f"_utf8mb4 X'{value.text.encode().hex()}'"


def mysql_text(expression: str, kind: KeyKind) -> str:
    """Return the expression for the text of a key in MySQL, where a result is text by itself."""
    match kind:
        case KeyKind.BYTES:
            return f"LOWER(HEX({expression}))"
        case KeyKind.INSTANT:
            return f"CONCAT({expression}, '{UTC_SUFFIX}')"
        case _:
            return expression


def sqlite(value: KeyValue) -> str:
    """Return SQLite's literal.

    A day's begin is its date alone: as a text it is before every time of the day, with a ``T`` or a space before the time.
    """
    match value.kind:
        case KeyKind.INTEGER:
            return _checked(value, is_integer_text(value.text))
        case KeyKind.BYTES:
            return f"x'{_checked(value, _HEX.fullmatch(value.text))}'"
        case KeyKind.TIMESTAMP | KeyKind.INSTANT:
            text = value.text.removesuffix(UTC_SUFFIX).removesuffix(_MIDNIGHT)
            return _quoted(KeyValue(value.kind, text))
        case _:
            return _quoted(value)


def sqlite_text(expression: str, _kind: KeyKind) -> str:
    """Return the expression for a key in SQLite: the value itself, whose storage class says what it is."""
    return expression


def sqlite_value(value: object) -> KeyValue:
    """Return a value of SQLite as a key's value, of the kind that it is stored as.

    Raises:
        SourceError: If it is a REAL, whose text does not lead back to it in every version.
    """
    match value:
        case int():
            return KeyValue(KeyKind.INTEGER, str(value))
        case str():
            return KeyValue(KeyKind.TEXT, value)
        case bytes():
            return KeyValue(KeyKind.BYTES, value.hex())
        case _:
            raise _unreadable(str(value), "stored as a REAL")


def key_values(key: Key, texts: Sequence[str]) -> KeyValues:
    """Return the values of a key from the texts that a database gave for its parts.

    Raises:
        SourceError: See ``readable()``.
    """
    return tuple(readable(KeyValue(part.kind, text)) for part, text in zip(key, texts, strict=True))


def readable(value: KeyValue) -> KeyValue:
    """Return ``value`` if its text is one of its kind.

    Raises:
        SourceError: If it is not: such a key is an error, never an empty range.
    """
    is_good = {
        KeyKind.INTEGER: is_integer_text(value.text),
        KeyKind.BYTES: bool(_HEX.fullmatch(value.text)),
        KeyKind.DATE: bool(_TIME.fullmatch(value.text)),
        KeyKind.TIMESTAMP: bool(_TIME.fullmatch(value.text)),
        KeyKind.INSTANT: bool(_TIME.fullmatch(value.text)),
    }
    if not is_good.get(value.kind, True):
        raise _unreadable(value.text, f"not of the kind {value.kind.value}")
    return value


def _quoted(value: KeyValue) -> str:
    if "\0" in value.text:
        raise _unreadable(value.text, "a text with a NUL character")
    return "'" + value.text.replace("'", "''") + "'"


def _checked(value: KeyValue, is_good: object) -> str:
    if not is_good:
        raise _unreadable(value.text, f"not of the kind {value.kind.value}")
    return value.text


def _unreadable(text: str, why: str) -> SourceError:
    shown = text if len(text) <= 80 else text[:79] + "…"
    return SourceError(Code.PLAN_KEY_NOT_USABLE, f"the key {shown!r} cannot be a bound: it is {why}")
