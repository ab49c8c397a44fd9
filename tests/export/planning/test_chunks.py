"""Chunk arithmetic."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.keys import Bound, KeyKind, KeyPart, KeyValue, integer_value
from procflow_export.model.plan import Everything, KeyRange, NullKeys, TableChunk
from procflow_export.planning.chunks import MAX_CHUNKS, Chunks, cut_days, cut_integers, day_value
from procflow_export.planning.sparse import are_days_sparse, are_ranges_sparse

KEYS = st.integers(min_value=-(10**30), max_value=10**30) | st.integers(min_value=-50, max_value=50)
ID = KeyPart(column="id", kind=KeyKind.INTEGER, is_nullable=True)


def holds(chunk: TableChunk, key: tuple[int | None, ...]) -> bool:
    """What a database does with the chunk's condition: parts are compared in order, NULL is in no range."""
    match chunk:
        case Everything():
            return True
        case NullKeys():
            return None in key
        case KeyRange(low=low, high=high):
            known = [part for part in key if part is not None]
            return (
                len(known) == len(key) and is_within(known, low, is_low=True) and is_within(known, high, is_low=False)
            )


def is_within(key: list[int], bound: Bound | None, *, is_low: bool) -> bool:
    if bound is None:
        return True
    values = [int(value.text) for value in bound.values]
    leading = key[: len(values)]
    return (bound.is_inclusive and leading == values) or (leading > values if is_low else leading < values)


@given(
    keys=st.lists(KEYS | st.none(), max_size=60),
    size=st.one_of(st.tuples(st.just("count"), st.integers(1, 300)), st.tuples(st.just("parts"), st.integers(1, 200))),
)
def test_ranges_of_integers_hold_every_key_exactly_once(keys: list[int | None], size: tuple[str, int]) -> None:
    """E-10: the chunks partition the table: no row is lost, none is read twice, NULL keys included (lesson 1)."""
    known = [key for key in keys if key is not None] or [0]
    low, high = min(known), max(known)
    width = max(1, (high - low + 1) // size[1]) if size[0] == "parts" else None
    cuts = cut_integers("id", low, high, width=width, count=size[1] if size[0] == "count" else None)

    every = list(Chunks(key=(ID,), cuts=cuts, has_nulls=None in keys))

    for key in (*keys, low - 1, high + 1):  # and those that appear after the bounds were read
        assert sum(holds(chunk, (key,)) for chunk in every) == 1


@given(
    keys=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9) | st.none())),
    cuts=st.sets(st.lists(st.integers(0, 9), min_size=1, max_size=2).map(tuple)),
    is_cut_behind=st.booleans(),
)
def test_slices_of_a_composite_key_hold_every_key_exactly_once(
    keys: list[tuple[int, int | None]], cuts: set[tuple[int, ...]], *, is_cut_behind: bool
) -> None:
    """E-10: cuts at whole keys, or at their leading part alone, partition the table on either side of the cut."""
    # A leading part alone stands for every key that begins with it, and may not be parted from them.
    ordered = sorted(cut for cut in cuts if len(cut) == 1 or (cut[0],) not in cuts)
    key = (KeyPart(column="a", kind=KeyKind.INTEGER), KeyPart(column="b", kind=KeyKind.INTEGER, is_nullable=True))
    chunks = Chunks(
        key=key,
        cuts=[tuple(map(integer_value, cut)) for cut in ordered],
        is_cut_behind=is_cut_behind,
        has_nulls=True,
    )

    for each in keys:
        assert sum(holds(chunk, each) for chunk in chunks) == 1


@given(low=KEYS, span=st.integers(1, 10**25), count=st.integers(1, 200))
def test_counted_ranges_are_as_equal_as_can_be(low: int, span: int, count: int) -> None:
    """E-10: `chunk_count` gives that many ranges whose widths differ by one at most."""
    cuts = [int(cut[0].text) for cut in cut_integers("id", low, low + span - 1, count=count)]

    edges = [low, *cuts, low + span]
    widths = {end - begin for begin, end in zip(edges, edges[1:], strict=False)}
    assert len(cuts) + 1 == min(count, span)
    assert max(widths) - min(widths) <= 1


def test_ranges_touch_are_half_open_and_begin_and_end_beyond_every_key() -> None:
    """E-10: where one range ends the next begins, through zero; a key that appears meanwhile is in the first or last."""
    chunks = Chunks(key=(ID,), cuts=cut_integers("id", -25, 24, width=20), has_nulls=True)

    assert list(chunks) == [
        KeyRange(key=(ID,), high=Bound((integer_value(-5),), is_inclusive=False)),
        KeyRange(
            key=(ID,),
            low=Bound((integer_value(-5),), is_inclusive=True),
            high=Bound((integer_value(15),), is_inclusive=False),
        ),
        KeyRange(key=(ID,), low=Bound((integer_value(15),), is_inclusive=True)),
        NullKeys(key=(ID,)),
    ]
    assert chunks[-1] == NullKeys(key=(ID,))
    assert chunks[1:3] == list(chunks)[1:3]
    with pytest.raises(IndexError):
        chunks[4]


def test_bounds_of_an_export_are_those_of_its_first_and_last_range() -> None:
    """E-10: what is behind a cursor and up to the last key is one export, cut or not."""
    low, high = Bound((integer_value(3),), is_inclusive=False), Bound((integer_value(9),), is_inclusive=True)
    cut = Chunks(key=(ID,), cuts=[(integer_value(5),)], is_cut_behind=True, low=low, high=high)

    assert list(cut) == [
        KeyRange(key=(ID,), low=low, high=Bound((integer_value(5),), is_inclusive=True)),
        KeyRange(key=(ID,), low=Bound((integer_value(5),), is_inclusive=False), high=high),
    ]
    assert list(Chunks(key=(ID,), low=low, high=high)) == [KeyRange(key=(ID,), low=low, high=high)]
    assert list(Chunks(key=(ID,), has_ranges=False, has_nulls=True)) == [NullKeys(key=(ID,))]
    assert list(Chunks(key=(ID,), has_ranges=False)) == []
    assert list(Chunks()) == [Everything()]


def test_no_cut_is_beyond_the_type_of_the_key() -> None:
    """E-10: unsigned 64-bit keys do not overflow: every bound lies between two keys that exist (lesson 11)."""
    cuts = cut_integers("id", 2**64 - 3, 2**64 - 1, width=2)

    assert [cut[0].text for cut in cuts] == [str(2**64 - 1)]


def test_more_ranges_than_the_guard_are_refused_before_anything_is_built() -> None:
    """E-10: sparse keys with a narrow width are an error, not a run of weeks (lesson 37)."""
    with pytest.raises(PlanError, match="more than"):
        cut_integers("id", 0, MAX_CHUNKS, width=1)
    with pytest.raises(PlanError):
        cut_integers("id", 0, 10**20, count=MAX_CHUNKS + 1)

    assert len(cut_integers("id", 0, MAX_CHUNKS - 1, width=1)) == MAX_CHUNKS - 1


@given(
    low=st.dates(), span=st.integers(0, 5_000), days=st.integers(1, 400), kind=st.sampled_from(["date", "timestamp"])
)
def test_windows_of_days_are_whole_days_at_midnight(low: date, span: int, days: int, kind: str) -> None:
    """E-10: `chunk_by_days` gives half-open windows that begin at midnight, `days` apart."""
    high = date.fromordinal(min(low.toordinal() + span, date.max.toordinal()))
    part = KeyPart(column="d", kind=KeyKind(kind))

    cuts = list(cut_days(part, low, high, days))

    begins = [date.fromisoformat(cut[0].text.split()[0]) for cut in cuts]
    assert begins == [low + timedelta(days=days * (index + 1)) for index in range(len(cuts))]
    assert all(begin <= high for begin in begins)
    assert (high - (begins[-1] if begins else low)).days < days


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (KeyKind.DATE, "1969-12-31"),
        (KeyKind.TIMESTAMP, "1969-12-31 00:00:00"),
        (KeyKind.INSTANT, "1969-12-31 00:00:00+00"),
        (KeyKind.INTEGER, "-86400"),
    ],
)
def test_the_begin_of_a_day_says_its_zone_where_the_type_has_one(kind: KeyKind, text: str) -> None:
    """E-10: a bound means the same in every session; a Unix time counts seconds (lesson 2)."""
    assert day_value(date(1969, 12, 31), kind) == KeyValue(kind, text)


@pytest.mark.parametrize(
    ("span", "width", "rows", "expected"),
    [
        (10**9, 1_000, 5_000, True),
        (10**9, 1_000, 5_000_000, True),
        (10**7, 1_000, 5_000_000, False),
        (10**9, 1_000, None, False),
        (10**9, 1_000, 0, False),
        (4_000, 1_000, 1, True),
        (3_999, 1_000, 1, False),
    ],
)
def test_sparse_keys_are_told_from_dense_ones(span: int, width: int, rows: int | None, *, expected: bool) -> None:
    """E-10: fewer than one row for every four keys, where an estimate knows; a small table is never sparse."""
    assert are_ranges_sparse(-5, span - 5, width, rows) is expected


def test_sparse_days_are_told_from_dense_ones() -> None:
    """E-10: a date that stands for "never" makes windows of millions of empty days; a few thousand days are a calendar."""
    assert are_days_sparse(2_900_000, 1_000_000)
    assert are_days_sparse(2_900_000, None)
    assert not are_days_sparse(3_000, 100_000)
    assert not are_days_sparse(3_000, None)
    assert not are_days_sparse(900, 1)


def test_bounds_in_the_wrong_order_are_refused() -> None:
    """E-10: a smallest key above the largest is an error, never a table without rows (lesson 9)."""
    with pytest.raises(PlanError) as caught:
        cut_integers("code", 9, 1)

    assert caught.value.code is Code.PLAN_KEY_NOT_USABLE
    assert "'code'" in str(caught.value)
