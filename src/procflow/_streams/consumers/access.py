"""The consuming methods of a stream.

Owns what a caller may ask to be done with a stream in the background.  Must not know what consumers do, nor whose tasks they are.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Final, TypeVar

from procflow._kinds import require_duration, require_instance
from procflow._streams.consumers.consumer import Consumer
from procflow._streams.consumers.crew import Crew
from procflow._streams.consumers.kinds import ConsumerKind, OnSinkError, Rotation, WritableSink, Write
from procflow._streams.consumers.results import Written
from procflow._streams.consumers.workers import worker_for
from procflow._streams.core import StreamCore
from procflow._streams.reading.pump import Pump
from procflow.errors import UsageError
from procflow.policies import Delivery, OnStall, Reliable, Start

T = TypeVar("T")

FINISH_S: Final = 5.0
"""How long leaving a scope waits for a consumer unless told otherwise."""


class ConsumerAccess(ABC):
    """What ``OutputStream`` offers to do in the background."""

    _core: StreamCore
    _pump: Pump
    crew: Crew | None = None
    """Set by the owner: who runs the consumers."""

    def consume(
        self,
        consumer: ConsumerKind[T],
        *,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        start: Start = "unread",
        last_bytes: int | None = None,
        name: str | None = None,
        finish_s: float = FINISH_S,
    ) -> Consumer[T]:
        """Give the stream to ``consumer`` in a task of the scope that owns the stream, attached now.

        The task goes on whether or not anybody keeps or awaits the handle.  A failure ends this consumer only; it is raised by
        ``wait()``, or, if nobody has seen it there, when the scope is left (as a note if another exception propagates).

        Args:
            consumer: What to do: ``Inspect``, ``Fold``, ``Collect``, ``CollectLines``, ``WaitFor`` or ``Write``.
            delivery: What happens when it is slower than the source.
            start: Where it begins.
            last_bytes: Begin at the newest ``last_bytes`` instead.
            name: What errors and statistics call it.
            finish_s: How long leaving the scope, however, waits for it to take what the ended stream still holds.  Then it is cut,
                which is a failure.

        Raises:
            UsageError: Nobody owns the stream's tasks, or (``ClosedError``) the scope was left.
            HistoryLostError: As ``subscribe()``.
            OSError: The descriptor to write to is not open.
        """
        require_instance("consumer", consumer, ConsumerKind)
        require_duration("finish_s", finish_s, allows_zero=True)
        core, crew = self._core, self.crew
        stream_name = core.log.name
        if crew is None:
            raise UsageError(f"{stream_name}: a consumer needs an owner: a stream of spawn() or open_stream()")
        crew.require_open(stream_name)
        subscription = core.subscribe(delivery, start, last_bytes=last_bytes, name=name)
        try:
            worker = worker_for(consumer, start=subscription.cursor.offset, stream_name=stream_name)
        except BaseException:
            subscription.close()
            raise
        running = Consumer(
            subscription,
            worker,
            finish_s=finish_s,
            may_lose=not isinstance(delivery, Reliable) or delivery.on_stall is OnStall.DOWNGRADE,
            on_end=crew.ended,
        )
        crew.start(running, self)
        return running

    def pipe_to(
        self,
        sink: WritableSink,
        *,
        append: bool = False,
        rotation: Rotation | None = None,
        fsync: bool = False,
        mark_gaps: bool = False,
        on_error: OnSinkError = "stop",
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        start: Start = "unread",
        last_bytes: int | None = None,
        name: str | None = None,
        finish_s: float = FINISH_S,
    ) -> Consumer[Written]:
        """Write the stream to ``sink`` in the background, attached now: a consumer like every other.

        The event loop never waits for the sink: files are written by a thread, as much at a time as there is.  Under ``BestEffort`` the
        child does not wait for it either.  At the end everything is with the operating system, and on disk with ``fsync``.

        Args:
            sink: An anyio byte stream, a binary file, a path, or a descriptor (or what has one, such as a socket).  A path is opened, and
                closed at the end; everything else stays open.  A descriptor is copied at the call.
            append: Keep what the file holds already.
            rotation: Begin a new file when one is full.
            fsync: Have the file, and its directory, on disk at the end.
            mark_gaps: Write a line ``[procflow: 123 bytes lost]`` where bytes are missing.
            on_error: What a failing sink means.
            delivery: As ``consume()``.
            start: As ``consume()``.
            last_bytes: As ``consume()``.
            name: As ``consume()``.
            finish_s: As ``consume()``.

        Raises:
            Exception: As ``consume()``.
        """
        request = Write(
            os.fspath(sink) if isinstance(sink, os.PathLike) else sink,
            append=append,
            rotation=rotation,
            fsync=fsync,
            mark_gaps=mark_gaps,
            on_error=on_error,
        )
        return self.consume(
            request, delivery=delivery, start=start, last_bytes=last_bytes, name=name, finish_s=finish_s
        )

    # --- for the crew -----------------------------------------------------------------------------------------------

    @abstractmethod
    async def wait_ended(self) -> None:
        """Return once the terminal is known."""

    @property
    def has_ended(self) -> bool:
        """Whether the terminal is known."""
        return self._core.log.terminal is not None

    @property
    def produced_bytes(self) -> int:
        """How many bytes were read from the source."""
        return self._core.log.produced

    def pending_bytes(self) -> int:
        """How many bytes are in the pipe and not read yet, as far as can be told."""
        return self._pump.pending_bytes() if not self.has_ended else 0
