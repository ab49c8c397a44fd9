"""The events of processes as records of ``logging``.

Owns the level, the message and the keys of a record.  Must not know what happened to whom.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Final

from procflow.observation import (
    Escalated,
    Escaped,
    GuardReplaced,
    Lost,
    Observer,
    ProcessEvent,
    Signalled,
    Stalled,
)

KEY_PREFIX: Final = "procflow_"
"""A record has attributes of its own (``name``, ``process``), so ours begin with this."""


def log_events(
    logger: logging.Logger | None = None, *, level: int = logging.INFO, trouble_level: int = logging.WARNING
) -> Observer:
    """Return an observer that logs each event: a readable message, and its fields as ``extra``.

    A record carries ``procflow_event`` (the class of the event in lower case, such as ``"spawned"``), every field of the event with
    ``procflow_`` before its name, and ``procflow_at`` (a text, ISO 8601) and ``procflow_mono_s``.  Values are plain: numbers, texts,
    ``None``, and dictionaries and tuples of such.  Signals that went to a group whose leader had exited, as they belong to every normal end,
    are logged at ``DEBUG``.

    Args:
        logger: Where to; ``logging.getLogger("procflow.events")`` by default.
        level: The level of everything that is as it should be.
        trouble_level: The level of the others: lost bytes, a subscriber whose patience with a stall is over, a signal that could
            not be sent, a step of a stop that was not enough, processes that escaped, a guard that was replaced.
    """
    target = logger if logger is not None else logging.getLogger("procflow.events")

    def log(event: ProcessEvent) -> None:
        number = trouble_level if _is_trouble(event) else level
        if isinstance(event, Signalled) and event.after_exit:
            number = min(level, logging.DEBUG)
        if target.isEnabledFor(number):
            target.log(number, "%s", event, extra=fields_of(event))

    return log


def fields_of(event: ProcessEvent) -> Mapping[str, object]:
    """Return what a record carries beside its message."""
    fields = {f"{KEY_PREFIX}{field.name}": _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}
    return {f"{KEY_PREFIX}event": event_name(event), **fields}


def event_name(event: ProcessEvent) -> str:
    """Return the name of its class in lower case, words joined by underscores: ``guard_replaced``."""
    name = type(event).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")


def _plain(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case tuple():
            return tuple(_plain(item) for item in value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value


def _is_trouble(event: ProcessEvent) -> bool:
    match event:
        case Escalated() | Escaped() | GuardReplaced() | Lost():
            return True
        case Stalled(action=action):
            return action is not None
        case Signalled(error=error, after_exit=after_exit):
            return error is not None and not after_exit
        case _:
            return False
