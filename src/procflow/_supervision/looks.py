"""What a look of a probe has seen, in a few words for an error.

Owns these words.  Must not know any probe.

They hold nothing that may be secret: no address, no answer of a server, no ``repr`` of what belongs to the caller.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

_BUILT_IN: Final = (bool, type(None), int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)


@dataclass(frozen=True, slots=True)
class NotYet:
    """What a look gives that has not found the process ready; says what it has seen instead."""

    seen: str


def reason_of(error: BaseException) -> str:
    """Return why a look has failed."""
    if isinstance(error, BaseExceptionGroup):  # one for each address of a name
        return ", ".join(dict.fromkeys(map(reason_of, error.exceptions)))
    if not isinstance(error, OSError):
        return type(error).__name__
    if type(error).__module__ == "ssl":  # imported by who uses it; its numbers are its own
        said = getattr(error, "verify_message", None) or getattr(error, "reason", None)
        return f"TLS failed: {said.replace('_', ' ').lower()}" if said else "TLS failed"
    if error.errno is None:
        return type(error).__name__ if error.__cause__ is None else reason_of(error.__cause__)
    # The system's own words: some event loops put the address into theirs.  Resolvers count below 0.
    return (os.strerror(error.errno) if error.errno > 0 else str(error.strerror)).lower()


def shown_falsehood(answer: object) -> str:
    """Return how what is false is shown."""
    return repr(answer) if type(answer) in _BUILT_IN else f"a false {type(answer).__name__}"
