"""The errors that every source raises in the same words.

Owns their texts.  Must not know a driver.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError, SourceError
from procflow_export.model.plan import Selection
from procflow_export.model.types import Column

MAX_SHOWN_CHARS: Final = 80


class ValueRefusedError(DataError):
    """A value does not fit the type of its column, and was not changed so that it would.

    Attributes:
        column: Name of the column.
        value: The value as text, shortened; empty where it cannot be shown.
        place: Where the row is: its key, or its number within the chunk.
    """

    def __init__(self, column: Column, *, value: str, place: str, reason: str = "") -> None:
        self.column = column.name
        self.value = shorten(value)
        self.place = place
        why = f": {reason}" if reason else ""
        shown = f" {self.value!r}" if value else ""
        super().__init__(
            Code.VALUE_REFUSED,
            f"column {column.name!r} ({column.native_type}) holds a value{shown} that does not fit {column.arrow_type}, "
            f"at {place}{why}",
        )


def shorten(text: str) -> str:
    """Return a text cut to what a message can show."""
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"


def checked_names(names: Iterable[str], selection: Selection) -> Sequence[str]:
    """Return the column names of a selection.

    Raises:
        SourceError: If there is none, or one is empty or stands twice.
    """
    result = list(names)
    if not result:
        raise SourceError(Code.SOURCE_QUERY_INVALID, f"{selection} has no columns")
    if "" in result:
        raise SourceError(
            Code.SOURCE_QUERY_INVALID, f"column {result.index('') + 1} of {selection} has no name: give it an alias"
        )
    doubled = [name for name, count in Counter(result).items() if count > 1]
    if doubled:
        raise SourceError(
            Code.SOURCE_QUERY_INVALID,
            f"{selection} has more than one column named {doubled[0]!r}: give each its own alias",
        )
    return result


def not_found(selection: Selection) -> SourceError:
    """Return the error for a table or view that is not there."""
    return SourceError(Code.SOURCE_NOT_FOUND, f"there is no table or view {selection}, or the user may not see it")


def schema_changed(selection: Selection, column: Column, what: str) -> DataError:
    """Return the error for a column that is not what the planner found.

    Args:
        selection: Whose.
        column: As it was planned.
        what: What it is now: ``is no longer there``.
    """
    return DataError(Code.SCHEMA_CHANGED, f"column {column.name!r} of {selection} {what}")


def connection_failure(error: SourceError, *, was_connected: bool) -> SourceError:
    """Return the error for a connection that could not be made.

    A server that never answered is a wrong address, which no retry corrects; one that answered before was lost.
    """
    if was_connected and error.code is Code.SOURCE_UNREACHABLE:
        return SourceError(Code.SOURCE_CONNECTION_LOST, error.message)
    return error
