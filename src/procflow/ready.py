"""Probes: how to tell that a process can do its work.

Each function returns a frozen value for ``child.wait_ready()`` and ``supervise(ready=)``.  It may be used any number of times.
A probe never takes output from anybody, and ends with a ``NotReadyError`` at most 100 ms after the process has exited.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final, TypeVar

from procflow._kinds import require_int
from procflow._process.readiness import Probe
from procflow._streams.lines.readers import Pattern
from procflow._supervision.http import parse_address
from procflow._supervision.probes import AllProbe, AnyProbe, CallProbe, FileProbe, HttpProbe, LineProbe, TcpProbe
from procflow.events import LineMatch, OutputName

if TYPE_CHECKING:
    import ssl

__all__ = ("Probe", "all", "any", "call", "file", "http", "line", "tcp")

T = TypeVar("T")

EVERY_S: Final = 0.1
ATTEMPT_S: Final = 1.0
CALL_ATTEMPT_S: Final = 5.0
MAX_PORT: Final = 0xFFFF
MAX_STATUS: Final = 599
SUCCESSES: Final = range(200, 300)


def line(pattern: Pattern, *, stream: OutputName = "stdout") -> Probe[LineMatch]:
    """Ready when a line of an output matches; gives the match.

    It sees what was written before, as far as it is still held, and leaves every line to whoever subscribes later.  If the bound
    of the history has cut that, the oldest line, of which only the end may be left, does not count.

    Args:
        pattern: A regular expression, searched for in each line, or a predicate.
        stream: Which output; it must be a stream.
    """
    if stream not in ("stdout", "stderr"):
        raise ValueError(f"stream must be 'stdout' or 'stderr', not {stream!r}")
    return LineProbe(pattern, stream)


def tcp(host: str, port: int, *, every_s: float = EVERY_S, attempt_s: float = ATTEMPT_S) -> Probe[bool]:
    """Ready when a TCP connection is accepted; it is closed at once.

    Args:
        host: A name or an address.
        port: The port.
        every_s: The pause between two looks; the first pauses are shorter, from 10 ms on.
        attempt_s: The most that one look may take.
    """
    require_int("port", port, lowest=1)
    if port > MAX_PORT:
        raise ValueError(f"port must be at most {MAX_PORT}, not {port}")
    return TcpProbe(host=host, port=port, every_s=every_s, attempt_s=attempt_s)


def http(
    url: str,
    *,
    status: int | Collection[int] = SUCCESSES,
    every_s: float = EVERY_S,
    attempt_s: float = ATTEMPT_S,
    ssl_context: ssl.SSLContext | None = None,
) -> Probe[int]:
    """Ready when a GET is answered with a status that counts; gives the status.  Redirects are not followed.

    Args:
        url: An ``http`` or ``https`` URL without a user.
        status: The status, or all that count; by default 200 to 299.
        every_s: The pause between two looks; the first pauses are shorter, from 10 ms on.
        attempt_s: The most that one look may take, however slowly the server answers.
        ssl_context: How the certificate of an ``https`` server is checked; by default against the system's authorities.
    """
    statuses = frozenset([status] if isinstance(status, (int, str)) else status)
    if not statuses:
        raise ValueError("status must not be empty: nothing would ever be ready")
    for each in statuses:
        require_int("status", each, lowest=100)
        if each > MAX_STATUS:
            raise ValueError(f"status must be at most {MAX_STATUS}, not {each}")
    return HttpProbe(
        address=parse_address(url),
        statuses=statuses,
        ssl_context=ssl_context,
        every_s=every_s,
        attempt_s=attempt_s,
    )


def file(
    path: str | bytes | os.PathLike[str],
    *,
    fresh: bool = True,
    every_s: float = EVERY_S,
    attempt_s: float = ATTEMPT_S,
) -> Probe[bool]:
    """Ready when there is a file, of any kind, that was written since the process was started.

    Args:
        path: The file.
        fresh: Whether a file that is older than the process is left aside: what an earlier run has left says nothing about this
            one, unless it was written within one tick of the kernel's clock (1 to 10 ms) before the start.  On a file server its
            clock and ours must agree.
        every_s: The pause between two looks; the first pauses are shorter, from 10 ms on.
        attempt_s: The most that one look may take.
    """
    return FileProbe(path=os.fspath(path), fresh=fresh, every_s=every_s, attempt_s=attempt_s)


def call(
    predicate: Callable[[], Awaitable[T]], *, every_s: float = EVERY_S, attempt_s: float = CALL_ATTEMPT_S
) -> Probe[T]:
    """Ready when ``await predicate()`` is true; gives what it has returned.

    Args:
        predicate: Called again and again.  What it raises ends the wait and goes on: catch what only means "not yet".
        every_s: The pause between two calls; the first pauses are shorter, from 10 ms on.
        attempt_s: The most that one call may take; then it is cancelled, and counts as false.
    """
    if not callable(predicate):
        raise TypeError(f"predicate must be an async callable, not {predicate!r}")
    return CallProbe(predicate=predicate, every_s=every_s, attempt_s=attempt_s)


def any(*probes: Probe[T]) -> Probe[T]:  # noqa: A001 (read as ready.any)
    """Ready as soon as one of ``probes`` is; gives what that one gives.  Fails when all of them have."""
    if not probes:
        raise ValueError("at least one probe is needed")
    return AnyProbe(probes)


def all(*probes: Probe[T]) -> Probe[tuple[T, ...]]:  # noqa: A001 (read as ready.all)
    """Ready once each of ``probes`` was; gives what they give, in their order.  They look at the same time."""
    if not probes:
        raise ValueError("at least one probe is needed")
    return AllProbe(probes)
