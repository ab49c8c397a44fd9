"""What a chunk that differs from its source is: wrong, changed since, or undecided.

Owns the decision, and nothing else: counts go in, a verdict and its reasons come out.  How the counts are found is in
``checks.rows``, where they are asked for in ``pipeline.reconciling``; docs/how-to/check-an-export.md explains the table.

A difference alone says nothing: sources live.  What can be known depends on how the export advances.

* **The files are not what was read** (their values have other checksums than the manifest): wrong, whatever the source says now.
* **Behind a cursor** every change moves a row's cursor beyond the stored position.  So a row that differs while its cursor did not
  move was not exported as it was, a row at the source before the position that no file has will never be exported, and both
  are wrong; a row that is now behind the chunk's end has changed since.  A row that is nowhere may have been deleted.
* **Behind a key** rows are only added.  One before the position that no file has is wrong; of changes the key says nothing.
* **What every run exports anew**, a whole table or the days of a window, has nothing that tells a change from a fault: undecided.

A row that is in the files twice is wrong everywhere: a key is there once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from procflow_export.model.reconciling import Growth, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the rows of a chunk are, here and there, in one state of the source.

    Attributes:
        has_key: Whether rows are told apart by a key; without one, a row that changed is two.
        only_at_source: Rows that no file has.
        only_in_files: Rows that are not in the chunk at the source.
        moved_on: Of those, rows that are behind the end of the chunk now.
        altered_in_place: Rows of one key and different values whose cursor is the same, or that have none.
        altered_and_moved: Rows of one key and different values whose cursor is another, but still before the position.
        repeated: Rows that files have more often than once.
        is_partial: Whether there were too many to look at all of them.
    """

    has_key: bool
    only_at_source: int = 0
    only_in_files: int = 0
    moved_on: int = 0
    altered_in_place: int = 0
    altered_and_moved: int = 0
    repeated: int = 0
    is_partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is known of one chunk.

    Attributes:
        growth: How it advances.
        is_equal: Whether rows and checksums of files and source are the same.
        is_readable: Whether every part is there and can be decoded.
        is_as_read: Whether the files still hold what was read from the source; None if that was not recorded.
        has_same_columns: Whether the source has the columns that were exported.
        evidence: What is known of single rows; None if nothing is.
    """

    growth: Growth
    is_equal: bool
    is_readable: bool = True
    is_as_read: bool | None = None
    has_same_columns: bool = True
    evidence: Evidence | None = None


def judge(comparison: Comparison) -> tuple[Verdict, tuple[str, ...]]:
    """Return what a chunk is, and why: a reason for each kind of difference, the worst first."""
    if not comparison.is_readable:
        return Verdict.WRONG, ("a part is missing or cannot be decoded",)
    if not comparison.has_same_columns:
        return Verdict.UNDECIDED, (
            "the source has other columns now than were exported: their values cannot be compared",
        )
    if comparison.is_equal:
        return Verdict.MATCH, ()
    reasons: list[tuple[Verdict, str]] = []
    if comparison.is_as_read is False:
        reasons.append((Verdict.WRONG, "the files do not hold the values that were read from the source"))
    if comparison.evidence is not None:
        reasons += _reasons(comparison.growth, comparison.evidence)
    if not reasons:
        reasons.append((Verdict.UNDECIDED, "rows or values differ, and no single row could be looked at"))
    order = list(Verdict)
    reasons.sort(key=lambda reason: order.index(reason[0]), reverse=True)
    verdict = reasons[0][0]
    if verdict is Verdict.CHANGED and comparison.evidence is not None and comparison.evidence.is_partial:
        verdict = Verdict.UNDECIDED
        reasons.append((verdict, "there were too many differences to look at all of them"))
    return verdict, tuple(text for _, text in reasons)


def _reasons(growth: Growth, evidence: Evidence) -> list[tuple[Verdict, str]]:
    gone = evidence.only_in_files - evidence.moved_on
    found = [
        (evidence.repeated, Verdict.WRONG, "in the files more than once"),
        (
            evidence.moved_on,
            Verdict.CHANGED,
            "behind the end of the chunk now: they have changed since, and belong to a later one",
        ),
    ]
    match growth:
        case Growth.CURSOR:
            what = "at the source before the stored position, but not in the files: no later run exports them"
            in_place = "not as in the files, although their cursor did not move: no later run exports them"
            moved = "not as in the files, and their cursor has moved"
            found += [
                (evidence.only_at_source, Verdict.WRONG, what),
                (evidence.altered_in_place, Verdict.WRONG, in_place),
                (evidence.altered_and_moved, Verdict.CHANGED, moved),
                (gone, Verdict.UNDECIDED, _GONE),
            ]
        case Growth.KEY:
            what = "at the source before the stored position, but not in the files: no later run exports them"
            found += [
                (evidence.only_at_source, Verdict.WRONG if evidence.has_key else Verdict.UNDECIDED, what),
                (_altered(evidence), Verdict.UNDECIDED, "not as in the files: changed since, or exported wrongly"),
                (gone, Verdict.UNDECIDED, _GONE),
            ]
        case Growth.WHOLE:
            found += [
                (evidence.only_at_source, Verdict.UNDECIDED, "at the source only: added since, or not exported"),
                (_altered(evidence), Verdict.UNDECIDED, "not as in the files: changed since, or exported wrongly"),
                (gone, Verdict.UNDECIDED, _GONE),
            ]
        case _:
            assert_never(growth)
    return [
        (verdict, f"{count} {'row is' if count == 1 else 'rows are'} {text}") for count, verdict, text in found if count
    ]


_GONE = "in the files only: deleted since, or never at the source"


def _altered(evidence: Evidence) -> int:
    return evidence.altered_in_place + evidence.altered_and_moved
