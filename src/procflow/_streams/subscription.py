"""A subscriber's end of a stream.

Owns waiting for items, passing checkpoints, and letting go of the cursor however the subscriber leaves.  Must not know how
items are chosen: the cursor does.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from operator import length_hint
from time import perf_counter
from typing import TYPE_CHECKING, Final, NoReturn

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.lowlevel import checkpoint

from procflow._streams.closing import Detachable
from procflow._streams.log.cursor import Cursor
from procflow._streams.log.terminal import failure_of
from procflow._streams.pacing import loan_chunks
from procflow.errors import SpillError
from procflow.events import Chunk, Gap, SubscriberStatistics

if TYPE_CHECKING:
    from procflow._streams.core import StreamCore
    from procflow._streams.waking import Bell

TURN_S: Final = 0.001
"""How long a subscriber may take items that are ready before other tasks run."""


class Subscription(Detachable, ObjectReceiveStream[Chunk | Gap]):
    """Receives the chunks of a stream, in order, and a ``Gap`` where some are missing.

    Made by ``OutputStream.subscribe()``, attached from that call on.  Leaving its ``async with`` block, ``aclose()``,
    or dropping the last reference detaches it.  Only the event loop of the stream may use it.
    """

    def __init__(self, core: StreamCore, cursor: Cursor, *, name: str) -> None:
        self._core = core
        self._cursor = cursor
        self._name = name
        self._is_closed = False
        self._stop: int | None = None
        self._turn_started = float("-inf")
        self._lent: Iterator[Chunk] = iter(())  # chunks that are this subscriber's for the drawing
        self._lent_at = float("-inf")
        self._lent_chunks = 0

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "attached" if self._cursor.is_attached else "detached"
        return f"<Subscription {self._name!r} {state} at {self._cursor.offset}>"

    @property
    def name(self) -> str:
        """What statistics call this subscriber."""
        return self._name

    async def receive(self) -> Chunk | Gap:
        """Return the next item; wait for one if there is none.

        A ``Gap`` is always followed by a chunk that is reserved for this subscriber, except at the end of a ``DROP_NEWEST``
        subscription whose last bytes were lost.  Cancelling loses nothing.

        Raises:
            anyio.EndOfStream: The source has ended and everything was received.  Every further call says the same.
            StreamReadError: Reading the source failed; everything read before was received.
            StreamClosedError: The stream was closed by its owner; everything read before was received.
            StallError: This subscriber was detached because it stalled the stream, or another one failed the stream.
            SpillError: History that was spilled to a file cannot be read back.
            anyio.ClosedResourceError: This subscription was closed.
        """
        for chunk in self._lent:
            return chunk
        return await self._receive_next()

    async def __anext__(self) -> Chunk | Gap:
        for chunk in self._lent:
            return chunk
        try:
            return await self._receive_next()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def receive_nowait(self) -> Chunk | Gap:
        """Return the next item if there is one now.

        Raises:
            anyio.WouldBlock: There is nothing in memory now.
            Exception: As ``receive()``.
        """
        self._require_attached()
        item = self._cursor.take() if not self._is_past_stop() else None
        if item is None:
            self._raise_ending()
        self._after_take()
        return item

    async def receive_batch(self) -> list[Chunk | Gap]:
        """Return everything there is, at least one item and at most one ``Gap``; wait if there is nothing.

        Errors and cancellation are those of ``receive()``.
        """
        await self.wait_ready()
        return self.receive_batch_nowait()

    def receive_batch_nowait(self) -> list[Chunk | Gap]:
        """Return everything there is now, at least one item.

        Raises:
            anyio.WouldBlock: There is nothing now.
            Exception: As ``receive()``.
        """
        self._require_attached()
        items = self._cursor.take_batch() if not self._is_past_stop() else []
        if not items:
            self._raise_ending()
        self._after_take()
        return items

    def statistics(self) -> SubscriberStatistics:
        """Return the subscriber's numbers."""
        return self._cursor.statistics(self._name)

    def close(self) -> None:
        """Detach; idempotent.  A task that waits in ``receive()`` gets ``ClosedResourceError``."""
        if not self._is_closed:
            self._is_closed = True
            self._core.detach(self._cursor)
            self._core.data_bell.ring()

    def __del__(self) -> None:
        self.drop(None)

    # --- for line readers ---------------------------------------------------------------------------------------

    def drop(self, given: int | None) -> None:
        """Detach because the subscriber was garbage collected: in any thread, in the middle of anything.  Only hands over.

        ``given`` is the offset up to which it had handed out what it took, if that is not all of it.
        """
        if not self._is_closed:
            self._is_closed = True
            self._core.drop(self._cursor, given)

    def end_at(self, offset: int) -> None:
        """Let the subscription end, as if by EOF, when it has taken everything before ``offset``."""
        self._cursor.take_back()
        self._stop = offset
        self._core.data_bell.ring()

    def ending(self) -> Exception | None:
        """Return why nothing more will be received once everything was; ``None`` if more may come.

        A new exception each time: a raised one collects tracebacks.
        """
        error, log = self._cursor.error, self._core.log
        if error is not None:
            return copy(error)
        if log.terminal is not None and not self._cursor.is_behind:
            return failure_of(log.name, log.terminal) or anyio.EndOfStream()
        return anyio.EndOfStream() if self._is_past_stop() else None

    @property
    def stream_name(self) -> str:
        """The stream's name, for errors."""
        return self._core.log.name

    @property
    def opening(self) -> bytes:
        """The first bytes of the stream: where a byte order mark is."""
        return self._core.log.opening

    @property
    def bell(self) -> Bell:
        """What rings when there may be something to receive."""
        return self._core.data_bell

    @property
    def cursor(self) -> Cursor:
        """The place in the log."""
        return self._cursor

    async def wait_ready(self) -> None:
        """Return when a take would return or raise.  Passes a checkpoint if it waits, or has not for a millisecond."""
        self._require_attached()
        if self._is_ready():
            if perf_counter() - self._turn_started < TURN_S:
                return
            await checkpoint()
        while not self._is_ready():
            if self._cursor.is_behind:
                await self._load()
            else:
                await self._core.data_bell.sleep()
        self._turn_started = perf_counter()

    def _is_ready(self) -> bool:
        cursor = self._cursor
        return (
            cursor.has_items
            or (self._core.log.terminal is not None and not cursor.is_behind)
            or self._is_closed
            or cursor.error is not None
            or self._is_past_stop()
        )

    async def _load(self) -> None:
        try:
            await self._core.load(self._cursor)
        except SpillError as error:
            self._cursor.error = error
            self._core.detach(self._cursor)

    async def _receive_next(self) -> Chunk | Gap:
        """Wait, then receive the next item, and the chunks behind it on loan: as many as are likely to be drawn within a turn."""
        cursor = self._cursor
        now = perf_counter()
        max_chunks = loan_chunks(self._lent_chunks, now - self._lent_at)
        lent: Iterator[Chunk] | None = None
        if now - self._turn_started < TURN_S:
            lent = self._lend(max_chunks)
            if (
                lent is None and not cursor.is_behind and not self._is_ready()
            ):  # nearly always: so this is the short way to sleep
                await self._core.data_bell.sleep()
                self._turn_started = now = perf_counter()
                lent = self._lend(max_chunks)
        if lent is None:
            cursor.take_back()
            await self.wait_ready()
            self._require_attached()
            now = perf_counter()
            lent = self._lend(max_chunks)
        if lent is None:
            self._lent_chunks = 0
            return self.receive_nowait()
        self._lent = lent
        self._lent_at = now
        self._lent_chunks = length_hint(lent)
        return next(lent)

    def _lend(self, max_chunks: int) -> Iterator[Chunk] | None:
        return self._cursor.lend(max_chunks) if self._stop is None else None

    def _is_past_stop(self) -> bool:
        return self._stop is not None and self._cursor.offset >= self._stop

    def _require_attached(self) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        if self._cursor.error is not None:
            self._raise_ending()

    def _raise_ending(self) -> NoReturn:
        raise self.ending() or anyio.WouldBlock()

    def _after_take(self) -> None:
        cursor = self._cursor
        if cursor.counts_time:
            cursor.touched_at = anyio.current_time()
        self._core.resume_if_relieved()
