"""What only a nanny can give a child, in numbers: its user, its limits, its share of the machine.

Owns the way from names to what system calls take.  Must not know how any of it is put into force.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Sequence
from typing import Final

from procflow._containment.requests import Strict
from procflow.errors import PlatformError

CPU_PERIOD_US: Final = 100_000
"""The period of ``cpu.max``, the kernel's own default."""


def attributes_of(wanted: Strict) -> dict[str, object] | None:
    """Return what has to be done in the child before it executes its program, in numbers; ``None`` for nothing.

    Raises:
        PlatformError: If there is no such user, group or limit.
    """
    uid, gid, groups = wanted.user, wanted.group, wanted.extra_groups
    try:
        if isinstance(uid, str):
            uid = pwd.getpwnam(uid).pw_uid
        number = grp.getgrnam(gid).gr_gid if isinstance(gid, str) else gid
        numbers: Sequence[int] | None = None
        if groups is not None:
            numbers = [grp.getgrnam(group).gr_gid if isinstance(group, str) else group for group in groups]
    except KeyError as exc:
        raise PlatformError(f"there is no such user or group: {exc.args[0] if exc.args else exc}") from exc
    if uid is not None:
        account = _account_of(uid)
        if number is None:
            if account is None:
                raise PlatformError(f"user {uid} is in no list of this system, so its group has to be given")
            number = account.pw_gid
        if numbers is None:
            numbers = [number] if account is None else os.getgrouplist(account.pw_name, number)
    if os.geteuid() != 0 and uid == os.geteuid() and number in (None, os.getegid()) and groups is None:
        uid = number = numbers = None  # it is that user already, and nobody else may even say so
    limits = {name: (_limit_number(name), pair) for name, pair in wanted.limits.items()}
    if uid is None and number is None and numbers is None and not limits and not wanted.nice:
        return None
    return {
        "uid": uid,
        "gid": number,
        "groups": None if numbers is None else list(numbers),
        "nice": wanted.nice,
        "limits": limits,
    }


def _account_of(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:  # common in containers
        return None


def cgroup_limits(wanted: Strict) -> list[tuple[str, str]]:
    """Return the files of the cgroup to be written, with their texts."""
    limits: list[tuple[str, str]] = []
    if wanted.memory_bytes is not None:
        limits.append(("memory.max", str(wanted.memory_bytes)))
    if wanted.cpus is not None:
        limits.append(("cpu.max", f"{int(wanted.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}"))
    return limits


def _limit_number(name: str) -> int:
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if not isinstance(number, int):
        known = ", ".join(sorted(key[7:].lower() for key in dir(resource) if key.startswith("RLIMIT_")))
        raise PlatformError(f"this system has no limit {name!r}, only {known}")
    return number
