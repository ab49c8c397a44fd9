"""Events of an export as notes of a run record, and notes as events.

Owns the key, the value, and what is left out of a value that is too long.  Pure; must not know who records or reads.

A note carries the envelope of its record, so the event's own stands nowhere in the value, and neither does its type, which is the
key.  What comes back is the event that went in, with number and times of the record.  Two things may differ: what redaction took
out, and what was cut because a note holds ``MAX_NOTE_BYTES``; ``cut`` in the value names the fields, with their sizes as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import msgspec

from procflow.record.codec import RecordCodec, note_value
from procflow.record.envelope import EventCodec, Head, MalformedEventError, Unknown, tag_of
from procflow.record.events import MAX_NOTE_BYTES, Note
from procflow_export.model.events import RUN_EVENT_TYPES, UNIT_EVENT_TYPES, RunEvent, UnitEvent

if TYPE_CHECKING:
    from procflow.record.redaction.redactor import Json

PREFIX: Final = "export."
FIRST_ATTEMPT: Final = 1
"""An export is tried once in a run; what is tried again are its chunks."""

MAPS: Final = frozenset({"changed_values"})
"""The fields that map what a user named; every other map in JSON is a struct, which cannot do without its fields."""

_ENVELOPE: Final = ("type", "seq", "at_ms", "mono_ns")
_KEPT: Final = frozenset({"export", "exports", "run_id"})
"""Texts by which events are paired."""

_MOST: Final = 4096
"""Characters of a text that may stay when something has to go."""

_CHARS_PER_ITEM: Final = 16

ExportEvent: TypeAlias = RunEvent | UnitEvent
Tree: TypeAlias = dict[str, object]


def note_of(event: ExportEvent, *, clean: Callable[[Json], Json] | None = None) -> Note:
    """Return the note that says ``event``, on the job of its export if it is about one.

    Args:
        event: What happened; its envelope is left behind.
        clean: Takes secrets out of a JSON value.  It is asked before anything is cut: nobody recognises half a secret.

    Raises:
        UnrecordableError: If a number of it is outside 64 bits.
    """
    tree = _tree(event)
    export = getattr(event, "export", None)
    return Note(
        key=f"{PREFIX}{tag_of(event)}",
        value=note_value(_fitted(tree if clean is None else cast(Tree, clean(cast("Json", tree))))),
        job_id=export,
        attempt=None if export is None else FIRST_ATTEMPT,
    )


def note_codec() -> EventCodec[ExportEvent]:
    """Return a codec for ``event_of()``: of everything that a note may say."""
    return EventCodec((*RUN_EVENT_TYPES, *UNIT_EVENT_TYPES))


def event_of(note: Note, codec: EventCodec[ExportEvent]) -> ExportEvent | Unknown | None:
    """Return the event that ``note`` says, or ``None`` if it says nothing of an export.

    Total: the event of a later release, and one that is not what its key promises, is ``Unknown``.
    """
    if not note.key.startswith(PREFIX):
        return None
    head = Head(type=note.key.removeprefix(PREFIX), seq=note.seq, at_ms=note.at_ms, mono_ns=note.mono_ns)
    fields = note.value if isinstance(note.value, dict) else {}
    line = msgspec.json.encode({**fields, **msgspec.structs.asdict(head)})
    try:
        return codec.decode(line)
    except MalformedEventError:
        return Unknown(head=head, raw=line)


def _tree(event: ExportEvent) -> Tree:
    try:
        line = msgspec.json.encode(event)
    except UnicodeEncodeError:  # a path of the file system, maybe; the codec of records makes it readable
        line = RecordCodec().encode(event)
    tree = msgspec.json.decode(line, type=Tree)
    for name in _ENVELOPE:
        tree.pop(name, None)
    return tree


# ---- what is too long for a note


def _fitted(tree: Tree) -> Tree:
    """Return ``tree`` with the middle of its longest texts and the ends of its longest lists left out until it fits."""
    chars = _MOST
    fitted = tree
    while _size(fitted) > MAX_NOTE_BYTES:
        told: dict[str, int] = {}
        fitted = {name: _shortened(value, name, chars, told) for name, value in tree.items()} if chars else {}
        fitted["cut"] = told or {"": _size(tree)}
        chars //= 2
    return fitted


def _shortened(value: object, name: str, chars: int, told: dict[str, int]) -> object:
    field = name.rpartition(".")[2]
    items = chars // _CHARS_PER_ITEM
    short: object
    match value:
        case str() if len(value) > chars and field not in _KEPT:
            short = f"{value[: chars // 4]}…[cut]…{value[len(value) - chars // 2 :]}"
        case list() if len(value) > items:
            short = [_shortened(item, name, chars, {}) for item in value[:items]]
        case dict() if field in MAPS and len(value) > items:
            # The largest are the ones to know of.
            largest = sorted(value, key=lambda key: (-value[key], key))[:items]
            short = {key: value[key] for key in largest}
        case list():
            return [_shortened(item, name, chars, told) for item in value]
        case dict() if field not in MAPS:
            return {key: _shortened(item, f"{name}.{key}", chars, told) for key, item in value.items()}
        case _:
            return value
    told[name] = _size(value)
    return short


def _size(value: object) -> int:
    return len(msgspec.json.encode(value))
