"""One output of a service, over all of its runs.

Owns the order of runs and restarts for each reader, and how many runs it may be behind.  Must not know how bytes or lines are
delivered: a reader holds an ordinary subscriber of each run's own stream, and takes one after the other.

Every reader is attached to a run's stream before its first byte is read, and stays so until it has taken it to its end, which
may be long after that run.  So nothing is lost between runs and there is no second implementation of delivery.
Rejected: one stream that is fed from all runs (a copy more for every byte, and a line would go on over a restart), attaching to the
next run when the last one was taken (what it had written by then could be gone).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar, overload

import anyio
from anyio.lowlevel import checkpoint

from procflow._process.pipelines.stage import require_stream
from procflow._process.stdio.ends import OutputEnd
from procflow._streams.closing import Detachable
from procflow._streams.stream import OutputStream
from procflow._streams.waking import Bell
from procflow._supervision.values import Restarted
from procflow.errors import StreamClosedError, StreamReadError
from procflow.events import Chunk, Gap, OutputName
from procflow.policies import Delivery, LineConfig, OnGap, Reliable

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

MAX_RUNS_BEHIND: Final = 4
"""How many runs may wait for a reader behind the one that it is taking."""

ServiceStart: TypeAlias = Literal["unread", "start", "live"]
"""Where a reader begins in the run that is under way, or else the last one; as for ``OutputStream.subscribe()``."""


class Source(Protocol[T_co]):
    """A subscriber of one run's stream: a ``Subscription`` or a ``LineReader``."""

    async def __anext__(self) -> T_co: ...
    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Run(Generic[T]):
    """One run, as a reader has it before it."""

    stream: OutputStream
    source: Source[T]
    restarted: Restarted | None
    """What the reader is given before its first item; ``None`` once it was."""


class ServiceReader(Detachable, Generic[T_co]):
    """Yields what a service writes, and a ``Restarted`` where a new run begins; made by ``service.stdout`` or ``service.stderr``.

    Ends when the service is over and everything was given.  Leaving its ``async with`` block, ``close()``, or dropping the last
    reference detaches it.
    """

    def __init__(
        self, owner: ServiceStream, attach: Callable[[OutputStream, ServiceStart], Source[T_co]], delivery: Delivery
    ):
        self._owner = owner
        self._attach = attach
        self._is_reliable = isinstance(delivery, Reliable)
        self._runs: deque[_Run[T_co]] = deque()
        self._bell = Bell()
        self._guard = anyio.ResourceGuard("reading from")
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<ServiceReader, {'closed' if self._is_closed else f'{len(self._runs)} runs'}>"

    def __aiter__(self) -> AsyncIterator[T_co | Restarted]:
        return self

    async def __anext__(self) -> T_co | Restarted:
        """Return the next item.

        Raises:
            StopAsyncIteration: The service is over.
            StreamReadError: Reading the output of a run failed.  The next step goes on with the next run.
            Exception: As the subscriber that it stands for: ``StallError``, ``LinesLostError`` and others; the reader is closed by it.
        """
        with self._guard:
            while True:
                if self._is_closed:
                    raise anyio.ClosedResourceError
                if not self._runs:
                    if self._owner.is_over:
                        self.close()
                        raise StopAsyncIteration
                    await self._bell.sleep()
                    continue
                run = self._runs[0]
                if run.restarted is not None:
                    await checkpoint()
                    restarted, run.restarted = run.restarted, None
                    return restarted
                try:
                    return await run.source.__anext__()
                except StopAsyncIteration:
                    self._finish_run(run)
                except StreamClosedError:  # somebody else still held the pipe: `outcome.output_complete` says so
                    self._finish_run(run)
                except StreamReadError:
                    self._finish_run(run)
                    raise
                except Exception:
                    self.close()
                    raise

    def close(self) -> None:
        """Detach; idempotent.  A task that waits for an item gets ``ClosedResourceError``."""
        if not self._is_closed:
            self._is_closed = True
            for run in self._runs:
                run.source.close()
            self._runs.clear()
            self._owner.forget(self)
            self._bell.ring()

    # --- for the stream ---------------------------------------------------------------------------------------------

    @property
    def holds_back(self) -> bool:
        """Whether the next run must wait: this reader shall miss nothing, and has as many runs before it as it may."""
        return self._is_reliable and len(self._runs) > MAX_RUNS_BEHIND

    def begin_run(self, stream: OutputStream, restarted: Restarted | None, start: ServiceStart) -> None:
        """Attach to the stream of a run."""
        self._runs.append(_Run(stream, self._attach(stream, start), restarted))
        while len(self._runs) > MAX_RUNS_BEHIND + 1:
            self._miss_run()
        self._bell.ring()

    def wake(self) -> None:
        """Look whether the service is over."""
        self._bell.ring()

    def _miss_run(self) -> None:
        """Leave out the oldest run that was not begun to be taken, and say so with the one after it."""
        missed, following = self._runs[1], self._runs[2]
        missed.source.close()
        del self._runs[1]
        if missed.restarted is not None and following.restarted is not None:
            following.restarted = replace(
                following.restarted,
                lost_runs=missed.restarted.lost_runs + 1,
                lost_bytes=missed.restarted.lost_bytes + missed.stream.produced_bytes,
            )

    def _finish_run(self, run: _Run[T_co]) -> None:
        run.source.close()
        if self._runs and self._runs[0] is run:
            self._runs.popleft()
        self._owner.room_bell.ring()


class ServiceStream:
    """Standard output or standard error of a service, for any number of readers."""

    def __init__(self, service_name: str, source: OutputName) -> None:
        self._service_name = service_name
        self._source: OutputName = source
        self._latest = OutputEnd(None)
        self._readers: weakref.WeakSet[ServiceReader[object]] = weakref.WeakSet()
        self.room_bell = Bell()
        self.is_over = False

    def __repr__(self) -> str:
        return f"<ServiceStream {self._source} of {self._service_name!r}, {len(self._readers)} readers>"

    def subscribe(
        self,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        start: ServiceStart = "unread",
        name: str | None = None,
    ) -> ServiceReader[Chunk | Gap]:
        """Return a new subscriber, attached now, that goes on over restarts.

        Offsets of chunks and gaps count from the beginning of their run.  A reliable subscriber is given all that every run has
        written, its last bytes included, before the ``Restarted`` of the next one.  If it takes nothing, the child waits; and after
        4 restarts, which a child may cause without writing much, so does the next start.  A best-effort subscriber that is more
        than 4 runs behind misses whole runs, and the next ``Restarted`` counts them.

        Memory: for each run that waits for it, at most ``MAX_RUNS_BEHIND + 1``, the bound of one stream and what a pipe takes.

        Args:
            delivery: What happens when it is slower than the service.
            start: Where it begins in the run that is under way, or in the last one.
            name: What ``statistics()`` of the runs' streams call it.

        Raises:
            HistoryLostError: As ``OutputStream.subscribe()``.
            UsageError: If this output is no stream.
        """
        return self._enrol(
            lambda stream, at: stream.subscribe(delivery, start=at, name=name), delivery=delivery, start=start
        )

    @overload
    def lines(
        self,
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_gap: Literal["skip", "raise"] | None = ...,
        start: ServiceStart = ...,
        name: str | None = ...,
    ) -> ServiceReader[str]: ...
    @overload
    def lines(
        self,
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_gap: OnGap | None = ...,
        start: ServiceStart = ...,
        name: str | None = ...,
    ) -> ServiceReader[str | Gap]: ...
    def lines(
        self,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
        on_gap: OnGap | None = None,
        start: ServiceStart = "unread",
        name: str | None = None,
    ) -> ServiceReader[str] | ServiceReader[str | Gap]:
        """Return an async iterator over lines, attached now, that goes on over restarts; see ``subscribe()``.

        A line never spans a restart: what a run has left without a line end is a line of its own.

        Raises:
            HistoryLostError: As ``OutputStream.lines()``.
            UsageError: If this output is no stream.
        """

        def attach(stream: OutputStream, at: ServiceStart) -> Source[str | Gap]:
            return stream.lines(delivery, config=config, on_gap=on_gap, start=at, name=name)

        return self._enrol(attach, delivery=delivery, start=start)

    # --- for the supervisor -----------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another run may begin."""
        return not any(reader.holds_back for reader in tuple(self._readers))

    def begin_run(self, end: OutputEnd, restarted: Restarted | None) -> None:
        """Attach every reader to the stream of a new run; synchronous, right after its start, so before its first read."""
        self._latest = end
        if end.stream is not None:
            for reader in tuple(self._readers):
                reader.begin_run(end.stream, restarted, "start")

    def end(self) -> None:
        """Let every reader end when it has taken what is there."""
        self.is_over = True
        for reader in tuple(self._readers):
            reader.wake()

    def forget(self, reader: ServiceReader[T]) -> None:
        """Attach a reader to no more runs."""
        self._readers.discard(reader)
        self.room_bell.ring()

    def _enrol(
        self, attach: Callable[[OutputStream, ServiceStart], Source[T]], *, delivery: Delivery, start: ServiceStart
    ) -> ServiceReader[T]:
        if start not in ("unread", "start", "live"):
            raise ValueError(f"start must be 'unread', 'start' or 'live', not {start!r}")
        stream = require_stream(self._service_name, self._latest, self._source)
        reader = ServiceReader(self, attach, delivery)
        reader.begin_run(stream, None, start)
        self._readers.add(reader)
        return reader
