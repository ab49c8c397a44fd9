"""What the checks of a published set find: values with stable codes.

Owns the codes, how bad each one is and what it means.  Messages may change from release to release, codes do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from procflow_export.model.codes import ExitStatus
from procflow_export.model.errors import Failure, Severity


class CheckCode(StrEnum):
    """What is not as it should be."""

    MANIFEST_MISSING = "MANIFEST_MISSING"
    MANIFEST_UNREADABLE = "MANIFEST_UNREADABLE"
    MANIFEST_INCONSISTENT = "MANIFEST_INCONSISTENT"
    RUN_MANIFEST_MISSING = "RUN_MANIFEST_MISSING"
    RUN_MANIFEST_DIFFERS = "RUN_MANIFEST_DIFFERS"
    MARKER_MISSING = "MARKER_MISSING"
    MARKER_STALE = "MARKER_STALE"
    PART_MISSING = "PART_MISSING"
    PART_SIZE_MISMATCH = "PART_SIZE_MISMATCH"
    PART_CHECKSUM_MISMATCH = "PART_CHECKSUM_MISMATCH"
    PART_UNREADABLE = "PART_UNREADABLE"
    PART_ROW_COUNT = "PART_ROW_COUNT"
    PART_SCHEMA = "PART_SCHEMA"
    VALUE_CHECKSUM = "VALUE_CHECKSUM"
    VALUES_NOT_RECORDED = "VALUES_NOT_RECORDED"
    UNTRACKED_OBJECT = "UNTRACKED_OBJECT"
    SUPERSEDED_OBJECT = "SUPERSEDED_OBJECT"
    CHUNK_WRONG = "CHUNK_WRONG"
    CHUNK_UNDECIDED = "CHUNK_UNDECIDED"
    CHUNK_CHANGED = "CHUNK_CHANGED"

    @property
    def severity(self) -> Severity:
        """Whether the published set is not to be trusted, or only worth a look."""
        return Severity.WARNING if self in _WARNINGS else Severity.ERROR

    @property
    def meaning(self) -> str:
        """What it means: one sentence."""
        return _MEANINGS[self]


_WARNINGS: Final = frozenset(
    {
        CheckCode.VALUES_NOT_RECORDED,
        CheckCode.UNTRACKED_OBJECT,
        CheckCode.SUPERSEDED_OBJECT,
        CheckCode.CHUNK_UNDECIDED,
        CheckCode.CHUNK_CHANGED,
    }
)
_MEANINGS: Final = {
    CheckCode.MANIFEST_MISSING: "Nothing is published where the configuration points.",
    CheckCode.MANIFEST_UNREADABLE: "A manifest is there, but is none of this program's, or was damaged.",
    CheckCode.MANIFEST_INCONSISTENT: "The manifest contradicts itself, or belongs to another export.",
    CheckCode.RUN_MANIFEST_MISSING: "The published run's own manifest is gone.",
    CheckCode.RUN_MANIFEST_DIFFERS: "The published run's own manifest tells something else than the published set.",
    CheckCode.MARKER_MISSING: "The success marker is gone: readers that wait for it see nothing.",
    CheckCode.MARKER_STALE: "The success marker belongs to another manifest: a publication was cut off after its commit, or the manifest was changed.",
    CheckCode.PART_MISSING: "A part that the manifest names is not there.",
    CheckCode.PART_SIZE_MISMATCH: "A part is shorter or longer than it was when it was stored.",
    CheckCode.PART_CHECKSUM_MISMATCH: "The bytes of a part are not those that were stored.",
    CheckCode.PART_UNREADABLE: "A part cannot be decoded.",
    CheckCode.PART_ROW_COUNT: "A part has more or fewer rows than its manifest says.",
    CheckCode.PART_SCHEMA: "The columns of a part are not those that were exported.",
    CheckCode.VALUE_CHECKSUM: "The values in a part are not those that were read from the source.",
    CheckCode.VALUES_NOT_RECORDED: "The manifest has no checksums of the values, or those of an unknown algorithm: they could not be compared.",
    CheckCode.UNTRACKED_OBJECT: "An object that no manifest names: a run that never published left it, or it is somebody else's.",
    CheckCode.SUPERSEDED_OBJECT: "A part that only manifests of earlier runs name.",
    CheckCode.CHUNK_WRONG: "A chunk is not what the source held when it was exported.",
    CheckCode.CHUNK_UNDECIDED: "A chunk differs from the source, and nothing tells whether it is wrong or the source has changed since.",
    CheckCode.CHUNK_CHANGED: "A chunk differs from the source because rows have changed since it was exported.",
}


class CheckFinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a check found.

    Attributes:
        code: What.
        severity: ``error`` or ``warning``; it follows from the code.
        message: One lower-case sentence.
        key: The object that it is about.
        columns: The columns that it is about, where it is about some only.
    """

    code: CheckCode
    severity: Severity
    message: str
    key: str | None = None
    columns: tuple[str, ...] = ()


def found(code: CheckCode, message: str, *, key: str | None = None, columns: Iterable[str] = ()) -> CheckFinding:
    """Return a finding."""
    return CheckFinding(code=code, severity=code.severity, message=message, key=key, columns=tuple(columns))


def exit_status_of(findings: Iterable[CheckFinding], failure: Failure | None = None) -> ExitStatus:
    """Return the exit status of a check: 3 if anything is not to be trusted; warnings alone are no failure."""
    if any(finding.severity is Severity.ERROR for finding in findings):
        return ExitStatus.INTEGRITY
    return ExitStatus.OK if failure is None else failure.code.exit_status
