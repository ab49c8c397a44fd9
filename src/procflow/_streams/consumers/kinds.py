"""What a stream can be consumed by: the kinds of consumers.

Owns frozen values only; each one validates itself.  Must not know how a consumer is run, nor an event loop.
"""

from __future__ import annotations

import io
import os
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from procflow._kinds import require_instance, require_int
from procflow._streams.consumers.results import CapturedLines, Written
from procflow.events import Chunk, Gap, LineMatch
from procflow.outcome import Captured
from procflow.policies import MIB, LineConfig

if TYPE_CHECKING:
    from anyio.abc import ByteSendStream

    from procflow._streams.lines.readers import Pattern

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

COLLECTED_BYTES: Final = 1 * MIB
"""The default bound of what a collector of lines keeps at each end."""


class Stop(Enum):
    """The one member is the answer of a callback that wants no more."""

    STOP = "stop"


STOP: Final = Stop.STOP


# --- the kinds --------------------------------------------------------------------------------------------------


class Unit(Enum):
    """What a callback is given at a time."""

    CHUNK = "chunk"
    LINE = "line"
    BATCH = "batch"


class ConsumerKind(ABC, Generic[T_co]):
    """What to do with a stream, for ``OutputStream.consume()``; the parameter is the type of what comes out of it.

    A frozen value without any state of a run: one can be used many times, at the same time too.
    """

    __slots__ = ()


GapCallback: TypeAlias = Callable[[Gap], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect(ConsumerKind[int]):
    """Calls back for each chunk, line, or batch of lines; made by its class methods.  Its value is how many there were.

    A callback is sync or async.  It ends the consumer by answering ``STOP`` (or an awaitable of it); any other answer
    means to go on.  While an async one is awaited nothing more is taken, so a reliable consumer holds the child back and a
    best-effort one gets gaps.  ``on_gap`` is called where bytes are missing; gaps are counted in any case.
    """

    callback: Callable[[Any], object]
    unit: Unit
    on_gap: GapCallback | None = None
    config: LineConfig = LineConfig()  # noqa: RUF009 (frozen value)

    def __post_init__(self) -> None:
        require_callable("callback", self.callback)
        require_instance("unit", self.unit, Unit)
        if self.on_gap is not None:
            require_callable("on_gap", self.on_gap)
        require_instance("config", self.config, LineConfig)

    @classmethod
    def chunks(cls, callback: Callable[[Chunk], object], *, on_gap: GapCallback | None = None) -> Inspect:
        """Call back with every ``Chunk``."""
        return cls(callback=callback, unit=Unit.CHUNK, on_gap=on_gap)

    @classmethod
    def lines(
        cls,
        callback: Callable[[str], object],
        *,
        on_gap: GapCallback | None = None,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> Inspect:
        """Call back with every line, as ``OutputStream.lines()`` yields it."""
        return cls(callback=callback, unit=Unit.LINE, on_gap=on_gap, config=config)

    @classmethod
    def batches(
        cls,
        callback: Callable[[list[str]], object],
        *,
        on_gap: GapCallback | None = None,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> Inspect:
        """Call back with lists of lines: all that are complete now, never across a gap."""
        return cls(callback=callback, unit=Unit.BATCH, on_gap=on_gap, config=config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold(ConsumerKind[T]):
    """Carries a value through the stream: ``value = step(value, item)``; made by its class methods.

    ``step`` is sync.  ``initial`` is used as it is: where ``step`` changes it, every run of this value shares it.
    """

    initial: T
    step: Callable[[T, Any], T]
    unit: Unit
    config: LineConfig = LineConfig()  # noqa: RUF009 (frozen value)

    def __post_init__(self) -> None:
        require_callable("step", self.step)
        require_instance("unit", self.unit, Unit)
        require_instance("config", self.config, LineConfig)

    @classmethod
    def chunks(cls, initial: S, step: Callable[[S, Chunk], S]) -> Fold[S]:
        """Step once for every ``Chunk``."""
        return Fold(initial=initial, step=step, unit=Unit.CHUNK)

    @classmethod
    def lines(
        cls,
        initial: S,
        step: Callable[[S, str], S],
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> Fold[S]:
        """Step once for every line."""
        return Fold(initial=initial, step=step, unit=Unit.LINE, config=config)

    @classmethod
    def batches(
        cls,
        initial: S,
        step: Callable[[S, list[str]], S],
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> Fold[S]:
        """Step once for every list of lines that are complete at the same time."""
        return Fold(initial=initial, step=step, unit=Unit.BATCH, config=config)


@dataclass(frozen=True, slots=True)
class WaitFor(ConsumerKind[LineMatch | None]):
    """Ends at the first line that matches, like ``wait_for_line()``, but in the background; its value is ``None`` without one."""

    pattern: Pattern
    """A regular expression that is searched for, or a predicate."""
    config: LineConfig = LineConfig()  # noqa: RUF009 (frozen value)

    def __post_init__(self) -> None:
        require_instance("config", self.config, LineConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect(ConsumerKind[Captured]):
    """Keeps the first bytes, the newest, or both; made by its class methods.  What is missing is in ``Captured.gaps``."""

    head_bytes: int = 0
    tail_bytes: int = 0

    def __post_init__(self) -> None:
        require_int("head_bytes", self.head_bytes, lowest=0)
        require_int("tail_bytes", self.tail_bytes, lowest=0)

    @classmethod
    def head(cls, max_bytes: int) -> Collect:
        """Keep the first ``max_bytes``."""
        return cls(head_bytes=max_bytes)

    @classmethod
    def tail(cls, max_bytes: int) -> Collect:
        """Keep the newest ``max_bytes``."""
        return cls(tail_bytes=max_bytes)

    @classmethod
    def ends(cls, *, head_bytes: int, tail_bytes: int) -> Collect:
        """Keep the first ``head_bytes`` and the newest ``tail_bytes`` of what follows them."""
        return cls(head_bytes=head_bytes, tail_bytes=tail_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectLines(ConsumerKind[CapturedLines]):
    """Keeps the first lines, the newest, or both; made by its class methods.

    Each end also keeps at most ``max_bytes`` of text, counted as UTF-8.  The first lines end where one does not fit.  Of the newest
    ones a line that would not fit by itself leaves an empty ``CutLine`` in its place and evicts nobody for its size.
    """

    head_lines: int = 0
    tail_lines: int = 0
    max_bytes: int = COLLECTED_BYTES
    config: LineConfig = LineConfig()  # noqa: RUF009 (frozen value)

    def __post_init__(self) -> None:
        for name in ("head_lines", "tail_lines", "max_bytes"):
            require_int(name, getattr(self, name), lowest=0)
        require_instance("config", self.config, LineConfig)

    @classmethod
    def head(
        cls,
        max_lines: int,
        *,
        max_bytes: int = COLLECTED_BYTES,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> CollectLines:
        """Keep the first ``max_lines``."""
        return cls(head_lines=max_lines, max_bytes=max_bytes, config=config)

    @classmethod
    def tail(
        cls,
        max_lines: int,
        *,
        max_bytes: int = COLLECTED_BYTES,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> CollectLines:
        """Keep the newest ``max_lines``."""
        return cls(tail_lines=max_lines, max_bytes=max_bytes, config=config)

    @classmethod
    def ends(
        cls,
        *,
        head_lines: int,
        tail_lines: int,
        max_bytes: int = COLLECTED_BYTES,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> CollectLines:
        """Keep the first ``head_lines`` and the newest ``tail_lines`` of what follows them."""
        return cls(head_lines=head_lines, tail_lines=tail_lines, max_bytes=max_bytes, config=config)


@runtime_checkable
class BinaryWriter(Protocol):
    """A binary file, as far as a writer needs it.  ``flush()`` is called too where there is one."""

    def write(self, data: bytes, /) -> int | None:
        """Write ``data``, or the beginning of it, and return how much that was."""


@runtime_checkable
class HasFileno(Protocol):
    """Something with a descriptor, such as a socket."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


WritableSink: TypeAlias = "ByteSendStream | BinaryWriter | str | os.PathLike[str] | int | HasFileno"
"""A byte stream, a binary file, the path of a file, or a descriptor or what has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a file that is written is full, it becomes ``name.1``, the one before it ``name.2``, and so on.

    A file holds at most ``max_bytes``; there are at most ``max_files``, the current one included; the oldest is deleted.
    A line stays in one file unless it is longer than ``max_bytes`` or 1 MiB.
    """

    max_bytes: int
    max_files: int = 5

    def __post_init__(self) -> None:
        require_int("max_bytes", self.max_bytes, lowest=1)
        require_int("max_files", self.max_files, lowest=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFailure:
    """A sink did not take what it was given, as an ``on_error`` callback is told."""

    stream_name: str
    sink: str
    operation: Literal["open", "write", "close"]
    failed_bytes: int
    """How many bytes are not known to be written because of this."""
    error: Exception


OnSinkError: TypeAlias = Literal["stop", "continue"] | Callable[[SinkFailure], object]
"""What a failing sink means: the consumer fails (``"stop"``), or the bytes count as failed and the next ones are tried
(``"continue"``, logged), or what the callback says: ``STOP``, or anything else to go on."""


@dataclass(frozen=True, slots=True)
class Write(ConsumerKind[Written]):
    """Writes the bytes to a sink, as ``OutputStream.pipe_to()``, which says what the fields mean."""

    sink: WritableSink
    append: bool = False
    rotation: Rotation | None = None
    fsync: bool = False
    mark_gaps: bool = False
    on_error: OnSinkError = "stop"

    def __post_init__(self) -> None:
        if isinstance(self.sink, bool | bytes | bytearray | io.TextIOBase):
            hint = "; a text file has its binary one in .buffer" if isinstance(self.sink, io.TextIOBase) else ""
            raise TypeError(f"sink must be a byte stream, binary file, path or descriptor, not {self.sink!r}{hint}")
        if not isinstance(self.sink, str | os.PathLike | int | BinaryWriter | HasFileno) and not hasattr(
            self.sink, "send"
        ):
            raise TypeError(f"sink must be a byte stream, binary file, path or descriptor, not {self.sink!r}")
        if iscoroutinefunction(getattr(self.sink, "write", None)):
            raise TypeError(
                f"sink must be written synchronously, unlike {self.sink!r}; an anyio file has a binary one in .wrapped"
            )
        if isinstance(self.sink, int):
            require_int("a descriptor", self.sink, lowest=0)
        if self.rotation is not None:
            require_instance("rotation", self.rotation, Rotation)
        if not self.is_path and (self.append or self.rotation is not None or self.fsync):
            raise ValueError("append, rotation and fsync are for paths: another sink is written as it is")
        if self.on_error not in ("stop", "continue") and not callable(self.on_error):
            raise ValueError(f'on_error must be "stop", "continue" or a callable, not {self.on_error!r}')

    @property
    def is_path(self) -> bool:
        """Whether the sink is a file that the consumer opens, and closes."""
        return isinstance(self.sink, str | os.PathLike)


def require_callable(name: str, value: object) -> None:
    """Raise unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {value!r}")
