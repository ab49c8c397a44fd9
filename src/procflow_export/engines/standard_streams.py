"""Descriptors 0, 1 and 2 of this program and its workers: always open, before anything else is.

A program that is started with one of them closed gets it back as the number of the next file or socket that it opens, and whatever is
printed or read afterwards goes there: into a part, into a database connection.  So every missing one becomes the null device.

Must stay cheap to import: it runs before everything else.
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

_STANDARD: Final = ("stdin", "stdout", "stderr")


def open_missing_streams() -> None:
    """Point every closed standard descriptor at the null device, and give Python a stream where it has none."""
    for descriptor, name in enumerate(_STANDARD):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is given out: those below are open by now, so it is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 (the function is the standard library's)
        if getattr(sys, name) is None:
            stream = _stream(descriptor)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _stream(descriptor: int) -> TextIO:
    return open(
        descriptor,
        "w" if descriptor else "r",
        encoding="utf-8",
        errors="backslashreplace" if descriptor == 2 else "surrogateescape",
        closefd=False,
    )
