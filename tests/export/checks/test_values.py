"""The checksum of values: what it must not see, what it must see, and that it never changes."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.checks.values import ValueChecksums, hashes_of, recorded_figures

WORD = 2**64
K, C1, C2, R, NULL = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD1342543DE82EF95, 0x13198A2E03707345

TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "bool": (pa.bool_(), st.booleans()),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float32": (pa.float32(), st.floats(width=32)),
    "float64": (pa.float64(), st.floats()),
    "decimal128": (pa.decimal128(38, 4), st.integers(-(10**30), 10**30).map(lambda number: Decimal(number).scaleb(-4))),
    "decimal256": (pa.decimal256(76, 0), st.integers(-(10**76) + 1, 10**76 - 1).map(Decimal)),
    "date": (pa.date32(), st.dates()),
    "instant": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    "duration": (pa.duration("us"), st.timedeltas(timedelta(-100), timedelta(100))),
    "text": (pa.string(), st.text(max_size=20)),
    "bytes": (pa.binary(), st.binary(max_size=40)),
    "uuid": (pa.uuid(), st.uuids().map(lambda uuid: uuid.bytes)),
    "json": (pa.json_(), st.text(max_size=20)),
    "enum": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["", "a", "bc"])),
    "list": (pa.list_(pa.int32()), st.lists(st.none() | st.integers(-9, 9), max_size=4)),
    "list of texts": (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=9), max_size=4)),
    "struct": (
        pa.struct([("a", pa.int32()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.none() | st.integers(-9, 9), "b": st.text(max_size=4)}),
    ),
    "map": (pa.map_(pa.string(), pa.int16()), st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=3)),
}


def array(name: str, values: list[Any]) -> pa.Array[Any]:
    arrow_type = TYPES[name][0]
    if isinstance(arrow_type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(arrow_type, pa.array(values, arrow_type.storage_type))
    if pa.types.is_dictionary(arrow_type):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, arrow_type)


def checksums(*batches: pa.RecordBatch) -> ValueChecksums:
    sums = ValueChecksums(batches[0].schema)
    for batch in batches:
        sums.add(batch)
    return sums


def of_columns(**columns: Any) -> tuple[int, ...]:
    return checksums(pa.record_batch({name: pa.array(values) for name, values in columns.items()})).figures


@st.composite
def tables(draw: st.DrawFn) -> pa.RecordBatch:
    names = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4))
    count = draw(st.integers(0, 20))
    columns = [
        array(name, draw(st.lists(st.none() | TYPES[name][1], min_size=count, max_size=count))) for name in names
    ]
    return pa.RecordBatch.from_arrays(columns, [f"c{position}" for position in range(len(columns))])


@given(batch=tables(), data=st.data())
def test_the_checksum_does_not_depend_on_order_or_cuts(batch: pa.RecordBatch, data: st.DataObject) -> None:
    """E-46: the rows in another order, cut into other batches, have the same checksums."""
    order = data.draw(st.permutations(range(batch.num_rows)))
    cut = data.draw(st.integers(0, batch.num_rows))
    shuffled = batch.take(pa.array(order, pa.int64()))

    assert checksums(shuffled.slice(0, cut), shuffled.slice(cut)).text == checksums(batch).text


@given(batch=tables())
def test_parquet_gives_back_the_checksum_of_what_was_written(batch: pa.RecordBatch) -> None:
    """E-46: what a Parquet file gives back has the checksums of the values that went into it."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_batches([batch]), file, row_group_size=7)

    assert checksums(*pq.read_table(file).to_batches() or [batch]).text == checksums(batch).text


@given(name=st.sampled_from(sorted(set(TYPES) - {"float32", "float64"})), data=st.data())
def test_every_change_of_a_value_changes_its_column_and_the_rows(name: str, data: st.DataObject) -> None:
    """E-46: a value that is replaced by another one, or by NULL, changes the figure of its column and that of the rows."""
    values = data.draw(st.lists(st.none() | TYPES[name][1], min_size=1, max_size=6))
    place = data.draw(st.integers(0, len(values) - 1))
    other = data.draw((st.none() | TYPES[name][1]).filter(lambda value: value != values[place]))
    changed = [*values[:place], other, *values[place + 1 :]]

    before = checksums(pa.RecordBatch.from_arrays([array(name, values)], ["c"])).figures
    after = checksums(pa.RecordBatch.from_arrays([array(name, changed)], ["c"])).figures

    assert all(one != two for one, two in zip(before, after, strict=True))


def test_values_that_look_alike_are_told_apart() -> None:
    """E-46: NULL is no empty value, order within a value counts, and -0.0 is not 0.0."""
    columns = [
        pa.array(values, arrow_type)
        for arrow_type, alike in (
            (pa.string(), ["", None, "\0", "\0\0", "a", "a\0", "ab", "ba", "a" * 8, "a" * 16, "a" * 9]),
            (pa.float64(), [0.0, -0.0, None, float("nan"), float("inf")]),
            (pa.list_(pa.int32()), [None, [], [None], [None, None], [0], [0, 0], [1, 2], [2, 1]]),
            (pa.list_(pa.string()), [["ab"], ["a", "b"], ["", "ab"], ["ab", ""]]),
        )
        for values in [alike]
    ]

    for column in columns:
        assert len({int(value) for value in hashes_of(column)}) == len(column)


def test_equal_values_do_not_cancel_out() -> None:
    """E-46: a column of pairs of equal values, which is nothing under XOR, has a figure that changes with them."""
    assert len({of_columns(a=[value] * 2)[0] for value in ("x", "y", "z")} | {0}) == 4


def test_swapped_columns_and_rows_torn_apart_are_seen() -> None:
    """E-46: columns that changed places, and rows of which one column moved to another row, have other checksums."""
    right = of_columns(a=["x", "y"], b=["1", "2"])

    swapped = of_columns(a=["1", "2"], b=["x", "y"])
    torn = of_columns(a=["x", "y"], b=["2", "1"])

    assert swapped != right
    assert torn[:2] == right[:2]
    assert torn[2] != right[2]


def test_a_value_counts_and_not_the_way_in_which_arrow_keeps_it() -> None:
    """E-46: one text has one hash, as text, large text, bytes, in a dictionary, in a slice and beside texts of any size."""
    texts = ["", "a", "é" * 30, "x" * 5_000, None, "y" * 70_000, "z" * 40_000, *(["short"] * 300)]
    plain = pa.array(texts, pa.string())
    expected = hashes_of(plain).tolist()

    assert hashes_of(plain.cast(pa.large_string())).tolist() == expected
    assert hashes_of(plain.cast(pa.binary())).tolist() == expected
    assert hashes_of(plain.dictionary_encode()).tolist() == expected
    assert hashes_of(pa.concat_arrays([pa.array(["pad"] * 9), plain])[9:]).tolist() == expected
    assert [hashes_of(plain.slice(row, 1)).tolist()[0] for row in range(len(texts))] == expected
    assert [naive(value, pa.string()) for value in texts] == expected


@given(name=st.sampled_from(sorted(TYPES)), data=st.data())
def test_the_hash_is_the_one_that_is_written_down(name: str, data: st.DataObject) -> None:
    """E-46: the vectorised hash equals one that follows the description value by value."""
    values = data.draw(st.lists(st.none() | TYPES[name][1], max_size=5))
    column = array(name, values)
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column

    assert hashes_of(column).tolist() == [naive(value, storage.type) for value in storage.to_pylist()]


def test_the_checksum_never_changes() -> None:
    """E-46: the checksums of fixed values are those of the first release: manifests are compared with them."""
    batch = pa.record_batch(
        {
            "n": pa.array([1, None, -3], pa.int64()),
            "t": pa.array(["one", "", None]),
            "d": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(10, 2)),
            "m": pa.array([datetime(2026, 3, 4, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
        }
    )

    assert checksums(batch).text == GOLDEN
    assert recorded_figures(GOLDEN, 4) == checksums(batch).figures


GOLDEN = "sum64-1:XfDxziSu0ruBxkwwHFxe+IcMzvJFBEzTtARt+j1PpLlAdGZQlZE+nw=="


def test_figures_of_an_unknown_algorithm_are_not_compared() -> None:
    """E-46: a manifest without checksums, or with those of another release's algorithm, says that there are none."""
    assert recorded_figures(None, 3) is None
    assert recorded_figures("sum64-9:AAAA", 3) is None
    with pytest.raises(ValueError, match="3 columns"):
        recorded_figures("sum64-1:AAAAAAAAAAA=", 3)


# ---- the same, value by value


def naive(value: Any, arrow_type: pa.DataType) -> int:
    """The hash of one value, as the description of ``checks.values`` says."""
    if value is None:
        return NULL
    types = pa.types
    if types.is_dictionary(arrow_type):
        return naive(value, arrow_type.value_type)
    if types.is_map(arrow_type):
        entry = pa.struct([("k", arrow_type.key_type), ("v", arrow_type.item_type)])
        return sequence([naive({"k": key, "v": item}, entry) for key, item in value])
    if types.is_list(arrow_type):
        return sequence([naive(element, arrow_type.value_type) for element in value])
    if types.is_struct(arrow_type):
        result = 0
        for field in arrow_type:
            result = (result * K + naive(value[field.name], field.type)) % WORD
        return mix(result)
    if types.is_string(arrow_type) or types.is_binary(arrow_type):
        data = value.encode() if isinstance(value, str) else value
        words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        return sequence(words, size=len(data))
    if types.is_boolean(arrow_type):
        return mix(int(value))
    buffer = pa.array([value], arrow_type).buffers()[1]
    assert buffer is not None
    data = buffer.to_pybytes()[: arrow_type.bit_width // 8]
    if isinstance(value, float) and value != value:
        data = {4: struct.pack("<I", 0x7FC00000), 8: struct.pack("<Q", 0x7FF8000000000000)}[len(data)]
    result = 0
    for at in range(0, len(data), 8):
        result = mix((result * K + int.from_bytes(data[at : at + 8], "little")) % WORD)
    return result


def sequence(words: list[int], size: int | None = None) -> int:
    total = (len(words) if size is None else size) * K
    for position, word in enumerate(words):
        stirred = word * C1 % WORD
        total += (stirred ^ (stirred >> 32)) * pow(R, position, WORD)
    return mix(total % WORD)


def mix(word: int) -> int:
    word = word * C1 % WORD
    word ^= word >> 32
    word = word * C2 % WORD
    return word ^ (word >> 29)
