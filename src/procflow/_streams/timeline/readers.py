"""The readers of a timeline: chunks, or lines, of several outputs in the order they were read.

Owns waiting on several streams, and what the ending of one means while others go on.  Must not know processes, nor how the order is
kept: the journal does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from time import perf_counter
from typing import Final, Generic, NoReturn, Self, TypeVar, cast

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.lowlevel import checkpoint

from procflow._streams.closing import Detachable
from procflow._streams.lines.readers import LineFeed
from procflow._streams.subscription import TURN_S, Subscription
from procflow._streams.timeline.journal import Journal, Merge
from procflow._streams.waking import sleep_on
from procflow.errors import StreamClosedError, StreamReadError
from procflow.events import Chunk, Gap, OutputName, SubscriberStatistics, Tagged

T_co = TypeVar("T_co", covariant=True)

TOLD_LAST: Final = (anyio.EndOfStream, StreamReadError, StreamClosedError)
"""Endings of one output that wait for the others."""


class Watch:
    """Waits on several subscriptions, and says whose turn it is."""

    __slots__ = ("_merge", "_subscriptions", "_turn_started")

    def __init__(self, subscriptions: Sequence[Subscription], journal: Journal) -> None:
        self._subscriptions = tuple(subscriptions)
        self._merge = Merge(journal, [subscription.cursor for subscription in subscriptions])
        self._turn_started = float("-inf")

    def turn(self) -> int | None:
        """Return whose next item was read first; ``None`` if nobody has one in memory, or the first one must be loaded."""
        source = self._merge.turn()
        return None if source is None or self._subscriptions[source].cursor.is_behind else source

    def run_of(self, source: int) -> int:
        """How far its subscription has come in the order of what was read."""
        return self._merge.run_of(source)

    async def wait_ready(self, is_due: Callable[[], bool]) -> None:
        """Return when somebody has an item, everything has ended, or ``is_due()``.  Passes a checkpoint if it waits, or has not for a millisecond."""
        if self._is_ready(is_due):
            if perf_counter() - self._turn_started < TURN_S:
                return
            await checkpoint()
        while not self._is_ready(is_due):
            behind = next((one for one in self._subscriptions if one.cursor.is_attached and one.cursor.is_behind), None)
            if behind is not None:
                await behind.wait_ready()
            else:
                await sleep_on([one.bell for one in self._subscriptions if one.cursor.is_attached])
        self._turn_started = perf_counter()

    def _is_ready(self, is_due: Callable[[], bool]) -> bool:
        return is_due() or self.turn() is not None or self.failed() is not None or self.has_ended()

    def failed(self) -> Subscription | None:
        """The subscription that was detached from our side, if one was: it stalled its stream, or its history cannot be read."""
        return next((one for one in self._subscriptions if one.cursor.error is not None), None)

    def has_ended(self) -> bool:
        """Whether nothing more will come from anybody."""
        return all(one.ending() is not None and not one.cursor.has_items for one in self._subscriptions)

    def ending(self) -> Exception | None:
        """Return why nothing more will be received, anew for every raise; ``None`` if more may come.

        A failure of one output is told when all have ended, and comes before the end of the others.
        """
        failed = self.failed()
        if failed is not None:
            return failed.ending()
        if not self.has_ended():
            return None
        endings = [one.ending() for one in self._subscriptions]
        return next((error for error in endings if not isinstance(error, anyio.EndOfStream)), anyio.EndOfStream())


class TimelineSubscription(Detachable, ObjectReceiveStream[Tagged[Chunk | Gap]]):
    """Receives the chunks and gaps of several outputs in the order they were read; otherwise as ``Subscription``.

    Made by ``Timeline.subscribe()``, attached from that call on.
    """

    def __init__(self, names: Sequence[OutputName], subscriptions: Sequence[Subscription], journal: Journal) -> None:
        self._names = tuple(names)
        self._subscriptions = tuple(subscriptions)
        self._watch = Watch(subscriptions, journal)
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<TimelineSubscription {'closed' if self._is_closed else 'attached'} to {', '.join(self._names)}>"

    async def receive(self) -> Tagged[Chunk | Gap]:
        """Return the next item of any output; wait for one if there is none.

        A ``Gap`` is followed by a chunk of the same output, which is reserved.  Cancelling loses nothing.

        Raises:
            anyio.EndOfStream: Every output has ended and everything was received.
            StreamReadError: Every output has ended, and one by a failure; everything was received.
            StreamClosedError: The same for outputs that were closed.
            StallError: This subscriber was detached because it stalled an output.
            anyio.ClosedResourceError: This subscription was closed.
        """
        await self._wait_ready()
        return self.receive_nowait()

    def receive_nowait(self) -> Tagged[Chunk | Gap]:
        """Return the next item of any output if there is one now.

        Raises:
            anyio.WouldBlock: There is nothing in memory now.
            Exception: As ``receive()``.
        """
        self._require_attached()
        source = self._watch.turn()
        if source is None:
            self._raise_ending()
        return Tagged(self._names[source], self._subscriptions[source].receive_nowait())

    async def receive_batch(self) -> list[Tagged[Chunk | Gap]]:
        """Return everything there is, at least one item and at most one ``Gap`` of each output; wait if there is nothing.

        Errors and cancellation are those of ``receive()``.
        """
        await self._wait_ready()
        return self.receive_batch_nowait()

    def receive_batch_nowait(self) -> list[Tagged[Chunk | Gap]]:
        """Return everything there is now, at least one item.

        Raises:
            anyio.WouldBlock: There is nothing in memory now.
            Exception: As ``receive()``.
        """
        items = [self.receive_nowait()]
        gapped = {items[0].source} if isinstance(items[0].item, Gap) else set()
        while (source := self._watch.turn()) is not None:
            name, subscription = self._names[source], self._subscriptions[source]
            if subscription.cursor.next_offset != subscription.cursor.offset:  # a gap comes next
                if name in gapped:
                    break
                gapped.add(name)
            items.append(Tagged(name, subscription.receive_nowait()))
        return items

    def statistics(self) -> dict[OutputName, SubscriberStatistics]:
        """Return the subscriber's numbers for each output."""
        return {name: one.statistics() for name, one in zip(self._names, self._subscriptions, strict=True)}

    def close(self) -> None:
        """Detach; idempotent.  A task that waits in ``receive()`` gets ``ClosedResourceError``."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.close()

    async def _wait_ready(self) -> None:
        self._require_attached()
        await self._watch.wait_ready(lambda: self._is_closed)

    def _require_attached(self) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        if self._watch.failed() is not None:
            self._raise_ending()

    def _raise_ending(self) -> NoReturn:
        error = self._watch.ending()
        if error is None:
            raise anyio.WouldBlock
        if self._watch.failed() is not None:  # of one output: it must not hold back the others
            for subscription in self._subscriptions:
                subscription.close()
        raise error


class TimelineLines(Detachable, Generic[T_co]):
    """Yields the lines of several outputs, tagged; made by ``Timeline.lines()``, attached from that call on.

    Detaches when it is exhausted, closed, left as an ``async with`` block, or dropped; lines it had not yielded then belong to the
    next subscriber.
    """

    __slots__ = ("_failure", "_feeds", "_guard", "_is_closed", "_names", "_ready", "_source", "_watch")

    def __init__(self, names: Sequence[OutputName], feeds: Sequence[LineFeed], watch: Watch) -> None:
        self._names = tuple(names)
        self._feeds = tuple(feeds)
        self._watch = watch
        self._guard = anyio.ResourceGuard("reading lines from")
        self._source = 0  # whose lines are ready
        self._ready: Iterator[object] = iter(())
        self._failure: LineFeed | None = None  # the one that ends everything
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tagged[T_co]:
        """Return the next line.

        Raises:
            StopAsyncIteration: Every output has ended and every line was given out.
            anyio.BusyResourceError: Another task is reading from the same reader.
            Exception: As ``TimelineSubscription.receive()``, and what ``OutputStream.lines()`` raises for a line.
        """
        while True:
            for item in self._ready:
                return Tagged(self._names[self._source], cast(T_co, item))
            if self._failure is not None:
                error = self._failure.failure()
                self.close()
                assert error is not None
                raise error
            with self._guard:
                await self._next_items()

    async def _next_items(self) -> None:
        """Make the next lines ready, or raise what there is instead of them."""
        for feed in self._feeds:
            feed.settle_given()
        if not self._feeds[self._source].has_slices:
            await self._watch.wait_ready(lambda: self._is_closed or self._unfinished() is not None)
            if self._is_closed:
                raise anyio.ClosedResourceError
            source = self._watch.turn()
            if source is None:
                source = self._unfinished()
            if source is None:
                self._raise_ending()
            self._source = source
        feed = self._feeds[self._source]
        self._ready = iter(feed.step())
        failure = feed.failure()
        if failure is not None and not isinstance(failure, TOLD_LAST):
            self._failure = feed

    def _unfinished(self) -> int | None:
        """The output that has ended, and whose unterminated last line was not looked at yet; of several the one read first."""
        ended = [
            source
            for source, feed in enumerate(self._feeds)
            if feed.failure() is None
            and feed.subscription.ending() is not None
            and not feed.subscription.cursor.has_items
        ]
        return min(ended, key=self._watch.run_of, default=None)

    def _raise_ending(self) -> NoReturn:
        error = self._watch.ending()
        self.close()
        if error is None or isinstance(error, anyio.EndOfStream):
            raise StopAsyncIteration
        raise error

    def close(self) -> None:
        """Detach; idempotent.  A further step raises ``ClosedResourceError``."""
        self._is_closed = True
        for source, feed in enumerate(self._feeds):
            feed.close(length_hint(self._ready) if source == self._source else 0)
        self._ready = iter(())

    def __del__(self) -> None:
        for source, feed in enumerate(self._feeds):
            feed.drop(length_hint(self._ready) if source == self._source else 0)
