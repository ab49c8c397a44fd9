"""The probes of ``procflow.ready``: values that know how to look.

Owns how each of them looks, and how often.  Must not know who waits, nor what becomes of a process that is not ready.

A probe that looks at something outside (a port, a file) knows nothing of the process, and would wait for a dead one: so every
look races with the exit.  A probe that reads lines needs no such race: the wait for a line ends with the process, after what
it has left in its pipe.  Every look is bounded, because what accepts a connection may never answer.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from procflow._kinds import require_duration
from procflow._process.readiness import Candidate, Probe
from procflow._process.stand_in import STAND_IN
from procflow._streams.lines.readers import Pattern
from procflow._streams.waking import PerLoop, running
from procflow._supervision.http import Address, ask_status, is_own_end
from procflow._supervision.looks import NotYet, reason_of, shown_falsehood
from procflow.errors import NotReadyError
from procflow.events import LineMatch, OutputName

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

FIRST_PAUSE_S: Final = 0.01
"""The pause after the first look; each one is twice the last, up to the interval of the probe."""

CLOCK_REALTIME_COARSE: Final = 5
"""Of Linux; the standard library has no name for it."""

MAX_TICK_NS: Final = 10_000_000


def file_tick_ns() -> int:
    """How coarsely the kernel stamps files: by its own tick, 1 to 10 ms (clock_getres(2))."""
    if sys.platform != "linux":
        return MAX_TICK_NS
    return round(time.clock_getres(CLOCK_REALTIME_COARSE) * 1e9)


CLOCK_SLACK_NS: Final = file_tick_ns()
"""How much older than the process a file may look."""

_FILE_LIMITERS: Final = PerLoop("readiness_files", partial(anyio.CapacityLimiter, 4))
"""Looks at files happen in threads: a file system that hangs must not stop the loop, nor take every thread."""


@dataclass(frozen=True, slots=True)
class LineProbe:
    """Waits for a line."""

    pattern: Pattern
    source: OutputName

    def describe(self) -> str:
        shown = self.pattern if isinstance(self.pattern, str) else getattr(self.pattern, "pattern", None)
        return f"a line of {self.source} matched {shown!r}" if shown is not None else f"a line of {self.source} matched"

    def wait(self, candidate: Candidate) -> Coroutine[Any, Any, LineMatch]:
        candidate.note_look("no such line")
        return candidate.stream(self.source).wait_for_line(self.pattern, peek=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling(ABC, Generic[T]):
    """Looks again and again until the process is ready, or has exited."""

    every_s: float
    attempt_s: float

    def __post_init__(self) -> None:
        require_duration("every_s", self.every_s, allows_zero=False)
        require_duration("attempt_s", self.attempt_s, allows_zero=False)

    @abstractmethod
    def describe(self) -> str:
        """What is waited for."""

    @abstractmethod
    async def look(self, candidate: Candidate) -> T | NotYet:
        """Return what was found, or what was seen instead; ``OSError`` means not yet as well."""

    async def wait(self, candidate: Candidate) -> T:
        looking = anyio.CancelScope()

        async def watch() -> None:
            await candidate.wait_exited()
            looking.cancel()

        found: T | None = None
        async with running(f"procflow readiness of {candidate.name}", watch):
            with looking:
                found = await self._poll(candidate)
        if found is None or candidate.has_exited:
            raise await candidate.not_ready(self.describe())
        return found

    async def _poll(self, candidate: Candidate) -> T:
        pause_s = min(FIRST_PAUSE_S, self.every_s)
        while True:
            found: T | NotYet = NotYet(f"no answer in {self.attempt_s:g} s")
            with anyio.move_on_after(self.attempt_s):
                try:
                    found = await self.look(candidate)
                except OSError as exc:
                    if not self.forgives_os_errors:
                        raise
                    found = NotYet(reason_of(exc))
            if not isinstance(found, NotYet):
                return found
            candidate.note_look(found.seen)
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, self.every_s)

    @property
    def forgives_os_errors(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProbe(Polling[bool]):
    """Connects."""

    host: str
    port: int

    def describe(self) -> str:
        return f"{self.host}:{self.port} accepted a connection"

    async def look(self, candidate: Candidate) -> bool | NotYet:  # noqa: ARG002 (only a port is looked at)
        async with await anyio.connect_tcp(self.host, self.port) as stream:
            return NotYet("a connection to itself") if is_own_end(stream) else True


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe(Polling[int]):
    """Asks for a page."""

    address: Address
    statuses: frozenset[int]
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)

    def describe(self) -> str:
        return f"{self.address.shown} answered with a status that counts as ready"

    async def look(self, candidate: Candidate) -> int | NotYet:  # noqa: ARG002 (only a server is looked at)
        status = await ask_status(self.address, self.ssl_context)
        if status is None:
            return NotYet("no answer in HTTP/1")
        return status if status in self.statuses else NotYet(f"status {status}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProbe(Polling[bool]):
    """Looks for a file."""

    path: str | bytes
    fresh: bool

    def describe(self) -> str:
        return f"the file {os.fsdecode(self.path)!r} {'was written' if self.fresh else 'existed'}"

    async def look(self, candidate: Candidate) -> bool | NotYet:
        if STAND_IN.get() is not None:  # a test, whose clock may be a virtual one, which does not wait for threads
            await checkpoint()
            found = os.stat(self.path)
        else:  # Abandoned when time is up; its thread goes on, and counts, until the file system answers.
            limiter = _FILE_LIMITERS.get()
            found = await anyio.to_thread.run_sync(os.stat, self.path, abandon_on_cancel=True, limiter=limiter)
        is_old = found.st_mtime_ns < candidate.started_at.timestamp() * 1e9 - CLOCK_SLACK_NS
        return NotYet("a file that is older than the process") if self.fresh and is_old else True


@dataclass(frozen=True, slots=True, kw_only=True)
class CallProbe(Polling[T]):
    """Asks the caller's code."""

    predicate: Callable[[], Awaitable[T]]

    def describe(self) -> str:
        return f"{getattr(self.predicate, '__name__', 'a predicate')}() said so"

    @property
    def forgives_os_errors(self) -> bool:
        return False

    async def look(self, candidate: Candidate) -> T | NotYet:  # noqa: ARG002 (the caller looks)
        answer = self.predicate()
        if not isinstance(answer, Awaitable):
            raise TypeError(f"the predicate of ready.call() must be async, and returned {type(answer).__name__}")
        found = await answer
        return found or NotYet(shown_falsehood(found))


@dataclass(frozen=True, slots=True)
class AnyProbe(Generic[T_co]):
    """Ready when one of them is."""

    probes: tuple[Probe[T_co], ...]

    def describe(self) -> str:
        return "one of these: " + "; ".join(probe.describe() for probe in self.probes)

    def wait(self, candidate: Candidate) -> Coroutine[Any, Any, T_co]:
        return self._first(_Race(candidate, self.probes))

    async def _first(self, race: _Race[T_co]) -> T_co:
        found, failures = await race.run(lambda found, failures: bool(found) or len(failures) == len(self.probes))
        if not found:
            raise next(iter(failures.values()))
        return next(iter(found.values()))


@dataclass(frozen=True, slots=True)
class AllProbe(Generic[T_co]):
    """Ready when all of them were."""

    probes: tuple[Probe[T_co], ...]

    def describe(self) -> str:
        return "all of these: " + "; ".join(probe.describe() for probe in self.probes)

    def wait(self, candidate: Candidate) -> Coroutine[Any, Any, tuple[T_co, ...]]:
        return self._every(_Race(candidate, self.probes))

    async def _every(self, race: _Race[T_co]) -> tuple[T_co, ...]:
        found, failures = await race.run(lambda found, failures: bool(failures) or len(found) == len(self.probes))
        if failures:
            raise next(iter(failures.values()))
        return tuple(found[number] for number in range(len(self.probes)))


class _Race(Generic[T]):
    """Several probes at once, each in a task, until what they have come to is enough."""

    def __init__(self, candidate: Candidate, probes: tuple[Probe[T], ...]) -> None:
        self._name = candidate.name
        self._candidates = [candidate.part() for _ in probes]
        self._waits: list[Coroutine[Any, Any, T]] = []
        try:
            for probe, each in zip(probes, self._candidates, strict=True):
                self._waits.append(probe.wait(each))
        except BaseException:
            for waiting in self._waits:
                waiting.close()
            raise
        self._found: dict[int, T] = {}
        self._failures: dict[int, NotReadyError] = {}
        self._error: Exception | None = None
        self._is_enough = anyio.Event()

    async def run(
        self, is_enough: Callable[[dict[int, T], dict[int, NotReadyError]], bool]
    ) -> tuple[dict[int, T], dict[int, NotReadyError]]:
        """Return what was found and who failed, by number.

        Raises:
            Exception: What a probe has raised that is no ``NotReadyError``.
        """

        async def one(number: int) -> None:
            try:
                self._found[number] = await self._waits[number]
                self._candidates[number].note_look("ready")
            except NotReadyError as error:
                self._failures[number] = error
            except Exception as error:  # noqa: BLE001 (raised below)
                self._error = error
            if self._error is not None or is_enough(self._found, self._failures):
                self._is_enough.set()

        works = [partial(one, number) for number in range(len(self._waits))]
        async with running(f"procflow readiness of {self._name}", *works):
            await self._is_enough.wait()
        if self._error is not None:
            raise self._error
        return self._found, self._failures
