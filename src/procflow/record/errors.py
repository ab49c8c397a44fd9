"""What can go wrong with a record.

Owns the exception classes of this sub-package.  Must not know how anything is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from procflow.errors import ProcflowError, UsageError


class UnrecordableError(UsageError, ValueError):
    """A value cannot stand in a record: fix the calling code.  The message says why, and never shows the value."""


class UnexportableError(ProcflowError):
    """A record cannot be said in the words of another system.  The message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the record cannot be exported: {reason}")


class SpansRefusedError(ProcflowError):
    """An exporter of OpenTelemetry failed; it has logged why.

    Attributes:
        exported_count: How many spans it took before.
        span_count: How many there are.
    """

    def __init__(self, *, exported_count: int, span_count: int) -> None:
        self.exported_count = exported_count
        self.span_count = span_count
        super().__init__(f"the exporter took {exported_count} of {span_count} spans and failed at the next ones")


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


class ReplacedRecordError(UnreadableRecordError):
    """A record is not the file of which a database already holds the beginning.

    Ingest it into another database, or let this one forget the run first.

    Attributes:
        run_id: The run that the database has.
    """

    def __init__(self, *, path: str, run_id: str, reason: str) -> None:
        self.run_id = run_id
        super().__init__(path=path, reason=reason)


class UnusableDatabaseError(ProcflowError):
    """A database cannot be used: another release is needed, it is not one of ours, or the system does not let us.

    Attributes:
        path: The file.
        theirs: Version of its tables; ``None`` if that is not the trouble.
        ours: Newest version that this release writes.
        sqlite_code: What SQLite said, without what it adds to it: ``sqlite3.SQLITE_FULL``, say; ``None`` if it was not asked.
    """

    def __init__(
        self,
        *,
        path: str,
        reason: str,
        theirs: int | None = None,
        ours: int | None = None,
        sqlite_code: int | None = None,
    ) -> None:
        self.path = path
        self.theirs = theirs
        self.ours = ours
        self.sqlite_code = sqlite_code
        super().__init__(f"the database {path} cannot be used: {reason}")


class UnknownRunError(UsageError, LookupError):
    """A database has no such run.

    Attributes:
        run_id: The run that was asked for.
    """

    def __init__(self, *, path: str, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"the database {path} has no run {run_id}")


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


class JobSkippedError(ProcflowError):
    """A job was not begun, because a job before it has failed.

    Attributes:
        job_id: The job.
        because: The jobs that have failed, the nearest first.
    """

    def __init__(self, *, job_id: str, because: Sequence[str]) -> None:
        self.job_id = job_id
        self.because = tuple(because)
        super().__init__(f"the job {job_id!r} was skipped, because {', '.join(map(repr, because))} failed")


class JobsFailedError(ProcflowError):
    """Some of several jobs did not succeed.

    Attributes:
        outcomes: How each of them ended, by its id.
        errors: What those that failed have raised last.
    """

    def __init__(self, *, outcomes: Mapping[str, str], errors: Mapping[str, Exception]) -> None:
        self.outcomes = dict(outcomes)
        self.errors = dict(errors)
        bad = [f"{job_id!r} {word}" for job_id, word in outcomes.items() if word != "succeeded"]
        super().__init__(f"{len(bad)} of {len(outcomes)} jobs did not succeed: {', '.join(bad)}")


class RecordLostError(ProcflowError):
    """Events of a run could not be written, and ``strict=True`` makes that an error.

    Attributes:
        losses: What was lost, for each place that lost something.
    """

    def __init__(self, losses: Sequence[str]) -> None:
        self.losses = tuple(losses)
        super().__init__(f"the record is not whole: {'; '.join(losses)}")
