"""The start of a helper program: an interpreter beside the host that has nothing to do with it but a few descriptors.

Owns how a helper is started and which processes of the host are helpers.  Must not know what any of them does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("helpers")

LOADER_VARIABLES: Final = ("LD_LIBRARY_PATH", "PYTHONHOME")
"""What an interpreter may need to start at all; nothing else of the host's environment is passed on."""

running: Final[set[int]] = set()
"""The pids of helpers that are children of this process and were not reaped."""

descriptors: Final[set[int]] = set()
"""Descriptors of this process that lead to helpers, and are kept for as long as the host lives."""


def start_helper(program: str, arguments: Sequence[object], *, pass_fds: Sequence[int]) -> int:
    """Start the helper ``program`` in a session of its own; return its pid.

    It reads and writes nothing but what it is passed.  It is a child of the host that ``reap_helper()`` reaps.

    Raises:
        OSError: If it cannot be started.
    """
    if not sys.executable:
        raise OSError("this interpreter does not know its own program")
    popen = subprocess.Popen(
        [sys.executable, "-I", "-S", str(FOLDER / program), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=pass_fds,
        start_new_session=True,
        cwd="/",
        env={name: os.environ[name] for name in LOADER_VARIABLES if name in os.environ},
    )
    popen.returncode = 0  # taken over: a Popen object that knows a return code never reaps behind our back, nor warns
    running.add(popen.pid)
    return popen.pid


def reap_helper(pid: int) -> bool:
    """Reap a helper if it has ended; return whether it is gone."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            return False
    running.discard(pid)
    return True
