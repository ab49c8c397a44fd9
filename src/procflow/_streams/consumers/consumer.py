"""A running consumer: the task that feeds a worker, and the handle on it.

Owns how a consumer begins, ends and is ended, and what its result says.  Must not know what a worker does, nor who owns the task.

A consumer shields itself: a cancellation around the scope that owns it must not tear away the end of a log.  The scope ends it, within
``finish_s``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from procflow._streams.consumers.results import Consumed, ConsumerEnding
from procflow._streams.consumers.workers import Feeding, Worker, says_stop
from procflow._streams.lines.readers import BATCH_BYTES, LineFeed
from procflow._streams.subscription import Subscription
from procflow._streams.waking import is_being_cancelled
from procflow.errors import ConsumerError, StreamClosedError, UsageError
from procflow.events import Gap

T_co = TypeVar("T_co", covariant=True)
Item = TypeVar("Item")

CANCEL_S: Final = 5.0
"""How long ``cancel()`` waits for the item at hand unless told otherwise."""


class Consumer(Generic[T_co]):
    """Consumes a stream in the background; made by ``OutputStream.consume()``, attached from that call on.

    Its task belongs to the scope that owns the stream, so the handle need not be kept.
    """

    def __init__(
        self,
        subscription: Subscription,
        worker: Worker[Any, T_co],
        *,
        finish_s: float,
        may_lose: bool,
        on_end: Callable[[Consumer[T_co]], object],
    ) -> None:
        self.finish_s: Final = finish_s
        self._subscription = subscription
        self._worker = worker
        self._on_end = on_end
        self._is_line_wise = worker.feeding in (Feeding.LINE, Feeding.LINES)
        self._feed = LineFeed(subscription, worker.config, "yield") if self._is_line_wise else None
        self._may_lose = may_lose
        self._start = self._stop = subscription.cursor.offset
        self._lost_bytes = 0
        self._gaps = 0
        self._done = anyio.Event()
        self._result: Consumed[T_co] | None = None
        self._scope: anyio.CancelScope | None = None
        self._task_id: int | None = None
        self._is_receiving = False
        self._request: ConsumerEnding | None = None  # what somebody else wants it to end by
        self._error: Exception | None = None
        self.is_seen = False
        """Whether somebody was told of its failure."""

    def __repr__(self) -> str:
        state = self._result.ending.value if self._result is not None else "running"
        return f"<Consumer {self.name!r} {state} at {self._stop}>"

    @property
    def name(self) -> str:
        """What statistics and errors call it."""
        return self._subscription.name

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self._result is not None

    @property
    def result(self) -> Consumed[T_co] | None:
        """What came of it, however it ended; ``None`` while it runs."""
        return self._result

    async def wait(self) -> Consumed[T_co]:
        """Return the result once it has ended; repeatable, for any number of tasks, and cancelling it changes nothing.

        Raises:
            ConsumerError: A callback, the sink or reading the stream failed, or it was cut at the end of its scope.  Carries the
                result; its ``__cause__`` is what failed.
            UsageError: If its own callback waits for it.
        """
        await checkpoint()
        if self._task_id is not None and anyio.get_current_task().id == self._task_id:
            raise UsageError(f"{self.name}: a consumer cannot wait for itself")
        await self._done.wait()
        assert self._result is not None, "an ended consumer has a result"
        error = self.failure()
        if error is not None:
            self.is_seen = True
            raise error from self._result.error
        return self._result

    async def cancel(self, timeout_s: float = CANCEL_S) -> Consumed[T_co]:
        """End it between two items, and return the result with what was collected.

        It detaches at once if it is waiting, else when the item at hand is done.  If that takes longer than ``timeout_s``, it is aborted;
        ``ending`` says which.  One that has ended already stays as it is.

        Raises:
            ConsumerError: As ``wait()``.
        """
        if self._request is None:
            self._request = ConsumerEnding.CANCELLED
            if self._is_receiving:
                self._subscription.close()
        with anyio.move_on_after(timeout_s):
            return await self.wait()
        self.abort()
        return await self.wait()

    def abort(self) -> None:
        """End it at once, in the middle of whatever it does, and detach it; idempotent.

        What it had collected stays in the result.  A callback that swallows its cancellation can hold it up.
        """
        self.tear_away(ConsumerEnding.ABORTED)

    # --- for the owner ----------------------------------------------------------------------------------------------

    @property
    def is_blocking(self) -> bool:
        """Whether the stream waits for it."""
        return self._result is None and self._subscription.statistics().is_blocking

    def failure(self) -> ConsumerError | None:
        """Return a new error if it has failed, or was cut."""
        result = self._result
        if result is None or result.ending not in (ConsumerEnding.FAILED, ConsumerEnding.CUT):
            return None
        error = ConsumerError(
            consumer_name=self.name, stream_name=self._subscription.stream_name, finish_s=self.finish_s, result=result
        )
        error.__cause__ = result.error
        return error

    def tear_away(self, ending: ConsumerEnding) -> None:
        """End it at once as ``ending``; of several the first counts, but for a mere ``cancel()``."""
        if self._result is not None:
            return
        if self._request in (None, ConsumerEnding.CANCELLED):
            self._request = ending
        self._subscription.close()
        if self._scope is not None:
            self._scope.cancel()
        elif self._task_id is None:  # its task has not begun, and may never
            self._worker.abandon()
            self._conclude(None)

    async def wait_done(self) -> None:
        """Return once it has ended, however."""
        await self._done.wait()

    async def run(self) -> None:
        """Consume to the end; the body of the task.  Raises nothing of its own."""
        if self._result is not None:
            return
        self._task_id = anyio.get_current_task().id
        ending: ConsumerEnding | None = None
        try:
            with anyio.CancelScope(shield=True) as self._scope:
                try:
                    await self._worker.begin()
                    ending = await self._consume()
                    await self._worker.finish()
                except Exception as error:  # noqa: BLE001 (whatever a callback or a sink raises is recorded)
                    ending = ConsumerEnding.FAILED
                    self._error = error
                except anyio.get_cancelled_exc_class() as error:
                    if is_being_cancelled():
                        raise
                    ending = ConsumerEnding.FAILED
                    self._error = RuntimeError("it let a cancellation escape that was not its own")
                    self._error.__cause__ = error
            if self._scope.cancelled_caught:
                ending = None
        except BaseException:
            ending = None
            raise
        finally:
            self._worker.abandon()
            self._conclude(ending)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _conclude(self, ending: ConsumerEnding | None) -> None:
        if ending is None:  # it was ended by somebody else
            ending = self._request or ConsumerEnding.ABORTED
        if self._feed is not None:
            self._feed.close()
        self._subscription.close()
        worker = self._worker
        worker.stop = self._stop
        worker.is_complete = ending is ConsumerEnding.EOF
        self._result = Consumed(
            name=self.name,
            value=worker.value(),
            ending=ending,
            start=self._start,
            stop=self._stop,
            lost_bytes=self._lost_bytes,
            gaps=self._gaps,
            error=self._error,
        )
        self._done.set()
        self._on_end(self)

    async def _consume(self) -> ConsumerEnding | None:
        """Feed the worker until something ends it, and return that; ``None`` stands for what was requested."""
        step = {
            Feeding.CHUNK: self._give_chunk,
            Feeding.CHUNKS: self._give_chunks,
            Feeding.LINE: self._give_lines,
            Feeding.LINES: self._give_lines,
        }[self._worker.feeding]
        while self._request is None:
            try:
                if await step():
                    return ConsumerEnding.STOPPED
            except _Ended as ended:
                return ended.ending
        return None

    async def _received(self, receive: Callable[[], Awaitable[Item]]) -> Item:
        self._is_receiving = True
        try:
            return await receive()
        except anyio.EndOfStream:
            raise _Ended(ConsumerEnding.EOF) from None
        except StreamClosedError:
            raise _Ended(ConsumerEnding.CLOSED) from None
        except anyio.ClosedResourceError:
            if self._request is None:
                raise
            raise _Ended(None) from None
        finally:
            self._is_receiving = False

    def _note_gap(self, gap: Gap) -> None:
        self._lost_bytes += gap.lost_bytes
        self._gaps += 1

    def _gap_answer(self, gap: Gap) -> object:
        self._note_gap(gap)
        return self._worker.on_gap(gap) if self._worker.on_gap is not None else None

    async def _give_chunk(self) -> bool:
        event = await self._received(self._subscription.receive)
        self._stop = event.stop
        answer = self._gap_answer(event) if isinstance(event, Gap) else self._worker.accept(event)
        return answer is not None and await says_stop(answer)

    async def _give_chunks(self) -> bool:
        if not self._subscription.cursor.has_items:
            await self._worker.idle()
        events = await self._received(self._subscription.receive_batch)
        self._stop = events[-1].stop
        for event in events:
            if isinstance(event, Gap):
                self._note_gap(event)
        answer = self._worker.accept(events)
        return answer is not None and await says_stop(answer)

    async def _give_lines(self) -> bool:
        feed, worker = self._feed, self._worker
        assert feed is not None, "a worker that takes lines has a feed of them"
        is_single = worker.feeding is Feeding.LINE
        if is_single or self._may_lose:  # one step of the feed, within which each item's offset is known
            items = await self._received(feed.next_items)
        else:
            items = await self._received(lambda: feed.next_batch(BATCH_BYTES))
        count = 0
        try:
            for size, item in runs(items, is_single=is_single, may_have_gaps=self._may_lose):
                count += size
                answer = self._gap_answer(item) if isinstance(item, Gap) else worker.accept(item)
                if answer is not None and await says_stop(answer):
                    if is_single:  # a batch may be of several steps
                        worker.stopped_at = feed.splitter.start_of(count - 1)
                    return True
                if self._request is not None:
                    return False
        finally:
            left = len(items) - count
            self._stop = feed.splitter.offset_after(count) if left else feed.splitter.resume_offset
            if left:  # these belong to the next subscriber
                feed.close(left)
        return False


class _Ended(Exception):  # noqa: N818 (never leaves this module)
    """The stream has nothing more for the consumer."""

    def __init__(self, ending: ConsumerEnding | None) -> None:
        super().__init__()
        self.ending = ending


def runs(
    items: list[str | Gap], *, is_single: bool, may_have_gaps: bool
) -> Iterable[tuple[int, str | Gap | list[str | Gap]]]:
    """Yield what is given at a time, and how many items that is: each, or gaps and the lists of lines between them."""
    if is_single:
        for item in items:
            yield 1, item
        return
    if not may_have_gaps:
        yield len(items), items
        return
    for is_gap, group in groupby(items, key=lambda item: isinstance(item, Gap)):
        if is_gap:
            for gap in group:
                yield 1, gap
        else:
            lines = list(group)
            yield len(lines), lines
