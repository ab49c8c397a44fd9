"""What happens to processes and their streams, one class an event, for whoever observes it.

Owns values only.  Must not know who tells them, who listens, or what time it is.

No event carries arguments, environment or output: names, numbers and what the kernel said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from procflow.outcome import PhaseReport, ResourceUsage, signal_name
from procflow.policies import OnStall

if TYPE_CHECKING:
    from procflow._containment.port import Containment


@dataclass(frozen=True, slots=True)
class Moment:
    """When an event was told: what every event begins with.

    Attributes:
        mono_s: On ``time.monotonic()``, for durations and for the order of events.
        at: The same moment on the wall clock (aware, UTC).
    """

    mono_s: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned(Moment):
    """A process was started.  Each stage of a pipeline is one.

    Attributes:
        name: Its name.
        pid: Its process id.
        containment: How far its termination reaches, as it stood then; ``None`` if its starter has nothing to say about that.
    """

    name: str
    pid: int
    containment: Containment | None = None

    def __str__(self) -> str:
        level = f" (containment: {self.containment.level})" if self.containment is not None else ""
        return f"{self.name}: started as pid {self.pid}{level}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(Moment):
    """A process has shown that it is ready.

    Attributes:
        name: Its name.
        pid: Its process id.
        after_s: How long after its start.
    """

    name: str
    pid: int
    after_s: float

    def __str__(self) -> str:
        return f"{self.name}: pid {self.pid} is ready after {self.after_s:.3f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalled(Moment):
    """A reliable subscriber is behind and its stream has stopped reading; or its patience for that is over.

    Told once each time the stream stops, for every subscriber that it waits for.  That is backpressure at work; it is a
    problem if ``action`` says so.

    Attributes:
        stream: The stream.
        subscriber: Who is behind.
        lag_bytes: How far.
        action: What was done because ``stall_timeout_s`` has passed; ``None``: the stream waits.
    """

    stream: str
    subscriber: str
    lag_bytes: int
    action: OnStall | None = None

    def __str__(self) -> str:
        waits = f"{self.stream}: waits for {self.subscriber}, which is {self.lag_bytes} bytes behind"
        if self.action is None:
            return waits
        return f"{waits}, no longer ({self.action.value.replace('_', ' ')})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(Moment):
    """A best-effort subscriber was handed a gap.

    Attributes:
        stream: The stream.
        subscriber: Who lost them.
        lost_bytes: How many bytes.
        start: Offset of the first of them.
    """

    stream: str
    subscriber: str
    lost_bytes: int
    start: int

    def __str__(self) -> str:
        return f"{self.stream}: {self.subscriber} lost {self.lost_bytes} bytes at offset {self.start}"


SignalledTo: TypeAlias = Literal["leader", "group", "member"]
"""Whom the kernel was given as the receiver: the leader's pid, the number of its group, or one other member of its tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled(Moment):
    """A signal was sent, or could not be.

    Attributes:
        name: Name of the process that it was about.
        pid: Its process id, which is also the number of its group.
        signal: Number of the signal.
        to: Who was to receive it.
        receiver: The pid or the number of the group.
        after_exit: Whether the leader had exited.  Every group is swept with SIGKILL before its leader is reaped, so such a
            signal belongs to a normal end, and mostly there is nobody left to receive it.
        error: Why it could not be sent; ``None`` if it was.
    """

    name: str
    pid: int
    signal: int
    to: SignalledTo
    receiver: int
    after_exit: bool = False
    error: str | None = None

    def __str__(self) -> str:
        match self.to:
            case "leader":
                to = f"pid {self.pid}"
            case "group":
                to = f"the group of pid {self.pid}"
            case "member":
                to = f"member {self.receiver} of the tree of pid {self.pid}"
            case _:
                assert_never(self.to)
        what = f"{self.name}: {signal_name(self.signal)} to {to}"
        if self.error is not None:
            return f"{what}: {self.error}"
        return f"{what}, which has exited" if self.after_exit else what


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalated(Moment):
    """A step of a stop has not ended everything: the next one follows, at last SIGKILL.

    Attributes:
        name: Name of the process.
        pid: Its process id.
        report: What the step was, how long it lasted, and why it could not be carried out if so.
    """

    name: str
    pid: int
    report: PhaseReport

    def __str__(self) -> str:
        return f"{self.name}: the stop of pid {self.pid} goes on after {self.report}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(Moment):
    """The exit of a process was seen; it is a zombie now, and keeps its number until it is reaped.

    Attributes:
        name: Its name.
        pid: Its process id.
        exit_code: What it exited with; ``None`` if a signal ended it, or if nobody can tell.
        signal: Number of the signal that ended it; ``None`` otherwise.
        core_dumped: Whether it left a core.
        lived_s: From its start to this moment.
    """

    name: str
    pid: int
    exit_code: int | None
    signal: int | None
    core_dumped: bool = False
    lived_s: float

    def __str__(self) -> str:
        if self.signal is not None:
            how = f"was ended by {signal_name(self.signal)}"
        else:
            how = "ended with an unknown status" if self.exit_code is None else f"exited with {self.exit_code}"
        return f"{self.name}: pid {self.pid} {how} after {self.lived_s:.3f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Escaped(Moment):
    """Some process of a tree was found out of reach, or has outlived every attempt to end it.

    Attributes:
        name: Name of the process whose tree it is.
        pid: Its process id.
        escaped_pids: Who escaped.
        description: The same in words: one text for each, such as ``pid 42 (sleep), state D``.
        has_survived: Whether they outlived a whole stop; otherwise they were found outside of the group.
    """

    name: str
    pid: int
    escaped_pids: tuple[int, ...]
    description: str
    has_survived: bool

    def __str__(self) -> str:
        what = "outlived every attempt to end the tree" if self.has_survived else "left the group"
        return f"{self.name}: {what} of pid {self.pid}: {self.description}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped(Moment):
    """A process was reaped: from now on its number may belong to somebody else.

    Attributes:
        name: Its name.
        pid: The number that it had.
        usage: What it used; ``None`` if somebody else reaped it.
    """

    name: str
    pid: int
    usage: ResourceUsage | None

    def __str__(self) -> str:
        if self.usage is None:
            return f"{self.name}: pid {self.pid} was reaped by somebody else"
        return f"{self.name}: pid {self.pid} was reaped, after {self.usage.user_s + self.usage.system_s:.3f} s of processor time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detached(Moment):
    """A process was let go by ``detach()``.

    Its ``Exited`` and ``Reaped`` follow if this host starts another process after its end; otherwise never.

    Attributes:
        name: Its name.
        pid: Its process id.
    """

    name: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name}: pid {self.pid} was detached"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStarted(Moment):
    """A guard process watches this host from now on: what was started before this moment is within its reach too.

    Attributes:
        pid: Process id of the guard.
    """

    pid: int

    def __str__(self) -> str:
        return f"guarded by pid {self.pid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReplaced(Moment):
    """The guard was gone, and another one has taken over everything that it watched.

    Attributes:
        reason: What became of the old one, in words.
        old_pid: The process id that it had.
        new_pid: The new one.
    """

    reason: str
    old_pid: int
    new_pid: int

    def __str__(self) -> str:
        return f"guard {self.old_pid} was replaced by pid {self.new_pid}: {self.reason}"


ProcessEvent: TypeAlias = (
    Spawned
    | Ready
    | Stalled
    | Lost
    | Signalled
    | Escalated
    | Exited
    | Escaped
    | Reaped
    | Detached
    | GuardStarted
    | GuardReplaced
)
"""Whatever may be told: handle it with ``match``."""

Observer: TypeAlias = Callable[[ProcessEvent], object]
"""Called with each event, in the thread where it happens.  Must return soon and must not wait for another thread."""
