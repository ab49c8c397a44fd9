"""The consumers of a scope: who runs, how leaving the scope ends them, and which failures nobody has seen.

Owns the bounds of the end.  Must not know what consumers do, nor whose scope it is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import anyio

from procflow._streams.consumers.consumer import Consumer
from procflow._streams.consumers.results import ConsumerEnding
from procflow.errors import ClosedError

if TYPE_CHECKING:
    from procflow.errors import ConsumerError

POLL_S: Final = 0.05
"""How often a closing scope looks whether its consumers get on."""

MAX_UNSEEN: Final = 16
"""How many failures that nobody has seen are kept to be told at the end; of further ones only the number."""

LAST_STEPS_S: Final = 1.0
"""How long consumers that were cut may take to end."""

StartTask: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, object]], str], object]


class HeldStream(Protocol):
    """A stream, by what the end of a scope needs of it."""

    @property
    def has_ended(self) -> bool: ...
    @property
    def produced_bytes(self) -> int: ...
    def pending_bytes(self) -> int: ...
    async def wait_ended(self) -> None: ...


class Crew:
    """The consumers of all streams of one scope."""

    def __init__(self, start_task: StartTask) -> None:
        self._start_task = start_task
        self._running: dict[Consumer[Any], HeldStream] = {}
        self._unseen: list[Consumer[Any]] = []
        self._more_failures = 0
        self._is_closed = False
        self._left_at: float | None = None

    def __repr__(self) -> str:
        return f"<Crew of {len(self._running)} running, {len(self._unseen)} failed>"

    @property
    def is_idle(self) -> bool:
        """Whether no consumer runs."""
        return not self._running

    def require_open(self, stream_name: str) -> None:
        """Raise unless the scope still takes consumers.

        Raises:
            ClosedError: It was left.
        """
        if self._is_closed:
            raise ClosedError(f"{stream_name}: the scope that would own the consumer was left")

    def start(self, consumer: Consumer[Any], stream: HeldStream) -> None:
        """Own ``consumer`` from now on, and start its task; synchronous."""
        self._running[consumer] = stream
        self._start_task(consumer.run, f"consumer {consumer.name}")

    def ended(self, consumer: Consumer[Any]) -> None:
        """Note the end of a consumer; the last thing that it does."""
        self._running.pop(consumer, None)
        if consumer.failure() is not None:
            self._unseen = [failed for failed in self._unseen if not failed.is_seen]
            if len(self._unseen) < MAX_UNSEEN:
                self._unseen.append(consumer)
            else:
                self._more_failures += 1

    # --- the end of the scope -----------------------------------------------------------------------------------

    async def let_read(self, streams: Iterable[HeldStream]) -> None:
        """Wait while consumers still make the streams read what ended processes have left in their pipes; call it shielded.

        Of a pipe that somebody else holds open no more is waited for than was in it at first.
        """
        self._leave()
        if self.is_idle:
            return
        for stream in streams:
            stop, produced, is_idle = stream.produced_bytes + stream.pending_bytes(), -1, False
            while not stream.has_ended:
                mine = [consumer for consumer, its in self._running.items() if its is stream]
                left_s = max((self._left_s(consumer) for consumer in mine), default=0.0)
                # Up to `stop`, because the end of file is seen by the read after the last byte.
                is_held = stream.produced_bytes <= stop and any(consumer.is_blocking for consumer in mine)
                has_moved = stream.produced_bytes != produced and stream.produced_bytes < stop
                if left_s <= 0 or (is_idle and not is_held and not has_moved):
                    break
                is_idle = not is_held and not has_moved
                produced = stream.produced_bytes
                with anyio.move_on_after(min(POLL_S, left_s)):
                    await stream.wait_ended()

    async def finish(self) -> None:
        """Give each consumer its ``finish_s`` to take what its ended stream holds, then cut it; call it shielded."""
        self._leave()
        self._is_closed = True
        if self.is_idle:
            return
        for consumer in sorted(self._running, key=lambda consumer: consumer.finish_s):
            with anyio.move_on_after(max(0.0, self._left_s(consumer))):
                await consumer.wait_done()
            if not consumer.is_finished:
                consumer.tear_away(ConsumerEnding.CUT)
        with anyio.move_on_after(LAST_STEPS_S):
            for consumer in tuple(self._running):
                await consumer.wait_done()

    def abort(self) -> None:
        """End every consumer at once, because nobody will wait for them."""
        self._is_closed = True
        for consumer in tuple(self._running):
            consumer.tear_away(ConsumerEnding.ABORTED)

    def _leave(self) -> None:
        if self._left_at is None:
            self._left_at = anyio.current_time()

    def _left_s(self, consumer: Consumer[Any]) -> float:
        assert self._left_at is not None, "the scope is being left"
        return self._left_at + consumer.finish_s - anyio.current_time()

    def unseen(self) -> list[ConsumerError]:
        """Return the failures that nobody was told of, and count them as told, the oldest first."""
        errors = []
        for consumer in self._unseen:
            error = consumer.failure() if not consumer.is_seen else None
            if error is not None:
                consumer.is_seen = True
                errors.append(error)
        if errors and self._more_failures:
            errors[0].add_note(f"{self._more_failures} more consumers failed")
        self._unseen.clear()
        return errors


def tell(errors: Iterable[Exception], exc: BaseException | None) -> None:
    """Add ``errors`` to ``exc``, which propagates, as notes; if nothing does, raise the first with notes of the others."""
    told, is_ours = exc, exc is None
    for error in errors:
        if told is None:
            told = error
            continue
        text = "also" if is_ours else "while this propagated"
        cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ is not None else ""
        told.add_note(f"{text}: {error}{cause}")
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
    if is_ours and told is not None:
        raise told
