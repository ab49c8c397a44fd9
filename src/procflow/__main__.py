"""``python -m procflow``: what can be done from a shell.

Owns the first moments of the process: standard streams that are open.  Must not know what is typed.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Do what the command line says; does not return."""
    _open_missing_streams()
    try:
        from procflow.record.cli.main import main as do_what_was_typed
    except KeyboardInterrupt:
        os._exit(130)
    do_what_was_typed(sys.argv[1:])


def _open_missing_streams() -> None:
    """Let the null device stand in for a standard stream that is closed, so that no file takes its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one


if __name__ == "__main__":
    main()
