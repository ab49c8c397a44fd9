"""How a command ends: its exit status, and the errors that stop it.

Owns the whole table of exit statuses; ``--help`` and the reference page show it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from procflow.record.views import summary


class Status(IntEnum):
    """An exit status.  The first five are what ``check`` says of a record."""

    DONE = summary.CLEAN
    DEFECTS = summary.DEFECTS
    CRASHED = summary.CRASHED
    UNREADABLE = summary.UNREADABLE
    RUNNING = summary.RUNNING
    REFUSED = 5
    BUG = 6
    ENVIRONMENT = 7
    USAGE = 64
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: Final = {
    Status.DONE: "done; check: the record is complete and clean",
    Status.DEFECTS: "done, and something needs a look: defects (check, ingest), processes alive (orphans), rest on the disk (prune)",
    Status.CRASHED: "check: the writer died before the end of the record",
    Status.UNREADABLE: "there is no such record or database, or it cannot be read",
    Status.RUNNING: "check: the run goes on",
    Status.REFUSED: "refused: the record or the database is in use, or what was asked for could do harm",
    Status.BUG: "a bug of ours: please report it",
    Status.ENVIRONMENT: "the system does not let us: no permission, a full disk, output that cannot be written",
    Status.USAGE: "the command line is wrong",
    Status.INTERRUPTED: "interrupted (SIGINT)",
    Status.TERMINATED: "terminated (SIGTERM)",
}


class CommandError(Exception):
    """A command cannot do what was asked for.

    Attributes:
        status: How the program ends.
        message: What is wrong, and with what; one line.
        advice: What to do about it.
    """

    def __init__(self, status: Status, message: str, advice: str) -> None:
        self.status = status
        self.message = message
        self.advice = advice
        super().__init__(message)
