"""Where cgroups can be made: the directory of a cgroup v2 that was delegated to the host.

Owns the search for it and the words for why there is none.  Must not know what is done there: the nanny does it.

A control group holds every process that was born in it, whatever it does, and ``cgroup.kill`` (Linux 5.14) ends all of them
at once.  It needs a directory that the host may write, which containers and ordinary logins mostly do not have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Final

MOUNTS: Final = "/proc/self/mountinfo"
MEMBERSHIP: Final = "/proc/self/cgroup"


@dataclass(frozen=True, slots=True)
class Delegated:
    """The path of the directory, or why there is none: one of the two is empty."""

    path: str = ""
    reason: str = ""


def find_delegated(wanted: str | None) -> Delegated:
    """Return the directory ``wanted``, or by default the host's own cgroup, if cgroups can be made there.

    Raises:
        OSError: If no descriptor is left to look.
    """
    path = wanted if wanted is not None else _own_directory()
    if path is None:
        return Delegated(reason="this system has no cgroup v2 with this process in it")
    if not os.path.isfile(f"{path}/cgroup.procs"):
        return Delegated(reason=f"{path} is no directory of a cgroup v2")
    if not os.access(path, os.W_OK) or not os.access(f"{path}/cgroup.procs", os.W_OK):
        return Delegated(reason=f"{path} is not delegated to this user")
    return Delegated(path.rstrip("/"))


def _own_directory() -> str | None:
    try:
        with open(MEMBERSHIP, "rb", buffering=0) as file:
            lines = os.fsdecode(file.read(65536)).splitlines()
        own = next((line[3:] for line in lines if line.startswith("0::")), None)
        mount = _mount()
    except FileNotFoundError:
        return None
    return None if own is None or mount is None else (mount + own).rstrip("/")


@cache
def _mount() -> str | None:
    """Return where the cgroup v2 hierarchy is mounted; that does not change while a system runs."""
    with open(MOUNTS, encoding="utf-8") as file:
        return next((line.split()[4] for line in file if " - cgroup2 " in line), None)
