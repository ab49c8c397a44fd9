"""The errors of the package, and the value that carries one to another process or into a record.

Owns the exception classes.  Every error has a ``code``; what a retry would do (``is_transient``) follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from procflow_export.model.codes import Code, Kind

MAX_MESSAGE_CHARS: Final = 4_000


class Severity(StrEnum):
    """Whether a finding stops the run."""

    ERROR = "error"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong in a configuration.

    Attributes:
        message: What is wrong, one lower-case sentence.
        key: Path of the key: ``exports[2].chunk_size``.
        file: File it stands in; empty when the configuration came from memory.
        line: Line in that file, from 1; None when unknown.
        found: What was found, as written; secrets are masked.
        allowed: What may stand there.
        nearest: The allowed name that resembles the one found.
        severity: Errors stop the run, warnings do not.
        code: ``CONFIG_INVALID``, or ``CONFIG_NOT_SUPPORTED`` for a key that a later release will know.
    """

    message: str
    key: str = ""
    file: str = ""
    line: int | None = None
    found: str | None = None
    allowed: str | None = None
    nearest: str | None = None
    severity: Severity = Severity.ERROR
    code: Code = Code.CONFIG_INVALID

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        text = ": ".join(part for part in (place, self.key, self.message) if part)
        if self.found is not None:
            text += f"; found {self.found}"
        if self.allowed is not None:
            text += f"; allowed: {self.allowed}"
        if self.nearest is not None:
            text += f"; did you mean {self.nearest!r}?"
        return text


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as a value: it crosses process boundaries and stands in events and summaries.

    Attributes:
        code: Why.
        message: One sentence, without secrets.
        notes: What was learned on the way up: attempts, endings, positions.
        stderr_tail: The last lines that a worker wrote before it died.
    """

    code: Code
    message: str
    notes: tuple[str, ...] = ()
    stderr_tail: str = ""

    @property
    def is_transient(self) -> bool:
        """Whether the same work may succeed when it is tried again."""
        return self.code.is_transient

    def cleaned(self, clean: Callable[[str], str]) -> Failure:
        """Return this failure with each of its texts as ``clean`` returns it."""
        return msgspec.structs.replace(
            self,
            message=clean(self.message),
            notes=tuple(map(clean, self.notes)),
            stderr_tail=clean(self.stderr_tail),
        )


class ExportError(Exception):
    """Root of every error that this package raises on purpose.

    Attributes:
        code: Why; its kind gives the exit status, its action the operator's next step.
    """

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)

    @property
    def is_transient(self) -> bool:
        """Whether the same work may succeed when it is tried again."""
        return self.code.is_transient

    def failure(self) -> Failure:
        """Return this error as a value, its notes included."""
        return Failure(
            code=self.code,
            message=self.message[:MAX_MESSAGE_CHARS],
            notes=tuple(getattr(self, "__notes__", ())),
        )


class MisuseError(ExportError):
    """The calling code or the command line is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.USAGE, message)


class ConfigError(ExportError):
    """A configuration cannot be used.

    Attributes:
        findings: Everything that is wrong with it, in the order of the file; warnings included.
    """

    def __init__(self, findings: Sequence[Finding], *, code: Code = Code.CONFIG_INVALID) -> None:
        self.findings = tuple(findings)
        errors = [finding for finding in self.findings if finding.severity is Severity.ERROR]
        count = len(errors)
        super().__init__(code, f"the configuration has {count} error{'' if count == 1 else 's'}")
        for finding in errors:
            self.add_note(str(finding))


class SourceError(ExportError):
    """The database refused, failed or went away."""


class PlanError(ExportError):
    """The configuration is valid, but cannot be carried out on this table."""


class DataError(ExportError):
    """A value or a type cannot be written as asked, or what was written is not what was read."""


class DestinationError(ExportError):
    """Parts, manifest or marker could not be stored."""


class StateError(ExportError):
    """What is remembered of runs could not be read or written, or another run works on the export."""


class WorkerError(ExportError):
    """A child process that did a unit's work did not start, or died.

    Attributes:
        stderr_tail: The last lines it wrote.
    """

    def __init__(self, code: Code, message: str, *, stderr_tail: str = "") -> None:
        self.stderr_tail = stderr_tail
        super().__init__(code, message)

    def failure(self) -> Failure:
        """Return this error as a value, with the worker's last lines."""
        return msgspec.structs.replace(super().failure(), stderr_tail=self.stderr_tail)


class PlatformError(ExportError):
    """This machine, interpreter or event loop lacks something: tell its operator."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.ENVIRONMENT, message)


def error_from(failure: Failure) -> ExportError:
    """Return the error that ``failure`` was made of, as far as a value can carry it."""
    prefix = failure.code.value.split("_", 1)[0]
    error: ExportError
    if prefix == "WORKER":
        error = WorkerError(failure.code, failure.message, stderr_tail=failure.stderr_tail)
    else:
        error = _CLASSES.get(prefix, ExportError)(failure.code, failure.message)
    for note in failure.notes:
        error.add_note(note)
    return error


def failure_from(exc: BaseException) -> Failure:
    """Return any exception as a value; one that is not ours is a bug of ours, and only its type is told.

    The text of a foreign exception may hold anything, secrets included, so it stays in the traceback.
    """
    if isinstance(exc, ExportError):
        return exc.failure()
    return Failure(code=Code.INTERNAL, message=f"unexpected {type(exc).__name__}")


def is_expected(exc: BaseException) -> bool:
    """Whether ``exc`` is a failure that we foresaw, not a bug."""
    return isinstance(exc, ExportError) and exc.code.kind is not Kind.INTERNAL


_CLASSES: Final[dict[str, type[ExportError]]] = {
    "SOURCE": SourceError,
    "PLAN": PlanError,
    "TYPE": DataError,
    "VALUE": DataError,
    "BATCH": DataError,
    "ROW": DataError,
    "SCHEMA": DataError,
    "FORMAT": DataError,
    "DESTINATION": DestinationError,
    "EXPORT": StateError,
    "STATE": StateError,
}
