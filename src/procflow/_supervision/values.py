"""What supervision and fan-out hand out: results of a map, runs of a service, restarts in a stream.

Owns frozen values only.  Must not know how they came about.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from procflow.errors import ChildError, PlatformError
from procflow.outcome import Completed, Outcome

if TYPE_CHECKING:
    from procflow.command import Command, Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class MapResult:
    """How one command of a ``map_run()`` ended: either ``completed`` or ``error`` is there.

    Attributes:
        index: Its place among the commands, counted from 0.
        command: The command.
        completed: What ``run()`` returned.
        error: What ``run()`` raised.
    """

    index: int
    command: Command | Pipeline
    completed: Completed | None = None
    error: ChildError | PlatformError | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How the process ended; ``None`` if it could not be started, or could not be ended."""
        return self.completed.outcome if self.completed is not None else outcome_of(self.error)

    def result(self) -> Completed:
        """Return what was collected.

        Raises:
            ChildError: What ``run()`` raised, if it did.
            PlatformError: The same.
        """
        if self.error is not None:
            raise self.error
        assert self.completed is not None, "there is a result or an error"
        return self.completed


class ServiceState(Enum):
    """Where a service is in its life."""

    STARTING = "starting"
    """A process is being started, or is not ready yet."""

    READY = "ready"
    """The process runs and was found ready; without a probe: it runs."""

    BACKOFF = "backoff"
    """The last run has ended, and the next one is waited with."""

    STOPPING = "stopping"
    """A run has ended or is being ended; something of it may be alive."""

    STOPPED = "stopped"
    """It was stopped on purpose, and stays so."""

    ENDED = "ended"
    """The last run succeeded, and the policy does not start another."""

    FAILED = "failed"
    """The last run failed, and no other is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRun:
    """One run of a service, once it is over.

    Attributes:
        number: Its number; the first run is 1.
        outcome: How the process ended; ``None`` if it could not be started.
        error: What went wrong besides: ``SpawnError``, ``NotReadyError``, ``TimedOut`` (not ready in time), ``TerminationError``; or
            what a probe has raised.
        was_ready: Whether it was ever ready.
        is_commanded: Whether it was ended on purpose: by ``stop()``, ``restart()``, or by leaving the block.
    """

    number: int
    outcome: Outcome | None
    error: Exception | None = None
    was_ready: bool = False
    is_commanded: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether it counts as a failure: it did not exit with 0, was never ready, or something else went wrong."""
        return self.error is not None or self.outcome is None or not self.outcome.ok

    def __str__(self) -> str:
        return str(self.error if self.error is not None else self.outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """An item of a service's output: what follows comes from a new run.

    Attributes:
        number: The number of the run that begins; the first one, which no item announces, is 1.
        outcome: How the last run before it that was started has ended.
        lost_runs: How many runs before it this subscriber missed as a whole, because it was too slow: best effort only.
        lost_bytes: How many bytes these runs have written to this output.
    """

    number: int
    outcome: Outcome
    lost_runs: int = 0
    lost_bytes: int = 0


def outcome_of(error: BaseException | None) -> Outcome | None:
    """Return the outcome that an error of ``run()`` carries."""
    found = getattr(error, "outcome", None)
    return found if isinstance(found, Outcome) else None


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error that is kept, and of its causes: their frames hold whole processes with all their output."""
    left, seen = [error], set[int]()
    while left:
        exc = left.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        exc.__traceback__ = None
        left += [exc.__cause__, exc.__context__]
        if isinstance(exc, BaseExceptionGroup):
            left += exc.exceptions
