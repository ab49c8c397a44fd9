"""What a record can be.

Owns the states and how they are judged.  Must not know files or processes: ``liveness`` asks for the writer.
"""

from __future__ import annotations

from enum import Enum


class Writer(Enum):
    """What is known of the process that writes a record."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


class RecordState(Enum):
    """What a record is."""

    RUNNING = "running"
    """No terminal event, and the writer lives, or nobody can tell."""
    FINISHED = "finished"
    """It has its terminal event."""
    CRASHED = "crashed"
    """No terminal event, and the writer is gone."""
    UNREADABLE = "unreadable"
    """Another release is needed, it is no record, or the system does not let us."""


def record_state(*, is_finished: bool, writer: Writer) -> RecordState:
    """Judge a record that can be read.

    ``writer`` must have been asked before the record was read to its end: asked after, it may have finished in between.
    """
    if is_finished:
        return RecordState.FINISHED
    return RecordState.CRASHED if writer is Writer.GONE else RecordState.RUNNING
