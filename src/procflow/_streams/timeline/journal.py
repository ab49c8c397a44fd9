"""In which order several logs received their bytes.

Owns that order, as far back as its bound reaches, and one reader's way through it.  Must not know what is read, a clock, an
event loop or the operating system.

The idea: a *run* is what one log received before another one received something, so a run is a source and the offset at which it
stops, nine bytes.  While one log is silent, the other one's run only grows.  Chunks may be joined behind the journal's back; a
reader cuts them at the ends of runs.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from procflow._streams.log.cursor import NEVER, Cursor

MAX_RUNS: Final = 8192
"""How many runs are remembered at least, and half of how many at most.  The order of what is older is unknown."""


class Journal:
    """The runs of up to 256 sources, in order."""

    __slots__ = ("_base", "_last", "_sources", "_stops")

    def __init__(self) -> None:
        self._base = 0  # number of the oldest run that is remembered
        self._last = -1  # source of the newest run
        self._sources = bytearray()
        self._stops = array("q")

    def __repr__(self) -> str:
        return f"<Journal of {self.run_count} runs, the newest {len(self._stops)} known>"

    @property
    def run_count(self) -> int:
        """How many runs there were."""
        return self._base + len(self._stops)

    def note(self, source: int, produced: int) -> None:
        """Note that the log of ``source`` has received bytes and now has produced so many."""
        if source == self._last:
            self._stops[-1] = produced
            return
        self._last = source
        self._sources.append(source)
        self._stops.append(produced)
        if len(self._stops) >= 2 * MAX_RUNS:
            del self._sources[:MAX_RUNS]
            del self._stops[:MAX_RUNS]
            self._base += MAX_RUNS

    def run_of(self, source: int, offset: int, run: int) -> int:
        """Return the number of the run, from ``run`` on, that brought the byte of ``source`` at ``offset``.

        If it is forgotten: that of the oldest one that is known.  If there is none yet: the next number.
        """
        sources, stops = self._sources, self._stops
        index = max(0, run - self._base)
        count = len(stops)
        while index < count and (sources[index] != source or stops[index] <= offset):
            index += 1
        return self._base + index

    def stop_before(self, source: int, run: int) -> int | None:
        """Return where the last run of ``source`` before ``run`` stops; ``None`` if none is known."""
        for index in range(min(run - self._base, len(self._stops)) - 1, -1, -1):
            if self._sources[index] == source:
                return self._stops[index]
        return None


class Merge:
    """One reader's way through a journal, with a cursor on the log of each source."""

    __slots__ = ("_cursors", "_journal", "_runs")

    def __init__(self, journal: Journal, cursors: Sequence[Cursor]) -> None:
        self._journal = journal
        self._cursors = tuple(cursors)
        self._runs = [0] * len(self._cursors)

    def run_of(self, source: int) -> int:
        """Number of the run that the reader has reached in ``source``."""
        return self._runs[source]

    def turn(self) -> int | None:
        """Return whose next bytes were read first, of those that have some now; ``None`` if nobody has.

        Its next item then ends where bytes of another one that has some came between.  One whose next bytes must be loaded has
        them; look at its ``is_behind``.
        """
        first: int | None = None
        first_run = second_run = NEVER
        for source, cursor in enumerate(self._cursors):
            if not (cursor.has_items or cursor.is_behind):
                continue
            run = self._runs[source] = self._journal.run_of(source, cursor.next_offset, self._runs[source])
            if first is None or run < first_run:
                first, first_run, second_run = source, run, first_run
            elif run < second_run:
                second_run = run
        if first is not None and second_run is not NEVER:
            stop = self._journal.stop_before(first, second_run)
            if stop is not None:
                self._cursors[first].cut_at(stop)
        return first
