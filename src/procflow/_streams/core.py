"""What a stream shares with its subscribers: the log, the bells, and the way back for dropped subscribers.

Owns attaching and detaching.  Must not know who reads the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from anyio import NoEventLoopError

from procflow._streams.cursor import Cursor
from procflow._streams.log import StreamLog
from procflow._streams.subscription import Subscription
from procflow._streams.waking import Bell, LoopDoor
from procflow.policies import Delivery, Replay, Start


class StreamCore:
    """The log of one stream and everything that sleeps on it.  Knows subscribers only by their cursors."""

    __slots__ = ("_attached", "_door", "_dropped", "_names", "data_bell", "log", "room_bell")

    def __init__(self, replay: Replay, *, name: str) -> None:
        self.log = StreamLog(replay, name=name)
        self.data_bell = Bell()
        self.room_bell = Bell()
        self._names: dict[Cursor, str] = {}
        self._attached = 0
        self._dropped: deque[tuple[Cursor, int | None]] = deque()
        self._door: LoopDoor | None = None

    def subscribe(
        self, delivery: Delivery, start: Start, *, last_bytes: int | None = None, name: str | None = None
    ) -> Subscription:
        """Return a subscriber that is attached now."""
        self.reap_dropped()
        return self._enrol(self.log.attach(delivery, start, last_bytes=last_bytes), name)

    def subscribe_waiter(self, delivery: Delivery) -> Subscription:
        """Return a subscriber for a wait, attached now: see ``StreamLog.attach_waiter()``."""
        self.reap_dropped()
        return self._enrol(self.log.attach_waiter(delivery), None)

    def name_of(self, cursor: Cursor) -> str:
        """What statistics call the subscriber."""
        return self._names.get(cursor, "?")

    def detach(self, cursor: Cursor) -> None:
        """Release a cursor; idempotent."""
        self._names.pop(cursor, None)
        self.log.detach(cursor)
        self.resume_if_relieved()

    def drop(self, cursor: Cursor, given: int | None = None) -> None:
        """Release the cursor of a subscriber that was garbage collected: from any thread, at any moment."""
        self._dropped.append((cursor, given))
        if self._door is not None:
            self._door.run_soon(self.reap_dropped)

    def reap_dropped(self) -> None:
        """Release the cursors of subscribers that were garbage collected."""
        while self._dropped:
            cursor, given = self._dropped.popleft()
            if given is not None:
                self.log.settle(given)
            self.detach(cursor)

    def resume_if_relieved(self) -> None:
        """Let the pump go on if no subscriber holds it back any more."""
        if not self.log.is_blocked:
            self.room_bell.ring()

    def on_loop(self, function: Callable[[], object]) -> bool:
        """Run ``function`` on the event loop of the stream: now if that is here, else soon.

        Returns false, and runs nothing, if the loop is gone.  A stream that no loop has used yet belongs to the caller.
        """
        if self._door is None or self._door.is_here:
            function()
            return True
        return self._door.run_soon(function)

    def open_door(self) -> None:
        """Remember the running event loop, which is where dropped subscribers are reaped."""
        if self._door is None:
            try:
                self._door = LoopDoor()
            except NoEventLoopError:  # no loop runs yet: the pump will open it
                return

    def _enrol(self, cursor: Cursor, name: str | None) -> Subscription:
        self.open_door()
        self._attached += 1
        name = name if name is not None else f"{self.log.name}#{self._attached}"
        self._names[cursor] = name
        return Subscription(self, cursor, name=name)
