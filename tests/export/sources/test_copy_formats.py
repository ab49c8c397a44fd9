"""In which format the columns of a result travel, how they are selected, and what stands for what in dates."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.types import Column, LogicalType, OnInvalid, decimal_type
from procflow_export.sources.postgres import dates
from procflow_export.sources.postgres.decoding.layout import MARK_EXPRESSION, layout_of, projection
from procflow_export.sources.postgres.wire import BINARY, TEXT, WireFormat, wire_format_for


def column(
    name: str, kind: LogicalType, arrow_type: pa.DataType, native_type: str = "", *, is_nullable: bool = True
) -> Column:
    return Column(
        name=name,
        native_type=native_type or kind.value,
        logical_type=kind,
        arrow_type=arrow_type,
        is_nullable=is_nullable,
    )


KEY = column("id", LogicalType.INTEGER, pa.int64(), is_nullable=False)
PRICE = column("price", LogicalType.DECIMAL, pa.decimal128(15, 2), is_nullable=False)
DAY = column("day", LogicalType.DATE, pa.date32(), is_nullable=False)
MOMENT = column("moment", LogicalType.INSTANT, pa.timestamp("us", "UTC"))
LABEL = column("label", LogicalType.TEXT, pa.string(), "text")
CODE = column("code", LogicalType.TEXT, pa.string(), "character(2)", is_nullable=False)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([KEY], BINARY),
        ([KEY, LABEL, MOMENT], BINARY),
        ([KEY, PRICE, PRICE, PRICE], TEXT),
        ([KEY, *[PRICE] * 4, *[DAY] * 3, *[LABEL] * 5], BINARY),
        ([KEY, *[PRICE] * 10, *[DAY] * 3, *[LABEL] * 5], TEXT),
    ],
    ids=["key", "texts", "numbers", "lineitem", "mostly numbers"],
)
def test_format_follows_from_what_the_columns_cost(columns: list[Column], expected: WireFormat) -> None:
    """E-20: numerics travel as text where they dominate, everything else in binary form."""
    assert wire_format_for(columns) is expected


@pytest.mark.parametrize(
    "other",
    [
        column("v", LogicalType.UUID, pa.uuid()),
        column("v", LogicalType.BYTES, pa.binary()),
        column("v", LogicalType.ARRAY, pa.list_(pa.int32())),
        column("v", LogicalType.DECIMAL, decimal_type(60, 2) or pa.null()),
        Column(
            name="v",
            native_type="numeric",
            logical_type=LogicalType.DECIMAL,
            arrow_type=pa.decimal128(9, 2),
            on_invalid=OnInvalid.NULL,
        ),
    ],
    ids=["uuid", "bytes", "list", "long decimal", "policy"],
)
def test_what_only_the_binary_decoder_reads_fast_travels_so(other: Column) -> None:
    """E-21: what changes values, and what Arrow's reader does not know, is decoded by column whatever it costs."""
    assert wire_format_for([KEY, *[PRICE] * 20, other]) is BINARY


def test_columns_that_mark_rows_come_first() -> None:
    """E-23: NOT NULL and of a fixed width, then of a fixed width, then padded texts, then the rest, in the table's order."""
    layout = layout_of([LABEL, MOMENT, PRICE, CODE, DAY, KEY])

    assert [layout.columns[index].name for index in layout.order] == ["day", "id", "moment", "code", "label", "price"]
    assert layout.certain_widths == (4, 8)
    assert not layout.has_mark
    assert layout.place(0) == 4


def test_result_that_marks_no_rows_gets_a_mark() -> None:
    """E-23: where every column may be NULL, as in a query, a column of our own says where rows begin."""
    layout = layout_of([LABEL, MOMENT])

    assert layout.select_list()[0] == MARK_EXPRESSION
    assert layout.certain_widths == (2,)
    assert [layout.place(0), layout.place(1)] == [2, 1]


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        (column('a"b', LogicalType.INTEGER, pa.int64()), '"a""b"::pg_catalog.int8'),
        (column("a", LogicalType.MONEY, pa.decimal128(19, 2)), '"a"::pg_catalog.numeric'),
        (column("a", LogicalType.TEXT, pa.string(), "character(5)"), '"a"'),
        (column("a", LogicalType.JSON, pa.json_(), "jsonb"), '"a"'),
        (column("a", LogicalType.ARRAY, pa.string()), 'pg_catalog.to_json("a")'),
        (column("a", LogicalType.ARRAY, pa.list_(pa.int32())), '"a"::pg_catalog.int4[]'),
        (column("a", LogicalType.ARRAY, pa.list_(pa.string())), '"a"'),
        (
            column("a", LogicalType.JSON, pa.json_(), "a domain"),
            'CASE WHEN "a" IS DISTINCT FROM NULL THEN pg_catalog.concat("a") END',
        ),
        (
            column("a", LogicalType.OTHER, pa.string(), "inet"),
            'CASE WHEN "a" IS DISTINCT FROM NULL THEN pg_catalog.concat("a") END',
        ),
    ],
)
def test_statement_says_what_comes(selected: Column, expected: str) -> None:
    """E-20: every column is selected as the type whose binary form is read, or as the text of its output function."""
    assert projection(selected) == expected


@given(value=st.dates())
def test_dates_are_written_as_in_iso_8601(value: dt.date) -> None:
    """E-20: within Python's years."""
    days = (value - dt.date(1970, 1, 1)).days

    assert dates.date_text(days) == value.isoformat()
    assert dates.days_of(value.isoformat()) == days


@given(days=st.integers(-2_500_000, 2_146_000_000), time=st.integers(0, dates.DAY_US - 1))
def test_dates_and_moments_of_any_year_read_back(days: int, time: int) -> None:
    """E-20: years before Christ and after 9999 too."""
    assert dates.days_of(dates.date_text(days)) == days
    assert dates.time_of(dates.time_text(time)) == time
    moment = days * dates.DAY_US + time
    assert dates.microseconds_of(dates.moment_text(moment), has_zone=False) == moment
    assert dates.microseconds_of(dates.moment_text(moment, "+00"), has_zone=True) == moment


@pytest.mark.parametrize("text", ["infinity", "2024-01-01 00:00:00", "2024-1-1", "24-01-01", "", "2024-01-01x"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """E-20: nothing is taken for a date that is none."""
    with pytest.raises(ValueError, match="date"):
        dates.days_of(text)
