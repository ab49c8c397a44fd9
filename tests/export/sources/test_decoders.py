"""The block decoders, without servers; MySQL's are in ``test_mysql_rows``."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.types import Column, LogicalType, decimal_type
from procflow_export.sources.postgres.csv_decoder import CsvDecoder

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def column(name: str, kind: LogicalType, arrow_type: pa.DataType) -> Column:
    return Column(name=name, native_type=kind.value, logical_type=kind, arrow_type=arrow_type)


# --- PostgreSQL's CSV -----------------------------------------------------------------------------------------------


def csv_field(value: str | None) -> str:
    """A field as COPY writes it: NULL is nothing, everything that needs it is quoted."""
    if value is None:
        return ""
    needs_quotes = value == "" or any(character in value for character in ',"\r\n') or value == r"\."
    return '"' + value.replace('"', '""') + '"' if needs_quotes else value


def csv_block(rows: list[list[str | None]]) -> bytes:
    return "".join(",".join(map(csv_field, row)) + "\n" for row in rows).encode()


@given(rows=st.lists(st.tuples(st.none() | TEXTS, st.none() | TEXTS), min_size=1))
def test_texts_and_nulls_are_exact(rows: list[tuple[str | None, str | None]]) -> None:
    """E-23: any text, the empty text and NULL are three different things."""
    decoder = CsvDecoder([column("a", LogicalType.TEXT, pa.string()), column('b"', LogicalType.TEXT, pa.string())])

    batch = decoder.decode(csv_block([list(row) for row in rows]))

    assert list(zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True)) == rows


@given(values=st.lists(st.none() | TEXTS, min_size=1))
def test_one_column_of_texts_is_exact(values: list[str | None]) -> None:
    """E-23: with one column an empty line is a row."""
    batch = CsvDecoder([column("a", LogicalType.TEXT, pa.string())]).decode(csv_block([[value] for value in values]))

    assert batch[0].to_pylist() == values


MARK = "\ufeff"


@pytest.mark.parametrize("first", [MARK, MARK + "a", MARK * 2, MARK + '"', MARK + "a,b\n", None, ""])
@pytest.mark.parametrize("is_fast", [True, False])
def test_byte_order_mark_at_the_beginning_is_data(first: str | None, is_fast: bool) -> None:
    """E-20: U+FEFF is a character like others, in every block, whichever way it is decoded."""
    rows = [[first, "2024-01-01" if is_fast else "10000-01-01"], [MARK, None]]
    days = [19723 if is_fast else 2932897, None]
    decoder = CsvDecoder([column("a", LogicalType.TEXT, pa.string()), column("d", LogicalType.DATE, pa.date32())])

    for _ in range(2):
        batch = decoder.decode(csv_block(rows))

        assert batch[0].to_pylist() == [first, MARK]
        assert batch[1].cast(pa.int32()).to_pylist() == days


@given(rows=st.lists(st.lists(st.none() | TEXTS, min_size=2, max_size=2), min_size=1), data=st.data())
def test_cut_gives_whole_rows_only(rows: list[list[str | None]], data: st.DataObject) -> None:
    """E-23: a block ends with a row, wherever the bytes were cut."""
    whole = csv_block(rows)
    size = data.draw(st.integers(0, len(whole)))
    decoder = CsvDecoder([])

    length = decoder.cut(whole[:size])

    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(csv_block([row])))
    assert length == max(end for end in ends if end <= size)


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**8), max_value=10**8, places=2)
DATES = st.dates().map(str)
MOMENTS = st.datetimes().map(lambda value: value.isoformat(" "))


@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1).map(str),
            st.none() | NUMBERS.map(str),
            st.none() | DATES,
            st.none() | MOMENTS,
            st.none() | MOMENTS.map(lambda text: text + "+00"),
            st.none()
            | st.floats().map(
                lambda value: {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), repr(value))
            ),
            st.none() | st.sampled_from(["t", "f"]),
            st.none() | st.times().map(lambda value: value.isoformat()),
            st.none() | st.uuids().map(str),
            st.none() | st.binary().map(lambda value: "\\x" + value.hex()),
            st.none() | TEXTS,
            st.none() | NUMBERS.map(str),
        ),
        min_size=1,
    )
)
def test_fast_way_equals_slow_way(rows: list[tuple[Any, ...]]) -> None:
    """E-23: the typed reader and the column-wise conversion give the same arrays."""
    wide = decimal_type(60, 2)
    assert wide is not None
    kinds: list[tuple[LogicalType, pa.DataType]] = [
        (LogicalType.INTEGER, pa.int64()),
        (LogicalType.DECIMAL, pa.decimal128(12, 2)),
        (LogicalType.DATE, pa.date32()),
        (LogicalType.TIMESTAMP, pa.timestamp("us")),
        (LogicalType.INSTANT, pa.timestamp("us", "UTC")),
        (LogicalType.FLOAT, pa.float64()),
        (LogicalType.BOOL, pa.bool_()),
        (LogicalType.TIME, pa.time64("us")),
        (LogicalType.UUID, pa.uuid()),
        (LogicalType.BYTES, pa.binary()),
        (LogicalType.JSON, pa.json_()),
        (LogicalType.DECIMAL, wide),
    ]
    columns = [column(str(number), *kind) for number, kind in enumerate(kinds)]
    block = csv_block([list(row) for row in rows])
    decoder = CsvDecoder(columns)

    fast, slow = decoder._decode_typed(block), decoder._decode_as_text(block)

    for number, (left, right) in enumerate(zip(fast.columns, slow.columns, strict=True)):
        assert left.type == right.type
        # NaN differs from itself; its text does not.
        is_same = left.cast(pa.string()).equals(right.cast(pa.string())) if number == 5 else left.equals(right)
        assert is_same, number
    expected = [None if row[1] is None else Decimal(row[1]) for row in rows]
    assert fast[1].to_pylist() == expected
