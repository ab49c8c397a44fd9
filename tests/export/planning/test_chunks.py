"""Chunk arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.plan import Everything, KeyRange, NullKeys, TableChunk
from procflow_export.planning.chunks import MAX_CHUNKS, Chunks, cut_table, is_sparse

KEYS = st.integers(min_value=-(10**30), max_value=10**30) | st.integers(min_value=-50, max_value=50)


def holds(chunk: TableChunk, key: int | None) -> bool:
    match chunk:
        case Everything():
            return True
        case NullKeys():
            return key is None
        case KeyRange(low=low, high=high):
            return key is not None and low <= key < high


@given(
    keys=st.lists(KEYS | st.none(), max_size=60),
    size=st.one_of(st.tuples(st.just("count"), st.integers(1, 300)), st.tuples(st.just("parts"), st.integers(1, 200))),
    row_estimate=st.none() | st.integers(0, 100),
)
def test_chunks_hold_every_key_exactly_once(
    keys: list[int | None], size: tuple[str, int], row_estimate: int | None
) -> None:
    """E-10: the chunks partition the table: no row is lost, none is read twice, NULL keys included."""
    known = [key for key in keys if key is not None]
    low, high = (min(known), max(known)) if known else (None, None)
    span = 1 if low is None or high is None else high - low + 1
    chunk_size = -(-span // size[1]) if size[0] == "parts" else None
    chunks = cut_table(
        "id",
        low=low,
        high=high,
        has_nulls=None in keys,
        chunk_size=chunk_size,
        chunk_count=size[1] if size[0] == "count" else None,
        row_estimate=row_estimate,
    )

    every = list(chunks)

    assert len(every) == len(chunks)
    for key in keys:
        assert sum(holds(chunk, key) for chunk in every) == 1
    for chunk in every:
        if isinstance(chunk, KeyRange):
            assert chunk.low < chunk.high


@given(low=KEYS, span=st.integers(1, 10**25), count=st.integers(1, 200))
def test_counted_ranges_are_as_equal_as_can_be(low: int, span: int, count: int) -> None:
    """E-10: `chunk_count` gives that many ranges whose widths differ by one at most."""
    chunks = cut_table("id", low=low, high=low + span - 1, has_nulls=False, chunk_count=count)

    widths = {chunk.high - chunk.low for chunk in chunks if isinstance(chunk, KeyRange)}
    assert len(chunks) == min(count, span)
    assert max(widths) - min(widths) <= 1


def test_ranges_touch_and_are_half_open() -> None:
    """E-10: where one range ends the next begins, through zero."""
    chunks = cut_table("id", low=-25, high=24, has_nulls=True, chunk_size=20)

    assert list(chunks) == [
        KeyRange(column="id", low=-25, high=-5),
        KeyRange(column="id", low=-5, high=15),
        KeyRange(column="id", low=15, high=25),
        NullKeys(column="id"),
    ]
    assert chunks[-1] == NullKeys(column="id")
    assert chunks[1:3] == list(chunks)[1:3]
    with pytest.raises(IndexError):
        chunks[4]


def test_keys_beyond_64_bits_are_cut() -> None:
    """E-10: unsigned 64-bit and numeric keys do not overflow."""
    chunks = cut_table("id", low=2**64 - 3, high=2**64 - 1, has_nulls=False, chunk_size=2)

    assert list(chunks) == [
        KeyRange(column="id", low=2**64 - 3, high=2**64 - 1),
        KeyRange(column="id", low=2**64 - 1, high=2**64),
    ]


def test_more_ranges_than_the_guard_are_refused_before_anything_is_built() -> None:
    """E-10: sparse keys with a narrow width are an error, not a run of weeks."""
    with pytest.raises(PlanError, match="more than"):
        cut_table("id", low=0, high=MAX_CHUNKS, has_nulls=False, chunk_size=1)
    with pytest.raises(PlanError):
        cut_table("id", low=0, high=10**20, has_nulls=False, chunk_count=MAX_CHUNKS + 1)

    assert len(cut_table("id", low=0, high=MAX_CHUNKS - 1, has_nulls=False, chunk_size=1)) == MAX_CHUNKS


@pytest.mark.parametrize(("row_estimate", "expected"), [(99, 1), (100, 1), (101, 100), (0, 100), (None, 100)])
def test_a_tiny_table_is_one_chunk(row_estimate: int | None, expected: int) -> None:
    """E-10: a table expected to fit one range is not cut; an estimate of 0 is no knowledge."""
    chunks = cut_table("id", low=0, high=9_999, has_nulls=False, chunk_size=100, row_estimate=row_estimate)

    assert len(chunks) == expected


def test_a_table_without_keys_is_one_chunk_of_everything() -> None:
    """E-10: rows that all have NULL keys, and no rows at all, are read by one statement."""
    assert list(cut_table("id", low=None, high=None, has_nulls=True)) == [Everything()]
    assert list(cut_table("id", low=None, high=None, has_nulls=False)) == [Everything()]
    assert list(Chunks()) == [Everything()]


def test_sparse_keys_are_noticed() -> None:
    """E-10: far more ranges than rows is worth a warning."""
    chunks = cut_table("id", low=0, high=10**9, has_nulls=False, chunk_size=1_000)

    assert is_sparse(chunks, 5_000)
    assert not is_sparse(chunks, 5_000_000)
    assert not is_sparse(chunks, None)


def test_bounds_in_the_wrong_order_are_refused() -> None:
    """E-10: a smallest key above the largest is an error, never a table without rows."""
    with pytest.raises(PlanError) as caught:
        cut_table("code", low=9, high=1, has_nulls=False)

    assert caught.value.code is Code.PLAN_KEY_NOT_USABLE
    assert "'code'" in str(caught.value)
