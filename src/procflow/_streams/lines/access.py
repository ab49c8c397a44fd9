"""The line methods of a stream: lines, batches of lines, and the wait for one line.

Owns what a caller may ask of a stream in lines, and when a wait for a line ends.  Must not know how bytes are split, delivered or
read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import anyio

from procflow._streams.core import StreamCore
from procflow._streams.lines.readers import LineBatchReader, LineFeed, LineReader, Pattern, find_line
from procflow._streams.reading.pump import Pump
from procflow._streams.subscription import Subscription
from procflow._streams.waking import running
from procflow.errors import NotReadyError, StallError, StreamClosedError, StreamReadError
from procflow.events import Gap, LineMatch
from procflow.policies import Delivery, LineConfig, OnGap, Reliable, Start

if TYPE_CHECKING:
    from procflow.outcome import Outcome

ENDING_WAIT_S: Final = 0.05
"""How long a wait for a line lasts after the process has ended while another subscriber holds back what it left in its pipe,
and how long it asks for the outcome after the stream has ended."""
HAND_OVER_S: Final = 0.02
"""How long a terminal may take to pass on what an ended process wrote to it."""
LAST_WORDS_WAIT_S: Final = 0.03
"""How long a wait that has failed lets the other outputs of the process come to their ends, for its error to show them."""
TAIL_BYTES: Final = 4096


def subscribe_lines(
    core: StreamCore, delivery: Delivery, on_gap: OnGap | None, start: Start, last_bytes: int | None, name: str | None
) -> tuple[Subscription, OnGap]:
    """Return a subscription that is attached now, and how its reader is to see gaps.

    Raises:
        ValueError: If ``on_gap`` is none of the ways.
        Exception: As ``OutputStream.subscribe()``.
    """
    if on_gap not in (None, "yield", "skip", "raise"):
        raise ValueError(f'on_gap must be "yield", "skip", "raise" or None, not {on_gap!r}')
    if on_gap is None:
        on_gap = "raise" if isinstance(delivery, Reliable) else "yield"
    return core.subscribe(delivery, start, last_bytes=last_bytes, name=name), on_gap


class LineAccess:
    """What ``OutputStream`` offers in lines."""

    _core: StreamCore
    _pump: Pump
    describe_ending: Callable[[], Awaitable[Outcome]] | None
    wait_outputs: Callable[[], Awaitable[object]] | None

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
        peek: bool = False,
    ) -> Coroutine[Any, Any, LineMatch]:
        """Wait for the first line that matches, attached from this call on.

        It reads the replayed history first, but never again what an earlier wait has passed.  Other subscribers
        still get every line.  With the default start the next subscriber begins after the match; a wait that is
        cancelled or fails has taken nothing.  The caller limits the time: ``with anyio.fail_after(5): ...``.

        Args:
            pattern: A regular expression, searched for in each line, or a predicate.
            config: How bytes become lines.
            peek: Take nothing either if a line matches: the next subscriber begins where it would have without the wait.  Such
                a wait also sees what an earlier one has passed, as far as the history still has it.  If the bound of the history has
                cut that, the oldest line, of which only the end may be left, does not count.

        Raises:
            NotReadyError: The process, or the stream, ended first, and no line that it left matches.
            HistoryLostError: Bytes that nobody has been given are no longer retained.  Not with ``peek``.
        """
        subscription = self._core.subscribe_waiter(Reliable(), sees_matches=peek)
        feed = LineFeed(subscription, config, "skip", settles=False)
        if peek and self._core.log.begins_anywhere:
            start = self._core.log.history_start
            feed.splitter.gap(Gap(start, start), opening=subscription.opening)
        return self._wait_for_line(feed, pattern, peek=peek)

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
        subscription, on_gap = subscribe_lines(self._core, delivery, on_gap, start, last_bytes, name)
        return LineFeed(subscription, config, on_gap)

    async def _wait_for_line(self, feed: LineFeed, pattern: Pattern, *, peek: bool) -> LineMatch:
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
                f"procflow wait_for_line {self._core.log.name}", *([watch] if describe_ending is not None else [])
            ):
                try:
                    found = await find_line(feed, pattern)
                except Exception as error:  # noqa: BLE001 (raised below)
                    failure = error
                if found is None and describe_ending is not None and self._core.log.terminal is not None:
                    with anyio.move_on_after(ENDING_WAIT_S):
                        await is_known.wait()
            if found is not None:
                if not peek:
                    self._core.log.settle_wait(found.stop)
                return found
        finally:
            feed.close()
        ended = (anyio.EndOfStream, StreamReadError, StreamClosedError, StallError)
        if failure is not None and not isinstance(failure, ended):
            raise failure
        if outcome is not None and describe_ending is not None and self.wait_outputs is not None:
            with anyio.move_on_after(LAST_WORDS_WAIT_S):
                await self.wait_outputs()
            with anyio.move_on_after(LAST_WORDS_WAIT_S):
                outcome = await describe_ending()  # now with what was read since
        raise NotReadyError(
            stream_name=self._core.log.name, outcome=outcome, tail=self._core.log.tail(TAIL_BYTES)
        ) from failure

    async def _end_at_what_is_left(self, subscription: Subscription) -> None:
        """Let a subscription end after the last byte that an ended process wrote; whoever else holds its pipe may go on.

        All that it wrote was read or is in the pipe.  It will be read soon, unless another subscriber holds the pump back: that is
        not waited for.
        """
        if self._pump.hands_over_late:
            await anyio.sleep(HAND_OVER_S)
        subscription.end_at(self._core.log.produced + self._pump.pending_bytes())
        while True:
            await anyio.sleep(ENDING_WAIT_S)
            if self._core.log.must_wait() and not subscription.cursor.is_awaited:
                subscription.end_at(self._core.log.produced)
