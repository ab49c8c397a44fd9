"""Where a part ends because its footer would grow too large: by the rows alone."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.formats import footers, open_encoder
from procflow_export.model.settings import Format, FormatOptions, ParquetOptions, RowGroupStrategy
from tests.export.formats.encoding import PARQUET

COLUMNS = 100
GROUPS = 4
GROUP_BYTES = 64 * 1024


@pytest.fixture(scope="module", autouse=True)
def small_footers() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footers, "MAX_COLUMN_CHUNKS", GROUPS * COLUMNS)
        yield


def parts_of(table: pa.Table, options: FormatOptions, cuts: list[int]) -> list[bytes]:
    """Return the parts that a table becomes, given in batches of these sizes."""
    parts: list[bytes] = []
    [whole] = table.combine_chunks().to_batches()
    start = turn = 0
    batches = []
    while start < whole.num_rows:
        batches.append(whole.slice(start, cuts[turn % len(cuts)]))
        start, turn = start + batches[-1].num_rows, turn + 1
    while batches:
        sink = io.BytesIO()
        with open_encoder(options, table.schema, sink, max_row_group_bytes=GROUP_BYTES) as encoder:
            while batches and (room := encoder.room_for(batches[0])):
                batch = batches.pop(0)
                encoder.write(batch.slice(0, room))
                if room < batch.num_rows:
                    batches.insert(0, batch.slice(room))
            encoder.finish()
        parts.append(sink.getvalue())
    return parts


def table_of(rows: int) -> pa.Table:
    numbers = pa.array(range(rows), pa.int32())
    texts = pa.array(["x" * (row * 7 % 40) for row in range(rows)])
    return pa.table([texts, *[numbers] * (COLUMNS - 1)], names=[f"c{at}" for at in range(COLUMNS)])


@given(st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_parts_end_at_the_same_rows_however_they_are_cut(cuts: list[int]) -> None:
    """E-24, E-30: equal rows give equal parts of a bounded number of row groups, and lose none."""
    table = table_of(1_500)

    parts = parts_of(table, PARQUET, cuts)

    assert len(parts) > 1
    assert parts == parts_of(table, PARQUET, [1_500])
    assert sum(pq.read_metadata(io.BytesIO(part)).num_rows for part in parts) == 1_500
    # A row group ends before the row or strip that would exceed it: it may be a little less than full.
    assert all(pq.read_metadata(io.BytesIO(part)).num_row_groups <= GROUPS + 2 for part in parts)


def test_row_groups_of_few_rows_are_counted_too() -> None:
    """E-30: a file of small row groups has as large a footer as one of large ones."""
    strategy = ParquetOptions(row_group_strategy=RowGroupStrategy.FIXED_ROWS, row_group_rows=10)
    options = FormatOptions(format=Format.PARQUET, parquet=strategy)

    parts = parts_of(table_of(95), options, [30])

    assert [pq.read_metadata(io.BytesIO(part)).num_rows for part in parts] == [40, 40, 15]


def test_a_row_larger_than_all_of_it_is_a_part() -> None:
    """E-30: a part has one row at least, whatever that has."""
    table = table_of(3).set_column(0, "c0", pa.array(["x" * (2 * GROUPS * GROUP_BYTES)] * 3))

    assert len(parts_of(table, PARQUET, [3])) == 3
