"""A record told once more, at the speed at which it happened, or another.

Owns when each line is due.  Must not know where lines go: a sink does.

The moments of the record are those of its monotonic clock, so a step of the wall clock changes nothing.  Every line is due at a moment counted
from the beginning, so waits that are a little too long do not add up.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from time import perf_counter
from typing import Final

import anyio

from procflow.record.envelope import Event, Unknown
from procflow.record.loading import read_events
from procflow.record.reading.reader import Line
from procflow.record.sinks.functions import FunctionSink
from procflow.record.sinks.port import Sink
from procflow.record.sinks.targets import parse_target

TURN_S: Final = 0.001
"""How long lines that are due are told before other tasks run."""

_NS: Final = 1_000_000_000


class Timetable:
    """Says when lines are due.

    Args:
        speed: How many seconds of the record pass in one; ``math.inf`` for all at once.
        seek_s: The second of the record at which it begins; what happened before is due at once.

    Raises:
        ValueError: If ``speed`` is not positive, or ``seek_s`` is negative or no number.
    """

    def __init__(self, *, speed: float, seek_s: float) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be positive, not {speed}")
        if not 0 <= seek_s < math.inf:
            raise ValueError(f"seek_s must be 0 or more seconds, not {seek_s}")
        self._speed = speed
        self._seek_s = seek_s

    def due_s(self, mono_ns: int) -> float:
        """Return the second of the replay in which what happened at ``mono_ns`` is due; never negative."""
        return max(mono_ns / _NS - self._seek_s, 0.0) / self._speed


async def replay(
    path: str | os.PathLike[str],
    sink: Sink | str | os.PathLike[str] | Callable[[Event], object],
    *,
    speed: float = 1.0,
    seek_s: float = 0.0,
) -> int:
    """Emit every event of the record ``path`` to ``sink``, when it is due, and return how many there were.

    Each line is given byte for byte as it stands in the record; lines that are no event are left out, and so is what is there twice.  What happened
    before ``seek_s`` is emitted at once and not left out, because what comes after it says little without.  An event of a type that this release does not
    know reaches the sink as an ``Event`` with nothing but its number and times; its line is whole.

    A sink that loses events counts them; the notice that a recorder would write of that is not written here, as it has no number in this record.
    Cancelling leaves a sink of the caller's as it is after the last event.

    Args:
        path: The file, or the directory of the run; a run that goes on is told as far as it is written when it is read.
        sink: Where the lines go, as ``open_run(events=...)`` takes it: ``"stdout"``, ``"fd:3"``, a file that is created, or a function, which is
            called with each event, and whose failures are logged.  A slow reader is waited for, and with it the event loop.  Or a ``Sink``, which stays the caller's to close.
        speed: How many seconds of the record pass in one; ``math.inf`` for all at once.
        seek_s: The second of the record from which on time passes.

    Raises:
        UnreadableRecordError: As ``read_events()``.
        OSError: If the target cannot be opened; nothing is emitted then.
        ValueError: If ``speed`` is not positive, ``seek_s`` is negative, or the target means nothing.
    """
    timetable = Timetable(speed=speed, seek_s=seek_s)
    began_s = anyio.current_time()
    turn_began_s = float("-inf")
    event_count = 0
    async with _opened(sink) as opened:
        with closing(read_events(path)) as lines:
            for line in lines:
                wait_s = began_s + timetable.due_s(line.head.mono_ns) - anyio.current_time()
                if wait_s > 0 or perf_counter() - turn_began_s >= TURN_S:
                    await anyio.sleep(max(wait_s, 0))
                    turn_began_s = perf_counter()
                if opened is not None:
                    _tell(line, opened)
                event_count += 1
    return event_count


@asynccontextmanager
async def _opened(sink: Sink | str | os.PathLike[str] | Callable[[Event], object]) -> AsyncIterator[Sink | None]:
    """Give the sink that is meant; one that is made here is closed at the end, which takes a bounded time, cancelled or not."""
    if isinstance(sink, (str, os.PathLike)):
        own = parse_target(sink).open(when_full="block")
    elif callable(sink):
        own = FunctionSink(sink)
    else:
        yield sink
        return
    try:
        yield own
    finally:
        if own is not None:
            await own.aclose()


def _tell(line: Line, sink: Sink) -> None:
    sink.recover()  # without this a sink that has lost something takes nothing more
    head = line.head
    event = (
        Event(seq=head.seq, at_ms=head.at_ms, mono_ns=head.mono_ns) if isinstance(line.event, Unknown) else line.event
    )
    sink.emit(line.raw + b"\n", event)
