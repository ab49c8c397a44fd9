"""Where a part ends because of a large value or row: by the rows alone."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.formats import large_rows
from procflow_export.formats.large_rows import LargeRows
from procflow_export.formats.weights import RowWeights

TYPES: dict[str, pa.DataType] = {"id": pa.int64(), "a": pa.string(), "b": pa.binary()}
SCHEMA = pa.schema(TYPES)
VALUE_BYTES, ROW_BYTES = 10, 100
SIZES = st.sampled_from([None, 0, 3, VALUE_BYTES, VALUE_BYTES + 1, 60, 150])
Row = tuple[int | None, int | None]


@pytest.fixture(scope="module", autouse=True)
def small_limits() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_rows, "LARGE_VALUE_BYTES", VALUE_BYTES)
        patch.setattr(large_rows, "LARGE_ROW_BYTES", ROW_BYTES)
        yield


def batch_of(rows: list[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "id": list(range(len(rows))),
            "a": [None if a is None else "x" * a for a, _ in rows],
            "b": [None if b is None else b"x" * b for _, b in rows],
        },
        schema=SCHEMA,
    )


def parts_of(rows: list[Row], cuts: list[int]) -> list[int]:
    """Return how many rows each part gets, with batches of these sizes."""
    whole, parts, columns, start = batch_of(rows), [], frozenset[int](), 0
    watched, count, turn = LargeRows(RowWeights(SCHEMA), columns), 0, 0
    while start < len(rows):
        batch, turn = whole.slice(start, cuts[turn % len(cuts)]), turn + 1
        start += batch.num_rows
        while batch.num_rows:
            room = watched.room_for(batch)
            if not room:
                parts.append(count)
                columns = watched.columns
                watched, count = LargeRows(RowWeights(SCHEMA), columns), 0
                continue
            watched.note(batch.slice(0, room))
            count, batch = count + room, batch.slice(room)
    return [*parts, count]


def expected_parts(rows: list[Row]) -> list[int]:
    """The rule itself, row by row."""
    parts: list[int] = []
    known: set[int] = set()
    count = 0
    is_ended = False
    for row in rows:
        large = {at for at, size in enumerate(row) if (size or 0) > VALUE_BYTES}
        if count and (is_ended or large - known):
            parts.append(count)
            count = 0
        known |= large
        count += 1
        is_ended = 8 + 4 + 4 + sum(size or 0 for size in row) > ROW_BYTES
    return [*parts, count]


@given(st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=30), st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_parts_end_where_the_rows_say_however_they_are_cut(rows: list[Row], cuts: list[int]) -> None:
    """E-30: before the first large value of a column, and after a large row; batches make no difference (E-24)."""
    assert parts_of(rows, cuts) == expected_parts(rows)


def test_a_part_knows_the_large_columns_of_the_one_before() -> None:
    """E-30: a column that had large values needs no new part for its next one."""
    watched = LargeRows(RowWeights(SCHEMA), frozenset({1}))
    rows = batch_of([(3, 3), (VALUE_BYTES + 1, 3), (3, VALUE_BYTES + 1)])

    assert watched.room_for(rows) == 2
    assert watched.columns == {1}


def test_nothing_has_room_for_nothing() -> None:
    """E-30: an empty batch ends no part and begins none."""
    watched = LargeRows(RowWeights(SCHEMA), frozenset())
    empty = batch_of([])

    assert watched.room_for(empty) == 0
    watched.note(empty)
    assert not watched.has_ended
