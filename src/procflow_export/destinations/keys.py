"""Which object keys are allowed, and what the names of temporary files say.

Owns both rules, for every destination.  Must not touch a file system.
"""

from __future__ import annotations

import re
import secrets
from typing import Final
from urllib.parse import quote, unquote

from procflow_export.destinations.port import Owner
from procflow_export.model.codes import Code
from procflow_export.model.errors import DestinationError

MAX_SEGMENT_BYTES: Final = 255
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


def temporary_owner(name: str) -> Owner | None:
    """Return whose temporary file ``name`` is, or ``None`` for every other file."""
    match = _TEMPORARY.fullmatch(name)
    if match is None:
        return None
    return Owner(export=unquote(match["export"][1:]), run_id=unquote(match["run_id"][1:]))


def _escaped(word: str) -> str:
    return "=" + quote(word[:80], safe="").replace("~", "%7E")
