"""An output stream: the public object over log, pump and readers.

Owns nothing but the connection between them.  Must not know processes: a process lends it ``describe_ending``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from procflow._streams.consumers.access import ConsumerAccess
from procflow._streams.consumers.crew import Crew, tell
from procflow._streams.core import StreamCore
from procflow._streams.lines.access import LineAccess
from procflow._streams.lines.json_access import JsonAccess
from procflow._streams.log.terminal import Terminal
from procflow._streams.reading.pump import Pump
from procflow._streams.reading.source import ByteSource
from procflow._streams.subscription import Subscription
from procflow._streams.waking import LoopDoor, running
from procflow.events import StreamEnding, StreamStatistics
from procflow.policies import Delivery, Reliable, Start, StreamConfig

if TYPE_CHECKING:
    from procflow.outcome import Outcome


class OutputStream(LineAccess, JsonAccess, ConsumerAccess):
    """Everything a source yields, for any number of subscribers.

    Subscribers attach at the call of ``subscribe()``, ``lines()``, ``line_batches()`` or ``wait_for_line()``, not at their first
    step, and may do so before, while and after the source is read.  One event loop owns a stream: only its tasks may use it.
    """

    def __init__(self, source: ByteSource, config: StreamConfig, *, name: str) -> None:
        """Make a stream that reads nothing yet: its owner runs ``pump()``.  The stream owns ``source`` from now on."""
        self._config = config
        self._core = StreamCore(config.replay, name=name)
        self._pump = Pump(source, self._core)
        self.describe_ending: Callable[[], Awaitable[Outcome]] | None = None
        """Set by a process: returns its outcome once the process has ended.  Waits for a line end with it."""
        self.wait_outputs: Callable[[], Awaitable[object]] | None = None
        """Set by a process: returns once all its outputs have ended, so that its outcome has their last words."""

    def __repr__(self) -> str:
        log = self._core.log
        state = log.terminal.ending.value if log.terminal is not None else "open"
        return f"<OutputStream {log.name!r} {state} produced={log.produced}>"

    # --- what is known ------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The stream's name in errors and statistics."""
        return self._core.log.name

    @property
    def config(self) -> StreamConfig:
        """How the stream behaves."""
        return self._config

    @property
    def ending(self) -> StreamEnding | None:
        """How the stream ended; ``None`` while it is open.  Subscribers may still have something to receive."""
        terminal = self._core.log.terminal
        return terminal.ending if terminal is not None else None

    async def wait_ended(self) -> None:
        """Return once the terminal is known."""
        await checkpoint()
        while self._core.log.terminal is None:
            await self._core.end_bell.sleep()

    def statistics(self) -> StreamStatistics:
        """Return the numbers of the stream and of each subscriber."""
        core = self._core
        core.reap_dropped()
        log = core.log
        return StreamStatistics(
            name=log.name,
            produced_bytes=log.produced,
            retained_bytes=log.retained_bytes,
            spilled_bytes=core.spill.written_bytes if core.spill is not None else 0,
            spill_failure=core.spill.failure if core.spill is not None else None,
            ending=self.ending,
            subscribers=tuple(cursor.statistics(core.name_of(cursor)) for cursor in log.cursors),
        )

    def tail(self, max_bytes: int) -> bytes:
        """Return the newest bytes still held, at most ``max_bytes``: the last read at least, whatever the replay."""
        return self._core.log.tail(max_bytes)

    def retained(self) -> tuple[bytes, int]:
        """Return the history a new subscriber could have, as far as it is in memory, and how many bytes were produced before it."""
        log = self._core.log
        history = log.history()
        return history, log.produced - len(history)

    # --- subscribing --------------------------------------------------------------------------------------------

    def subscribe(
        self,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        start: Start = "unread",
        last_bytes: int | None = None,
        name: str | None = None,
    ) -> Subscription:
        """Return a new subscriber, attached now: from this call on it misses nothing that its delivery promises.

        Args:
            delivery: What happens when the subscriber is slower than the source.
            start: Where it begins.
            last_bytes: Begin at the newest ``last_bytes`` instead (or at the first byte, if there are fewer).
            name: What ``statistics()`` calls it.

        Raises:
            HistoryLostError: If the first bytes asked for are gone and the delivery is reliable; a best-effort
                subscriber begins with one ``Gap`` instead.
            ValueError: If ``start`` is an offset that was not produced yet.
        """
        return self._core.subscribe(delivery, start, last_bytes=last_bytes, name=name)

    def seal_replay(self) -> None:
        """Forget the history, now and for good; idempotent.  Attached subscribers still get all that was theirs."""
        self._core.seal()

    # --- for the owner ------------------------------------------------------------------------------------------

    def report_reads(self, function: Callable[[int], object]) -> None:
        """Call ``function`` with the number of bytes produced after every read, before anybody else knows of it."""
        self._core.log.journal = function

    def copy_reads(self, function: Callable[[bytes], object]) -> None:
        """Call ``function`` with what every read gave, before anybody else knows of it, and with nothing at the end."""
        self._core.log.tap = function

    def pump_nowait(self, door: LoopDoor) -> bool:
        """Begin to read the source without a task, if the running event loop calls back for it; return whether it does.

        If it does not, ``pump()`` must run.  The owner ends what this has begun with ``close()``.
        """
        self._core.open_door(door)
        return self._core.spill is None and self._pump.start_nowait(door.loop)

    async def pump(self) -> None:
        """Read the source until the terminal.  Never raises for the source: a read failure is the terminal.

        Run it once, in a task of the owner's scope.  Cancelling it closes the stream.  With a spilled history it lives on
        after the terminal, to serve the file; cancelling it then writes what the file lacks, in at most a second.
        """
        self._core.open_door()
        if self._core.spill is None:
            await self._pump.run()
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._core.spill.run, name=f"procflow spill of {self.name}")
            await self._pump.run()

    def read_rest(self) -> None:
        """Read what the pipe of an ended process holds, although a reliable subscriber is a full buffer behind; synchronous.

        So that nothing is lost when the pipe is closed: such a subscriber's lag then grows by at most what the pipe takes.
        """
        self._pump.read_rest()

    def close(self) -> None:
        """End the stream from our side unless it has ended, and close a descriptor; idempotent, from any thread.

        Subscribers receive what was read before, then ``StreamClosedError``.  Called from elsewhere than the stream's event
        loop, it takes effect there soon; if that loop is gone, now.
        """
        if self._pump.has_let_go:
            return
        closed = Terminal(StreamEnding.CLOSED)
        if not self._core.on_loop(partial(self._pump.end, closed)):
            self._pump.abandon(closed)


@asynccontextmanager
async def open_stream(
    source: ByteSource, config: StreamConfig | None = None, *, name: str = "stream"
) -> AsyncIterator[OutputStream]:
    """Read ``source`` in the background for as long as the block lasts, and give the stream over it.

    Leaving the block, however, closes stream and source; what subscribers have not received by then they still can.  Consumers
    are given their ``finish_s`` to take it.

    Raises:
        ConsumerError: On leaving, if a consumer failed that nobody has waited for; as a note if another exception propagates.
    """
    stream = OutputStream(source, config if config is not None else StreamConfig(), name=name)
    crew: Crew | None = None
    failure: BaseException | None = None
    try:
        async with running(f"procflow pump {name}", stream.pump) as tasks:
            crew = stream.crew = Crew(lambda work, title: tasks.start_soon(work, name=f"procflow {title}"))
            try:
                yield stream
            finally:
                stream.close()
                with anyio.CancelScope(shield=True):
                    await crew.finish()
    except BaseException as error:
        failure = error
        raise
    finally:
        if crew is not None:
            tell(crew.unseen(), failure)
