"""What can go wrong with a record.

Owns the exception classes of this sub-package.  Must not know how anything is read or written.
"""

from __future__ import annotations

from procflow.errors import ProcflowError, UsageError


class UnrecordableError(UsageError, ValueError):
    """A value cannot stand in a record: fix the calling code.  The message says why, and never shows the value."""


class UnreadableRecordError(ProcflowError):
    """A record as a whole cannot be read: another release is needed, or it is none, or the system does not let us.

    Attributes:
        path: The file.
        reason: Why.
        theirs: Version of the record, as ``major.minor``; ``None`` if that is not the trouble.
        ours: Newest version that this release reads.
        feature: What the record requires and this release does not have; ``None`` if that is not the trouble.
    """

    def __init__(
        self, *, path: str, reason: str, theirs: str | None = None, ours: str | None = None, feature: str | None = None
    ) -> None:
        self.path = path
        self.reason = reason
        self.theirs = theirs
        self.ours = ours
        self.feature = feature
        super().__init__(f"the record {path} cannot be read: {reason}")


class RecordBusyError(ProcflowError):
    """Somebody writes the record, or holds it: try again later.

    Attributes:
        path: Directory of the run.
    """

    def __init__(self, *, path: str) -> None:
        self.path = path
        super().__init__(f"the record {path} is written, or held, by somebody")


class ForeignRecordError(ProcflowError):
    """A record does not say enough about its processes to find them on this machine; it may be that of another one.

    Attributes:
        path: The record.
    """

    def __init__(self, *, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"the processes of {path} cannot be found here: {reason}")
