"""Events on their way from a run to its caller.

Owns the envelope: times when an event was said, numbers in the order of delivery; and that no secret is in what servers, drivers and
workers said.  Bounded: a caller that does not read
makes the run wait, and nothing is dropped; what may be dropped is not sent (``progress`` is folded before it comes here).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio
import msgspec

from procflow.record import UNSTAMPED, stamped
from procflow_export.model.events import Retry, Warned
from procflow_export.pipeline.machine import Clock
from procflow_export.pipeline.observer import RunObserver

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream

    from procflow_export.model.events import RunEvent


class Outbox:
    """The run's side."""

    def __init__(self, clock: Clock, buffer: int, observer: RunObserver, *, clean: Callable[[str], str] = str) -> None:
        """``clean`` takes secrets out of a text."""
        self._clock = clock
        self._clean = clean
        self._observer = observer
        self._lock = anyio.Lock()
        self._send, receive = anyio.create_memory_object_stream["RunEvent"](buffer)
        self.events = EventStream(receive)

    async def put(self, event: RunEvent) -> None:
        """Tell the observer of ``event``, then deliver it after all that were put before it; waits while the caller is behind.

        A caller that has gone away is no failure of the run.
        """
        timed = self._clock.stamped(self._cleaned(event), seq=UNSTAMPED)
        self._observer.hear(timed)
        async with self._lock:
            with contextlib.suppress(anyio.BrokenResourceError):
                await self._send.send(timed)

    def _cleaned(self, event: RunEvent) -> RunEvent:
        match event:
            case Retry():
                return msgspec.structs.replace(event, failure=event.failure.cleaned(self._clean))
            case Warned():
                return msgspec.structs.replace(event, message=self._clean(event.message))
            case _:
                return event

    def close(self, failure: Exception | None = None) -> None:
        """End the stream; with ``failure``, a bug of ours is raised to the caller after the last event."""
        self.events.failure = failure
        self._send.close()


class EventStream(AsyncIterator["RunEvent"]):
    """The caller's side: the events of a run, each once, in order; it ends after ``RunFinished``."""

    def __init__(self, receive: MemoryObjectReceiveStream[RunEvent]) -> None:
        self._receive = receive
        self._next_seq = 0
        self.failure: Exception | None = None

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> RunEvent:
        try:
            event = await self._receive.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self.failure is not None:
                raise self.failure from None
            raise StopAsyncIteration from None
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        return stamped(event, seq=seq, at_ms=event.at_ms, mono_ns=event.mono_ns)

    def close(self) -> None:
        """Stop receiving; the run goes on until its exporter is left."""
        self._receive.close()

    async def aclose(self) -> None:
        """Do the same, for callers that close whatever they iterate over."""
        await self._receive.aclose()
