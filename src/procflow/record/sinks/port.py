"""What a recorder asks of a sink, and the book of what a sink has lost.

Owns the port and pure bookkeeping.  Must not know where lines go.

Problem: a disk fills up, a reader stalls, and none of that may reach the run.  So a sink never raises for its own trouble: it
loses the line, keeps the book, and the recorder says ``events_dropped`` as soon as that can be written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from procflow.record.envelope import Event


@dataclass(frozen=True, slots=True)
class Dropped:
    """Events that a sink has lost: ``count`` of those from ``first_seq`` to ``last_seq``, the last of them for ``reason``."""

    count: int
    first_seq: int
    last_seq: int
    reason: str

    def __add__(self, later: Dropped) -> Dropped:
        first, last = min(self.first_seq, later.first_seq), max(self.last_seq, later.last_seq)
        return Dropped(self.count + later.count, first, last, later.reason)


class Sink(Protocol):
    """Takes the lines of one record, in order.  The recorder calls it for one event at a time, from any thread.

    Whatever it raises in spite of this port is the recorder's to isolate.
    """

    def emit(self, line: bytes, event: Event) -> None:
        """Take the line of ``event``, newline included.  Must not block the event loop, nor raise for trouble of its own."""
        ...

    def recover(self) -> Dropped | None:
        """Return what was lost if lines can be taken again; the notice of it is emitted next.  Asked before each event."""
        ...

    @property
    def lost_count(self) -> int:
        """How many events were lost."""
        ...

    @property
    def failure(self) -> str:
        """Why something was lost, in words; empty if nothing was."""
        ...

    async def aclose(self) -> None:
        """Write what is held, and release everything; idempotent.  Nothing is emitted after this."""
        ...


class Losses:
    """What one sink has lost: not told yet, or told by a notice that may get lost as well."""

    __slots__ = ("_owed", "_told", "count", "reason")

    def __init__(self) -> None:
        self._owed: Dropped | None = None
        self._told: Dropped | None = None
        self.count = 0
        """How many events were lost in all."""
        self.reason = ""
        """Why the last of them was."""

    @property
    def is_owed(self) -> bool:
        """Whether something was lost that nobody was told of."""
        return self._owed is not None

    def failure_of(self, name: str) -> str:
        """Return what was lost by the sink ``name``, in words; nothing if nothing was."""
        return f"{name}: {self.count} events were lost: {self.reason}" if self.count else ""

    def lose(self, seq: int, reason: str) -> None:
        """Note that the event ``seq`` is lost."""
        lost = Dropped(1, seq, seq, reason)
        for earlier in (self._owed, self._told):  # a notice that is lost tells nobody
            if earlier is not None:
                lost = earlier + lost
        self._owed, self._told = lost, None
        self.count += 1
        self.reason = reason

    def tell(self) -> Dropped:
        """Return what is owed, for the notice that is emitted next."""
        assert self._owed is not None, "something is owed"
        self._told, self._owed = self._owed, None
        return self._told

    def settle(self) -> None:
        """Note that an event was written: if a notice was told, it was that."""
        self._told = None
