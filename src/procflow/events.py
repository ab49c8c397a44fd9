"""What a stream hands out: its items, its ending, its numbers.

Owns values only.  Must not know who makes or delivers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Literal, Self, TypeAlias, TypeVar

import msgspec


class Chunk(msgspec.Struct, frozen=True, gc=False):  # made for every read: six times as fast as a frozen dataclass
    """Bytes as they were read, and the absolute offset of the first one since the stream began."""

    data: bytes
    offset: int

    @property
    def stop(self) -> int:
        """Offset of the first byte after this chunk."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes ``start <= offset < stop`` were produced, and this subscriber will not receive them."""

    start: int
    stop: int

    @property
    def lost_bytes(self) -> int:
        """How many bytes the gap covers; never 0."""
        return self.stop - self.start


OutputName: TypeAlias = Literal["stdout", "stderr"]
"""Which output of a process something comes from."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Tagged(Generic[T_co]):
    """An item of a timeline: a chunk, a line or a gap, and the output that it comes from."""

    source: OutputName
    item: T_co


class StreamEnding(Enum):
    """How a stream ended; it ends once, and the ending never changes."""

    EOF = "eof"
    """The source said that nothing more will come."""

    READ_FAILED = "read_failed"
    """Reading the source failed."""

    CLOSED = "closed"
    """The stream was closed from our side before its source ended."""


class Cut(Enum):
    """Why a line is not the whole line."""

    CONTINUES = "continues"
    """The next line is the rest of this one: nothing is lost."""

    REST = "rest"
    """The last piece of a line that was split: nothing is lost."""

    TRUNCATED = "truncated"
    """The end of the line was dropped; ``lost_bytes`` says how much."""


class CutLine(str):
    """A line that is not the whole line; otherwise an ordinary ``str``.

    Attributes:
        cut: What happened to it.
        lost_bytes: Bytes of this line that nobody will deliver; 0 unless ``cut`` is ``TRUNCATED``.
    """

    __slots__ = ("cut", "lost_bytes")

    cut: Cut
    lost_bytes: int

    def __new__(cls, text: str, *, cut: Cut, lost_bytes: int = 0) -> Self:
        """Make a line of ``text`` that says how it was cut."""
        line = super().__new__(cls, text)
        line.cut = cut
        line.lost_bytes = lost_bytes
        return line

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, object]]:  # for pickle and copy
        return (str(self),), {"cut": self.cut, "lost_bytes": self.lost_bytes}

    def __repr__(self) -> str:
        return f"CutLine({str.__repr__(self)}, cut={self.cut.name}, lost_bytes={self.lost_bytes})"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndecodedLine:
    """A line that is no JSON value of the type that was asked for."""

    text: str
    """The line without its delimiter; a ``CutLine`` if it is not the whole line."""
    offset: int
    """Absolute offset of its first byte."""
    reason: str
    """What is wrong with it, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMatch:
    """The line that ended a ``wait_for_line()``, and what the pattern's groups matched in it."""

    text: str
    groups: tuple[str | None, ...] = ()
    """One text for each group, ``None`` for a group that took no part; empty for a predicate."""
    named: Mapping[str, str | None] = field(default_factory=dict)
    """The same by name, for the groups that have one."""
    start: int
    """Offset of the first byte of the line; a byte order mark before it is not part of it."""
    stop: int
    """Offset of the first byte after the line and its delimiter: where the next subscriber begins by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberStatistics:
    """One subscriber of a stream, as it stands now.

    ``delivered_bytes + lost_bytes + lag_bytes`` is what the stream has produced since ``start``.
    """

    name: str
    is_reliable: bool
    start: int
    delivered_bytes: int
    lost_bytes: int
    """Bytes that its gaps have announced so far."""
    lag_bytes: int
    """Bytes produced since its start that it has neither been given nor been told to be lost."""
    is_blocking: bool
    """Whether the stream has stopped reading because of this subscriber."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatistics:
    """A stream, as it stands now."""

    name: str
    produced_bytes: int
    retained_bytes: int
    """Bytes that the stream itself holds in memory."""
    spilled_bytes: int = 0
    """Bytes, from the first one on, that are in the file of ``Replay.all(spill=)``."""
    spill_failure: str | None = None
    """Why that file takes no more."""
    ending: StreamEnding | None
    subscribers: tuple[SubscriberStatistics, ...]

    @property
    def stalled_by(self) -> tuple[str, ...]:
        """Names of the subscribers that keep the stream from reading."""
        return tuple(subscriber.name for subscriber in self.subscribers if subscriber.is_blocking)
