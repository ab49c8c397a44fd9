"""What a parent and its workers say to each other: one JSON object a line, in both directions.

Owns the messages that are not events of a unit, and the protocol's version.  The parent writes tasks to the worker's standard
input, the worker writes ``WorkerReady`` and then events of units (``model.events.UnitEvent``) to its standard output; nothing else
may appear there.  Every line travels in the envelope of ``procflow.record``.  Readers skip fields and types they do not know, so
that a new field needs no new version; the version changes when an old reader would do the wrong thing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from procflow.record import Event, EventCodec
from procflow.record.clocks import StreamClock
from procflow_export.model.errors import Failure
from procflow_export.model.events import UNIT_EVENT_TYPES, UnitEvent
from procflow_export.model.plan import Snapshot, WorkUnit
from procflow_export.model.settings import SourceConfig

PROTOCOL: Final = 2
MAX_LINE_BYTES: Final = 64 << 20
"""The longest line that is believed: a unit's result with some hundred thousand parts."""


class WorkerReady(Event, tag="worker_ready", frozen=True, kw_only=True):
    """The worker's first line: it has imported what it needs and reads tasks now.

    Attributes:
        protocol: The version it speaks.
        pid: Its process id.
        release: Release of the package it runs.
    """

    protocol: int
    pid: int
    release: str = ""


class Work(Event, tag="work", frozen=True, kw_only=True):
    """Do this unit; the worker answers with ``UnitFinished`` of the same export and chunk."""

    unit: WorkUnit


class Cancel(Event, tag="cancel", frozen=True, kw_only=True):
    """Give the current unit up and answer with ``UnitFinished``; without a unit, nothing."""


class Drain(Event, tag="drain", frozen=True, kw_only=True):
    """Finish the current unit, then exit; the end of standard input means: exit now."""


class ReaderStep(StrEnum):
    """What becomes of the connections of a worker that read a joined snapshot; see ``sources.port.Source``."""

    PREPARE = "prepare"
    JOIN = "join"
    LEAVE = "leave"


class Readers(Event, tag="readers", frozen=True, kw_only=True):
    """Take one step with the readers of a snapshot, also while a unit is done; the worker answers with ``ReadersAnswer``.

    Attributes:
        step: Which.
        source: What they are connected to.
        snapshot: What they read.
        count: How many to prepare.
    """

    step: ReaderStep
    source: SourceConfig
    snapshot: Snapshot
    count: int = 0


class ReadersAnswer(Event, tag="readers_answer", frozen=True, kw_only=True):
    """The step was taken, or failed.

    Attributes:
        failure: Why it failed.
    """

    step: ReaderStep
    snapshot: str
    failure: Failure | None = None


ParentMessage: TypeAlias = Work | Cancel | Drain | Readers
WorkerMessage: TypeAlias = WorkerReady | ReadersAnswer | UnitEvent

M = TypeVar("M", bound=Event)


class Stamp:
    """Gives the messages of one direction their place and time."""

    __slots__ = ("_clock", "_next")

    def __init__(self) -> None:
        self._clock = StreamClock()
        self._next = 0

    def __call__(self, message: M) -> M:
        """Return ``message`` as the next one of this direction."""
        sequence, self._next = self._next, self._next + 1
        return self._clock.stamped(message, seq=sequence)


def parent_codec() -> EventCodec[ParentMessage]:
    """Return a codec of what a parent says."""
    return EventCodec((Work, Cancel, Drain, Readers))


def worker_codec() -> EventCodec[WorkerMessage]:
    """Return a codec of what a worker says."""
    return EventCodec((WorkerReady, ReadersAnswer, *UNIT_EVENT_TYPES))
