"""Whether the writer of a record lives.

Owns the two witnesses: the lock that a writer holds on its file for as long as it lives, and, where locks do not work, its process id
with its start and its boot.  Must not know what stands in a record.

A shared lock that is had at once proves that no writer is left: the kernel frees the writer's lock when its last descriptor is gone, also after
SIGKILL.  The lock is given back at once; while it is held, for microseconds, a writer that wants its lock must wait for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from typing import Final

from procflow.record.events import RunStarted
from procflow.record.reading.states import Writer

NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EBADF})
"""What ``flock(2)`` says on a file system that has no locks."""


def writer_by_lock(fd: int) -> Writer:
    """Ask the lock of the file; ``UNKNOWN`` where its file system has none."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Writer.ALIVE
    except OSError as exc:
        if exc.errno in NO_LOCKS:
            return Writer.UNKNOWN
        raise
    fcntl.flock(fd, fcntl.LOCK_UN)
    return Writer.GONE


def writer_by_pid(header: RunStarted | None) -> Writer:
    """Ask for the process that the header names; ``UNKNOWN`` if it ran on another machine, or if the header says too little."""
    if header is None or header.host != platform.node():
        return Writer.UNKNOWN
    boot = boot_id()
    if header.boot_id is None or boot is None:
        return Writer.UNKNOWN
    if header.boot_id != boot:
        return Writer.GONE
    if header.pid_start is None:
        return Writer.UNKNOWN
    return Writer.ALIVE if start_ticks(header.pid) == header.pid_start else Writer.GONE


def boot_id() -> str | None:
    """Return the id of this boot, ``None`` where the system has none (not Linux)."""
    return _read("/proc/sys/kernel/random/boot_id")


def start_ticks(pid: int, *, also_of_zombie: bool = False) -> int | None:
    """Return when the process started, in kernel ticks since the boot (``proc_pid_stat(5)``, field 22); ``None`` if it is gone.

    A zombie is gone, for it does nothing any more, unless its number is all that matters.
    """
    stat = _read(f"/proc/{pid}/stat")
    if stat is None:
        return None
    # The second field is the name of the program in parentheses, and may hold anything.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") and not also_of_zombie else int(fields[19])


def _read(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 4096).decode("utf-8", "replace").strip() or None
    except OSError:
        return None
    finally:
        os.close(fd)
