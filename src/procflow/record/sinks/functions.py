"""Events for a function of the program itself.

Owns the order of calls, and the way to the event loop.  Must not know what the function does.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from procflow._streams.waking import LoopDoor
from procflow.record.envelope import Event
from procflow.record.sinks.port import Dropped

_log = logging.getLogger("procflow.record")


class FunctionSink:
    """Calls ``function`` with each event, in order, on the event loop in which this was made.

    At once if the event happens there, soon if it happens in another thread.  What the function raises is logged once.
    """

    def __init__(self, function: Callable[[Event], object]) -> None:
        self._function = function
        self._door: Final = LoopDoor()
        self._waiting: deque[Event] = deque()
        self._failures = 0

    def __repr__(self) -> str:
        return f"<FunctionSink {self._function!r}>"

    @property
    def lost_count(self) -> int:
        """None: a function that fails was called."""
        return 0

    @property
    def failure(self) -> str:
        """How often the function has failed."""
        return f"{self._function!r} failed for {self._failures} events" if self._failures else ""

    def emit(self, line: bytes, event: Event) -> None:  # noqa: ARG002 (the port)
        """Call the function."""
        self._waiting.append(event)
        if self._door.is_here:
            self._call_all()
        else:
            self._door.run_soon(self._call_all)

    def recover(self) -> Dropped | None:
        """Nothing gets lost here."""
        return None

    async def aclose(self) -> None:
        """Call it for what still waits."""
        self._call_all()

    def _call_all(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            try:
                self._function(event)
            except Exception as exc:  # noqa: BLE001 (the run must not suffer from who watches it)
                self._failures += 1
                if self._failures == 1:
                    with contextlib.suppress(Exception):
                        _log.warning("%r failed at event %d", self._function, event.seq, exc_info=exc)
