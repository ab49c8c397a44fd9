"""What a caller decides: delivery, replay, lines, shutdown.

Owns frozen values only; each one validates itself.  Must not know how a decision is carried out.
"""

from __future__ import annotations

import codecs
import signal as _signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from procflow._kinds import require_duration, require_instance, require_int

if TYPE_CHECKING:
    from os import PathLike

KIB: Final = 1024
MIB: Final = 1024 * KIB
MAX_WINDOW_SIDE: Final = 0xFFFF


# --- delivery ---------------------------------------------------------------------------------------------------


class Loss(Enum):
    """Which bytes a best-effort subscriber gives up when it is overtaken."""

    DROP_OLDEST = "drop_oldest"
    """Keep the newest ``buffer_bytes``."""

    DROP_NEWEST = "drop_newest"
    """Keep what is buffered; once that is full, drop what arrives until all of it has been taken."""

    LATEST_ONLY = "latest_only"
    """Keep only the newest chunk."""


class OnStall(Enum):
    """What happens when a reliable subscriber blocks the stream for its ``stall_timeout_s``."""

    DETACH = "detach"
    """The subscriber is detached; its next receive raises ``StallError``."""

    DOWNGRADE = "downgrade"
    """The subscriber becomes a best-effort one."""

    FAIL_STREAM = "fail_stream"
    """The stream ends for everybody with ``StallError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestEffort:
    """The pump never waits for this subscriber; what it misses arrives as a ``Gap``."""

    buffer_bytes: int = 256 * KIB
    loss: Loss = Loss.DROP_OLDEST

    def __post_init__(self) -> None:
        require_int("buffer_bytes", self.buffer_bytes, lowest=1)
        require_instance("loss", self.loss, Loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliable:
    """This subscriber receives every byte; when it is ``buffer_bytes`` behind, the child's writes block."""

    buffer_bytes: int = 1 * MIB
    stall_timeout_s: float | None = None
    on_stall: OnStall = OnStall.DETACH

    def __post_init__(self) -> None:
        require_int("buffer_bytes", self.buffer_bytes, lowest=1)
        if self.stall_timeout_s is not None:
            require_duration("stall_timeout_s", self.stall_timeout_s, allows_zero=False)
        require_instance("on_stall", self.on_stall, OnStall)


Delivery: TypeAlias = BestEffort | Reliable


# --- replay -----------------------------------------------------------------------------------------------------


class Retention(Enum):
    """Which part of the past a stream keeps for subscribers that attach later."""

    NONE = "none"
    LAST_BYTES = "last_bytes"
    LAST_CHUNKS = "last_chunks"
    ALL = "all"
    WHILE_UNSUBSCRIBED = "while_unsubscribed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a stream keeps for subscribers that attach later; made by its class methods."""

    retention: Retention
    bound: int = 0
    spill: str | None = None
    """Where the history goes that does not fit into memory: a file or a directory; see ``all()``."""

    def __post_init__(self) -> None:
        require_instance("retention", self.retention, Retention)
        if self.retention not in (Retention.NONE, Retention.ALL):
            require_int("the bound of a replay", self.bound, lowest=1)
        if self.spill is not None:
            require_instance("spill", self.spill, str)
            if self.retention is not Retention.ALL or not self.spill:
                raise ValueError("spill must be a path, and only Replay.all() can spill")

    @classmethod
    def none(cls) -> Replay:
        """Keep nothing: a late subscriber sees only what is read after it attached, also with ``start="unread"``."""
        return cls(retention=Retention.NONE)

    @classmethod
    def last_bytes(cls, max_bytes: int) -> Replay:
        """Always keep the newest ``max_bytes``, to the byte."""
        return cls(retention=Retention.LAST_BYTES, bound=max_bytes)

    @classmethod
    def last_chunks(cls, max_chunks: int) -> Replay:
        """Always keep the newest ``max_chunks`` reads, each at most ``read_bytes`` long."""
        return cls(retention=Retention.LAST_CHUNKS, bound=max_chunks)

    @classmethod
    def all(cls, *, spill: str | PathLike[str] | None = None) -> Replay:
        """Keep everything: in memory, without a bound, or in a file.

        Args:
            spill: Where the history goes, so that only its newest 1 MiB takes memory.  The path of a file that does not
                exist yet: it is made, for its owner alone, holds exactly the bytes of the stream, and stays.  Or a directory: then
                the file has no name, and its space is free again when the stream is, also if the host is killed.

        A file that cannot be written any more, because the disk is full for example, ends the history and not the stream; see
        the reference page of streams.
        """
        path = spill if spill is None or isinstance(spill, str) else _path_of(spill)
        return cls(retention=Retention.ALL, spill=path)

    @classmethod
    def while_unsubscribed(cls, max_bytes: int) -> Replay:
        """Keep what nobody has been given yet, at most the newest ``max_bytes`` of it (the default).

        So output is kept as long as no subscriber is attached, and forgotten once one has taken it.
        """
        return cls(retention=Retention.WHILE_UNSUBSCRIBED, bound=max_bytes)


def _path_of(path: PathLike[str]) -> str:
    if not hasattr(path, "__fspath__"):
        raise TypeError(f"spill must be a str or a PathLike, not {type(path).__name__}")
    return path.__fspath__()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """How one output stream behaves."""

    replay: Replay = field(default_factory=lambda: Replay.while_unsubscribed(MIB))
    read_bytes: int = 64 * KIB
    """The most one read takes.  Above 128 KiB glibc maps fresh pages for every read, which costs factors."""
    pipe_bytes: int | None = None
    """How much the kernel's pipe holds before the child's write blocks: as near to it as the system's limits, and 32 MiB for all
    streams of this process together, allow.  ``None``: 64 KiB, and up to 256 KiB for a stream that fills its pipe, up to
    1 MiB for one that is flooded with tiny writes."""

    def __post_init__(self) -> None:
        require_instance("replay", self.replay, Replay)
        require_int("read_bytes", self.read_bytes, lowest=1)
        if self.pipe_bytes is not None:
            require_int("pipe_bytes", self.pipe_bytes, lowest=1)


Start: TypeAlias = Literal["unread", "start", "live"] | int
"""Where a subscriber begins: after the furthest byte that anybody has been given ("unread", the default), at the first
byte of the stream, now, or at an offset.  Where no history exists by decision (``Replay.none()``, after
``seal_replay()``), "unread" is "live"."""


# --- lines ------------------------------------------------------------------------------------------------------


class Overflow(Enum):
    """What happens to a line longer than ``max_line_bytes``."""

    SPLIT = "split"
    TRUNCATE = "truncate"
    ERROR = "error"


OnGap: TypeAlias = Literal["yield", "skip", "raise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineConfig:
    """How bytes become lines."""

    max_line_bytes: int = 1 * MIB
    overflow: Overflow = Overflow.SPLIT
    delimiter: bytes | None = None
    """``None``: LF, with one CR before it removed.  Otherwise exactly these bytes."""
    encoding: str = "utf-8"
    errors: str = "replace"

    def __post_init__(self) -> None:
        require_int("max_line_bytes", self.max_line_bytes, lowest=1)
        require_instance("overflow", self.overflow, Overflow)
        if self.delimiter is not None:
            require_instance("delimiter", self.delimiter, bytes)
            if not self.delimiter:
                raise ValueError("delimiter must not be empty")
        require_instance("encoding", self.encoding, str)
        require_instance("errors", self.errors, str)
        try:
            "\n".encode(self.encoding)
        except (LookupError, UnicodeError) as error:
            raise ValueError(f"encoding must be a text encoding of Python, not {self.encoding!r}: {error}") from error
        try:
            codecs.lookup_error(self.errors)(UnicodeDecodeError("utf-8", b"?", 0, 1, "a question, not a failure"))
        except UnicodeDecodeError:
            pass  # how "strict" answers
        except (LookupError, TypeError) as error:
            raise ValueError(f"errors must be an error handler for decoding, not {self.errors!r}: {error}") from error


# --- shutdown ---------------------------------------------------------------------------------------------------


class Target(Enum):
    """Whom a shutdown phase signals."""

    LEADER = "leader"
    GROUP = "group"
    TREE = "tree"
    """The group and every descendant that containment can find; the same as the group where it finds no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Send ``signal`` to ``to``, then wait until everything has ended, at most ``wait_s``."""

    signal: _signal.Signals
    """Also given as its number."""
    wait_s: float
    to: Target = Target.GROUP

    def __post_init__(self) -> None:
        require_int("signal", self.signal, lowest=1)
        try:
            object.__setattr__(self, "signal", _signal.Signals(self.signal))
        except ValueError as error:
            raise ValueError(f"signal must be one of signal.Signals, not {self.signal}") from error
        require_duration("wait_s", self.wait_s, allows_zero=True)
        require_instance("to", self.to, Target)


ProtocolShutdown: TypeAlias = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """How a tree is ended: each phase in turn until nothing is left, then SIGKILL.

    ``first`` (an async callable: a protocol's own shutdown request) comes before the phases: it and the ending that it asks
    for are given at most ``first_wait_s``; what it raises is recorded as an attempt and the phases begin.  The final SIGKILL is implied; it is given
    ``kill_wait_s``.  Total time is at most ``first_wait_s`` + the waits of all phases + ``kill_wait_s`` + 200 ms.
    """

    phases: Sequence[Phase] = ()
    """Kept as a tuple."""
    kill_wait_s: float = 2.0
    first: ProtocolShutdown | None = None
    first_wait_s: float = 0.0

    def __post_init__(self) -> None:
        require_instance("phases", self.phases, Sequence)
        for phase in self.phases:
            require_instance("each of the phases", phase, Phase)
        object.__setattr__(self, "phases", tuple(self.phases))
        require_duration("kill_wait_s", self.kill_wait_s, allows_zero=False)
        if self.first is not None and not callable(self.first):
            raise TypeError(f"first must be an async callable or None, not {self.first!r}")
        require_duration("first_wait_s", self.first_wait_s, allows_zero=True)

    @property
    def total_s(self) -> float:
        """The upper bound of a stop, without the 200 ms that its own work may take."""
        first_s = self.first_wait_s if self.first is not None else 0.0
        return first_s + sum(phase.wait_s for phase in self.phases) + self.kill_wait_s

    @classmethod
    def sigterm(cls, grace_s: float = 5.0, *, kill_wait_s: float = 2.0) -> Shutdown:
        """SIGTERM to the group, ``grace_s``, then SIGKILL (the default)."""
        return cls(phases=(Phase(signal=_signal.SIGTERM, wait_s=grace_s),), kill_wait_s=kill_wait_s)

    @classmethod
    def sigint(cls, grace_s: float = 5.0, *, kill_wait_s: float = 2.0) -> Shutdown:
        """SIGINT to the group, as Ctrl-C would, ``grace_s``, then SIGKILL."""
        return cls(phases=(Phase(signal=_signal.SIGINT, wait_s=grace_s),), kill_wait_s=kill_wait_s)

    @classmethod
    def hangup(cls, grace_s: float = 5.0, *, kill_wait_s: float = 2.0) -> Shutdown:
        """SIGHUP, as when a terminal is closed, ``grace_s``, then SIGKILL (the default on a pty: shells ignore SIGTERM there)."""
        return cls(phases=(Phase(signal=_signal.SIGHUP, wait_s=grace_s),), kill_wait_s=kill_wait_s)

    @classmethod
    def orderly(cls, leader_s: float = 5.0, group_s: float = 2.0, *, kill_wait_s: float = 2.0) -> Shutdown:
        """SIGTERM to the leader, which may end its own children; later to the group; then SIGKILL."""
        return cls(
            phases=(
                Phase(signal=_signal.SIGTERM, wait_s=leader_s, to=Target.LEADER),
                Phase(signal=_signal.SIGTERM, wait_s=group_s),
            ),
            kill_wait_s=kill_wait_s,
        )

    @classmethod
    def now(cls, *, kill_wait_s: float = 2.0) -> Shutdown:
        """SIGKILL at once."""
        return cls(kill_wait_s=kill_wait_s)


# --- terminals --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pty:
    """A pseudo-terminal for a child.

    Attributes:
        rows: Height of its window in characters.
        cols: Width of its window in characters.
        echo: Whether what is written to ``child.stdin`` comes back in ``child.stdout``, as on a screen.
        raw: Whether the terminal starts without any processing: no echo, no lines to edit, no keys for signals or the end
            of input, no CR before LF in the output.
    """

    rows: int = 24
    cols: int = 80
    echo: bool = True
    raw: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "cols"):
            require_window_side(name, getattr(self, name))


def require_window_side(name: str, value: int) -> None:
    """Raise unless ``value`` can be a side of a terminal's window."""
    require_int(name, value, lowest=1)
    if value > MAX_WINDOW_SIDE:
        raise ValueError(f"{name} must be at most {MAX_WINDOW_SIDE}, not {value}")
