"""Which commands of a map may start, and in which order their results are taken.

Owns the bookkeeping of one ``map_run()``.  Must not know processes, clocks or loops.

The bound: no more than ``max_running`` run, and no more than ``max_running + max_waiting`` were begun and not taken yet.  So an
endless iterator of commands takes bounded memory whatever its reader does, also where results wait for an earlier one.
"""

from __future__ import annotations

from typing import Final, Generic, Literal, TypeAlias, TypeVar

T = TypeVar("T")

MapOrder: TypeAlias = Literal["completed", "submitted"]
"""Whether results come as they are there, or in the order of the commands."""


class Lineup(Generic[T]):
    """The commands of a map that were begun and not taken yet."""

    def __init__(self, *, max_running: int, max_waiting: int, order: MapOrder) -> None:
        self._max_running: Final = max_running
        self._max_held: Final = max_running + max_waiting
        self._order: Final = order
        self._running: set[int] = set()
        self._finished: dict[int, T] = {}  # in the order of their ends
        self._begun = 0
        self._last: T | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Lineup, {self._begun} begun, {self.running} running, {self.waiting} waiting>"

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many have finished and were not taken."""
        return len(self._finished) + (self._last is not None)

    @property
    def has_room(self) -> bool:
        """Whether another command may begin."""
        return (
            not self._is_closed
            and len(self._running) < self._max_running
            and len(self._running) + len(self._finished) < self._max_held
        )

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will begin."""
        return self._is_closed

    @property
    def is_over(self) -> bool:
        """Whether everything was taken, and nothing more will come."""
        return self._is_closed and not self._running and not self._finished and self._last is None

    def begin(self) -> int:
        """Count a command in, and return its number."""
        assert self.has_room, "a command was begun without room"
        number = self._begun
        self._begun += 1
        self._running.add(number)
        return number

    def finish(self, number: int, result: T) -> bool:
        """Note a result; return whether it will be given out: not if ``fail()`` came first."""
        if number not in self._running:
            return False
        self._running.discard(number)
        self._finished[number] = result
        return True

    def close(self) -> None:
        """Let nothing more begin."""
        self._is_closed = True

    def fail(self, number: int, result: T) -> bool:
        """Let ``result`` be the last one: what runs is out of it, and what has finished before is taken before it."""
        if number not in self._running:
            return False
        self._running.clear()
        self._is_closed = True
        self._last = result
        return True

    def drop(self, number: int) -> None:
        """Count out a command that has no result."""
        self._running.discard(number)

    def abandon(self) -> None:
        """Let nothing more begin, and count out what runs."""
        self._running.clear()
        self._is_closed = True

    def take(self) -> T | None:
        """Return the next result, or ``None`` if there is none now."""
        number = self._next_number()
        if number is not None:
            return self._finished.pop(number)
        last, self._last = self._last, None
        return last

    def _next_number(self) -> int | None:
        if not self._finished:
            return None
        if self._order == "completed":
            return next(iter(self._finished))
        if not self._running or self._is_in_line():
            return min(self._finished)
        return None

    def _is_in_line(self) -> bool:
        """Whether everything before the first that has finished was taken."""
        return min(self._finished) < min(self._running)
