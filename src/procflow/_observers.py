"""Who observes what happens to processes, and the telling of it.

Owns the list of observers of this host process, the clocks of an event, and what becomes of an observer that fails.  Must
not know who tells what, nor what an observer does with it.

Problem: things happen in any thread, with an event loop or without, in the middle of a stop or of a garbage collection.  So
observers are called on the spot, in order, and nothing of theirs may reach whoever tells.
Rejected: a queue and a thread (events would arrive after what they announce, and a host would end without the last ones), one
observer a process (nobody would see what is started elsewhere in the program).
Known hole: a dropped ``spawn()`` block is ended by the garbage collector, in whatever thread it runs; an observer that takes
a lock which is not reentrant can then wait for itself.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Concatenate, Final, ParamSpec

from procflow.observation import Observer, ProcessEvent

P = ParamSpec("P")

_log = logging.getLogger("procflow")


class Registration:
    """One observer, for one ``observe()`` block."""

    __slots__ = ("_has_failed", "_observer")

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<observer {self._observer!r}{', which has failed' if self._has_failed else ''}>"

    def tell(self, event: ProcessEvent) -> None:
        """Call the observer; its first exception is logged, the others are dropped."""
        try:
            self._observer(event)
        except Exception as exc:  # noqa: BLE001 (an observer must not disturb what it observes)
            if not self._has_failed:
                self._has_failed = True
                with contextlib.suppress(Exception):  # nor must a handler of the host's logging
                    _log.error("an observer failed at %s; its next failures are not logged", event, exc_info=exc)


observers: Final[list[Registration]] = []
"""Empty in normal work.  Whoever must compute something for an event asks first whether there is anybody to tell."""


def emit(make: Callable[Concatenate[float, datetime, P], ProcessEvent], *args: P.args, **kwargs: P.kwargs) -> None:
    """Tell every observer, if there is any, that this happened now: ``emit(Spawned, name=…, pid=…)``."""
    if observers:
        event = make(time.monotonic(), datetime.now(UTC), *args, **kwargs)
        for registration in tuple(observers):
            registration.tell(event)


def observe(observer: Observer) -> AbstractContextManager[None]:
    """Return a block in which ``observer`` is called with everything that happens to the processes of this program.

    Whatever starts them, in whatever thread and event loop.  It is called at once, in the thread where the event happens, often in
    the middle of a start or a stop: it must return soon, must not wait for another thread, and must not start or stop
    processes.  What it raises is logged once (logger ``procflow``) and goes nowhere else; it is called again for the next event.
    Only what is no ``Exception``, such as ``KeyboardInterrupt``, passes through.

    Any number of observers may be there at a time; each is called in the order of registration.  A block may be left in any
    order and in any thread; an event that is being told right then may still arrive.

    Raises:
        TypeError: If ``observer`` cannot be called.
    """
    if not callable(observer):
        raise TypeError(f"an observer is called with each event; {type(observer).__name__} cannot be called")
    return _observing(Registration(observer))


@contextmanager
def _observing(registration: Registration) -> Iterator[None]:
    observers.append(registration)
    try:
        yield
    finally:
        observers.remove(registration)
