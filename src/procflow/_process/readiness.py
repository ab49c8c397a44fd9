"""When a process can do its work: the port of the probes, and the wait for one.

Owns what a probe may know of a process and tells of its looks, the deadline, and what an error says about a process that was not
ready.  Must not know how any probe looks.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import anyio

from procflow._kinds import require_duration
from procflow._observers import emit
from procflow._process.core import ProcessCore
from procflow._process.parts import TAIL_BYTES, captured
from procflow._process.pipelines.stage import require_stream
from procflow._streams.stream import OutputStream
from procflow.errors import NotReadyError, TimedOut
from procflow.events import OutputName, StreamEnding
from procflow.observation import Ready
from procflow.outcome import EndedBy, Outcome

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LAST_WORDS_WAIT_S: Final = 0.03
"""How long a wait that has failed lets the outputs of an exited process come to their ends, for its error to show them."""

DRAIN_S: Final = 0.5
"""How long the outputs of a process that has ended are still read although somebody else holds their pipes."""


class Candidate:
    """A process, as one probe sees it in one wait; and what that probe has seen."""

    def __init__(self, core: ProcessCore) -> None:
        self._core = core
        self._parts: list[Candidate] = []
        self._last_look = "no answer yet"

    @property
    def name(self) -> str:
        return self._core.name

    @property
    def started_at(self) -> datetime:
        """When it was started (aware, UTC)."""
        return self._core.parts.first.started_at

    @property
    def has_exited(self) -> bool:
        return self._core.exited.is_set()

    async def wait_exited(self) -> None:
        """Return once it has exited, or is out of our hands.  Closes no standard input, as ``Process.wait()`` may."""
        await self._core.exited.wait()

    def part(self) -> Candidate:
        """Return the same process for one of several probes: what these have seen, in their order, is what was seen."""
        self._parts.append(Candidate(self._core))
        return self._parts[-1]

    def note_look(self, seen: str) -> None:
        """Note what the newest look has seen, in a few words, none of them secret."""
        self._last_look = seen

    @property
    def last_look(self) -> str:
        """What the newest look has seen, for an error."""
        return "; ".join(part.last_look for part in self._parts) or self._last_look

    def stream(self, source: OutputName) -> OutputStream:
        """Return an output.

        Raises:
            UsageError: If it is no stream.
        """
        ends = self._core.parts.last.ends
        return require_stream(self.name, ends.stdout if source == "stdout" else ends.stderr, source)

    async def not_ready(self, awaited: str) -> NotReadyError:
        """Return the error for a process that has exited, with its last words as far as they arrive soon."""
        with anyio.move_on_after(LAST_WORDS_WAIT_S):
            for stream in self._core.streams:
                await stream.wait_ended()
        return NotReadyError(stream_name=self.name, awaited=awaited, outcome=self._core.outcome, tail=self.tail())

    def tell_ready(self) -> None:
        """Tell the observers that it is ready; once, however often that is found."""
        if not self._core.was_ready:
            self._core.was_ready = True
            after_s = anyio.current_time() - self._core.started_s
            emit(Ready, name=self.name, pid=self._core.leader.pid, after_s=after_s)

    def tail(self) -> bytes:
        """The newest bytes of standard error, or else of standard output."""
        streams = (self._core.parts.stderr, self._core.parts.stdout)
        return next((tail for stream in streams if stream is not None and (tail := stream.tail(TAIL_BYTES))), b"")


class Probe(Protocol[T_co]):
    """Tells whether a process is ready; made by the functions of ``procflow.ready``."""

    def describe(self) -> str:
        """What is waited for, as errors say it: ``127.0.0.1:80 accepted a connection``."""
        ...

    def wait(self, candidate: Candidate) -> Coroutine[Any, Any, T_co]:
        """Return once the process is ready.  What it reads of the process it is attached to from this call on.

        Raises:
            NotReadyError: If it exited first.
        """
        ...


def wait_ready(core: ProcessCore, probe: Probe[T], timeout_s: float | None) -> Coroutine[Any, Any, T]:
    """Return what ``probe`` found; see ``Process.wait_ready()``."""
    if timeout_s is not None:
        require_duration("timeout_s", timeout_s, allows_zero=False)
    candidate = Candidate(core)
    return _wait_ready(candidate, probe.describe(), probe.wait(candidate), timeout_s)


async def _wait_ready(
    candidate: Candidate, awaited: str, waiting: Coroutine[Any, Any, T], timeout_s: float | None
) -> T:
    """The one place where a process is found to be ready, or not."""
    with anyio.move_on_after(timeout_s):
        found = await waiting
        if not candidate.has_exited:
            candidate.tell_ready()
            return found
        awaited = f"it was found ready ({awaited})"  # which is of no use any more, or was something in its place
    if candidate.has_exited:
        raise await candidate.not_ready(awaited)
    raise NotReadyError(
        stream_name=candidate.name,
        awaited=awaited,
        tail=candidate.tail(),
        timeout_s=timeout_s,
        last_look=candidate.last_look,
    )


async def stop_unready(core: ProcessCore, error: NotReadyError) -> TimedOut:
    """End the tree of a process that was not ready in time, and return the error with its output, as far as it is still held.

    Raises:
        TerminationError: If something outlived every attempt.
    """
    await core.stop(core.shutdown, EndedBy.TIMEOUT)
    outcome = await end_run(core)
    timeout_s = error.timeout_s or 0.0
    return TimedOut(
        f"{outcome.name} was not ready within {timeout_s:g} s ({error.missed}) and was stopped: it {outcome.described}",
        clock="readiness",
        timeout_s=timeout_s,
        outcome=outcome,
        stdout=captured(core.parts.stdout),
        stderr=captured(core.parts.stderr),
    )


async def end_run(core: ProcessCore, cause: EndedBy = EndedBy.SCOPE) -> Outcome:
    """End what is left of the tree, then read all that it has left in its pipes, whoever is slow to take it.

    At most ``Shutdown.total_s`` + 200 ms + the time that somebody else may hold the pipes (``DRAIN_S``).

    Raises:
        TerminationError: If something outlived every attempt.
    """
    if core.exited.is_set():
        _read_rest(core)
    await core.stop(core.shutdown, cause)
    _read_rest(core)
    with anyio.move_on_after(DRAIN_S):
        for stream in core.streams:
            await stream.wait_ended()
    if any(stream.ending is not StreamEnding.EOF for stream in core.streams):
        core.note_cut_output()
    outcome = core.outcome
    assert outcome is not None, "an ended process has an outcome"
    return outcome


def _read_rest(core: ProcessCore) -> None:
    for stream in core.streams:
        stream.read_rest()
