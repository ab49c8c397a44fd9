"""Which object keys are allowed, and what the names of temporary files say.

Owns both rules, for every destination.  Must not touch a file system.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final
from urllib.parse import quote

from procflow_export.destinations.port import Owner
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError

MAX_SEGMENT_BYTES: Final = 255
MAX_ESCAPED_CHARS: Final = 90
SMALL_OBJECT_MAX_BYTES: Final = 256 * 1024 * 1024
"""Manifests of a million parts stay below this; whatever is larger is no small object."""

_TEMPORARY: Final = re.compile(r"\.procflow~(?P<export>[^~/]+)~(?P<run_id>[^~/]+)~[0-9a-f]+\.tmp")


def check_key(key: str) -> str:
    """Return ``key`` if it may name an object: relative, ``/``-separated, no hidden, empty, ``.`` or ``..`` segment.

    Raises:
        DestinationError: With code ``DESTINATION_NOT_USABLE``, for everything else.
    """
    for segment in key.split("/"):
        if not segment or segment.startswith(".") or "\\" in segment or not segment.isprintable():
            raise DestinationError(Code.DESTINATION_NOT_USABLE, f"{key!r} is not a usable object key")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise DestinationError(
                Code.DESTINATION_NOT_USABLE, f"a name in {key!r} is longer than {MAX_SEGMENT_BYTES} bytes"
            )
    return key


def temporary_name(owner: Owner | None) -> str:
    """Return a new name, hidden and recognisable, that carries export and run."""
    export, run_id = (owner.export, owner.run_id) if owner else ("", "")
    return f".procflow~{_escaped(export)}~{_escaped(run_id)}~{secrets.token_hex(6)}.tmp"


def is_temporary_of(name: str, export: str) -> bool:
    """Return whether ``name`` is a temporary file of ``export``, of whichever run."""
    match = _TEMPORARY.fullmatch(name)
    return match is not None and match["export"] == _escaped(export)


def _escaped(word: str) -> str:
    """Return ``word`` as a piece of a file name; a digest stands for what would not fit."""
    escaped = quote(word, safe="").replace("~", "%7E")
    if len(escaped) <= MAX_ESCAPED_CHARS:
        return f"={escaped}"
    return f"#{hashlib.sha256(word.encode()).hexdigest()[:32]}"
