"""What is asked of a source to cut a table, over keys in memory: few questions, no count, and a whole partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, cast

import anyio
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow_export.config.structs import ExportConfig, Mode
from procflow_export.model.errors import PlanError
from procflow_export.model.keys import Indexes, KeyKind, KeyValue, KeyValues, integer_value
from procflow_export.model.plan import KeyRange, NullKeys, Relation, Selection, Snapshot, TableChunk
from procflow_export.model.settings import Format
from procflow_export.model.types import Column, LogicalType
from procflow_export.pipeline.cutting import Cutter
from procflow_export.planning.keys import Facts
from procflow_export.planning.plan import Cut
from procflow_export.sources import Source
from procflow_export.sources.port import KeySearch
from tests.export.planning.test_chunks import holds

KEYS = st.lists(
    st.integers(0, 3_000) | st.integers(-(2**63), 2**63 - 1) | st.integers(10**15, 10**15 + 500) | st.none(),
    max_size=400,
)


@dataclass
class Keys:
    """A source with one nullable integer column, ``k``; it remembers what it was asked."""

    keys: Sequence[int | None]
    asked: list[str] = field(default_factory=list)
    strange: KeyValue | None = None

    async def find_key(self, search: KeySearch, _snapshot: Snapshot | None = None) -> KeyValues | None:
        self.asked.append("find")
        if self.strange is not None:
            return (self.strange,)
        chunks = (search.within, *search.among)
        found = sorted(key for key in self.keys if key is not None and all(holds(chunk, (key,)) for chunk in chunks))
        if search.is_from_end:
            found.reverse()
        return (integer_value(found[search.nth - 1]),) if len(found) >= search.nth else None

    async def has_rows(self, _selection: Selection, chunk: TableChunk, _snapshot: Snapshot | None = None) -> bool:
        self.asked.append("presence")
        return any(holds(chunk, (key,)) for key in self.keys)


def facts(estimate: int | None) -> Facts:
    column = Column(name="k", native_type="bigint", logical_type=LogicalType.INTEGER, arrow_type=pa.int64())
    return Facts(
        selection=Relation(table="t"),
        columns=(column,),
        indexes=Indexes(leading_columns=frozenset("k")),
        row_estimate=estimate,
    )


def cut(source: Keys, estimate: int | None = None, **keys: Any) -> Cut:
    export = ExportConfig(name="t", table="t", mode=Mode.CHUNKED, format=Format.PARQUET, chunk_column="k", **keys)
    # Cutting asks nothing else of a source.
    return anyio.run(Cutter(cast("Source", source), facts(estimate)).chunked, export)


@settings(deadline=None)
@given(keys=KEYS, size=st.integers(1, 50), estimate=st.none() | st.integers(0, 1_000))
def test_ranges_or_slices_partition_any_keys_and_are_few(
    keys: list[int | None], size: int, estimate: int | None
) -> None:
    """E-10: dense, sparse, clustered and missing keys: every row in one chunk, and no more chunks than rows ask for (lesson 37)."""
    source = Keys(keys)

    found = cut(source, estimate, chunk_size=size)

    for key in keys:
        assert sum(holds(chunk, (key,)) for chunk in found.chunks) == 1
    known = len([key for key in keys if key is not None])
    assert len(found.chunks) <= 64 + 8 * (1 + known // size)


@pytest.mark.parametrize("count", [1, 1_000, 100_000])
def test_dense_keys_are_cut_by_a_handful_of_questions(count: int) -> None:
    """E-5, E-10: bounds, NULLs and a probe: nothing is counted, and nothing grows with the table (lesson 36)."""
    source = Keys(list(range(0, count * 2, 2)))

    found = cut(source, chunk_size=10)

    assert len(source.asked) <= 5
    assert len(found.chunks) == max(1, -(-(count * 2 - 1) // 10))


def test_slices_need_one_question_each() -> None:
    """E-10: the ends of slices are asked for one after the other, each behind the last."""
    source = Keys([key * 10**12 for key in range(1_000)])

    found = cut(source, chunk_size=100)

    assert found.description == "slices of k"
    assert len(found.chunks) == 11  # the last one is for keys that appear meanwhile
    assert len(source.asked) <= 4 + 11 + 1


def test_many_equal_keys_stay_in_one_slice() -> None:
    """E-10: a slice may be longer than asked for, and never ends between two rows with one key."""
    source = Keys([0] + [10**12] * 50 + [10**14])

    found = cut(source, 52, chunk_size=3)

    sizes = [sum(holds(chunk, (key,)) for key in source.keys) for chunk in found.chunks]
    assert sum(sizes) == 52
    assert max(sizes) >= 50
    assert len(found.chunks) <= 3


def test_the_rows_without_a_key_have_a_chunk_only_if_there_are_any() -> None:
    """E-10: presence is probed, not counted (lessons 1 and 36)."""
    with_nulls = cut(Keys([1, 2, None, 3]), chunk_count=2)
    without = cut(Keys([1, 2, 3]), chunk_count=2)

    assert isinstance(with_nulls.chunks[-1], NullKeys)
    assert all(isinstance(chunk, KeyRange) for chunk in without.chunks)
    assert len(cut(Keys([None, None]), chunk_count=2).chunks) == 1  # everything


@pytest.mark.parametrize(
    "value",
    [
        KeyValue(KeyKind.TEXT, "12"),
        KeyValue(KeyKind.BYTES, "12"),
        KeyValue(KeyKind.INTEGER, "1.5"),
        KeyValue(KeyKind.INTEGER, ""),
    ],
    ids=str,
)
def test_a_bound_that_cannot_be_read_is_an_error(value: KeyValue) -> None:
    """E-10: what is no integer, or is stored as something else, is never taken for an empty table (lesson 9)."""
    with pytest.raises(PlanError, match="cannot be read"):
        cut(Keys([1], strange=value), chunk_size=10)


@pytest.mark.parametrize("answers", [(7,), (7, 9)], ids=str)
def test_a_key_that_does_not_advance_ends_the_plan(answers: tuple[int, ...]) -> None:
    """E-10: whatever a database makes of a literal, planning ends (lesson 9)."""
    source = Keys([key * 10**12 for key in range(300)])
    found = cycle(answers)

    class Stuck(Keys):
        async def find_key(self, search: KeySearch, _snapshot: Snapshot | None = None) -> KeyValues | None:
            return (integer_value(next(found)),) if search.nth > 1 else await source.find_key(search)

    with pytest.raises(PlanError, match="above itself"):
        cut(Stuck(source.keys), 300, chunk_size=100)


@pytest.mark.parametrize("text", ["2020-02-00", "tomorrow", "", "2020-13-01", "20-01-01"])
def test_a_day_that_cannot_be_read_is_an_error(text: str) -> None:
    """E-10: a date that never was is no bound (lesson 9)."""
    source = Keys([1], strange=KeyValue(KeyKind.DATE, text))
    column = Column(name="k", native_type="date", logical_type=LogicalType.DATE, arrow_type=pa.date32())
    known = Facts(selection=Relation(table="t"), columns=(column,), indexes=Indexes(), row_estimate=None)
    export = ExportConfig(
        name="t", table="t", mode=Mode.CHUNKED, format=Format.PARQUET, chunk_column="k", chunk_by_days=1
    )

    with pytest.raises(PlanError, match="cannot be read as date"):
        anyio.run(Cutter(cast("Source", source), known).chunked, export)
