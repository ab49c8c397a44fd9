"""Files that a command writes.

Owns that such a file is whole or is not there: it is written beside its place and then renamed.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from typing import Final

from procflow.record.cli.face import Face
from procflow.record.cli.statuses import CommandError, Status

STANDARD_OUTPUT: Final = "-"


def write_file(name: str, data: bytes, face: Face) -> None:
    """Write ``data`` to the file ``name``, in place of what was there; ``-`` is standard output.

    Raises:
        CommandError: If that cannot be done.
    """
    if name == STANDARD_OUTPUT:
        face.raw(data)
        return
    try:
        if _is_special(name):
            with open(name, "wb") as special:
                special.write(data)
        else:
            _replace(os.path.realpath(name), data)
    except OSError as exc:
        raise CommandError(
            Status.ENVIRONMENT, f"{name} cannot be written: {exc.strerror or exc}", "name a place where you may write"
        ) from exc


def _is_special(name: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(name).st_mode)
    except FileNotFoundError:
        return False


def _replace(path: str, data: bytes) -> None:
    directory, base = os.path.split(path)
    fd, beside = tempfile.mkstemp(dir=directory, prefix=f".{base[:100]}.", suffix=".part")
    try:
        with open(fd, "wb") as file:
            file.write(data)
        mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o666 & ~_umask()
        os.chmod(beside, mode)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
