"""Pieces of a block, taken out of it together."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.sources import arrays
from procflow_export.sources.arrays import cut_out


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_pieces_are_what_slices_are(data: bytes, steps: list[tuple[int, int]]) -> None:
    """E-23: however much of the data they are, in however many pieces, empty ones and none at all included."""
    bounds = [min(bound, len(data)) for bound in accumulate(step for pair in steps for step in pair)]
    starts, stops = bounds[0::2], bounds[1::2]

    offsets, pieces = cut_out(data, np.array(starts, np.int64), np.array(stops, np.int64))

    array = pa.Array.from_buffers(pa.binary(), len(starts), [None, offsets, pieces])
    array.validate(full=True)
    assert array.to_pylist() == [data[start:stop] for start, stop in zip(starts, stops, strict=True)]


@pytest.mark.parametrize("width", [0, 5, 600, 4_000])
def test_room_is_made_for_the_pieces_not_for_the_data(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """E-30: a narrow column of a wide table takes what it has, not half of the block that it comes in."""
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    take = arrays.kernels.take
    monkeypatch.setattr(arrays.kernels, "take", lambda *given, **named: take(*given, **named, memory_pool=pool))
    data = b"x" * (4 << 20)
    starts = np.arange(1_000) * 4_000

    offsets, pieces = cut_out(data, starts, starts + width)

    assert pieces.size == 1_000 * width
    assert (pool.max_memory() or 0) <= offsets.size + 2 * pieces.size + 64 * 1024
    del offsets, pieces  # before their pool
