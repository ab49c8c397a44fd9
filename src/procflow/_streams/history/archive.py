"""A log whose history lies in an archive, and cursors that reach back into it.

Owns which bytes are in memory, which are only in the archive, and what a cursor is promised of either.  Must not know what
an archive is made of, a clock, an event loop or the operating system: the archive is known by offsets alone.

The idea: the archive is filled by one more reliable cursor, the archivist.  What it has passed is in the archive; what it
has not is in memory; so no byte is ever in neither.  Memory holds one window (``MEMORY_BYTES``), which is also the archivist's
buffer: an archive that is slower than the source holds the source back.

A cursor that is below the memory is *behind*: a take gives nothing until somebody has loaded the next stretch for it.  What is loaded
is reserved like the chunk after a gap, so a best-effort cursor that is overtaken while it loads still makes progress.

An archive that is given up (sealed, or failed) takes no more bytes.  Cursors keep the stretches that they were promised,
and from there on the log is an ordinary one: sealed, or, after a failure, one that keeps its newest ``MEMORY_BYTES``.

Rejected: reading back without a word through the log (it would block the loop), one file for each subscriber (as many copies as
subscribers), dropping the history of a subscriber that attached to it (it was promised).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from procflow._streams.log.cursor import Cursor
from procflow._streams.log.log import StreamLog
from procflow.errors import HistoryLostError, SpillError
from procflow.events import Chunk, Gap
from procflow.policies import Delivery, Loss, Reliable, Replay

MEMORY_BYTES: Final = 1024 * 1024
"""How much of the newest output stays in memory, and how far the archive may be behind."""


class Stretch(Gap):
    """Bytes that a cursor holds in the archive.  Never leaves the cursor: it becomes chunks when it is loaded."""

    __slots__ = ()


class Archivist(Cursor):
    """The cursor that fills the archive: it moves only over what has been written."""

    __slots__ = ()

    def __init__(self, log: StreamLog) -> None:
        super().__init__(log, Reliable(buffer_bytes=MEMORY_BYTES), start=0, position=0, live_from=0)
        self.defer_settling()

    def peek(self, max_bytes: int) -> list[Chunk]:
        """Return what is to be written next, at most ``max_bytes``, and stay before it."""
        return self._log.chunks_between(self.position, min(self._log.produced, self.position + max_bytes))

    def wrote(self, stop: int) -> None:
        """Note that everything before ``stop`` is in the archive."""
        self._delivered += stop - self.position
        self.position = stop
        self._log.taken(self)
        self._log.refresh()


class ArchivedCursor(Cursor):
    """A cursor that can reach back below the memory of its log."""

    __slots__ = ()

    _log: ArchivedLog

    @property
    def is_behind(self) -> bool:
        """Whether the next bytes are in the archive only: a take gives nothing until they are loaded."""
        held = self._held
        if held:
            return isinstance(held[0], Stretch) or (
                isinstance(held[0], Gap) and len(held) > 1 and isinstance(held[1], Stretch)
            )
        self._overtake()
        return self.position < self._log.held_from

    @property
    def next_offset(self) -> int:
        """Offset of the next byte that this cursor delivers, as it stands now."""
        held = self._held
        return held[0].start if held and isinstance(held[0], Stretch) else super().next_offset

    @property
    def holds_stretches(self) -> bool:
        """Whether something that it was promised is in the archive only."""
        return any(isinstance(item, Stretch) for item in self._held)

    @property
    def has_items(self) -> bool:
        """Whether a take would return something now."""
        return not self.is_behind and super().has_items

    @property
    def live_lag(self) -> int:
        """How far it is behind, history at its attachment not counted."""
        return self._log.produced - max(self.offset, self._live_from)

    def trigger(self) -> int:
        """How much must be produced before this cursor needs attention again."""
        if self.is_reliable:
            return max(self.offset, self._live_from) + self.buffer_bytes
        return super().trigger()

    # --- loading ------------------------------------------------------------------------------------------------

    def reserve_stretch(self, max_bytes: int) -> Stretch | None:
        """Return what must be loaded next, at most ``max_bytes``, which nothing overtakes now; ``None`` if not behind."""
        if not self.is_behind:
            return None
        if not self._held:
            self._hold_until(min(self._log.held_from, self.position + max_bytes))
        stretch = next(item for item in self._held if isinstance(item, Stretch))
        return Stretch(stretch.start, min(stretch.stop, stretch.start + max_bytes))

    def load(self, chunk: Chunk) -> None:
        """Take over what was loaded for it; does nothing if that is no longer what comes next."""
        held = self._held
        for index in range(min(2, len(held))):
            stretch = held[index]
            if isinstance(stretch, Stretch) and stretch.start == chunk.offset:
                held[index] = chunk
                if chunk.stop < stretch.stop:
                    held.insert(index + 1, Stretch(chunk.stop, stretch.stop))
                return

    def keep_stretch(self) -> None:
        """Hold on to what is below the memory, because the archive takes no more."""
        if self._log.failure is not None:  # a buffer that was meant to lie in the archive must not lie in memory now
            if self._loss is Loss.DROP_NEWEST and not self._is_full and super().live_lag > MEMORY_BYTES:
                self._hold_until(self._log.produced)  # what was admitted stays admitted
            self.buffer_bytes = min(self.buffer_bytes, MEMORY_BYTES)
        self._overtake()
        self._hold_until(self._log.held_from)

    def _hold_until(self, stop: int) -> None:
        held_from = min(stop, self._log.held_from)
        if self.position < held_from:
            if self._gap_start is not None:
                self._held.append(self._gap_before(self.position))
            self._held.append(Stretch(self.position, held_from))
            self.position = held_from
        super()._hold_until(stop)

    # --- taking -------------------------------------------------------------------------------------------------

    def lend(self, max_chunks: int) -> Iterator[Chunk] | None:  # noqa: ARG002 (never)
        """Lend nothing: what is in memory may end at the next stretch."""
        return None

    def cut_at(self, stop: int) -> None:
        """Let the next chunk end at ``stop`` at the latest, if it is in memory."""
        if not self.is_behind:
            super().cut_at(stop)

    def take(self) -> Chunk | Gap | None:
        """Return the next item, or ``None`` if there is nothing in memory now."""
        return None if self.is_behind else super().take()

    def take_batch(self) -> list[Chunk | Gap]:
        """Return everything that is in memory now, up to the next stretch; empty if there is nothing."""
        if self.is_behind:
            return []
        held = self._held
        count = next((index for index, item in enumerate(held) if isinstance(item, Stretch)), len(held))
        if count == len(held):
            if not self._is_full:
                self._overtake()
            if self._is_full or self.position >= self._log.held_from:
                return super().take_batch()
        return self._moved_all([held.popleft() for _ in range(count)])


class ArchivedLog(StreamLog):
    """A log that keeps one window in memory and leaves what is older to its archive."""

    __slots__ = ("_archivist", "_failure")

    def __init__(self, replay: Replay, *, name: str = "stream") -> None:
        super().__init__(replay, name=name)
        self._failure: SpillError | None = None
        self._archivist = Archivist(self)
        self._enter(self._archivist)

    @property
    def archivist(self) -> Archivist:
        """The cursor that fills the archive; detached once the archive was given up."""
        return self._archivist

    @property
    def archived_bytes(self) -> int:
        """How many bytes, from the first one on, are in the archive."""
        return self._archivist.position

    @property
    def failure(self) -> SpillError | None:
        """Why the archive was given up, if it failed."""
        return self._failure

    @property
    def held_from(self) -> int:
        """Offset of the oldest byte in memory."""
        return self.produced - self._retained

    @property
    def is_archiving(self) -> bool:
        """Whether the archive still takes bytes."""
        return self._archivist.is_attached

    @property
    def needs_archive(self) -> bool:
        """Whether anybody, now or later, may ask for bytes that are in the archive only."""
        return (
            self.is_archiving
            or self.history_start < min(self.held_from, self.archived_bytes)
            or any(isinstance(cursor, ArchivedCursor) and cursor.holds_stretches for cursor in self._cursors)
        )

    def history(self) -> bytes:
        """The newest part of the history: what is in memory."""
        return self._bytes_from(max(self.history_start, self.held_from))

    def seal(self) -> None:
        """Forget the history, now and for good; attached cursors keep what they were promised, in the archive too."""
        super().seal()
        self._give_up_archive()

    def fail(self, failure: SpillError) -> None:
        """Note that the archive can take no more: from now on only the newest ``MEMORY_BYTES`` are kept."""
        if self.is_archiving:
            self._failure = failure
            self._replay = Replay.last_bytes(MEMORY_BYTES)
            self._give_up_archive()

    def _give_up_archive(self) -> None:
        if not self.is_archiving:
            return
        for cursor in self._cursors:
            if isinstance(cursor, ArchivedCursor):
                cursor.keep_stretch()
        self.detach(self._archivist)

    def _attach_at(self, delivery: Delivery, start: int) -> Cursor:
        try:
            return super()._attach_at(delivery, start)
        except HistoryLostError as error:
            raise error from self._failure

    def _make_cursor(self, delivery: Delivery, *, start: int, position: int) -> Cursor:
        cursor = ArchivedCursor(self, delivery, start=start, position=position, live_from=self.produced)
        if not self.is_archiving:
            cursor.keep_stretch()
        return cursor

    def _memory_floor(self) -> int:
        if not self.is_archiving:
            return super()._memory_floor()
        return min(self.produced - MEMORY_BYTES, self._archivist.position)

    def _is_pinned(self, offset: int) -> bool:
        if not self.is_archiving:
            return super()._is_pinned(offset)
        return offset > self._archivist.position
