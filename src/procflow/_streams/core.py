"""What a stream shares with its subscribers: the log, the bells, and the way back for dropped subscribers.

Owns attaching and detaching.  Must not know who reads the source.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from anyio import NoEventLoopError

from procflow._observers import emit
from procflow._streams.history.archive import ArchivedCursor, ArchivedLog
from procflow._streams.history.spill import Spill, SpillFile
from procflow._streams.log.cursor import Cursor
from procflow._streams.log.log import StreamLog
from procflow._streams.subscription import Subscription
from procflow._streams.waking import Bell, LoopDoor
from procflow.events import Gap
from procflow.observation import Lost
from procflow.policies import Delivery, Replay, Start


class StreamCore:
    """The log of one stream and everything that sleeps on it.  Knows subscribers only by their cursors."""

    __slots__ = ("_attached", "_door", "_dropped", "_names", "data_bell", "end_bell", "log", "room_bell", "spill")

    def __init__(self, replay: Replay, *, name: str) -> None:
        self.log = StreamLog(replay, name=name) if replay.spill is None else ArchivedLog(replay, name=name)
        self.spill: Spill | None = None
        self.data_bell = Bell()
        self.room_bell = Bell()
        self.end_bell = Bell()
        self._names: dict[Cursor, str] = {}
        self._attached = 0
        self._dropped: list[tuple[Cursor, int | None]] = []  # every stream has one: an empty deque takes 760 bytes
        self._door: LoopDoor | None = None
        if isinstance(self.log, ArchivedLog):
            assert replay.spill is not None
            file = SpillFile(replay.spill, stream_name=name)
            self.spill = Spill(file, self.log, data_bell=self.data_bell, on_written=self.resume_if_relieved)
            self._names[self.log.archivist] = f"{name}#spill"

    def subscribe(
        self, delivery: Delivery, start: Start, *, last_bytes: int | None = None, name: str | None = None
    ) -> Subscription:
        """Return a subscriber that is attached now."""
        self.reap_dropped()
        return self._enrol(self.log.attach(delivery, start, last_bytes=last_bytes), name)

    def subscribe_waiter(self, delivery: Delivery, *, sees_matches: bool = False) -> Subscription:
        """Return a subscriber for a wait, attached now: see ``StreamLog.attach_waiter()``."""
        self.reap_dropped()
        return self._enrol(self.log.attach_waiter(delivery, sees_matches=sees_matches), None)

    def name_of(self, cursor: Cursor) -> str:
        """What statistics call the subscriber."""
        return self._names.get(cursor, "?")

    def detach(self, cursor: Cursor) -> None:
        """Release a cursor; idempotent."""
        self._names.pop(cursor, None)
        self.log.detach(cursor)
        if self.spill is not None:
            self.spill.look()
        self.resume_if_relieved()

    def seal(self) -> None:
        """Forget the history, wherever it is."""
        self.reap_dropped()
        self.log.seal()
        if self.spill is not None:
            self.spill.look()
        self.resume_if_relieved()

    async def load(self, cursor: Cursor) -> None:
        """Bring into memory what a cursor that is behind needs next.

        Raises:
            SpillError: If it cannot be read.
        """
        assert self.spill is not None, "only a cursor on a spilled log is behind"
        assert isinstance(cursor, ArchivedCursor)
        await self.spill.load(cursor)

    def drop(self, cursor: Cursor, given: int | None = None) -> None:
        """Release the cursor of a subscriber that was garbage collected: from any thread, at any moment."""
        self._dropped.append((cursor, given))
        if self._door is not None:
            self._door.run_soon(self.reap_dropped)

    def reap_dropped(self) -> None:
        """Release the cursors of subscribers that were garbage collected."""
        while self._dropped:
            cursor, given = self._dropped.pop(0)
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

    def open_door(self, door: LoopDoor | None = None) -> None:
        """Remember the running event loop, which is where dropped subscribers are reaped; ``door`` leads to it, if there is one."""
        if self._door is None:
            try:
                self._door = door if door is not None else LoopDoor()
            except NoEventLoopError:  # no loop runs yet: the pump will open it
                return

    def _enrol(self, cursor: Cursor, name: str | None) -> Subscription:
        self.open_door()
        self._attached += 1
        name = name if name is not None else f"{self.log.name}#{self._attached}"
        self._names[cursor] = name
        cursor.on_lost = partial(_tell_lost, self.log.name, name)
        return Subscription(self, cursor, name=name)


def _tell_lost(stream_name: str, subscriber_name: str, gap: Gap) -> None:
    # No method: what a cursor holds must not keep the stream alive.
    emit(Lost, stream=stream_name, subscriber=subscriber_name, lost_bytes=gap.lost_bytes, start=gap.start)
