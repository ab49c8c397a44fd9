"""The decision behind ``reconcile``, for every combination of what can be known; and the arithmetic of what lies between chunks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.checks import rows as rows_module
from procflow_export.checks.judging import Comparison, Evidence, judge
from procflow_export.checks.rows import Buckets, Findings, Rows, RowShape
from procflow_export.model.reconciling import Growth, Verdict

ORDER = list(Verdict)

ALONE: dict[str, dict[Growth, Verdict]] = {
    "only_at_source": {
        Growth.WHOLE: Verdict.UNDECIDED,
        Growth.CURSOR: Verdict.WRONG,
        Growth.KEY: Verdict.WRONG,
    },
    "only_in_files": dict.fromkeys(Growth, Verdict.UNDECIDED),
    "altered_in_place": {
        Growth.WHOLE: Verdict.UNDECIDED,
        Growth.CURSOR: Verdict.WRONG,
        Growth.KEY: Verdict.UNDECIDED,
    },
    "altered_and_moved": {
        Growth.WHOLE: Verdict.UNDECIDED,
        Growth.CURSOR: Verdict.CHANGED,
        Growth.KEY: Verdict.UNDECIDED,
    },
    "repeated": dict.fromkeys(Growth, Verdict.WRONG),
}
"""What one kind of difference is, if there is no other."""


@pytest.mark.parametrize("growth", list(Growth))
@pytest.mark.parametrize("is_as_read", [True, None, False])
def test_every_combination_of_differences_is_its_worst_one(growth: Growth, is_as_read: bool | None) -> None:
    """E-46: each kind of difference has its verdict, several have the worst of theirs, and files that are not what was read are wrong."""
    kinds = list(ALONE)
    for present in itertools.product([0, 2], repeat=len(kinds)):
        counts: dict[str, Any] = dict(zip(kinds, present, strict=True))
        verdict, reasons = judge(
            Comparison(growth=growth, is_equal=False, is_as_read=is_as_read, evidence=Evidence(has_key=True, **counts))
        )

        expected = [ALONE[kind][growth] for kind, count in counts.items() if count]
        expected += [Verdict.WRONG] if is_as_read is False else []
        assert verdict is max(expected, key=ORDER.index, default=Verdict.UNDECIDED)
        assert reasons
        assert Verdict.MATCH is not verdict


@pytest.mark.parametrize("growth", list(Growth))
def test_rows_that_moved_on_are_changes(growth: Growth) -> None:
    """E-46: a row that is behind the end of its chunk now has changed since; another one that is gone stays undecided."""
    moved = Evidence(has_key=True, only_in_files=2, moved_on=2)
    partly = Evidence(has_key=True, only_in_files=3, moved_on=2)
    unsure = Evidence(has_key=True, only_in_files=2, moved_on=2, is_partial=True)

    assert judge(Comparison(growth=growth, is_equal=False, evidence=moved))[0] is Verdict.CHANGED
    assert judge(Comparison(growth=growth, is_equal=False, evidence=partly))[0] is Verdict.UNDECIDED
    assert judge(Comparison(growth=growth, is_equal=False, evidence=unsure))[0] is Verdict.UNDECIDED


@pytest.mark.parametrize("growth", list(Growth))
def test_what_cannot_be_compared(growth: Growth) -> None:
    """E-46: unreadable files are wrong, other columns undecided, equal sides a match, and unexplained differences undecided."""
    assert judge(Comparison(growth=growth, is_equal=True, is_readable=False))[0] is Verdict.WRONG
    assert judge(Comparison(growth=growth, is_equal=False, has_same_columns=False))[0] is Verdict.UNDECIDED
    assert judge(Comparison(growth=growth, is_equal=True, is_as_read=None)) == (Verdict.MATCH, ())
    assert judge(Comparison(growth=growth, is_equal=False))[0] is Verdict.UNDECIDED


# ---- rows


def batch(values: list[tuple[int, int, int]]) -> pa.RecordBatch:
    columns = list(zip(*values, strict=True)) or [(), (), ()]
    return pa.record_batch({name: pa.array(column, pa.int64()) for name, column in zip("kcv", columns, strict=True)})


SIDES = st.dictionaries(st.integers(0, 12), st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=9)


@given(source=SIDES, files=SIDES, behind=st.sets(st.integers(0, 12)), doubled=st.booleans())
def test_rows_are_compared_as_a_dictionary_would(
    source: dict[int, Any], files: dict[int, Any], behind: set[int], doubled: bool
) -> None:
    """E-46: rows are found again by key: counts of missing, gone, altered, moved and repeated ones are those of a plain comparison."""
    shape = RowShape(["k"], ["c"])
    at_source, in_files = Rows(shape), Rows(shape)
    at_source.add(batch([(key, *rest) for key, rest in source.items()]))
    twice = [(key, *rest) for key, rest in files.items()] * (2 if doubled else 1)
    for row in twice:
        in_files.add(batch([row]))
    findings = Findings(shape, at_source, in_files)
    findings.look_behind(batch([(key, 9, 9) for key in sorted(behind)]))

    common = source.keys() & files.keys()
    gone = files.keys() - source.keys()
    altered = {key for key in common if source[key] != files[key]}
    moved = {key for key in altered if source[key][0] != files[key][0]}
    assert findings.has_gone == bool(gone)
    assert findings.evidence == Evidence(
        has_key=True,
        only_at_source=len(source.keys() - files.keys()),
        only_in_files=len(gone) * (2 if doubled else 1),
        moved_on=len(gone & behind),
        altered_in_place=len(altered - moved),
        altered_and_moved=len(moved),
        repeated=len(common) if doubled else 0,
    )


@given(
    source=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 1)), max_size=9),
    lost=st.integers(0, 3),
)
def test_rows_without_a_key_are_compared_as_a_bag(source: list[tuple[int, int, int]], lost: int) -> None:
    """E-46: rows that nothing tells apart are counted: equal ones may be there several times."""
    shape = RowShape()
    at_source, in_files = Rows(shape), Rows(shape)
    at_source.add(batch(source))
    in_files.add(batch(source[lost:]))

    evidence = Findings(shape, at_source, in_files).evidence

    assert evidence == Evidence(has_key=False, only_at_source=min(lost, len(source)))


def test_of_many_rows_only_those_that_differ_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-46: what is kept of a chunk is bounded: buckets that are equal are left out, and too many differences are said to be such."""
    shape = RowShape(["k"])
    rows = [(key, 0, 0) for key in range(40_000)]
    changed = [(key, 0, int(key == 1_234)) for key in range(40_000)]
    of_source, of_files = Buckets(shape), Buckets(shape)
    for one, values in ((of_source, rows), (of_files, changed)):
        for start in range(0, len(values), 7_000):
            one.add(batch(values[start : start + 7_000]))

    suspects, is_whole = of_source.suspects(of_files)
    at_source, in_files = Rows(shape, suspects), Rows(shape, suspects)
    at_source.add(batch(rows))
    in_files.add(batch(changed))

    assert is_whole
    assert np.count_nonzero(suspects) == 1
    assert len(at_source.sorted()[0]) < 40
    assert Findings(shape, at_source, in_files).evidence == Evidence(has_key=True, altered_in_place=1)
    monkeypatch.setattr(rows_module, "MAX_ROWS", 1)
    assert of_source.suspects(Buckets(shape))[1] is False
