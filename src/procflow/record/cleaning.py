"""Which field of an event is what, for the redactor.

Owns that choice: a text, words of a command, variables, JSON.  Must not know what is secret, nor how a line is written.

A field that is named here by nobody holds a number or a word of the format.  A new field of text must be added here; a test
puts a secret into every text of every event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import msgspec

from procflow.record.events import (
    ErrorInfo,
    JobDeclared,
    JobSkipped,
    Note,
    RecordEvent,
    RunStarted,
    ShStarted,
)
from procflow.record.redaction.redactor import Json, Redactor
from procflow.record.text import command_line, path_text, words

E = TypeVar("E", bound=RecordEvent)


def clean(event: E, redactor: Redactor) -> E:
    """Return ``event`` without secrets.

    ``ShStarted`` comes with the words and the directory as they are, odd bytes as ``os.fsdecode()`` gives them, and leaves
    with what can be shown of them; its ``cmd`` is made here, unless a shell runs it.
    """
    texts = _texts_of(event)
    if texts is not None and redactor.leaves_alone(texts):
        return msgspec.structs.replace(event, **_shown(event)) if isinstance(event, ShStarted) else event
    changes: dict[str, object] = {}
    text = redactor.redact_text
    for name in _NAMES:
        value = getattr(event, name, None)
        if value is not None and (cleaned := text(value)) != value:
            changes[name] = cleaned
    error = getattr(event, "error", None)
    if error is not None:
        changes["error"] = ErrorInfo(type=text(error.type), message=text(error.message))
    special = _SPECIAL.get(type(event))
    if special is not None:
        changes |= special(event, redactor)
    return msgspec.structs.replace(event, **changes) if changes else event


_NAMES: Final = ("job_id", "name", "reason", "pipe", "log")
"""Fields that are plain texts, whatever the event."""


def _texts_of(event: RecordEvent) -> list[str] | None:
    """Return every text of an event; ``None`` of one for which that takes more than a look."""
    texts = [value for name in _NAMES if (value := getattr(event, name, None)) is not None]
    error = getattr(event, "error", None)
    if error is not None:
        texts += (error.type, error.message)
    if type(event) is ShStarted:
        texts += (*event.argv, event.cmd, event.cwd, *event.env_set, *event.env_unset)
        return texts if not event.env else None
    return texts if type(event) not in _SPECIAL else None


def _shown(started: ShStarted) -> dict[str, object]:
    """Return what can be shown of a command: its words and its directory as text, and how it reads."""
    argv = words(started.argv)
    cwd, cwd_b64 = path_text(started.cwd)
    return {
        "argv": argv.readable,
        "argv_b64": argv.in_base64,
        "cmd": started.cmd if started.shell else command_line(argv.readable),
        "cwd": cwd,
        "cwd_b64": cwd_b64,
    }


def _run_started(event: RecordEvent, redactor: Redactor) -> dict[str, object]:
    started = cast(RunStarted, event)
    return {"meta": redactor.redact_variables(started.meta)} if started.meta else {}


def _sh_started(event: RecordEvent, redactor: Redactor) -> dict[str, object]:
    started = cast(ShStarted, event)
    cleaned = msgspec.structs.replace(
        started,
        argv=tuple(redactor.redact_argv(started.argv)),
        cmd=redactor.redact_text(started.cmd),
        cwd=redactor.redact_text(started.cwd),
    )
    return {
        **_shown(cleaned),
        "env_set": tuple(map(redactor.redact_text, started.env_set)),
        "env_unset": tuple(map(redactor.redact_text, started.env_unset)),
        "env": redactor.redact_variables(started.env) if started.env else None,
    }


def _note(event: RecordEvent, redactor: Redactor) -> dict[str, object]:
    note = cast(Note, event)
    return {"key": redactor.redact_text(note.key), "value": redactor.redact_json(cast(Json, note.value))}


def _after(event: RecordEvent, redactor: Redactor) -> dict[str, object]:
    return {"after": tuple(map(redactor.redact_text, cast(JobDeclared, event).after))}


def _because(event: RecordEvent, redactor: Redactor) -> dict[str, object]:
    return {"because": tuple(map(redactor.redact_text, cast(JobSkipped, event).because))}


_SPECIAL: Final[dict[type[RecordEvent], Callable[[RecordEvent, Redactor], dict[str, object]]]] = {
    RunStarted: _run_started,
    ShStarted: _sh_started,
    Note: _note,
    JobDeclared: _after,
    JobSkipped: _because,
}
