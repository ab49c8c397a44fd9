"""How often a stream reads, how much at once, and how often it wakes those who wait.

Owns these decisions and nothing else.  Must not know a clock, an event loop or the operating system: times are arguments.

A kernel copies 64 KiB in about ten microseconds; asking for readiness, or waking a task, costs about as much.  So what is saved
is calls: a flood of tiny writes is read by the clock, readers of a saturated stream are woken together, and a stream that
fills its pipe gets a larger one.  Whoever writes a line now and then pays nothing for it: the first bytes after a
silence are read and announced at once.
"""

from __future__ import annotations

from typing import Final

READS_PER_TURN: Final = 16
"""Reads of all streams of a loop in one turn of it: 1 MiB.  More gains nothing and delays everybody else."""

INTERVAL_S: Final = 0.001
"""How long bytes may lie, in the pipe or in the log, before they are handed on."""

SILENCE_S: Final = 0.000_25
"""A stream that says nothing for so long is not in a hurry."""

SATURATED_S: Final = 0.005
"""A stream that brings something so often leaves its readers no rest.  Several intervals: they take their time, too."""

TINY_BYTES: Final = 8 * 1024
"""What makes a wake-up not worth its cost."""

TINY_ROW: Final = 8
"""So many tiny wake-ups in quick succession are a flood."""

OVERFLOW_ROW: Final = 256
"""So many more of them it takes after the pipe proved too small for reading by the clock."""

FULL_ROW: Final = 2
"""So many full pipes in quick succession are one that is too small."""

LOAN_CHUNKS: Final = 64
"""How many chunks a subscriber may draw before it must ask again."""

LOAN_S: Final = 0.000_5
"""How long it may be likely to draw for: other tasks wait meanwhile."""

FEW_SLEEPERS: Final = 4
"""So many are woken at once whatever the stream does: the loop has no time to gain."""

SMALL_PIPE_BYTES: Final = 64 * 1024
LARGE_PIPE_BYTES: Final = 256 * 1024
"""Large enough for reader and writer to work at the same time: more gains nothing."""

FLOOD_PIPE_BYTES: Final = 1024 * 1024
"""Large enough for what a writer of tiny pieces makes while nobody looks."""


def loan_chunks(last_chunks: int, drawn_s: float) -> int:
    """Return how many chunks a subscriber may draw next that had ``last_chunks`` the last time and drew them for ``drawn_s``."""
    if drawn_s * 2 <= LOAN_S:
        return min(max(1, 2 * last_chunks), LOAN_CHUNKS)
    return max(1, min(int(last_chunks * LOAN_S / drawn_s), LOAN_CHUNKS))


class TurnBudget:
    """Spreads the reads of one turn of an event loop over the streams that are ready in it.

    A loop turn cannot be seen, but no stream is served twice in one: whoever comes again begins the next.
    """

    __slots__ = ("_ready", "_ready_before", "turn")

    def __init__(self) -> None:
        self.turn = 0
        self._ready = 0
        self._ready_before = 0

    def reads(self, last_turn: int) -> int:
        """Return how often a stream may read now whose last share was of ``last_turn``; its share is of ``turn`` then."""
        if last_turn == self.turn:
            self.turn += 1
            self._ready_before, self._ready = self._ready, 0
        self._ready += 1
        return max(1, READS_PER_TURN // max(self._ready, self._ready_before))


class ReadPace:
    """Decides whether a stream is read when it is ready or by the clock, every ``INTERVAL_S``."""

    __slots__ = ("_last_at", "_row", "by_clock")

    def __init__(self) -> None:
        self.by_clock = False
        self._row = 0
        self._last_at = float("-inf")

    def note(self, now: float, read_bytes: int, pipe_bytes: int) -> None:
        """Take in what one wake-up brought from a pipe that holds ``pipe_bytes``; what is no pipe, 0, may hold too little."""
        if not pipe_bytes:
            return
        if self.by_clock:
            if read_bytes == 0:
                self.by_clock = False
                self._row = 0
            elif read_bytes * 4 >= pipe_bytes * 3:  # the writer may have had to wait
                self.by_clock = False
                self._row = -OVERFLOW_ROW if pipe_bytes < FLOOD_PIPE_BYTES else 0
        elif read_bytes >= TINY_BYTES:
            self._row = min(self._row, 0)
        elif now - self._last_at > SILENCE_S:
            self._row = min(self._row + 1, 0)
        else:
            self._row += 1
            self.by_clock = self._row >= TINY_ROW
        self._last_at = now


class WakePace:
    """Decides when those who wait for data are woken: at once, unless they are many and the stream is saturated.

    A saturated stream lets them sleep until a third of the smallest window has come, at most ``INTERVAL_S`` from the first
    byte on that they were not told of.
    """

    __slots__ = ("_last_at", "_since")

    def __init__(self) -> None:
        self._last_at = float("-inf")
        self._since = float("inf")  # the first read that was not announced

    def wait_s(self, now: float, unread_bytes: int, window_bytes: int, sleepers: int) -> float:
        """Return how long the sleepers may sleep on, 0 if not at all, when something was just read.

        Args:
            now: The time.
            unread_bytes: What was read since the last ring.
            window_bytes: The smallest buffer of a subscriber.
            sleepers: How many sleep.
        """
        is_saturated = now - self._last_at <= SATURATED_S and unread_bytes >= TINY_BYTES
        self._last_at = now
        if not is_saturated or sleepers <= FEW_SLEEPERS or unread_bytes * 3 >= window_bytes:
            return 0.0
        self._since = min(self._since, now)
        return max(0.0, self._since + INTERVAL_S - now)

    def rung(self) -> None:
        """Take in that the sleepers were woken."""
        self._since = float("inf")


class PipeGrowth:
    """Decides when a pipe is too small: when looks in quick succession found it at least half full."""

    __slots__ = ("_full", "_last_at")

    def __init__(self) -> None:
        self._full = 0
        self._last_at = float("-inf")

    def is_due(self, now: float, read_bytes: int, pipe_bytes: int) -> bool:
        """Return whether to ask for a larger pipe after a look read ``read_bytes`` from one that holds ``pipe_bytes``."""
        is_full = read_bytes * 2 >= pipe_bytes
        is_quick = now - self._last_at <= INTERVAL_S
        self._last_at = now
        self._full = self._full + 1 if is_full and is_quick else int(is_full)
        return self._full == FULL_ROW
