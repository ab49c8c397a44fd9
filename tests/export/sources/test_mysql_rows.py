"""MySQL's rows become batches, without a server: every type, in both row forms, against the slow decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.constants import FIELD_TYPE

from procflow_export.model.errors import SourceError
from procflow_export.model.types import Column, LogicalType, OnInvalid
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.mysql.catalog import columns_of
from procflow_export.sources.mysql.decoding.decoder import PacketDecoder
from procflow_export.sources.mysql.types import WireField
from tests.export.sources.mysql_rows import (
    KINDS,
    LARGEST,
    NULL_KIND,
    Kind,
    binary_row,
    decode_slowly,
    integer,
    moment,
    packets,
    prefixed,
    text,
    text_row,
    wire_field,
)

FORMS = pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "text"])


class Result(NamedTuple):
    """Columns and rows of values, as a server would have them."""

    kinds: list[Kind]
    rows: list[list[Any]]

    @property
    def fields(self) -> list[WireField]:
        return [replace(kind.field, name=f"c{at}") for at, kind in enumerate(self.kinds)]

    def payloads(self, *, is_binary: bool) -> list[bytes]:
        row_of = binary_row if is_binary else text_row
        sides: list[Callable[[Any], bytes]] = [kind.binary if is_binary else kind.text for kind in self.kinds]
        return [
            row_of([None if value is None else side(value) for value, side in zip(row, sides, strict=True)])
            for row in self.rows
        ]


@st.composite
def results(draw: st.DrawFn) -> Result:
    columns = draw(st.lists(st.sampled_from([*KINDS, NULL_KIND]), min_size=1, max_size=20))
    may_be_null = [kind is NULL_KIND or draw(st.booleans()) for kind in columns]
    cells = [st.none() | kind.values if null else kind.values for kind, null in zip(columns, may_be_null, strict=True)]
    rows = draw(st.lists(st.tuples(*cells).map(list), min_size=1, max_size=12))
    # Enough rows for packets to be found in lockstep, now and then.
    return Result(columns, rows * draw(st.sampled_from([1, 1, 1, 40])))


def decoded(result: Result, *, is_binary: bool, sequence: int = 5) -> pa.RecordBatch:
    decoder = PacketDecoder(columns_of(result.fields), result.fields, is_binary=is_binary)
    batch = decoder.decode(packets(result.payloads(is_binary=is_binary), sequence=sequence))
    batch.validate(full=True)
    assert not decoder.changed_values
    return batch


def is_same(left: Any, right: Any) -> bool:
    """Whether two arrays are equal, zeros of different signs told apart."""
    if pa.types.is_floating(left.type):
        whole = pa.int32() if left.type == pa.float32() else pa.int64()
        left, right = left.view(whole), right.view(whole)
    return bool(left.type == right.type and left.equals(right))


@given(result=results(), sequence=st.integers(0, 255))
def test_every_value_is_what_the_slow_decoder_makes_of_it(result: Result, sequence: int) -> None:
    """E-20, E-23: by column or cell by cell, from binary or text rows, every type and NULL give the same arrays, whatever
    columns stand beside each other."""
    fields = result.fields
    columns = columns_of(fields)
    block = packets(result.payloads(is_binary=True), sequence=sequence)
    slow = decode_slowly(block, columns, fields, is_binary=True)
    slow_text = decode_slowly(packets(result.payloads(is_binary=False)), columns, fields, is_binary=False)

    fast = decoded(result, is_binary=True, sequence=sequence)
    fast_text = decoded(result, is_binary=False, sequence=sequence)

    for at, expected in enumerate(slow):
        for found in (fast[at], fast_text[at], slow_text[at]):
            assert is_same(found, expected), (columns[at], fields[at], found, expected)


@FORMS
@pytest.mark.parametrize("size", [0, 64, 65, 250, 251, 252, 65_535, 65_536, LARGEST - 20, LARGEST, LARGEST + 1])
def test_long_values_are_whole(size: int, *, is_binary: bool) -> None:
    """E-23: a value of any length is whole, beside short ones and alone, also where its row takes several packets."""
    kinds = [integer(FIELD_TYPE.LONG, 32, "i", is_unsigned=False), text(FIELD_TYPE.BLOB), text(FIELD_TYPE.VAR_STRING)]
    long = "é" * (size // 2) + "x" * (size % 2)
    for others in ([], [[1, "a", "b"]], [[1, "a", None]] * 100):
        result = Result(kinds, [*others, [2, long, "end"], [3, "", long], *others])

        batch = decoded(result, is_binary=is_binary)

        assert list(map(list, zip(*batch.to_pydict().values(), strict=True))) == result.rows


@FORMS
@given(result=results(), cut=st.integers(1, 30), extra=st.binary(min_size=1, max_size=10), data=st.data())
def test_a_row_that_does_not_fill_its_packet_is_an_error(
    result: Result, cut: int, extra: bytes, data: st.DataObject, *, is_binary: bool
) -> None:
    """E-23: a row too short or too long is an error of the protocol, never a value."""
    payloads = result.payloads(is_binary=is_binary)
    at = data.draw(st.integers(0, len(payloads) - 1))
    whole = payloads[at]
    columns = columns_of(result.fields)

    for broken in (whole[: max(len(whole) - cut, 1)], whole + extra):
        if broken == whole:
            continue
        block = packets([*payloads[:at], broken, *payloads[at + 1 :]])
        with pytest.raises((SourceError, ValueRefusedError)):
            PacketDecoder(columns, result.fields, is_binary=is_binary).decode(block)


@FORMS
@given(noise=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=80), result=results())
def test_noise_is_an_error_or_exactly_what_it_says(noise: list[bytes], result: Result, *, is_binary: bool) -> None:
    """E-23: bytes that are no rows are refused; where they happen to be rows, the slow decoder reads the same."""
    fields = result.fields
    columns = columns_of(fields)
    block = packets(noise)
    try:
        batch = PacketDecoder(columns, fields, is_binary=is_binary).decode(block)
    except (SourceError, ValueRefusedError):
        return
    for fast, expected in zip(batch.columns, decode_slowly(block, columns, fields, is_binary=is_binary), strict=True):
        assert is_same(fast, expected)


# --- values that do not fit -----------------------------------------------------------------------------------------

INT = integer(FIELD_TYPE.LONG, 32, "i", is_unsigned=False)


def literal(raw: bytes) -> Kind:
    """Not a kind of column but a value that a server should not hold."""
    return Kind(wire_field(FIELD_TYPE.NULL), st.nothing(), lambda _: raw, lambda _: raw)


# What is wrong, the column's type, its bytes in a binary and in a text row, and what the error shows.
WRONG = [
    ("zero", FIELD_TYPE.DATE, b"", b"0000-00-00", "0000-00-00"),
    ("zero in full", FIELD_TYPE.DATE, b"\0\0\0\0", b"0000-00-00", "0000-00-00"),
    ("no month", FIELD_TYPE.DATE, b"\xe4\x07\0\x0f", b"2020-00-15", "2020-00-15"),
    ("no day", FIELD_TYPE.DATE, b"\xe4\x07\x02\0", b"2020-02-00", "2020-02-00"),
    ("no such day", FIELD_TYPE.DATE, b"\xe4\x07\x02\x1f", b"2020-02-31", "2020-02-31"),
    ("no leap year", FIELD_TYPE.DATE, b"\x6c\x07\x02\x1d", b"1900-02-29", "1900-02-29"),
    ("no such month", FIELD_TYPE.DATE, b"\xe4\x07\x0d\x01", b"2020-13-01", "2020-13-01"),
    ("zero", FIELD_TYPE.DATETIME, b"", b"0000-00-00 00:00:00", "0000-00-00 00:00:00"),
    ("no such day", FIELD_TYPE.DATETIME, b"\xe4\x07\x02\x1f\1\2\3", b"2020-02-31 01:02:03", "2020-02-31 01:02:03"),
    ("zero", FIELD_TYPE.TIMESTAMP, b"", b"0000-00-00 00:00:00", "0000-00-00 00:00:00"),
    ("broken", FIELD_TYPE.VAR_STRING, b"a\xffb", b"a\xffb", r"a\xffb"),
    ("torn", FIELD_TYPE.VAR_STRING, "é".encode()[:1], "é".encode()[:1], r"\xc3"),
]  # fmt: skip
GOOD = {
    FIELD_TYPE.DATE: (b"\xe4\x07\x02\x1d", b"2020-02-29"),
    FIELD_TYPE.DATETIME: (b"\xe4\x07\x02\x1d", b"2020-02-29 00:00:00"),
    FIELD_TYPE.TIMESTAMP: (b"\xe4\x07\x02\x1d", b"2020-02-29 00:00:00"),
    FIELD_TYPE.VAR_STRING: (b"good", b"good"),
}
CASES = pytest.mark.parametrize(
    ("code", "binary", "as_text", "shown"), [case[1:] for case in WRONG], ids=[f"{case[0]}-{case[1]}" for case in WRONG]
)
REASONS = {OnInvalid.ERROR, OnInvalid.CLAMP}


def rows_with(
    wrong: Sequence[int], count: int, code: int, cell: bytes, *, is_binary: bool
) -> tuple[bytes, list[WireField]]:
    """A block of ``count`` rows of a key and a value; some values are wrong, every third is NULL."""
    good = GOOD[code][0 if is_binary else 1]
    rows = []
    for row in range(count):
        value = prefixed(cell) if row in wrong else None if row % 3 == 0 else prefixed(good)
        rows.append([(INT.binary if is_binary else INT.text)(row * 10), value])
    field = text(code).field if code == FIELD_TYPE.VAR_STRING else moment(code, 0).field
    fields = [replace(INT.field, name="id"), replace(field, name="v")]
    return packets([(binary_row if is_binary else text_row)(row) for row in rows]), fields


@FORMS
@CASES
def test_a_value_that_does_not_fit_is_an_error_that_names_it(
    code: int, binary: bytes, as_text: bytes, shown: str, *, is_binary: bool
) -> None:
    """E-21: a date that never was, or a text that is none, fails with its column, its value and its row's key."""
    block, fields = rows_with([5, 8], 10, code, binary if is_binary else as_text, is_binary=is_binary)
    for policy in (OnInvalid.ERROR, OnInvalid.CLAMP):  # nothing is nearest to what never was
        columns = [replace(column, on_invalid=policy) for column in columns_of(fields)]
        decoder = PacketDecoder(columns, fields, is_binary=is_binary, key=("id",))
        numbered = PacketDecoder(columns, fields, is_binary=is_binary)

        with pytest.raises(ValueRefusedError) as caught:
            decoder.decode(block)
        with pytest.raises(ValueRefusedError) as by_number:
            numbered.decode(block)

        assert (caught.value.column, caught.value.value, caught.value.place) == ("v", shown, "id = 50")
        assert by_number.value.place == "row 6 of the chunk"
        assert not decoder.changed_values


@FORMS
@CASES
def test_a_value_that_does_not_fit_becomes_null_where_that_was_asked_for(
    code: int, binary: bytes, as_text: bytes, shown: str, *, is_binary: bool
) -> None:
    """E-21: the others keep their values, and every changed one is counted."""
    wrong = [1, 5, 6]
    cell = binary if is_binary else as_text
    block, fields = rows_with(wrong, 10, code, cell, is_binary=is_binary)
    expected_block, _ = rows_with([], 10, code, cell, is_binary=is_binary)
    columns = [replace(column, on_invalid=OnInvalid.NULL) for column in columns_of(fields)]
    decoder = PacketDecoder(columns, fields, is_binary=is_binary)

    first, second = (decoder.decode(block) for _ in range(2))
    expected = PacketDecoder(columns, fields, is_binary=is_binary).decode(expected_block)

    mask = pa.array([row in wrong for row in range(10)])
    assert first[1].is_null().to_pylist() == [row in wrong or row % 3 == 0 for row in range(10)]
    assert (
        first[1]
        .filter(pa.array([not value for value in mask.to_pylist()]))
        .equals(expected[1].filter(pa.array([not value for value in mask.to_pylist()])))
    )
    assert second.equals(first)
    assert decoder.changed_values == {"v": 2 * len(wrong)}


@FORMS
def test_a_block_of_wrong_values_only(*, is_binary: bool) -> None:
    """E-21: no value of a block fits, and none is lost from the count."""
    block, fields = rows_with(range(300), 300, FIELD_TYPE.VAR_STRING, b"\xff", is_binary=is_binary)
    columns = [replace(column, on_invalid=OnInvalid.NULL) for column in columns_of(fields)]
    decoder = PacketDecoder(columns, fields, is_binary=is_binary)

    batch = decoder.decode(block)

    assert batch[1].null_count == 300
    assert decoder.changed_values == {"v": 300}


# --- columns whose type is not the server's -------------------------------------------------------------------------


def planned(name: str, kind: LogicalType, arrow_type: pa.DataType) -> Column:
    return Column(name=name, native_type=kind.value, logical_type=kind, arrow_type=arrow_type)


@FORMS
def test_a_column_that_was_planned_with_another_type_is_exact_or_an_error(*, is_binary: bool) -> None:
    """E-20: where the server sends another type than was planned, the value is the same or refused, never changed."""
    wide = integer(FIELD_TYPE.LONGLONG, 64, "q", is_unsigned=False)
    column = planned("c0", LogicalType.INTEGER, pa.int16())
    for value, fits in ((2**15 - 1, True), (-(2**15), True), (2**15, False), (2**63 - 1, False)):
        result = Result([wide], [[value], [None]])
        block = packets(result.payloads(is_binary=is_binary))
        decoder = PacketDecoder([column], result.fields, is_binary=is_binary)
        if fits:
            assert decoder.decode(block)[0].to_pylist() == [value, None]
        else:
            with pytest.raises(ValueRefusedError) as caught:
                decoder.decode(block)
            assert caught.value.value == str(value)


@pytest.mark.parametrize(
    ("sent", "precision", "scale", "expected"),
    [
        ("1.5", 10, 3, "1.500"),
        ("12", 10, 2, "12.00"),
        ("007.50", 5, 2, "7.50"),
        ("-0.00", 5, 2, "0.00"),
        ("123.45", 4, 2, None),
        ("1.234", 10, 2, None),
        ("1-2.00", 10, 2, None),
        ("", 10, 2, None),
        ("1.2.3", 10, 1, None),
        ("99999999999999999999.5", 22, 1, "99999999999999999999.5"),
    ],
)
def test_decimals_of_other_forms_are_exact_or_an_error(
    sent: str, precision: int, scale: int, expected: str | None
) -> None:
    """E-20: servers send expressions with fewer decimals than they announce; what is no number of the type is refused."""
    field = replace(wire_field(FIELD_TYPE.NEWDECIMAL), name="c0")
    column = planned("c0", LogicalType.DECIMAL, pa.decimal128(precision, scale))
    decoder = PacketDecoder([column], [field], is_binary=False)
    other = "1." + "0" * scale if scale else "1"
    block = packets([prefixed(other.encode()), prefixed(sent.encode()), b"\xfb"])

    if expected is None:
        with pytest.raises(ValueRefusedError):
            decoder.decode(block)
    else:
        assert [None if v is None else str(v) for v in decoder.decode(block)[0].to_pylist()] == [other, expected, None]


def test_only_the_wanted_columns_are_there_in_their_order() -> None:
    """E-22: a query's columns may be more than were asked for."""
    result = Result([INT, text(FIELD_TYPE.VAR_STRING), INT], [[1, "a", 2], [3, None, 4]])
    columns = columns_of(result.fields)
    decoder = PacketDecoder(columns, result.fields, is_binary=True, wanted=[columns[2], columns[0]])

    batch = decoder.decode(packets(result.payloads(is_binary=True)))

    assert batch.to_pydict() == {"c2": [2, 4], "c0": [1, 3]}


@FORMS
def test_broken_text_follows_the_policy(*, is_binary: bool) -> None:
    """E-21: bytes that are no UTF-8 are an error, NULL, or are written out as `\\xNN`, and are counted."""
    kind = text(FIELD_TYPE.VAR_STRING)
    broken = packets(
        [
            (binary_row if is_binary else text_row)([prefixed(b"\xc3\xa9")]),
            (binary_row if is_binary else text_row)([prefixed(b"a\xff")]),
            (binary_row if is_binary else text_row)([None]),
        ]
    )

    def read(on_invalid: OnInvalid) -> tuple[list[Any], dict[str, int]]:
        (plain,) = columns_of([kind.field])
        decoder = PacketDecoder([replace(plain, on_invalid=on_invalid)], [kind.field], is_binary=is_binary)
        return decoder.decode(broken)[0].to_pylist(), dict(decoder.changed_values)

    for on_invalid in (OnInvalid.ERROR, OnInvalid.CLAMP):
        with pytest.raises(ValueRefusedError, match="UTF-8"):
            read(on_invalid)
    nulls, texts = read(OnInvalid.NULL), read(OnInvalid.TEXT)

    assert nulls[0] == ["é", None, None]
    assert texts[0] == ["é", r"a\xff", None]
    assert list(nulls[1].values()) == list(texts[1].values()) == [1]
