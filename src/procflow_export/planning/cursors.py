"""Cursors: what an export goes on from, whether that is its own, and where it ends this time.

Owns the rules of ownership (spec E-13) and the choice of a cursor's key.  A stored cursor says "every row up to here is in
the published set"; that is only true of the database, the table, the columns and the format that it was made with.  So a
cursor that belongs to another export than the one that is configured now is refused, never guessed at.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec

from procflow_export.config.sizes import parse_duration_s
from procflow_export.config.structs import CursorMode, ExportConfig, Mode, TimeColumnType
from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.keys import Bound, Key, KeyKind, KeyPart, KeyValue, KeyValues
from procflow_export.model.manifest import CursorOwner, Manifest, StoredCursor
from procflow_export.model.plan import KeyRange, Relation, Selection
from procflow_export.model.settings import CsvOptions, Format, FormatOptions
from procflow_export.model.types import LogicalType
from procflow_export.planning.keys import CALENDAR_KINDS, Facts, described, index_notes, named_key

NULL_SCOPE: Final = "null"
"""Scope of the parts whose rows have no key: every run exports them anew."""
LATER_SCOPE: Final = "later"
"""Scope of the parts whose rows are of a day that has not come."""

_ACCEPTABLE: Final = ("source", "selection", "destination", "columns")
"""What may change while the stored position keeps its meaning, if somebody who knows says so."""
_UNBOUNDED: Final = {
    KeyKind.DECIMAL: frozenset({"nan", "infinity", "-infinity"}),
    **dict.fromkeys(CALENDAR_KINDS, frozenset({"infinity", "-infinity"})),
}
"""Lower-case texts of PostgreSQL's values that are no numbers and no days."""
_STORED_AS: Final = {
    *((KeyKind.TEXT, kind) for kind in CALENDAR_KINDS),
    (KeyKind.INTEGER, KeyKind.DECIMAL),
}
"""What SQLite stores values as, by what the column declares."""
_UNIX_TYPES: Final = frozenset({LogicalType.INTEGER, LogicalType.DECIMAL, LogicalType.FLOAT})


def owner_of(
    export: ExportConfig, *, selection: Selection, source: str, destination: str, options: FormatOptions
) -> CursorOwner:
    """Return what a cursor of ``export`` belongs to as it is configured now.

    Args:
        export: The export.
        selection: What it reads.
        source: The identity of its source.
        destination: Where its manifest is.
        options: How its parts are encoded.
    """
    return CursorOwner(
        mode=export.mode.value,
        source=source,
        selection=_selection_text(selection),
        destination=destination,
        format=_format_text(options),
        cursor=_cursor_text(export),
        columns=msgspec.json.encode(export.columns, order="deterministic").decode() if export.columns else "none",
    )


def own_cursor(previous: Manifest | None, owner: CursorOwner, *, is_cumulative: bool) -> StoredCursor | None:
    """Return the cursor that a run goes on from; ``None`` begins anew.

    Args:
        previous: The published set.
        owner: What a cursor of the export belongs to now.
        is_cumulative: Whether the export adds to its set; otherwise it would replace a set that was added to.

    Raises:
        PlanError: If the stored cursor belongs to something else.
    """
    cursor = None if previous is None else previous.cursor
    if cursor is None or (is_cumulative and cursor.owner == owner):
        return cursor
    changes = changes_of(cursor.owner, owner)
    error = PlanError(Code.CURSOR_NOT_OWNED, f"the published set was made by another export than this: {changes[0]}")
    for change in changes[1:]:
        error.add_note(change)
    if is_cumulative and is_acceptable(cursor.owner, owner):
        error.add_note("`state accept` keeps the cursor and the parts, if the rows are the same as before")
    error.add_note("`state reset` lets the next run export everything anew and replace the set")
    raise error


def changes_of(stored: CursorOwner, now: CursorOwner) -> list[str]:
    """Return what differs, one clause each."""
    return [
        f"its {name} was {before} and is {after}"
        for name in CursorOwner.__struct_fields__
        if (before := getattr(stored, name)) != (after := getattr(now, name))
    ]


def is_acceptable(stored: CursorOwner, now: CursorOwner) -> bool:
    """Whether the stored position can mean the same for the export as it is now."""
    return all(
        name in _ACCEPTABLE or getattr(stored, name) == getattr(now, name) for name in CursorOwner.__struct_fields__
    )


def cursor_key(export: ExportConfig, facts: Facts, stored: StoredCursor | None) -> tuple[Key, tuple[str, ...]]:
    """Return the key in whose order an export advances, and what its operator should know of it.

    An incremental cursor is followed by a key of the table where there is one: rows that share a cursor value, as those of
    one statement do, are told apart by it, so none is passed by when the others were exported.

    Raises:
        PlanError: If a column is missing or cannot be a cursor, or the stored cursor's key is no longer one of the table.
    """
    if export.mode is Mode.CHUNKED:
        named = export.chunk_by_key
        assert named is not None, "a checked export names the key that it goes on behind"
        key, notes = named_key(named, facts)
        return _unless_changed(key, stored), notes
    assert export.cursor_column is not None, "a checked incremental export has a cursor"
    fallback = export.cursor_fallback_column if export.incremental_cursor_mode is CursorMode.COALESCE else None
    part = facts.part(export.cursor_column, fallback)
    keys = facts.usable_keys()
    if stored is not None:
        names = [followed.column for followed in stored.key[1:]]
        is_still_one = any({each.column for each in key} <= {part.column, *names} for key in keys)
        # A query's keys are not known: its columns are taken at the word of whoever accepted the cursor for it.
        if names and not is_still_one and isinstance(facts.selection, Relation):
            raise _key_changed(stored.key, f"{facts.selection} has no such key any more")
        key = _unless_changed((part, *(facts.part(name) for name in names)), stored)
        return key, index_notes(part, facts, each="run")
    notes = index_notes(part, facts, each="run")
    if (part,) in keys:
        return (part,), notes
    if keys:
        return (part, *(each for each in keys[0] if each.column != part.column)), notes
    remark = (
        f"{facts.selection} shows no key that tells rows with the same {part} apart: a row that gets the last exported value"
        " later is passed by; `settle` makes that rare"
    )
    return (part,), (*notes, remark)


def settled_rows(export: ExportConfig, facts: Facts, now: datetime) -> KeyRange | None:
    """Return the chunk of the rows that are old enough to move the cursor; ``None`` when all are.

    Args:
        export: An incremental export.
        facts: What is known of its table.
        now: The source's time, UTC.

    Raises:
        PlanError: If the column is missing or is no date or timestamp.
    """
    if export.settle is None:
        return None
    assert export.cursor_column is not None, "a checked incremental export has a cursor"
    if export.settle.column is not None:
        part = facts.part(export.settle.column)
    else:
        coalesced = export.incremental_cursor_mode is CursorMode.COALESCE
        part = facts.part(export.cursor_column, export.cursor_fallback_column if coalesced else None)
    if part.kind not in CALENDAR_KINDS:
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE,
            f"`settle` needs a date or a timestamp, and {part} is neither: name another column",
        )
    cutoff = now.astimezone(UTC) - timedelta(seconds=parse_duration_s(export.settle.after))
    return KeyRange(key=(part,), high=Bound((_moment(cutoff, part.kind),), is_inclusive=True))


def usable_position(key: Key, position: KeyValues) -> KeyValues:
    """Return ``position`` if later keys can be beyond it.

    Raises:
        PlanError: If it is an infinity or NaN, or of another kind than its column's values (SQLite keeps any value in any column,
            and orders texts behind all numbers): behind it no row would ever be new.
    """
    value, part = position[0], key[0]
    is_of_kind = value.kind is part.kind or (value.kind, part.kind) in _STORED_AS
    if not is_of_kind or value.text.lower() in _UNBOUNDED.get(part.kind, ()):
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE,
            f"the largest value of {part} is {value.text!r}: behind it no row would ever be new; leave such rows out with a"
            " `query`",
        )
    return position


def window_part(export: ExportConfig, facts: Facts) -> KeyPart:
    """Return the time column of a window.

    Raises:
        PlanError: If it is missing, or not of the type that the configuration says.
    """
    assert export.time_column is not None, "a checked window has a time column"
    if export.time_column_type is TimeColumnType.UNIX:
        column = next((column for column in facts.columns if column.name == export.time_column), None)
        if column is not None and column.source_meaning in _UNIX_TYPES:
            # The bounds are whole seconds whatever the column's own type is.
            return KeyPart(column=column.name, kind=KeyKind.INTEGER, is_nullable=column.is_nullable)
    part = facts.part(export.time_column)
    kinds = (KeyKind.INTEGER,) if export.time_column_type is TimeColumnType.UNIX else CALENDAR_KINDS
    if part.kind not in kinds:
        wanted = "a number of seconds" if export.time_column_type is TimeColumnType.UNIX else "a date or a timestamp"
        raise PlanError(
            Code.PLAN_KEY_NOT_USABLE,
            f"the time column {part} of {facts.selection} is not {wanted}: see `time_column_type`",
        )
    return part


def first_day(export: ExportConfig, now: datetime) -> date:
    """Return the first day of a time window."""
    assert export.days_window is not None, "a checked window has a length"
    return now.astimezone(UTC).date() - timedelta(days=export.days_window)


def uncovered_days(stored: StoredCursor | None, first: date) -> str | None:
    """Return a remark about days that no run has exported whole, if there are any before ``first``."""
    if stored is None or stored.position is None:
        return None
    covered = date.fromisoformat(stored.position[0].text)
    if covered >= first:
        return None
    last = first - timedelta(days=1)
    return (
        f"the days from {covered} to {last} lie between the run before and this window: they are not exported, or not whole;"
        " a larger `days_window` reaches them"
    )


def _moment(moment: datetime, kind: KeyKind) -> KeyValue:
    if kind is KeyKind.DATE:
        # A date is old enough when all of its day is.
        return KeyValue(kind, (moment.date() - timedelta(days=1)).isoformat())
    suffix = "+00" if kind is KeyKind.INSTANT else ""
    return KeyValue(kind, f"{moment:%Y-%m-%d %H:%M:%S}{suffix}")


def _unless_changed(key: Key, stored: StoredCursor | None) -> Key:
    if stored is not None and [_shape(part) for part in key] != [_shape(part) for part in stored.key]:
        raise _key_changed(stored.key, "the types of its columns changed")
    return key


def _shape(part: KeyPart) -> tuple[str, str | None, KeyKind]:
    return part.column, part.fallback, part.kind


def _key_changed(key: Key, why: str) -> PlanError:
    error = PlanError(Code.CURSOR_NOT_OWNED, f"the stored cursor is one of {described(key)}: {why}")
    error.add_note("`state reset` lets the next run export everything anew and replace the set")
    return error


def _selection_text(selection: Selection) -> str:
    match selection:
        case Relation():
            return f"table {selection}"
        case _:
            return f"query sha256:{selection.sha256}"


def _format_text(options: FormatOptions) -> str:
    if options.format is not Format.CSV:
        return options.format.value
    usual = CsvOptions()
    special = [
        f"{name}={value!r}"
        for name in CsvOptions.__struct_fields__
        if (value := getattr(options.csv, name)) != getattr(usual, name)
    ]
    return " ".join([options.format.value, *special])


def _cursor_text(export: ExportConfig) -> str:
    match export.mode:
        case Mode.INCREMENTAL:
            if export.incremental_cursor_mode is CursorMode.COALESCE:
                return f"coalesce({export.cursor_column}, {export.cursor_fallback_column})"
            return str(export.cursor_column)
        case Mode.TIME_WINDOW:
            kind = export.time_column_type or TimeColumnType.TIMESTAMP
            return f"days of {export.time_column} ({kind.value})"
        case _ if export.keyset_incremental and export.chunk_by_key is not None:
            named = export.chunk_by_key
            return f"key {named if isinstance(named, str) else ', '.join(named)}"
        case _:
            return "none"
