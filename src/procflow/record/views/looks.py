"""How an ending looks.

Owns the few ways in which something can have ended, as far as a picture or a line shows them, and the word for each ending.  Must not
know colours or characters: each view has its own.
"""

from __future__ import annotations

from enum import Enum

from procflow.record.events import CANCELLED, EXITED, LOST, SKIPPED, SUCCEEDED, TIMED_OUT, word_of_today
from procflow.record.fold.rows import CallRow, JobRow, RunRow


class Look(Enum):
    """One way in which something ended, or has not."""

    FINE = "fine"
    BAD = "bad"
    STOPPED = "stopped"
    """Cancelled, or out of time: somebody else ended it."""
    OPEN = "open"
    LOST = "lost"
    """Its writer died first."""
    SKIPPED = "skipped"
    WAITING = "waiting"
    """Declared, and not yet begun."""


def look_of(row: RunRow | JobRow | CallRow) -> Look:
    """Return the look of a run, an attempt or a call."""
    outcome = word_of_today(row.outcome) if row.outcome is not None else None
    if outcome is None:
        return Look.WAITING if isinstance(row, JobRow) and not row.has_begun else Look.OPEN
    if outcome == LOST:
        return Look.LOST
    if outcome == SKIPPED:
        return Look.SKIPPED
    if outcome in (CANCELLED, TIMED_OUT):
        return Look.STOPPED
    if isinstance(row, CallRow):
        return Look.FINE if outcome == EXITED and row.exit_code == 0 else Look.BAD
    return Look.FINE if outcome == SUCCEEDED else Look.BAD


def ending_word(row: RunRow | JobRow | CallRow) -> str:
    """Return how it ended in a word or two: ``succeeded``, ``exit 2``, ``SIGKILL``, ``open``, ``waiting``."""
    if isinstance(row, CallRow):
        if row.outcome == EXITED:
            return f"exit {row.exit_code}" if row.exit_code is not None else EXITED
        if row.signal and row.outcome not in (CANCELLED, SKIPPED, TIMED_OUT):
            return row.signal
    elif isinstance(row, JobRow) and not row.has_begun and not row.outcome:
        return "waiting"
    return row.outcome or "open"
