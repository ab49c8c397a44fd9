"""Events of a run as lines, and lines as events.

Owns the rules for numbers and text on a line.  Must not know what particular events mean.

Three things that JSON allows, or that msgspec lets pass, never stand on a line, because some reader of it would fail: integers
outside 64 bits, which no database column holds, numbers that are no finite float, and bytes that are no UTF-8.  msgspec does not look
into fields that it skips, so the codec looks itself, cheaply: nineteen digits in a row or an exponent of three digits make a line
suspect, and only a suspect line is walked through.
"""

from __future__ import annotations

from typing import Final

import msgspec

from procflow.record.envelope import Event, EventCodec, MalformedEventError, Unknown
from procflow.record.errors import UnrecordableError
from procflow.record.events import EVENT_TYPES, MAX_NOTE_BYTES, TYPE_SYNONYMS, RunEvent


class RecordCodec(EventCodec[RunEvent]):
    """Turns events of a run into lines and lines into events, under the rules for numbers and text.

    Not safe for use by two threads at once.
    """

    def __init__(self) -> None:
        super().__init__(EVENT_TYPES, synonyms=TYPE_SYNONYMS)

    def encode(self, event: Event) -> bytes:
        """Return ``event`` as one line of JSON, with its newline.  Text that is no Unicode is made readable.

        Raises:
            UnrecordableError: If it holds a number or a value that JSON has no place for.
        """
        try:
            line = super().encode(event)
        except UnicodeEncodeError:
            line = super().encode(msgspec.convert(_without_surrogates(msgspec.to_builtins(event)), type(event)))
        except (TypeError, RecursionError) as exc:
            raise UnrecordableError(str(exc)) from exc
        if _is_suspect(line) and not _numbers_fit(msgspec.json.decode(line)):
            raise UnrecordableError("an integer is outside 64 bits")
        return line

    def decode(self, line: bytes) -> RunEvent | Unknown:
        """Return the event on ``line`` (with or without its newline).

        Raises:
            MalformedEventError: If the line is no event, a broken one of a known type, or one without a number; if it is no
                UTF-8; if a number on it does not fit 64 bits.
        """
        event = super().decode(line)
        head = event.head if isinstance(event, Unknown) else event
        if head.seq < 0 or head.mono_ns < 0:
            raise MalformedEventError(line.rstrip(b"\r\n"), "its number or its moment is missing")
        if line.isascii():
            fits = not _is_suspect(line) or _all_numbers_fit(line)
        else:
            fits = _is_utf8(line) and (not _is_suspect(line) or _all_numbers_fit(line))
        if not fits:
            raise MalformedEventError(line.rstrip(b"\r\n"), "a number does not fit, or the text is no UTF-8")
        return event


def note_value(value: object) -> object:
    """Return ``value`` as it will be read back: dicts with string keys, lists, strings, numbers, booleans, ``None``.

    Raises:
        UnrecordableError: If it is longer than ``MAX_NOTE_BYTES`` as JSON, or holds what a record cannot: an integer outside 64
            bits, NaN, an infinity, a type that JSON does not know.
    """
    try:
        text = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value)))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnrecordableError(f"the value is no JSON: {exc}") from exc
    if len(text) > MAX_NOTE_BYTES:
        raise UnrecordableError(f"the value takes {len(text)} bytes, {MAX_NOTE_BYTES} are allowed")
    try:
        read: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise UnrecordableError(f"the value is no JSON: {exc}") from exc
    if not _numbers_fit(read) or not _is_finite(value):
        raise UnrecordableError("a number is outside 64 bits, or no number")
    return read


_MAX_INT: Final = 2**63 - 1
_MIN_INT: Final = -(2**63)
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789E", b"000000000e")


def _is_suspect(line: bytes) -> bool:
    """Whether a number may not fit.  Two searches for fixed bytes cost a tenth of one for a pattern."""
    alike = line.translate(_DIGITS_ALIKE, b"+")
    return b"0000000000000000000" in alike or b"e000" in alike


def _all_numbers_fit(line: bytes) -> bool:
    try:
        return _numbers_fit(msgspec.json.decode(line))
    except (msgspec.DecodeError, RecursionError):
        return False


def _numbers_fit(value: object) -> bool:
    return not any(type(leaf) is int and not _MIN_INT <= leaf <= _MAX_INT for leaf in _leaves(value))


def _is_finite(value: object) -> bool:
    # NaN and the infinities are written as null, so they are looked for before that.
    return not any(isinstance(leaf, float) and (leaf - leaf) != 0 for leaf in _leaves(msgspec.to_builtins(value)))


def _leaves(value: object) -> list[object]:
    found: list[object] = []
    open_values = [value]
    while open_values:
        item = open_values.pop()
        if isinstance(item, dict):
            open_values += item.values()
        elif isinstance(item, list | tuple):
            open_values += item
        else:
            found.append(item)
    return found


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_surrogates(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case _:
            return value
