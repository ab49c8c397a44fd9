"""A new file in the place of an old one, as a whole or not at all.

Owns the order that makes it so: written beside it, synced, renamed, and the directory synced.  Must not know what is written.
A crash leaves the old file or the new one, and perhaps a beginning beside it, which nobody reads and the next attempt removes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from typing import Final

BESIDE_SUFFIX: Final = ".scrub"

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_beside(path: str, blocks: Iterable[bytes]) -> str:
    """Write ``blocks`` to a new file beside ``path``, as readable as that, and return its path; on a failure nothing is left."""
    beside = path + BESIDE_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    fd = os.open(beside, _CREATE, 0o600)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.writelines(blocks)
            file.flush()
            os.fsync(fd)
    except BaseException:
        os.unlink(beside)
        raise
    return beside


def take_place(beside: str) -> None:
    """Let the file that ``write_beside()`` has written take the place of the old one."""
    path = beside.removesuffix(BESIDE_SUFFIX)
    os.replace(beside, path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """See to it that what was renamed or removed in ``path`` outlives the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
