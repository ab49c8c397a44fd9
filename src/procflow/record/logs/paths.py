"""Where the logs of a job are, in a run's directory.

A job id is any text; its directory is its percent-encoding.  Kept as they are: lower-case letters, digits, ``-``, ``_`` and a
``.`` that is not at an end.  Upper-case letters are encoded, so that two ids that differ only in case are two directories also
where the file system does not tell them apart.  A longer encoding than a file name may have goes on in a directory below; a
``%`` at the end of the name says so, and no other name ends in one.

Known hole: an id of more than about 1,200 bytes can be longer than a path may be; its log cannot be opened.
"""

from __future__ import annotations

import re
from typing import Final

MAX_NAME_CHARS: Final = 240
"""Of 255 that file systems have."""

_KEPT: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_ESCAPED: Final = re.compile("%([0-9A-F]{2})")
_NOTHING: Final = "%_"
"""The directory of the job whose id is the empty text."""
_GOES_ON: Final = "%"


def job_directory(job_id: str) -> str:
    """Return the directory of ``job_id``: one name, or several with ``/`` between them where one would be too long."""
    encoded = "".join(map(_encoded, job_id)) or _NOTHING
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if encoded.endswith("."):
        encoded = encoded[:-1] + "%2E"
    parts: list[str] = []
    while len(encoded) > MAX_NAME_CHARS:
        end = MAX_NAME_CHARS - 1
        # An escape is not divided, so that the sign at the end of a name is no part of one.
        end -= next((back for back in (1, 2) if encoded[end - back] == "%"), 0)
        # Nor does a name end in a dot, which some file systems drop.
        parts.append(encoded[:end] + _GOES_ON)
        encoded = encoded[end:]
    return "/".join((*parts, encoded))


def job_id_of(directory: str) -> str:
    """Return the job id whose directory is ``directory``: the inverse of ``job_directory()``.

    Raises:
        ValueError: If no id has that directory.
    """
    *parts, last = directory.split("/")
    encoded = "".join(part.removesuffix(_GOES_ON) for part in parts) + last
    decoded = (
        b"" if encoded == _NOTHING else _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), encoded).encode("latin-1")
    )
    job_id = decoded.decode("utf-8", "surrogatepass")
    if job_directory(job_id) != directory:
        raise ValueError("this is the directory of no job")
    return job_id


def log_path(job_id: str, *, attempt: int, sh: int) -> str:
    """Return the path of the log of call ``sh`` in ``attempt`` of ``job_id``, relative to the run's directory."""
    directory = f"jobs/{job_directory(job_id)}"
    return f"{directory}/sh-{sh:04d}.log" if attempt == 1 else f"{directory}/a{attempt}/sh-{sh:04d}.log"


def _encoded(character: str) -> str:
    if character in _KEPT:
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
