"""The cell rules of CSV, type by type."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from procflow_export.formats._arrow import Column
from procflow_export.formats.cells import iso_date, renderer_for
from procflow_export.model.codes import Code
from procflow_export.model.errors import DataError
from procflow_export.model.settings import CsvFloats
from tests.export.formats.encoding import csv_options, encode_column

INTERVAL: Any = pa.scalar((14, -3, 3_600_000_000_500), pa.month_day_nano_interval()).as_py()
NO_INTERVAL: Any = pa.scalar((0, 0, 0), pa.month_day_nano_interval()).as_py()
FAR_DAYS = [-784_350_576, -12_687_429, -12_687_428, -719_529, -719_528, 11_248_737, 11_248_738, 2_145_042_905]

CELLS = [
    pytest.param(pa.array([True, False, None]), ["true", "false", ""], id="bool"),
    pytest.param(pa.array([-(2**63), 2**63 - 1]), ["-9223372036854775808", "9223372036854775807"], id="int64"),
    pytest.param(pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"], id="uint64"),
    pytest.param(
        pa.array([Decimal(0), Decimal("-0.05"), Decimal("12345678.90"), None], pa.decimal128(10, 2)),
        ["0.00", "-0.05", "12345678.90", ""],
        id="decimal",
    ),
    pytest.param(
        pa.array([Decimal(0), Decimal("1e-18"), Decimal("-1e-18")], pa.decimal128(38, 18)),
        ["0.000000000000000000", "0.000000000000000001", "-0.000000000000000001"],
        id="decimal-without-exponent",
    ),
    pytest.param(pa.array([Decimal("9" * 38)], pa.decimal128(38, 0)), ["9" * 38], id="decimal-38"),
    pytest.param(pa.array([Decimal("-" + "9" * 76)], pa.decimal256(76, 0)), ["-" + "9" * 76], id="decimal-76"),
    pytest.param(
        pa.array([Decimal("9" * 36 + "." + "9" * 40)], pa.decimal256(76, 40)),
        ["9" * 36 + "." + "9" * 40],
        id="decimal-256-scale",
    ),
    pytest.param(pa.array([Decimal(12300), Decimal(0)], pa.decimal128(5, -2)), ["12300", "0"], id="negative-scale"),
    pytest.param(
        pa.array([1.0, -0.0, 0.1, 1e300, 5e-324, float("nan"), float("inf"), float("-inf"), None]),
        ["1", "-0", "0.1", "1" + "0" * 300, "0." + "0" * 323 + "5", "NaN", "inf", "-inf", ""],
        id="float64",
    ),
    pytest.param(pa.array([0.1, 1e30], pa.float32()), ["0.1", "1" + "0" * 30], id="float32"),
    pytest.param(
        pa.array(["x", " padded ", "=1+1", "\u00e9\U0001f600"]),
        ["x", " padded ", "=1+1", "\u00e9\U0001f600"],
        id="text",
    ),
    pytest.param(pa.array(["x"], pa.large_string()), ["x"], id="large-text"),
    pytest.param(pa.array(["x", None, "x"]).dictionary_encode(), ["x", "", "x"], id="dictionary"),
    pytest.param(pa.array([b"\x00\xff\xde", b"\x0a", None]), ["00ffde", "0a", ""], id="binary"),
    pytest.param(pa.array([b"\x01\x02"], pa.binary(2)), ["0102"], id="fixed-binary"),
    pytest.param(
        pa.array([UUID(int=1).bytes, None], pa.binary(16)).cast(pa.uuid()),
        ["00000000-0000-0000-0000-000000000001", ""],
        id="uuid",
    ),
    pytest.param(
        pa.array([date(2024, 2, 29), date(1, 1, 1), date(9999, 12, 31)]),
        ["2024-02-29", "0001-01-01", "9999-12-31"],
        id="date",
    ),
    pytest.param(
        pa.array([-735_160, -719_163], pa.int32()).cast(pa.date32()), ["-0043-03-15", "0000-12-31"], id="bc-date"
    ),
    pytest.param(pa.array([2_145_042_905], pa.int32()).cast(pa.date32()), ["5874897-12-31"], id="last-postgres-date"),
    pytest.param(pa.array([date(2024, 2, 29)], pa.date64()), ["2024-02-29"], id="date64"),
    pytest.param(
        pa.array(
            [datetime(2024, 2, 29, 12, 34, 56), datetime(1969, 12, 31, 23, 59, 59, 999_999), None], pa.timestamp("us")
        ),
        ["2024-02-29T12:34:56.000000", "1969-12-31T23:59:59.999999", ""],
        id="timestamp",
    ),
    pytest.param(
        pa.array([datetime(1969, 12, 31, 23, 59, 59, 1)], pa.timestamp("us", "UTC")),
        ["1969-12-31T23:59:59.000001Z"],
        id="instant",
    ),
    pytest.param(pa.array([0], pa.timestamp("us", "America/New_York")), ["1970-01-01T00:00:00.000000Z"], id="zone"),
    pytest.param(pa.array([-1], pa.timestamp("s")), ["1969-12-31T23:59:59.000000"], id="timestamp-seconds"),
    pytest.param(pa.array([-1], pa.timestamp("ms", "UTC")), ["1969-12-31T23:59:59.999000Z"], id="instant-millis"),
    pytest.param(pa.array([-1], pa.timestamp("ns")), ["1969-12-31T23:59:59.999999999"], id="timestamp-nanos"),
    pytest.param(pa.array([2**63 - 1], pa.timestamp("us")), ["294247-01-10T04:00:54.775807"], id="far-timestamp"),
    pytest.param(pa.array([2**62], pa.timestamp("s"), safe=False), None, id="farthest-timestamp"),
    pytest.param(pa.array([time(1, 2, 3, 4), time(0), None]), ["01:02:03.000004", "00:00:00.000000", ""], id="time"),
    pytest.param(pa.array([1], pa.time32("s")), ["00:00:01.000000"], id="time-seconds"),
    pytest.param(
        pa.array([timedelta(hours=-838, minutes=-59, seconds=-59), timedelta(microseconds=-1), timedelta(hours=100)]),
        ["-838:59:59.000000", "-00:00:00.000001", "100:00:00.000000"],
        id="negative-time",
    ),
    pytest.param(pa.array([-(2**63)], pa.duration("us")), ["-2562047788:00:54.775808"], id="shortest-duration"),
    pytest.param(
        pa.array([INTERVAL, NO_INTERVAL], pa.month_day_nano_interval()),
        ["P1Y2M-3DT1H0.0000005S", "PT0S"],
        id="interval",
    ),
    pytest.param(pa.nulls(2), ["", ""], id="null"),
]


@pytest.mark.parametrize(("column", "expected"), CELLS)
def test_a_value_has_one_text_form(column: Column, expected: list[str] | None) -> None:
    """E-24: every type has the text form of the CSV table, extremes and years outside Arrow's calendar included."""
    if expected is None:
        assert "out of range" not in encode_column(column)
        return

    assert encode_column(column) == "\n".join(["c", *expected, ""])


@pytest.mark.parametrize(("column", "expected"), CELLS)
def test_slices_read_like_whole_columns(column: Column, expected: list[str] | None) -> None:
    """E-24: a cell does not depend on where in its buffers a batch begins."""
    if expected is None:
        return
    doubled = pa.concat_arrays([column, column])

    assert encode_column(doubled.slice(len(column))) == "\n".join(["c", *expected, ""])
    assert encode_column(column.slice(1)) == "\n".join(["c", *expected[1:], ""])


def test_floats_can_be_short() -> None:
    """E-24: the shortest form keeps exponents and reads back equal."""
    column = pa.array([1e300, 5e-324, float("nan")])

    assert encode_column(column, csv_options(floats="shortest")) == "c\n1e+300\n5e-324\nNaN\n"


@pytest.mark.parametrize("day", [*FAR_DAYS, *range(-719_600, -719_100, 7), *range(-1000, 1000, 13)])
def test_our_calendar_agrees_with_arrows(day: int) -> None:
    """E-24: dates beyond 16-bit years continue the calendar that Arrow prints below them."""
    arrow = pa.array([day], pa.int32()).cast(pa.date32()).cast(pa.string())[0].as_py()

    assert iso_date(day) == arrow or arrow.startswith("<value out of range")


def test_four_hundred_years_later_is_the_same_day() -> None:
    """E-24: the Gregorian calendar repeats after 146 097 days, on both sides of year 0."""
    for day in FAR_DAYS:
        year, month_day = iso_date(day)[:-6], iso_date(day)[-6:]
        later_year, later_month_day = iso_date(day + 146_097)[:-6], iso_date(day + 146_097)[-6:]

        assert (int(later_year), later_month_day) == (int(year) + 400, month_day)


JSON = [
    pytest.param(pa.array([[1, None, 3], [], None], pa.list_(pa.int64())), ["[1,null,3]", "[]", ""], id="integers"),
    pytest.param(
        pa.array([['a"b\\', None, "line\nbreak\x01", ""]]), ['["a\\"b\\\\",null,"line\\nbreak\\u0001",""]'], id="text"
    ),
    pytest.param(pa.array([[1.5, float("nan"), float("-inf"), 1e300]]), ['[1.5,"NaN","-inf",1e+300]'], id="floats"),
    pytest.param(pa.array([[True, None]]), ["[true,null]"], id="booleans"),
    pytest.param(pa.array([[Decimal("1.50")]]), ['["1.50"]'], id="decimals"),
    pytest.param(pa.array([[date(2024, 2, 29)], None]), ['["2024-02-29"]', ""], id="dates"),
    pytest.param(pa.array([[[1], None, []], [[2, 3]]]), ["[[1],null,[]]", "[[2,3]]"], id="nested"),
    pytest.param(
        pa.array([{"a": 1, "b": "x"}, {"a": None, "b": None}, None]),
        ['{"a":1,"b":"x"}', '{"a":null,"b":null}', ""],
        id="struct",
    ),
    pytest.param(
        pa.array([[("k", 1), ("l", None)], [], None], pa.map_(pa.string(), pa.int64())),
        ['{"k":1,"l":null}', "{}", ""],
        id="map",
    ),
    pytest.param(pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), ["[1,2]", ""], id="fixed-size"),
    pytest.param(pa.array([[1], [2], [3]], pa.list_(pa.int64())).slice(1, 2), ["[2]", "[3]"], id="slice"),
]


@pytest.mark.parametrize(("column", "expected"), JSON)
def test_nested_values_are_json(column: Column, expected: list[str]) -> None:
    """E-24: lists, structs and maps are JSON: exact, with null elements, decimals and special floats as strings."""
    text = renderer_for(column.type, floats=CsvFloats.FULL)(column)

    assert ["" if cell is None else cell for cell in text.to_pylist()] == expected


def test_a_type_without_text_form_is_refused_at_once() -> None:
    """E-24: what CSV cannot hold is refused before the first row, naming the column."""
    union = pa.dense_union([pa.field("i", pa.int64()), pa.field("s", pa.string())])

    with pytest.raises(DataError, match="column 'c' of type dense_union") as caught:
        encode_column(pa.nulls(0, union))
    assert caught.value.code is Code.TYPE_NOT_SUPPORTED
