"""A helper program: an interpreter beside the host that shares nothing with it but a few descriptors.

Owns whether there can be one, how it is started, and what of this process belongs to helpers.  Must not know what any of
them does.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from typing import Final

from procflow._process.leader import FORCE_WAIT_THREAD_VARIABLE, Leader
from procflow._process.spawn import PopenSpawner, SpawnRequest

FOLDER: Final = os.path.join(os.path.dirname(__file__), "helpers")

PASSED_ON: Final = (b"LD_LIBRARY_PATH",)
"""What an interpreter may need to start.  Nothing else: a helper must carry no variable of a host above this one."""

INTERPRETERS: Final = ("python", "pypy")
"""How the names of interpreters begin."""

NULL: Final = -3
"""What stands for the null device in a request, as in ``subprocess``."""


class NoHelperError(Exception):
    """There can be no helper here; the text says why.  Never leaves this package."""


def own_pidfd() -> int:
    """Return a new descriptor that is readable once this process has ended, for helpers to inherit.

    Raises:
        NoHelperError: If this system has none.
        OSError: If there is no descriptor left.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open") or FORCE_WAIT_THREAD_VARIABLE in os.environ:
        raise NoHelperError("this system has no pidfds")
    fd = os.pidfd_open(os.getpid())
    try:
        return above_standard(fd)
    finally:
        os.close(fd)


def above_standard(fd: int) -> int:
    """Return a copy of ``fd`` that no standard descriptor of a child can take the place of: a host may have closed its own."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def start_helper(program: str, arguments: Sequence[object], *, pass_fds: Sequence[int], stdio: int = NULL) -> Leader:
    """Start the helper ``program`` in a session of its own; takes as long as any spawn, not as long as its interpreter.

    Whoever asks reaps it.

    Args:
        program: The name of its file.
        arguments: What it is told.
        pass_fds: Descriptors that it inherits under the same numbers, none of them below 3.
        stdio: A descriptor for its input and both outputs; by default the null device.

    Raises:
        NoHelperError: If there is no interpreter to run it with.
        SpawnError: If it cannot be started now.
        OSError: If its exit cannot be watched.
    """
    path = os.path.join(FOLDER, program)
    # The program of an application that is frozen, or that has an interpreter in it, is the application: it would be started again.
    name = os.path.basename(sys.executable or "").lower()
    if getattr(sys, "frozen", False) or not name.startswith(INTERPRETERS):
        raise NoHelperError("there is no Python interpreter to run it with")
    if not os.path.isfile(path):
        raise NoHelperError("its program is no file, because the package is imported from an archive")
    return PopenSpawner().spawn(
        SpawnRequest(
            name=f"procflow {program.removesuffix('.py')}",
            program=sys.executable,
            arguments=("-I", "-S", path, *map(str, arguments)),
            cwd="/",
            environment={name: os.environb[name] for name in PASSED_ON if name in os.environb},
            umask=None,
            pass_fds=tuple(pass_fds),
            stdin=stdio,
            stdout=stdio,
            stderr=stdio,
            group="own session",
        )
    )
