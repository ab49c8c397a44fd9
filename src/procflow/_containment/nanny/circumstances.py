"""What a child gets from its host without being told: read off the host at the moment of the start.

Owns the reading.  Must not know who starts anything.

A nanny was forked earlier than her child is started, and from another process.  What can be told to her is told (umask,
blocked signals); what she has taken from her template is compared, and a template of other circumstances is given up.
"""

from __future__ import annotations

import os
import re
import resource
import signal
from dataclasses import dataclass
from typing import Final

from procflow.errors import PlatformError

STATUS: Final = "/proc/thread-self/status"
"""One read tells what system calls tell only one signal at a time, or by changing it."""

STATUS_BYTES: Final = 8192
"""What one read takes: enough for 500 groups."""

_FIELD: Final = re.compile(rb"^(Umask|SigBlk|SigIgn):\s*(\S+)", re.MULTILINE)

_POWERS: Final = b"\nCapInh:", b"\nvoluntary_ctxt"
"""Between these are capabilities, no_new_privs, seccomp, processors and memory nodes."""

NAMESPACES: Final = ("mnt", "net", "user", "uts", "ipc")

_LIMITS: Final = tuple(sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}))


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What may differ between a host and its template.

    Attributes:
        inherited: What a nanny has taken from her template: users and groups, root and namespaces, limits, niceness,
            privileges, processors, and the signals that are ignored.
        umask: The umask.
        blocked: The signals that are blocked in the calling thread.
    """

    inherited: tuple[object, ...]
    umask: int
    blocked: tuple[int, ...]


def read_circumstances() -> Circumstances:
    """Return those of this moment and thread.

    Raises:
        PlatformError: If the system does not tell.
        OSError: If no descriptor is left to ask.
    """
    text = _read_status()
    status = dict(_FIELD.findall(text))
    first, last = map(text.find, _POWERS)
    root = os.stat("/")
    try:
        umask, blocked, ignored = int(status[b"Umask"], 8), int(status[b"SigBlk"], 16), status[b"SigIgn"]
        namespaces = tuple(os.stat(f"/proc/self/ns/{name}").st_ino for name in NAMESPACES)
    except (KeyError, FileNotFoundError) as exc:
        raise PlatformError("what a child is to inherit cannot be read: it needs /proc and Linux 4.7") from exc
    inherited = (
        os.getresuid(),
        os.getresgid(),
        os.getgroups(),
        (root.st_dev, root.st_ino),
        namespaces,
        [resource.getrlimit(number) for number in _LIMITS],
        os.getpriority(os.PRIO_PROCESS, 0),
        ignored,
        text[first:last] if 0 <= first < last else b"",
    )
    return Circumstances(inherited, umask, _numbers(blocked))


def _read_status() -> bytes:
    try:
        with open(STATUS, "rb", buffering=0) as file:
            text = file.read(STATUS_BYTES)
            if len(text) == STATUS_BYTES:
                text += file.readall()
            return text
    except FileNotFoundError as exc:
        raise PlatformError("what a child is to inherit cannot be read: it needs /proc") from exc


def _numbers(mask: int) -> tuple[int, ...]:
    return tuple(number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1) if mask else ()
