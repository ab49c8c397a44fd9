"""The ordered log of a stream and the rules by which cursors read it.

Owns the bytes of a stream, its retention, its terminal, and every decision about delivery.  Must not know a clock, an
event loop or the operating system: everything here is synchronous, so on one event loop it is atomic.

The problem: any number of subscribers with different delivery rules share one sequence of bytes; appending must cost the
same whether none or a thousand are attached; and what a subscriber misses must be known to the byte.

The idea: everything is an absolute offset.  Chunk borders carry no meaning, so tiny chunks can be joined at any time.  A
cursor *pulls*; what a best-effort cursor lost is computed from offsets when it takes.  Three numbers make ``append()``
independent of the cursors: ``_trigger`` (below it no cursor needs attention), ``_floor`` (what the cursors that may not
be overtaken still need) and ``_window`` (how much a moving cursor may still claim).  Each is a bound that can only be
too careful; ``refresh()`` makes them exact, in O(cursors), and runs only when ``_trigger`` is reached or when
at least as many chunks as there are cursors were appended since the last time.

Two kinds of bytes are promised to a best-effort cursor: the history it attached with, and, under ``DROP_NEWEST``, what is
buffered.  When the log is about to outrun them the cursor takes them along (``_held``, references, no copies) and the log goes
on without it.  The chunk after a gap is held the same way, so it cannot be overtaken either.

Two more things keep the cursors out of the way.  A reliable cursor may *lend* its subscriber the chunks that come next, as an
iterator; what was drawn is worked out when anybody asks (``catch_up()``), and the log recalls loans when the source
begins to wait.  A cursor that nothing produced can change any more (overtaken, or full under ``DROP_NEWEST``) *rests*: ``refresh()``
passes it over until it takes.

It is longer than other modules because retention, room and attachment read and write the same few numbers: apart, each would
have to know them all.

Rejected: a queue for each subscriber (cost and memory grow with their number), a ring of fixed slots (tiny chunks
evict history early, and positions in chunks cannot account for bytes).
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from procflow._streams.log.chunks import cut_front, join_small
from procflow._streams.log.cursor import Cursor
from procflow._streams.log.starts import resolve_start
from procflow._streams.log.terminal import Terminal
from procflow.errors import HistoryLostError
from procflow.events import Chunk
from procflow.policies import Delivery, Reliable, Replay, Retention, Start

NEVER: Final = sys.maxsize
TAIL_BYTES: Final = 4096
"""The newest bytes that stay available for error messages whatever the retention says."""
OPENING_BYTES: Final = 4
JOIN_AT_CHUNKS: Final = 1024
COMPACT_AT_SLOTS: Final = 64

_GONE: Final = Chunk(b"", -1)
_NO_CHUNKS: Final[list[Chunk]] = []
_offset_of = attrgetter("offset")


class StreamLog:
    """Chunks in order, the cursors on them, and the terminal."""

    __slots__ = (
        "_active",
        "_appended",
        "_chunks",
        "_cursors",
        "_floor",
        "_given",
        "_head",
        "_is_sealed",
        "_join_at",
        "_laggards",
        "_last_offset",
        "_last_offsets",
        "_lot",
        "_lot_of",
        "_moving",
        "_name",
        "_opening",
        "_refreshed_at",
        "_replay",
        "_resting_window",
        "_retained",
        "_smallest_buffer",
        "_trigger",
        "_trim_at",
        "_waited",
        "_window",
        "journal",
        "produced",
        "tap",
        "terminal",
    )

    def __init__(self, replay: Replay, *, name: str = "stream") -> None:
        self.journal: Callable[[int], object] | None = None  # told the new end at every append
        self.tap: Callable[[bytes], object] | None = None  # given every append, and nothing at the end
        self._name = name
        self._replay = replay
        self._chunks: list[Chunk] = []
        self._head = 0  # slots before it are spent
        self._retained = 0
        self.produced = 0
        """How many bytes were appended: the offset of the next one."""
        self._appended = 0
        self._last_offset = 0
        self._last_offsets: deque[int] = deque(maxlen=replay.bound if replay.retention is Retention.LAST_CHUNKS else 0)
        self._opening = b""
        self._given = 0
        self._waited = 0
        self._is_sealed = False
        self.terminal: Terminal | None = None
        """How the stream ended; ``None`` while it is open."""
        self._cursors: dict[Cursor, None] = {}
        self._active: dict[Cursor, None] = {}  # those that production concerns: the others rest until they take
        self._resting_window = -1  # the largest window of a resting cursor; -1: none rests
        self._laggards = 0  # reliable cursors that the source waits for
        self._trigger = NEVER
        self._trim_at = 0  # nothing can be dropped before so much was produced
        self._floor = NEVER
        self._moving = NEVER
        self._window = 0
        self._smallest_buffer = NEVER
        self._refreshed_at = 0
        self._join_at = JOIN_AT_CHUNKS
        self._lot = _NO_CHUNKS  # what chunks_from() said last: subscribers who are woken together ask the same
        self._lot_of = (0, 0)

    def __repr__(self) -> str:
        ending = self.terminal.ending.value if self.terminal is not None else "open"
        return f"<StreamLog {self._name!r} {ending} produced={self.produced} cursors={len(self._cursors)}>"

    # --- what is known ------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The stream's name, for errors."""
        return self._name

    @property
    def given(self) -> int:
        """Offset after the furthest byte that any subscriber has been given."""
        self.catch_up()
        return self._given

    @property
    def retained_bytes(self) -> int:
        """How many bytes the log holds."""
        return self._retained

    @property
    def cursors(self) -> tuple[Cursor, ...]:
        """Every attached cursor, in order of attachment."""
        return tuple(self._cursors)

    @property
    def smallest_buffer_bytes(self) -> int:
        """The least that a cursor which keeps up may be behind; very much if there is none."""
        return self._smallest_buffer

    @property
    def last_offset(self) -> int:
        """Offset of the newest chunk."""
        return self._last_offset

    @property
    def opening(self) -> bytes:
        """The first bytes of the stream, at most ``OPENING_BYTES``: kept for good, since they may say how to read the others."""
        return self._opening

    @property
    def is_blocked(self) -> bool:
        """Whether the source waits for reliable cursors; set by ``has_room()``, cleared by them."""
        return self._laggards > 0

    @property
    def history_start(self) -> int:
        """The first byte that a subscriber who attaches now can have."""
        self.catch_up()
        return self._history_floor()

    def _history_floor(self) -> int:
        """The same, or a little less while loans are not booked."""
        if self._is_sealed:
            return self.produced
        replay, produced = self._replay, self.produced
        match replay.retention:
            case Retention.NONE:
                return produced
            case Retention.LAST_BYTES:
                return max(0, produced - replay.bound)
            case Retention.LAST_CHUNKS:
                return self._last_offsets[0] if self._last_offsets else produced
            case Retention.ALL:
                return 0
            case Retention.WHILE_UNSUBSCRIBED:
                return max(self._given, produced - replay.bound)

    def history(self) -> bytes:
        """Everything that a subscriber who attaches now can have."""
        return self._bytes_from(self.history_start)

    def tail(self, max_bytes: int) -> bytes:
        """The newest bytes that are still held, at most ``max_bytes``."""
        held_from = self.produced - self._retained
        return self._bytes_from(max(held_from, self.produced - max(0, max_bytes)))

    # --- writing ------------------------------------------------------------------------------------------------

    def append(self, data: bytes) -> None:
        """Add what was just read.  O(1) over any number of cursors, amortised.

        Legal also while ``has_room()`` is false: the log then exceeds its bound by this chunk.
        """
        offset = self._last_offset = self.produced
        size = len(data)
        self.produced = produced = offset + size
        chunks = self._chunks
        chunks.append(Chunk(data, offset))
        self._retained += size
        self._appended += 1
        if self.journal is not None:
            self.journal(produced)
        if self.tap is not None:
            self.tap(data)
        if offset < OPENING_BYTES:
            self._opening += data[: OPENING_BYTES - offset]
        if self._last_offsets.maxlen:
            self._last_offsets.append(offset)
        if produced >= self._trigger:
            self.refresh()
        elif produced >= self._trim_at:
            self._trim()
        if len(chunks) - self._head > self._join_at:
            self._join()

    def end(self, terminal: Terminal) -> bool:
        """Record the terminal; return whether it was the first, which is the one that stays."""
        if self.terminal is not None:
            return False
        self.terminal = terminal
        tap, self.tap = self.tap, None
        if tap is not None:
            tap(b"")
        return True

    def has_room(self) -> bool:
        """Return whether the source may be read: no reliable cursor is a full buffer behind.

        When it is false, ``is_blocked`` stays true until every cursor that is more than half a buffer behind has caught up to
        half, detached, or is reliable no more; so a source resumes for more than one read.
        """
        if self._laggards:
            return False
        if self.produced < self._trigger:
            return True
        self.refresh()
        if not any(cursor.is_reliable and cursor.live_lag >= cursor.buffer_bytes for cursor in self._cursors):
            return True
        for cursor in self._cursors:
            cursor.recall()
            cursor.is_awaited = cursor.is_reliable and cursor.live_lag > cursor.buffer_bytes // 2
            self._laggards += cursor.is_awaited
        return self._laggards == 0

    def must_wait(self) -> bool:
        """Whether the source waits for reliable cursors and the stream is still open."""
        return self._laggards > 0 and self.terminal is None

    def has_ended(self) -> bool:
        """Whether the terminal is known."""
        return self.terminal is not None

    def awaited(self) -> list[Cursor]:
        """The reliable cursors that the source waits for: they were full, or are more than half full since another was."""
        return [cursor for cursor in self._cursors if cursor.is_awaited]

    def seal(self) -> None:
        """Forget the history, now and for good; attached cursors keep what they were promised."""
        self._is_sealed = True
        self._last_offsets = deque(maxlen=0)
        self.refresh()

    # --- cursors ------------------------------------------------------------------------------------------------

    def attach(self, delivery: Delivery, start: Start = "unread", *, last_bytes: int | None = None) -> Cursor:
        """Return a cursor that misses nothing from its start on.

        Raises:
            HistoryLostError: If ``delivery`` is reliable and the start is no longer retained.  A best-effort cursor begins
                with one gap instead.
            ValueError: If the start is an offset that the stream has not reached, or negative.
        """
        self.catch_up()
        unread = self.produced if self._has_no_history else self._given
        return self._attach_at(delivery, resolve_start(start, last_bytes, produced=self.produced, unread=unread))

    def attach_waiter(self, delivery: Delivery, *, sees_matches: bool = False) -> Cursor:
        """Return a cursor for a wait: at the oldest byte of history, but unless it ``sees_matches`` after that of an earlier wait.

        Raises:
            HistoryLostError: If bytes that nobody has been given are gone and an earlier wait did not pass them.  Never if it
                ``sees_matches``: then it takes what there is.
        """
        floor = self.history_start
        if sees_matches:
            return self._attach_at(delivery, floor)
        if self._given < floor and not self._has_no_history:
            floor = self._given
        return self._attach_at(delivery, max(self._waited, floor))

    @property
    def begins_anywhere(self) -> bool:
        """Whether the history begins where its bound has cut it: in the middle of a line, most likely."""
        floor = self.history_start
        return not self._has_no_history and floor > 0 and floor != self._given

    def catch_up(self) -> None:
        """Book what subscribers have drawn from loans, so that everything here is exact."""
        for cursor in self._cursors:
            cursor.catch_up()

    def settle(self, offset: int) -> None:
        """Note that somebody has been given everything before ``offset``."""
        if offset > self._given:
            self._given = offset

    def settle_wait(self, offset: int) -> None:
        """Note that a wait matched up to ``offset``."""
        self._waited = max(self._waited, offset)
        self.settle(offset)

    def detach(self, cursor: Cursor) -> None:
        """Forget a cursor; idempotent.  What only it needed is dropped at once."""
        if cursor not in self._cursors:
            return
        cursor.catch_up()
        del self._cursors[cursor]
        self._active.pop(cursor, None)
        self.relieve(cursor)
        cursor.release()
        if cursor.is_resting:
            self._measure_resting()
        self.refresh()

    def relieve(self, cursor: Cursor) -> None:
        """Stop waiting for ``cursor`` if it has caught up to half of its buffer, or left, or is reliable no more."""
        if cursor.is_awaited and (
            cursor not in self._cursors or not cursor.is_reliable or cursor.live_lag <= cursor.buffer_bytes // 2
        ):
            cursor.is_awaited = False
            self._laggards -= 1

    def taken(self, cursor: Cursor) -> None:
        """Note that ``cursor`` moved: drop what nobody needs any more, as often as that is cheap."""
        if cursor.is_awaited:
            self.relieve(cursor)
        if cursor.is_resting:
            self._activate(cursor)
        if self._appended - self._refreshed_at >= len(self._active):
            self.refresh()

    def rejoin(self, cursor: Cursor) -> None:
        """Count a cursor again that had left the log with what it holds."""
        if cursor.is_resting:
            self._activate(cursor)
        self._floor = min(self._floor, cursor.position)
        self._trigger = min(self._trigger, cursor.trigger())

    # --- reading, for cursors -----------------------------------------------------------------------------------

    def chunk_at(self, offset: int) -> Chunk:
        """The rest of the chunk that holds ``offset``, which must be retained."""
        return cut_front(self._chunks[self._index_of(offset)], offset)

    def chunks_from(self, offset: int, max_chunks: int) -> list[Chunk]:
        """At most ``max_chunks`` chunks from ``offset`` on, which must be retained; the first one is cut.

        Whoever asks the same gets the same list, which nobody may change.
        """
        lot = self._lot
        if lot and lot[0].offset == offset and self._lot_of == (self.produced, max_chunks):
            return lot
        index = self._index_of(offset)
        self._lot = lot = self._chunks[index : index + max_chunks]
        self._lot_of = (self.produced, max_chunks)
        if lot[0].offset != offset:
            lot[0] = cut_front(lot[0], offset)
        return lot

    def chunks_between(self, start: int, stop: int) -> list[Chunk]:
        """Everything from ``start`` to ``stop``, which must be retained; only the first and the last chunk are cut."""
        if start >= stop:
            return []
        index = self._index_of(start)
        if stop == self.produced:
            chunks = self._chunks[index:]
        else:
            chunks = self._chunks[index : bisect_right(self._chunks, stop - 1, lo=index, key=_offset_of)]
            last = chunks[-1]
            if last.stop > stop:
                chunks[-1] = Chunk(last.data[: stop - last.offset], last.offset)
        chunks[0] = cut_front(chunks[0], start)
        return chunks

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _has_no_history(self) -> bool:
        return self._is_sealed or self._replay.retention is Retention.NONE

    def _attach_at(self, delivery: Delivery, start: int) -> Cursor:
        if not isinstance(delivery, Delivery):
            raise TypeError(f"delivery must be Reliable(...) or BestEffort(...), not {delivery!r}")
        floor = self.history_start
        if start < floor and isinstance(delivery, Reliable):
            raise HistoryLostError(stream_name=self._name, start=start, stop=floor)
        cursor = self._make_cursor(delivery, start=start, position=max(start, floor))
        self._enter(cursor)
        return cursor

    def _enter(self, cursor: Cursor) -> None:
        self._cursors[cursor] = self._active[cursor] = None
        self.refresh()

    def _activate(self, cursor: Cursor) -> None:
        cursor.is_resting = False
        self._active[cursor] = None
        self._measure_resting()

    def _measure_resting(self) -> None:
        self._resting_window = max(
            (cursor.window_bytes for cursor in self._cursors if cursor.is_resting and cursor.needs_log), default=-1
        )

    def _make_cursor(self, delivery: Delivery, *, start: int, position: int) -> Cursor:
        return Cursor(self, delivery, start=start, position=position, live_from=self.produced)

    def _index_of(self, offset: int) -> int:
        chunks = self._chunks
        if chunks[-1].offset <= offset:
            return len(chunks) - 1
        return bisect_right(chunks, offset, lo=self._head, key=_offset_of) - 1

    def _bytes_from(self, offset: int) -> bytes:
        return b"".join([chunk.data for chunk in self.chunks_between(offset, self.produced)])

    def refresh(self) -> None:
        """Make the cached bounds exact, and drop what nobody needs."""
        self._refreshed_at = self._appended
        trigger = floor = moving = smallest_buffer = NEVER
        window = 0
        tired: list[Cursor] = []
        for cursor in self._active:
            if not cursor.is_reliable:
                cursor.secure()
                if cursor.can_rest:
                    tired.append(cursor)
                    continue
            trigger = min(trigger, cursor.trigger())
            smallest_buffer = min(smallest_buffer, cursor.buffer_bytes)
            if cursor.is_movable:
                moving = min(moving, cursor.position)
                window = max(window, cursor.window_bytes)
            else:
                floor = min(floor, cursor.position)
        for cursor in tired:
            del self._active[cursor]
            cursor.is_resting = True
            self._resting_window = max(self._resting_window, cursor.window_bytes if cursor.needs_log else -1)
        if self._resting_window >= 0:
            moving, window = 0, max(window, self._resting_window)
        self._trigger, self._floor, self._moving, self._window = trigger, floor, moving, window
        self._smallest_buffer = smallest_buffer
        self._trim()

    def _memory_floor(self) -> int:
        """The oldest byte that somebody needs."""
        produced = self.produced
        return min(
            self._history_floor(),
            self._floor,
            max(self._moving, produced - self._window),
            produced - TAIL_BYTES,  # which also keeps the newest chunk: only whole ones are dropped
        )

    def _is_pinned(self, offset: int) -> bool:
        """Whether no production, only ``refresh()``, can lift the memory floor to ``offset``."""
        return offset > self._floor

    def _trim(self) -> None:
        floor = self._memory_floor()
        chunks, head = self._chunks, self._head
        end = len(chunks)
        while head < end and (chunk := chunks[head]).stop <= floor:
            self._retained -= len(chunk.data)
            chunks[head] = _GONE
            head += 1
        if head > self._head:
            self._head = head
            self._lot = _NO_CHUNKS
        if head == end or self._last_offsets.maxlen:
            self._trim_at = 0
        elif self._is_pinned(chunk.stop):
            self._trim_at = NEVER
        else:
            self._trim_at = self.produced + chunk.stop - floor  # production moves every other bound at most as fast
        if head > COMPACT_AT_SLOTS and head * 2 > end:
            del chunks[:head]
            self._head = 0

    def _join(self) -> None:
        """Join runs of tiny chunks, whose objects would cost more than their bytes."""
        self._lot = _NO_CHUNKS
        self._chunks = join_small(self._chunks[self._head :])
        self._head = 0
        self._join_at = max(JOIN_AT_CHUNKS, 2 * len(self._chunks))
