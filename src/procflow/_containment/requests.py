"""What may be asked for: how far termination shall reach, and what only a nanny can give a child.

Owns frozen values only; each one validates itself.  Must not know how a level is established.

Why these are values and not keywords of ``spawn()``: a user, a limit or a cgroup can be had at one level only, so nobody can
ask for one at a level that would silently ignore it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from procflow._kinds import require_instance, require_int

ContainmentName: TypeAlias = Literal["group", "guarded", "strict", "best"]
"""The names of what may be asked for."""

NICEST: Final = 19

LAST_ACCOUNT: Final = 2**32 - 2
"""The largest number of a user or group: the one after it means "no change" to the kernel."""

LAST_LIMIT: Final = 2**63 - 1

Limit: TypeAlias = int | tuple[int, int]
"""The soft limit of a resource, which is made the hard one too, or both; -1 is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """The group, and one guard process of the host that ends it if the host dies.

    Attributes:
        marks_environment: Whether the child's environment gets one more variable, by which the guard finds descendants that
            left their group.  What a child starts to stay (an agent, a cache server) has it too, and is ended with the host
            unless this is false; then only the group is.
    """

    marks_environment: bool = True

    def __post_init__(self) -> None:
        require_instance("marks_environment", self.marks_environment, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strict:
    """A nanny process is the parent of the child and of every orphan below it: nothing it starts can get away.

    What is ``None`` or empty is as the host has it.

    Attributes:
        user: Name or number of the user that the child runs as; the host must be root, or that user.
        group: Name or number of its group; by default the one of ``user``.
        extra_groups: Names or numbers of its other groups; by default those of ``user``.
        nice: What is added to its niceness, 0 to 19.
        limits: ``setrlimit(2)`` by the names of the resources without their prefix: ``{"nofile": 256, "cpu": (10, 20)}``.
        memory_bytes: The most memory that the whole tree may take (``memory.max``); needs a delegated cgroup.
        cpus: The share of processors that the whole tree may take, such as 1.5 (``cpu.max``); needs a delegated cgroup.
        cgroup: Path of a cgroup v2 directory that was delegated to the host, to make the child's below; by default the
            host's own.
    """

    user: str | int | None = None
    group: str | int | None = None
    extra_groups: Sequence[str | int] | None = None
    nice: int = 0
    limits: Mapping[str, Limit] = field(default_factory=dict, hash=False)
    memory_bytes: int | None = None
    cpus: float | None = None
    cgroup: str | None = None

    def __post_init__(self) -> None:
        for name in ("user", "group"):
            account = getattr(self, name)
            object.__setattr__(self, name, None if account is None else _account(name, account))
        if self.extra_groups is not None:
            if isinstance(self.extra_groups, str):
                raise TypeError("extra_groups must be a sequence of names or numbers, not a text")
            groups = tuple(_account("each of extra_groups", group) for group in self.extra_groups)
            object.__setattr__(self, "extra_groups", groups)
        require_int("nice", self.nice, lowest=0)
        if self.nice > NICEST:
            raise ValueError(f"nice must be at most {NICEST}, not {self.nice}")
        object.__setattr__(self, "nice", int(self.nice))
        limits = {name: _both(name, limit) for name, limit in self.limits.items()}
        object.__setattr__(self, "limits", MappingProxyType(limits))
        if self.memory_bytes is not None:
            require_int("memory_bytes", self.memory_bytes, lowest=1)
        if self.cpus is not None and not self.cpus > 0:
            raise ValueError(f"cpus must be positive, not {self.cpus}")
        if self.cgroup is not None:
            require_instance("cgroup", self.cgroup, str)

    def __reduce__(self) -> tuple[object, ...]:
        # A read-only view of a dictionary can be neither pickled nor copied.
        names = ("user", "group", "extra_groups", "nice", "memory_bytes", "cpus", "cgroup")
        return _rebuilt, ({**{name: getattr(self, name) for name in names}, "limits": dict(self.limits)},)


def _rebuilt(fields: dict[str, object]) -> Strict:
    return Strict(**fields)  # type: ignore[arg-type]  # what __reduce__ has taken from one


ContainmentRequest: TypeAlias = ContainmentName | Guarded | Strict
"""A name, or a value with more to say: ``"guarded"`` is ``Guarded()``, ``"strict"`` is ``Strict()``."""


def named_request(request: ContainmentRequest) -> tuple[ContainmentName, Guarded | Strict | None]:
    """Return the name of what is asked for, and what else is asked.

    Raises:
        ValueError: If there is no such level.
    """
    match request:
        case Guarded():
            return "guarded", request
        case Strict():
            return "strict", request
        case "guarded":
            return "guarded", Guarded()
        case "strict" | "best":
            return request, Strict()
        case "group":
            return "group", None
    raise ValueError(
        f"containment must be 'group', 'guarded', 'strict', 'best', Guarded() or Strict(), not {request!r}"
    )


def _account(name: str, value: object) -> str | int:
    if isinstance(value, str):
        return value
    require_int(name, value, lowest=0)
    number: int = int(value)  # type: ignore[call-overload]  # checked; a member of an enumeration cannot be sent to a nanny
    if number > LAST_ACCOUNT:
        raise ValueError(f"{name} must be at most {LAST_ACCOUNT}, not {number}")
    return number


def _both(name: str, limit: Limit) -> tuple[int, int]:
    require_instance("each name of limits", name, str)
    soft, hard = limit if isinstance(limit, tuple) else (limit, limit)
    for number in (soft, hard):
        require_int(f"the limit {name}", number, lowest=-1)
        if number > LAST_LIMIT:
            raise ValueError(f"the limit {name} must be at most {LAST_LIMIT}, or -1 for none, not {number}")
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"the soft limit {name} must not be above the hard one: {soft}, {hard}")
    return int(soft), int(hard)
