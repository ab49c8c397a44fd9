"""An output stream: the public object over log, pump and readers.

Owns nothing but the connection between them.  Must not know processes: a process lends it ``describe_ending``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import anyio
from anyio.lowlevel import checkpoint

from procflow._streams.core import StreamCore
from procflow._streams.lines import LineBatchReader, LineFeed, LineReader, Pattern, find_line
from procflow._streams.pump import Pump
from procflow._streams.source import ByteSource
from procflow._streams.subscription import Subscription
from procflow._streams.terminal import Terminal
from procflow._streams.waking import running
from procflow.errors import NotReadyError, StallError, StreamClosedError, StreamReadError
from procflow.events import Gap, LineMatch, StreamEnding, StreamStatistics
from procflow.policies import Delivery, LineConfig, OnGap, Reliable, Start, StreamConfig

if TYPE_CHECKING:
    from procflow.outcome import Outcome

ENDING_WAIT_S: Final = 0.05
"""How long a wait for a line lasts after the process has ended while another subscriber holds back what it left in its pipe,
and how long it asks for the outcome after the stream has ended."""
TAIL_BYTES: Final = 4096


class OutputStream:
    """Everything a source yields, for any number of subscribers.

    Subscribers attach at the call of ``subscribe()``, ``lines()``, ``line_batches()`` or ``wait_for_line()``, not at their first
    step, and may do so before, while and after the source is read.  One event loop owns a stream: only its tasks may use it.
    """

    def __init__(self, source: ByteSource, config: StreamConfig, *, name: str) -> None:
        """Make a stream that reads nothing yet: its owner runs ``pump()``.  The stream owns ``source`` from now on."""
        self._config = config
        self._core = StreamCore(config.replay, name=name)
        self._pump = Pump(source, self._core.log, data_bell=self._core.data_bell, room_bell=self._core.room_bell)
        self.describe_ending: Callable[[], Awaitable[Outcome]] | None = None
        """Set by a process: returns its outcome once the process has ended.  Waits for a line end with it."""

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

    @property
    def produced_bytes(self) -> int:
        """How many bytes were read from the source."""
        return self._core.log.produced

    async def wait_ended(self) -> None:
        """Return once the terminal is known."""
        await checkpoint()
        while self._core.log.terminal is None:
            await self._core.data_bell.sleep()

    def statistics(self) -> StreamStatistics:
        """Return the numbers of the stream and of each subscriber."""
        core = self._core
        core.reap_dropped()
        log = core.log
        return StreamStatistics(
            name=log.name,
            produced_bytes=log.produced,
            retained_bytes=log.retained_bytes,
            ending=self.ending,
            subscribers=tuple(cursor.statistics(core.name_of(cursor)) for cursor in log.cursors),
        )

    def tail(self, max_bytes: int) -> bytes:
        """Return the newest bytes still held, at most ``max_bytes``: the last read at least, whatever the replay."""
        return self._core.log.tail(max_bytes)

    def retained(self) -> tuple[bytes, int]:
        """Return the history a new subscriber could have, and how many bytes were produced before it."""
        log = self._core.log
        return log.history(), log.history_start

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

    @overload
    def lines(
        self,
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_gap: Literal["skip", "raise"] | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[str]: ...
    @overload
    def lines(
        self,
        delivery: Delivery,
        *,
        config: LineConfig = ...,
        on_gap: Literal["skip", "raise"],
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[str]: ...
    @overload
    def lines(
        self,
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineReader[str | Gap]: ...
    def lines(
        self,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
        on_gap: OnGap | None = None,
        start: Start = "unread",
        last_bytes: int | None = None,
        name: str | None = None,
    ) -> LineReader[str] | LineReader[str | Gap]:
        """Return an async iterator over lines, attached now.

        A line is a ``str`` without its delimiter, a cut one a ``CutLine``.  Under best effort lost bytes appear as a ``Gap`` between
        lines (``on_gap="yield"``, the default there), are left out (``"skip"``) or raise ``LinesLostError`` (``"raise"``,
        the default for reliable delivery, where only a downgrade after a stall can lose anything).

        Raises:
            HistoryLostError: As ``subscribe()``.
        """
        return LineReader(self._feed(delivery, config, on_gap, start, last_bytes, name))

    @overload
    def line_batches(
        self,
        delivery: Reliable = ...,
        *,
        config: LineConfig = ...,
        on_gap: Literal["skip", "raise"] | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[str]: ...
    @overload
    def line_batches(
        self,
        delivery: Delivery,
        *,
        config: LineConfig = ...,
        on_gap: Literal["skip", "raise"],
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[str]: ...
    @overload
    def line_batches(
        self,
        delivery: Delivery = ...,
        *,
        config: LineConfig = ...,
        on_gap: OnGap | None = ...,
        start: Start = ...,
        last_bytes: int | None = ...,
        name: str | None = ...,
    ) -> LineBatchReader[str | Gap]: ...
    def line_batches(
        self,
        delivery: Delivery = Reliable(),  # noqa: B008 (frozen value)
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
        on_gap: OnGap | None = None,
        start: Start = "unread",
        last_bytes: int | None = None,
        name: str | None = None,
    ) -> LineBatchReader[str] | LineBatchReader[str | Gap]:
        """Return an async iterator over lists of lines, attached now: each list is all lines that are complete by then.

        Otherwise as ``lines()``.  One list covers at most about 1 MiB of input.
        """
        return LineBatchReader(self._feed(delivery, config, on_gap, start, last_bytes, name))

    def wait_for_line(
        self,
        pattern: Pattern,
        *,
        config: LineConfig = LineConfig(),  # noqa: B008 (frozen value)
    ) -> Coroutine[Any, Any, LineMatch]:
        """Wait for the first line that matches, attached from this call on.

        It reads the replayed history first, but never again what an earlier wait has passed.  Other subscribers
        still get every line.  With the default start the next subscriber begins after the match; a wait that is
        cancelled or fails has taken nothing.  The caller limits the time: ``with anyio.fail_after(5): ...``.

        Args:
            pattern: A regular expression, searched for in each line, or a predicate.
            config: How bytes become lines.

        Raises:
            NotReadyError: The process, or the stream, ended first, and no line that it left matches.
            HistoryLostError: Bytes that nobody has been given are no longer retained.
        """
        subscription = self._core.subscribe_waiter(Reliable())
        return self._wait_for_line(LineFeed(subscription, config, "skip", settles=False), pattern)

    def seal_replay(self) -> None:
        """Forget the history, now and for good; idempotent.  Attached subscribers still get all that was theirs."""
        self._core.reap_dropped()
        self._core.log.seal()

    # --- for the owner ------------------------------------------------------------------------------------------

    async def pump(self) -> None:
        """Read the source until the terminal.  Never raises for the source: a read failure is the terminal.

        Run it once, in a task of the owner's scope.  Cancelling it closes the stream.
        """
        self._core.open_door()
        await self._pump.run()

    def close(self) -> None:
        """End the stream from our side unless it has ended, and close a descriptor; idempotent, from any thread.

        Subscribers receive what was read before, then ``StreamClosedError``.  Called from elsewhere than the stream's event
        loop, it takes effect there soon; if that loop is gone, now.
        """
        closed = Terminal(StreamEnding.CLOSED)
        if not self._core.on_loop(partial(self._pump.end, closed)):
            self._pump.abandon(closed)

    # --- inside -------------------------------------------------------------------------------------------------

    def _feed(
        self,
        delivery: Delivery,
        config: LineConfig,
        on_gap: OnGap | None,
        start: Start,
        last_bytes: int | None,
        name: str | None,
    ) -> LineFeed:
        if on_gap not in (None, "yield", "skip", "raise"):
            raise ValueError(f'on_gap must be "yield", "skip", "raise" or None, not {on_gap!r}')
        if on_gap is None:
            on_gap = "raise" if isinstance(delivery, Reliable) else "yield"
        subscription = self._core.subscribe(delivery, start, last_bytes=last_bytes, name=name)
        return LineFeed(subscription, config, on_gap)

    async def _wait_for_line(self, feed: LineFeed, pattern: Pattern) -> LineMatch:
        outcome: Outcome | None = None
        found: LineMatch | None = None
        failure: Exception | None = None
        is_known = anyio.Event()
        describe_ending = self.describe_ending

        async def watch() -> None:
            nonlocal outcome
            assert describe_ending is not None
            outcome = await describe_ending()
            is_known.set()
            await self._end_at_what_is_left(feed.subscription)

        try:
            async with running(
                f"procflow wait_for_line {self.name}", *([watch] if describe_ending is not None else [])
            ):
                try:
                    found = await find_line(feed, pattern)
                except Exception as error:  # noqa: BLE001 (raised below)
                    failure = error
                if found is None and describe_ending is not None and self.ending is not None:
                    with anyio.move_on_after(ENDING_WAIT_S):
                        await is_known.wait()
            if found is not None:
                self._core.log.settle_wait(found.stop)
                return found
        finally:
            feed.close()
        ended = (anyio.EndOfStream, StreamReadError, StreamClosedError, StallError)
        if failure is not None and not isinstance(failure, ended):
            raise failure
        raise NotReadyError(stream_name=self.name, outcome=outcome, tail=self.tail(TAIL_BYTES)) from failure

    async def _end_at_what_is_left(self, subscription: Subscription) -> None:
        """Let a subscription end after the last byte that an ended process wrote; whoever else holds its pipe may go on.

        All that it wrote was read or is in the pipe.  It will be read soon, unless another subscriber holds the pump back: that is
        not waited for.
        """
        subscription.end_at(self.produced_bytes + self._pump.pending_bytes())
        while True:
            await anyio.sleep(ENDING_WAIT_S)
            if self._core.log.must_wait() and not subscription.cursor.is_awaited:
                subscription.end_at(self.produced_bytes)


@asynccontextmanager
async def open_stream(
    source: ByteSource, config: StreamConfig | None = None, *, name: str = "stream"
) -> AsyncIterator[OutputStream]:
    """Read ``source`` in the background for as long as the block lasts, and give the stream over it.

    Leaving the block, however, closes stream and source; what subscribers have not received by then they still can.
    """
    stream = OutputStream(source, config if config is not None else StreamConfig(), name=name)
    async with running(f"procflow pump {name}", stream.pump):
        try:
            yield stream
        finally:
            stream.close()
