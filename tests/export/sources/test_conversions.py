"""The conversions of chosen columns, against Python's own numbers and calendar; without servers."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procflow_export.model.choices import OnInvalid, TypeTextError, parse_type
from procflow_export.model.errors import ExportError
from procflow_export.model.types import (
    TEXT_CARRIER,
    Carrier,
    Column,
    LogicalType,
    chosen_arrow_type,
    decode_columns,
    encode_columns,
)
from procflow_export.sources.arrays import MisfitError
from procflow_export.sources.columns.conversions import text_conversion, text_fitting
from procflow_export.sources.columns.ewkb import to_wkb
from procflow_export.sources.columns.lists import fitted_lists
from procflow_export.sources.columns.policies import Fitting, fitted
from procflow_export.sources.columns.texts import decoded_texts

WIDE = Context(prec=1000)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number.adjusted()) < 60).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"[+-]?[0-9]{1,4}(\.[0-9]{0,4})?([eE][+-]?[0-9])?", fullmatch=True),
)
NOISE = st.one_of(
    NUMBERS,
    st.text(max_size=8),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "0x1A", "", " 1", "1 ", "1_0", "١", "1e9999", "-0", "-0.0", "."]),
)


def column_of(type_text: str, on_invalid: OnInvalid = OnInvalid.ERROR) -> Column:
    logical_type, arrow_type = chosen_arrow_type(parse_type(type_text))
    return Column(
        name="v",
        native_type="text",
        logical_type=logical_type,
        arrow_type=arrow_type,
        on_invalid=on_invalid,
        carrier=TEXT_CARRIER,
        chosen_from=LogicalType.TEXT,
    )


def convert(type_text: str, text: str) -> Any:
    """The value of a text, or ``pa.ArrowInvalid`` if it does not fit."""
    column = column_of(type_text)
    values = text_conversion(column.logical_type, column.arrow_type)(pa.array([text, None], pa.string()))
    assert values.type == column.arrow_type
    assert values[1].as_py() is None
    return values[0].as_py()


def fits(type_text: str, text: str) -> Any:
    try:
        return convert(type_text, text)
    except pa.ArrowInvalid:
        return None


def number(text: str) -> Decimal | None:
    """The finite number that a text is, by its letter."""
    if (
        not text.isascii()
        or text != text.strip()
        or "_" in text
        or text.lower().strip("+-") in ("nan", "inf", "infinity")
    ):
        return None
    try:
        found = Decimal(text)
    except ArithmeticError:
        return None
    return found if found.is_finite() else None


@given(text=NOISE, precision=st.integers(1, 76), data=st.data())
def test_a_decimal_has_every_digit_or_is_refused(text: str, precision: int, data: st.DataObject) -> None:
    """E-20: a number fits a decimal exactly when no digit is lost, before the point or after it (lesson 12)."""
    scale = data.draw(st.integers(0, precision))

    found = fits(f"decimal({precision},{scale})", text)

    meant = number(text)
    scaled = None if meant is None else meant.scaleb(scale, context=WIDE)
    is_fit = scaled is not None and scaled == scaled.to_integral_value() and abs(scaled) < 10**precision
    if found is not None:
        assert is_fit
        assert found == meant
    elif is_fit and meant is not None:
        assert abs(meant.adjusted()) > 60 or len(text) > 60, "refused although it fits"


@pytest.mark.parametrize("text", ["1.05", "0.5", "-0.1", "1e-1"])
def test_a_decimal_without_decimals_refuses_every_fraction(text: str) -> None:
    """E-20: a scale of 0 refuses 1.05, and does not make 1 of it (lesson 12)."""
    with pytest.raises(pa.ArrowInvalid):
        convert("decimal(10,0)", text)
    for integer in ("int4", "uint8"):
        with pytest.raises(pa.ArrowInvalid):
            convert(integer, text)


@given(text=NOISE, bits=st.sampled_from([1, 2, 4, 8]), is_signed=st.booleans())
@example(text="18446744073709551615", bits=8, is_signed=False)
@example(text="9223372036854775808", bits=8, is_signed=True)
def test_an_integer_is_whole_and_in_range_or_refused(text: str, bits: int, is_signed: bool) -> None:
    """E-20: 64-bit unsigned integers have all their values, and no value is wrapped or rounded (lesson 11)."""
    low, high = (-(2 ** (8 * bits - 1)), 2 ** (8 * bits - 1) - 1) if is_signed else (0, 2 ** (8 * bits) - 1)

    found = fits(f"{'int' if is_signed else 'uint'}{bits}", text)

    meant = number(text)
    is_fit = meant is not None and meant == meant.to_integral_value() and low <= meant <= high
    assert (found is not None) == is_fit
    assert found is None or found == meant


@given(value=st.floats(allow_nan=False, allow_infinity=False), digits=st.integers(1, 17))
@example(value=-4.8167448276307536e16, digits=17)
def test_a_float_as_any_database_prints_it_is_that_float(value: float, digits: int) -> None:
    """E-20: some databases print 17 digits where 16 would do; what leads back to the float is the float (lesson 13)."""
    text = f"{value:.{digits}g}"

    found = fits("float8", text)

    assert found == float(text) if math.isfinite(float(text)) else found is None


@given(text=NOISE, is_wide=st.booleans())
def test_a_float_is_the_same_number_or_refused(text: str, is_wide: bool) -> None:
    """E-20: a number becomes a float only where that, printed with as many digits, is the number (lesson 13)."""
    found = fits("float8" if is_wide else "float4", text)

    meant = number(text)
    if found is None:
        return
    if meant is None:
        assert text in ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf")
        assert not math.isfinite(found)
    else:
        digits = len(meant.normalize(WIDE).as_tuple().digits)
        assert Decimal(f"{found:.{digits}g}") == meant
        assert digits <= (17 if is_wide else 9)
        assert found == (float(meant) if is_wide else float(np.float32(text)))


MOMENTS = st.datetimes().map(lambda moment: moment.isoformat(" "))
ZONES = st.sampled_from(["", "Z", "+00", "+02", "-03:30", "+00:00"])


@given(moment=st.datetimes(), separator=st.sampled_from([" ", "T"]), zone=ZONES, is_bc=st.just(False))
def test_moments_are_those_of_the_calendar(moment: dt.datetime, separator: str, zone: str, is_bc: bool) -> None:
    """E-20: instants, wall-clock times and dates of texts are those of Python's calendar; a zone is never dropped."""
    text = moment.isoformat(separator) + zone
    offset = {"+02": 120, "-03:30": -210}.get(zone, 0)
    instant = moment.replace(tzinfo=dt.UTC)
    micros = (instant - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)

    found = text_conversion(LogicalType.INSTANT, pa.timestamp("us", "UTC"))(pa.array([text]))
    naive = fits("timestamp", text) if not offset else None
    date = fits("date", text)

    assert found.cast(pa.int64())[0].as_py() == micros - offset * 60_000_000
    assert naive == (None if offset else moment)
    assert date == (moment.date() if moment.time() == dt.time() and not offset else None)
    if offset:
        with pytest.raises(pa.ArrowInvalid):
            convert("timestamp", text)


@given(days=st.integers(-(2**31), 2**31 - 1))
def test_dates_of_any_year_are_those_of_numpy(days: int) -> None:
    """E-20: what 32 bits hold of days is read, 5 877 642 BC included, and nothing beyond."""
    text = str(np.datetime64(days, "D"))
    year, rest = text[: -len("-MM-DD")], text[-len("-MM-DD") :]
    written = f"{int(year):04d}{rest}" if int(year) > 0 else f"{1 - int(year):04d}{rest} BC"

    found = text_conversion(LogicalType.DATE, pa.date32())(pa.array([written, None]))

    assert found.cast(pa.int32()).to_pylist() == [days, None]


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-30",
        "0000-00-00",
        "2020-02-00",
        "2024-13-01",
        "infinity",
        "24-01-01",
        "2024-01-01 24:00",
        "2024-1-1",
        "x",
    ],
)
def test_a_date_that_never_was_is_none(text: str) -> None:
    """E-21: what is no date is refused, and has no nearest one unless it is an infinity."""
    for type_text in ("date", "timestamp", "timestamp_tz", "timestamp_ns"):
        with pytest.raises(pa.ArrowInvalid):
            convert(type_text, text)
        column = column_of(type_text)
        fitting = text_fitting(column, text_conversion(column.logical_type, column.arrow_type))
        assert fitting.nearest is not None
        assert fitting.nearest(pa.array([text])).null_count == (text != "infinity")


@given(values=st.lists(st.none() | st.lists(st.none() | st.integers(-(2**31), 2**31 - 1))))
def test_lists_keep_every_element_in_its_place(values: list[Any]) -> None:
    """E-20: NULL elements stay where they are, and an array with one is no NULL (lesson 14)."""
    texts = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())

    integers = Fitting(convert=lambda elements: elements.cast(pa.int32()))
    found, changed_count = fitted_lists(texts, pa.list_(pa.int32()), integers, OnInvalid.NULL)
    assert changed_count == 0

    found.validate(full=True)
    assert found.to_pylist() == values


@given(
    values=st.lists(
        st.none() | st.lists(st.none() | st.lists(st.none() | st.text(), max_size=3), max_size=3), max_size=5
    )
)
def test_nested_lists_keep_every_element_in_its_place(values: list[Any]) -> None:
    """E-20: the same at every depth (lesson 14)."""
    texts = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())

    found, _ = fitted_lists(
        texts, pa.list_(pa.list_(pa.string())), Fitting(convert=lambda elements: elements), OnInvalid.ERROR
    )

    assert found.to_pylist() == values


@pytest.mark.parametrize("text", ["[[1]]", "1", "{}", "[1", "[{}]", '"[]"'])
def test_what_is_no_flat_array_is_refused(text: str) -> None:
    """E-21: an array of another depth fits no list."""
    texts, elements = pa.array(["[]", text]), Fitting(convert=lambda values: values)

    for on_invalid in (OnInvalid.ERROR, OnInvalid.CLAMP):
        with pytest.raises(MisfitError) as caught:
            fitted_lists(texts, pa.list_(pa.string()), elements, on_invalid)
        assert caught.value.index == 1
    found, changed_count = fitted_lists(texts, pa.list_(pa.string()), elements, OnInvalid.NULL)

    assert found.to_pylist() == [[], None]
    assert changed_count == 1


def test_an_element_that_does_not_fit_follows_the_policy_alone() -> None:
    """E-21: a policy changes the element, not the array around it, and counts elements; an error names the array (lesson 14)."""
    column = column_of("uint1")
    elements = text_fitting(column, text_conversion(column.logical_type, column.arrow_type))
    texts = pa.array(["[[1], null]", "[]", None, "[[300, null, -1], [7]]"])
    deep = pa.list_(pa.list_(pa.uint8()))

    with pytest.raises(MisfitError) as caught:
        fitted_lists(texts, deep, elements, OnInvalid.ERROR)
    nulls, null_count = fitted_lists(texts, deep, elements, OnInvalid.NULL)
    nearest, nearest_count = fitted_lists(texts, deep, elements, OnInvalid.CLAMP)

    assert caught.value.index == 3
    assert nulls.to_pylist() == [[[1], None], [], None, [[None, None, None], [7]]]
    assert nearest.to_pylist() == [[[1], None], [], None, [[255, None, 0], [7]]]
    assert null_count == nearest_count == 2
    assert nulls.type == nearest.type == deep


@given(values=st.lists(st.none() | st.sampled_from(["1", "2", "x", "y", "", "3"])))
def test_null_counts_are_those_of_before_and_of_the_policy(values: list[str | None]) -> None:
    """E-21: NULLs out are NULLs in plus the changed ones, each of them counted (lesson 15)."""
    column = column_of("int4", OnInvalid.NULL)
    fitting = text_fitting(column, text_conversion(column.logical_type, column.arrow_type))

    found, changed_count = fitted(pa.array(values, pa.string()), fitting, OnInvalid.NULL)

    meant = [int(value) if value and value.isdigit() else None for value in values]
    assert found.to_pylist() == meant
    assert changed_count == sum(value is not None and not value.isdigit() for value in values)
    assert found.null_count == values.count(None) + changed_count


def test_a_conversion_that_makes_nulls_is_a_bug_not_data() -> None:
    """E-21: a builder that turns a whole column into NULL, while every row is there, stops the export (lesson 15)."""
    texts = pa.array([str(uuid.uuid4()), None, str(uuid.uuid4())])

    with pytest.raises(ExportError, match="made 3 NULLs of 1"):
        fitted(texts, Fitting(convert=lambda values: pa.nulls(len(values), pa.binary(16))), OnInvalid.NULL)


@given(
    values=st.lists(st.none() | st.sampled_from(["1.05", "x", "7", "300", "-1", "NaN"])),
    on_invalid=st.sampled_from([OnInvalid.ERROR, OnInvalid.CLAMP]),
)
def test_the_first_value_that_cannot_be_kept_is_named(values: list[str | None], on_invalid: OnInvalid) -> None:
    """E-21: an error names the first row that neither fits nor may be changed."""
    column = column_of("uint1", on_invalid)
    fitting = text_fitting(column, text_conversion(column.logical_type, column.arrow_type))
    lost = {"x", "NaN"} if on_invalid is OnInvalid.CLAMP else {"x", "NaN", "1.05", "300", "-1"}
    first = next((row for row, value in enumerate(values) if value in lost), None)

    try:
        found, changed_count = fitted(pa.array(values, pa.string()), fitting, on_invalid)
    except MisfitError as exc:
        assert exc.index == first
    else:
        assert first is None
        nearest = {"1.05": 1, "7": 7, "300": 255, "-1": 0}
        assert found.to_pylist() == [None if value is None else nearest[value] for value in values]
        assert changed_count == sum(value not in (None, "7") for value in values)


@given(values=st.lists(st.none() | st.binary()), on_invalid=st.sampled_from([OnInvalid.NULL, OnInvalid.TEXT]))
def test_broken_texts_alone_are_changed(values: list[bytes | None], on_invalid: OnInvalid) -> None:
    """E-21: texts that are UTF-8 stay as they are, the others become NULL or have their bytes written out, each counted."""

    def is_text(value: bytes) -> bool:
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
        return True

    found, changed_count = decoded_texts(pa.array(values, pa.binary()), on_invalid)

    for before, after in zip(values, found.to_pylist(), strict=True):
        if before is None or not is_text(before):
            assert (after is None) == (before is None or on_invalid is OnInvalid.NULL)
        else:
            assert after == before.decode()
    assert changed_count == sum(value is not None and not is_text(value) for value in values)


@pytest.mark.parametrize(
    ("ewkb", "wkb"),
    [
        ("0101000020E610000000000000000000000000000000000000", "010100000000000000000000000000000000000000"),
        ("0101000000000000000000F83F00000000000000C0", "0101000000000000000000f83f00000000000000c0"),
        ("0020000001000010E600000000000000000000000000000000", "000000000100000000000000000000000000000000"),
        (
            "01010000A0E6100000000000000000F03F00000000000000400000000000000840",
            "0101000080000000000000f03f00000000000000400000000000000840",
        ),
    ],
)
def test_a_geometry_loses_the_number_of_its_reference_system_alone(ewkb: str, wkb: str) -> None:
    """E-20: PostGIS's hexadecimal EWKB becomes WKB: the number goes, the coordinates stay, at either end first."""
    assert to_wkb(pa.array([ewkb, None])).to_pylist() == [bytes.fromhex(wkb), None]


@pytest.mark.parametrize("text", ["xyz", "", "05", "0101"])
def test_what_is_no_geometry_is_refused(text: str) -> None:
    """E-21: bytes that begin like no geometry are none."""
    with pytest.raises(pa.ArrowInvalid):
        to_wkb(pa.array([text]))


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("BOOL", "bool"),
        ("Boolean", "bool"),
        ("int", "int4"),
        ("bigint", "int8"),
        ("int64", "int8"),
        ("uint64", "uint8"),
        ("double  precision", "float8"),
        ("decimal( 10 , 2 )", "decimal(10,2)"),
        ("numeric(18)", "decimal(18,0)"),
        ("decimal(5,-2)", "decimal(7,0)"),
        ("varchar", "text"),
        ("bytea", "binary"),
        ("jsonb", "json"),
        ("timestamptz", "timestamp_tz"),
        ("timestamp without time zone", "timestamp"),
        ("timestamptz_ns", "timestamp_tz_ns"),
        ("list< int4 >", "list<int4>"),
        ("list<list<decimal(5,1)>>", "list<list<decimal(5,1)>>"),
    ],
)
def test_types_have_the_names_that_databases_give_them(text: str, means: str) -> None:
    """E-20: the names of types are those that users of the dialect write already, in any case."""
    assert str(parse_type(text)) == means


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("decmal(1,2)", "decimal"),
        ("timestmp", "timestamp"),
        ("decimal", "decimal(p,s)"),
        ("decimal(0,0)", "1 to 76"),
        ("decimal(77,0)", "1 to 76"),
        ("decimal(2,5)", "0 to 2"),
        ("list", "list<type>"),
        ("list<nothing>", "there is no such type"),
        ("interval", "text"),
        ("month_day_nano", "text"),
        ("geometry", "there is no such type"),
    ],
)
def test_what_is_no_type_is_told_with_what_may_stand_there(text: str, hint: str) -> None:
    """E-62: a wrong type says what is allowed, and the nearest name."""
    with pytest.raises(TypeTextError) as caught:
        parse_type(text)

    assert hint in f"{caught.value} {caught.value.allowed} {caught.value.nearest}"


def test_a_chosen_column_survives_the_way_to_a_worker() -> None:
    """E-22: type, policy and the form in which values travel are the same in every process."""
    columns = (
        column_of("list<list<decimal(5,2)>>", OnInvalid.CLAMP),
        column_of("enum"),
        Column(
            name="f",
            native_type="double",
            logical_type=LogicalType.FLOAT,
            arrow_type=pa.float32(),
            carrier=Carrier(logical_type=LogicalType.FLOAT, arrow_type=pa.float64()),
            chosen_from=LogicalType.FLOAT,
        ),
    )

    assert decode_columns(encode_columns(columns)) == columns


@pytest.mark.parametrize("type_text", ["decimal(76,76)", "decimal(38,38)", "decimal(38,37)", "int8"])
@pytest.mark.parametrize(
    "text", ["69.5", "-69.5", "1234567.25", "6.95e1", "9e77", "-1e60", "11579208923731619542357e55"]
)
def test_numbers_that_are_too_large_do_not_become_others(type_text: str, text: str) -> None:
    """E-20: Arrow's multiplication by a power of ten goes round the end of its 128 or 256 bits, and is not asked then."""
    column = column_of(type_text, OnInvalid.ERROR)

    with pytest.raises(pa.ArrowInvalid):
        text_conversion(column.logical_type, column.arrow_type)(pa.array(["0.5", text]))


@given(text=NUMBERS, precision=st.integers(1, 76), data=st.data())
def test_a_clamped_number_is_the_nearest_of_its_type(text: str, precision: int, data: st.DataObject) -> None:
    """E-21: beyond the range the end of it, whole however many digits it has; within it the nearest, half to even."""
    scale = data.draw(st.integers(0, precision))
    column = column_of(f"decimal({precision},{scale})", OnInvalid.CLAMP)
    fitting = text_fitting(column, text_conversion(column.logical_type, column.arrow_type))

    found, changed_count = fitted(pa.array([text]), fitting, OnInvalid.CLAMP)

    meant, tick = Decimal(text), Decimal(1).scaleb(-scale)
    limit = Decimal(10**precision - 1).scaleb(-scale, WIDE)
    bounded = min(max(meant, limit.copy_negate()), limit)
    nearest = bounded.quantize(tick, context=WIDE)
    assert found[0].as_py() == nearest
    assert (changed_count == 1) == (nearest != meant) or abs(meant.adjusted()) > 60
