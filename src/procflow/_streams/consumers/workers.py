"""What each kind of consumer does with what it is given.

Owns the state of a run: counters, collectors, the sink.  Must not know where items come from, nor tasks: ``Consumer`` drives it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum
from inspect import isawaitable
from re import Match
from typing import Any, Final, Generic, Literal, TypeVar, cast

from procflow._streams.consumers.collect import ByteCollector, LineCollector
from procflow._streams.consumers.kinds import (
    STOP,
    Collect,
    CollectLines,
    ConsumerKind,
    Fold,
    Inspect,
    SinkFailure,
    Unit,
    WaitFor,
    Write,
)
from procflow._streams.consumers.results import CapturedLines, Written
from procflow._streams.consumers.sinks import sink_for
from procflow._streams.lines.readers import compile_pattern
from procflow.events import Chunk, Gap, LineMatch
from procflow.outcome import Captured
from procflow.policies import LineConfig

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Item = TypeVar("Item")

_log = logging.getLogger("procflow.stream")


class Feeding(Enum):
    """What a worker is given at a time."""

    CHUNK = "chunk"
    CHUNKS = "chunks"
    """All chunks and gaps that are there."""

    LINE = "line"
    LINES = "lines"
    """Lines that are complete together, without a gap between them."""


_FEEDINGS: Final = {Unit.CHUNK: Feeding.CHUNK, Unit.LINE: Feeding.LINE, Unit.BATCH: Feeding.LINES}


async def says_stop(answer: object) -> bool:
    """Whether a callback's answer, awaited if it has to be, is ``STOP``."""
    if isawaitable(answer):
        answer = await answer
    return answer is STOP


class Worker(ABC, Generic[Item, T_co]):
    """One run of a kind of consumer."""

    feeding: Feeding
    stop: int = 0
    """Offset after what it was given, known at its end."""
    stopped_at: int = 0
    """Offset of the item that it stopped at, known at its end, where it takes lines one by one."""
    is_complete: bool = False
    """Whether it was given everything, known at its end."""
    on_gap: Callable[[Gap], object] | None = None
    """Called with a gap, unless ``feeding`` has them among its items; the answer is a callback's."""
    config: LineConfig = LineConfig()
    """How bytes become lines, where it is fed with lines."""

    async def begin(self) -> None:
        """Get ready; called once, before anything is given."""
        return

    @abstractmethod
    def accept(self, item: Item) -> object:
        """Take what ``feeding`` says; the answer is a callback's."""

    async def idle(self) -> None:
        """Nothing more is there now."""
        return

    async def finish(self) -> None:
        """Nothing more will come; called unless the run is torn away."""
        return

    def abandon(self) -> None:
        """Let go of everything at once; idempotent."""
        return

    @abstractmethod
    def value(self) -> T_co:
        """Return what has come out of it so far."""


class Inspector(Worker[object, int]):
    """Calls back and counts."""

    def __init__(self, request: Inspect) -> None:
        self.feeding = _FEEDINGS[request.unit]
        self.config = request.config
        self._callback = request.callback
        self.on_gap = request.on_gap
        self._count = 0

    def accept(self, item: object) -> object:
        self._count += 1
        return self._callback(item)

    def value(self) -> int:
        return self._count


class Folder(Worker[object, T]):
    """Carries a value."""

    def __init__(self, request: Fold[T]) -> None:
        self.feeding = _FEEDINGS[request.unit]
        self.config = request.config
        self._step = request.step
        self._value = request.initial

    def accept(self, item: object) -> object:
        self._value = self._step(self._value, item)
        return None

    def value(self) -> T:
        return self._value


class Finder(Worker[str, "LineMatch | None"]):
    """Looks for a line."""

    feeding = Feeding.LINE

    def __init__(self, request: WaitFor) -> None:
        self.config = request.config
        self._matches = compile_pattern(request.pattern)
        self._text: str | None = None
        self._found: Match[str] | None = None

    def accept(self, item: str) -> object:
        found = self._matches(item)
        if not found:
            return None
        self._text = item
        self._found = found if isinstance(found, Match) else None
        return STOP

    def value(self) -> LineMatch | None:
        if self._text is None:
            return None
        if self._found is None:
            return LineMatch(text=self._text, start=self.stopped_at, stop=self.stop)
        groups, named = self._found.groups(), self._found.groupdict()
        return LineMatch(text=self._text, groups=groups, named=named, start=self.stopped_at, stop=self.stop)


class Collector(Worker["list[Chunk | Gap]", Captured]):
    """Keeps bytes."""

    feeding = Feeding.CHUNKS

    def __init__(self, request: Collect, start: int) -> None:
        self._kept = ByteCollector(start, head_bytes=request.head_bytes, tail_bytes=request.tail_bytes)

    def accept(self, item: list[Chunk | Gap]) -> object:
        for event in item:
            self._kept.feed(event)
        return None

    def value(self) -> Captured:
        return self._kept.value(is_complete=self.is_complete)


class CollectorOfLines(Worker["list[str | Gap]", CapturedLines]):
    """Keeps lines."""

    feeding = Feeding.LINES

    def __init__(self, request: CollectLines) -> None:
        self.config = request.config
        self._kept = LineCollector(
            head_lines=request.head_lines, tail_lines=request.tail_lines, max_bytes=request.max_bytes
        )
        self.on_gap = lambda gap: self._kept.feed((gap,))

    def accept(self, item: list[str | Gap]) -> object:
        self._kept.feed(item)
        return None

    def value(self) -> CapturedLines:
        return self._kept.value()


class Writer(Worker["list[Chunk | Gap]", Written]):
    """Writes to a sink, as much at a time as there is."""

    feeding = Feeding.CHUNKS

    def __init__(self, request: Write, stream_name: str) -> None:
        self._request = request
        self._stream_name = stream_name
        self._sink = sink_for(request)
        self._given_bytes = 0
        self._bytes_written = 0  # of the stream: not the marks of gaps
        self._failures = 0
        self._was_failing = False
        self._ends_line = True

    async def begin(self) -> None:
        await self._attempt("open", self._sink.open, 0)

    def accept(self, item: list[Chunk | Gap]) -> object:
        return self._write_all(item)

    async def _write_all(self, events: list[Chunk | Gap]) -> None:
        self._given_bytes += sum(len(event.data) for event in events if isinstance(event, Chunk))
        parts: list[bytes] = []
        for event in events:
            if isinstance(event, Chunk):
                parts.append(event.data)
            elif self._request.mark_gaps:
                await self._write(parts)
                parts = []
                mark = f"{'' if self._ends_line else chr(10)}[procflow: {event.lost_bytes} bytes lost]\n".encode()
                await self._attempt("write", lambda mark=mark: self._sink.write(mark), 0)  # type: ignore[misc]  # bound now
                self._ends_line = True
        await self._write(parts)

    async def _write(self, parts: list[bytes]) -> None:
        if not parts:
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        before = self._sink.bytes_written
        try:
            await self._attempt("write", lambda: self._sink.write(data), len(data))
        finally:
            self._bytes_written += self._sink.bytes_written - before
        self._ends_line = data.endswith(b"\n")

    async def idle(self) -> None:
        await self._attempt("write", self._sink.flush, 0)

    async def finish(self) -> None:
        await self._attempt("close", self._sink.finish, 0)

    def abandon(self) -> None:
        self._sink.abandon()

    async def _attempt(
        self, operation: Literal["open", "write", "close"], act: Callable[[], Awaitable[None]], size: int
    ) -> None:
        before = self._sink.bytes_written
        try:
            await act()
        except Exception as error:
            self._failures += 1
            failed_bytes = size - (self._sink.bytes_written - before) if size else 0
            if not await self._may_go_on(operation, error, failed_bytes):
                raise
            self._was_failing = True
        else:
            self._was_failing = self._was_failing and not size

    async def _may_go_on(
        self, operation: Literal["open", "write", "close"], error: Exception, failed_bytes: int
    ) -> bool:
        on_error = self._request.on_error
        if on_error == "stop":
            return False
        if on_error == "continue":
            # The first of a row only: a full disk fails with every write.
            level = logging.DEBUG if self._was_failing else logging.WARNING
            _log.log(level, "%s: %s of %s failed: %r", self._stream_name, operation, self._sink.name, error)
            return True
        failure = SinkFailure(
            stream_name=self._stream_name,
            sink=self._sink.name,
            operation=operation,
            failed_bytes=failed_bytes,
            error=error,
        )
        return not await says_stop(on_error(failure))

    def value(self) -> Written:
        return Written(
            bytes_written=self._bytes_written,
            failed_bytes=self._given_bytes - self._bytes_written,
            failures=self._failures,
            files=self._sink.files,
        )


def worker_for(kind: ConsumerKind[T], *, start: int, stream_name: str) -> Worker[Any, T]:
    """Return a new run of ``kind`` that begins at offset ``start``.

    Raises:
        TypeError: ``kind`` is none of the kinds.
        OSError: The descriptor to write to is not open.
    """
    worker: Any  # which kind gives which type is what the classes say
    match kind:
        case Inspect():
            worker = Inspector(kind)
        case Fold():
            worker = Folder(kind)
        case WaitFor():
            worker = Finder(kind)
        case Collect():
            worker = Collector(kind, start)
        case CollectLines():
            worker = CollectorOfLines(kind)
        case Write():
            worker = Writer(kind, stream_name)
        case _:
            raise TypeError(f"a consumer is an Inspect, Fold, Collect, CollectLines, WaitFor or Write, not {kind!r}")
    return cast("Worker[Any, T]", worker)
