"""Values of every PostgreSQL type as ``COPY`` writes them, misfits among them, and how results of decoders are compared."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from procflow_export.model.types import Column, LogicalType, OnInvalid, decimal_type
from procflow_export.sources.blocks import BlockDecoder
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.postgres import dates
from procflow_export.sources.postgres.decoding.layout import MARK, Layout
from tests.export.sources.copy_formats import HEADER, TRAILER, binary_array, binary_numeric, binary_row

MOMENT = 2**63
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Kind:
    """A type, and what the server may write for its values."""

    logical_type: LogicalType
    arrow_type: pa.DataType
    native_type: str
    binary: st.SearchStrategy[bytes]
    text: st.SearchStrategy[str] | None = None

    def column(self, name: str, *, is_nullable: bool = True, on_invalid: OnInvalid = OnInvalid.ERROR) -> Column:
        return Column(
            name=name,
            native_type=self.native_type,
            logical_type=self.logical_type,
            arrow_type=self.arrow_type,
            is_nullable=is_nullable,
            on_invalid=on_invalid,
        )


def packed(code: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: struct.pack(code, value))


def integers(bits: int) -> st.SearchStrategy[int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return st.integers(low, high) | st.sampled_from([low, high, 0, 1, -1, low + 1, high - 1, 16, 8])


def numbers(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    """Numbers that fit, some that do not, and some that are none."""
    units = st.integers(-(10**precision) + 1, 10**precision - 1) | st.integers(-(10**4), 10**4)
    fitting = units.map(lambda value: Decimal(value).scaleb(-scale))
    odd = st.sampled_from(
        [Decimal(10) ** (precision - scale), Decimal(10) ** -(scale + 1), Decimal("1E+40"), Decimal("-1.23E-30")]
    )
    special = st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])
    return st.one_of(fitting, fitting, fitting, odd, special)


def decimals(precision: int, scale: int) -> Kind:
    arrow_type = decimal_type(precision, scale)
    assert arrow_type is not None
    values = numbers(precision, scale)
    return Kind(
        LogicalType.DECIMAL,
        arrow_type,
        f"numeric({precision},{scale})",
        values.map(binary_numeric),
        values.map(lambda value: format(value, "f")),
    )


def moments(zone: str | None) -> Kind:
    ends = [MOMENT - 1, -MOMENT, 9_223_371_331_199_999_999, 0, -210_866_803_200_000_000]
    values = st.sampled_from(ends) | st.integers(-210_866_803_200_000_000, 9_223_371_331_199_999_999)
    kind = LogicalType.TIMESTAMP if zone is None else LogicalType.INSTANT

    def text(value: int) -> str:
        if abs(value) >= MOMENT - 1:
            return "infinity" if value > 0 else "-infinity"
        return dates.moment_text(value + 946_684_800_000_000, "" if zone is None else "+00")

    return Kind(kind, pa.timestamp("us", zone), kind.value, packed(">q", values), values.map(text))


def days(value: int) -> str:
    if value in {2**31 - 1, -(2**31)}:
        return "infinity" if value > 0 else "-infinity"
    return dates.date_text(value + 10_957)


DAYS = st.sampled_from([2**31 - 1, -(2**31), 0, 2_145_031_948, -2_451_545]) | st.integers(-2_451_545, 2_145_031_948)
TIMES = st.integers(0, DAY_US)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
RAW = st.binary(max_size=12)
FLOATS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def floats(width: int) -> Kind:
    values = st.floats(width=width)  # type: ignore[arg-type]  # the widths are literals
    arrow_type = pa.float32() if width == 32 else pa.float64()
    return Kind(
        LogicalType.FLOAT,
        arrow_type,
        f"float{width // 8}",
        packed(">f" if width == 32 else ">d", values),
        values.map(lambda value: FLOATS.get(repr(value), repr(value))),
    )


def whole_numbers(bits: int, arrow_type: pa.DataType) -> Kind:
    code = {16: ">h", 32: ">i", 64: ">q"}[bits]
    return Kind(
        LogicalType.INTEGER, arrow_type, f"int{bits // 8}", packed(code, integers(bits)), integers(bits).map(str)
    )


SIMPLE: list[Kind] = [
    Kind(LogicalType.BOOL, pa.bool_(), "boolean", st.sampled_from([b"\0", b"\1"]), st.sampled_from(["t", "f"])),
    whole_numbers(16, pa.int16()),
    whole_numbers(32, pa.int32()),
    whole_numbers(64, pa.int64()),
    floats(32),
    floats(64),
    decimals(9, 2),
    decimals(15, 2),
    decimals(18, 4),
    decimals(18, 2),
    decimals(19, 1),
    decimals(20, 0),
    decimals(38, 10),
    decimals(5, 5),
    decimals(76, 38),
    Kind(LogicalType.DATE, pa.date32(), "date", packed(">i", DAYS), DAYS.map(days)),
    Kind(LogicalType.TIME, pa.time64("us"), "time", packed(">q", TIMES), TIMES.map(dates.time_text)),
    moments(None),
    moments("UTC"),
    Kind(LogicalType.UUID, pa.uuid(), "uuid", st.binary(min_size=16, max_size=16)),
    Kind(LogicalType.TEXT, pa.string(), "text", TEXTS.map(str.encode), TEXTS),
    Kind(LogicalType.TEXT, pa.string(), "character(3)", st.sampled_from([b"abc", b"x  ", "é  ".encode()])),
    Kind(LogicalType.OTHER, pa.string(), "inet", RAW, TEXTS),
    Kind(
        LogicalType.ENUM, pa.dictionary(pa.int32(), pa.string()), "mood", st.sampled_from([b"sad", b"\\N", b""]), TEXTS
    ),
    Kind(LogicalType.JSON, pa.json_(), "json", TEXTS.map(str.encode), TEXTS),
    Kind(LogicalType.JSON, pa.json_(), "jsonb", TEXTS.map(lambda text: b"\1" + text.encode())),
    Kind(LogicalType.BYTES, pa.binary(), "bytea", RAW),
]


def array_of(kind: Kind) -> Kind:
    values = st.lists(st.none() | kind.binary, max_size=5)
    few = st.lists(kind.binary, min_size=1, max_size=2)
    odd = few.map(lambda elements: binary_array(elements, dimensions=2)) | few.map(
        lambda elements: binary_array(elements, lower_bound=0)
    )
    return Kind(
        LogicalType.ARRAY,
        pa.list_(kind.arrow_type),
        f"{kind.native_type}[]",
        st.one_of(values.map(binary_array), few.map(binary_array), values.map(binary_array), odd),
    )


KINDS = [*SIMPLE, *(array_of(kind) for kind in SIMPLE)]
TEXT_KINDS = [kind for kind in SIMPLE if kind.text is not None and not pa.types.is_decimal256(kind.arrow_type)]
POLICIES = st.sampled_from([OnInvalid.ERROR, OnInvalid.NULL, OnInvalid.CLAMP])


# --- comparing --------------------------------------------------------------------------------------------------------


def assert_same(fast: pa.Array[Any], slow: pa.Array[Any]) -> None:
    """Equal values of equal types; NaN equals NaN, and 0 differs from -0."""
    assert fast.type == slow.type
    fast.validate(full=True)
    if pa.types.is_floating(fast.type):
        bits = pa.int32() if fast.type == pa.float32() else pa.int64()
        assert fast.view(bits).equals(slow.view(bits))
    elif isinstance(fast, pa.ListArray) and isinstance(slow, pa.ListArray):
        assert fast.value_lengths().equals(slow.value_lengths())
        assert_same(fast.flatten(), slow.flatten())
    elif pa.types.is_dictionary(fast.type):
        assert fast.cast(pa.string()).equals(slow.cast(pa.string()))
    else:
        assert fast.equals(slow)


def outcome(decode: Callable[[], pa.RecordBatch]) -> pa.RecordBatch | tuple[str, ...]:
    try:
        return decode()
    except ValueRefusedError as exc:
        # Of a list, an element may be refused before another row whose value is no list.
        return (exc.column,) if "list<" in str(exc) else (exc.column, exc.place, exc.value, str(exc))


def assert_same_results(fast: BlockDecoder, slow: BlockDecoder, blocks: Sequence[bytes]) -> None:
    for block in blocks:
        ours = outcome(lambda: fast.decode(block))  # noqa: B023 (called at once)
        right = outcome(lambda: slow.decode(block))  # noqa: B023
        if isinstance(ours, tuple) or isinstance(right, tuple):
            assert ours == right
            return
        assert ours.schema == right.schema
        for one, other in zip(ours.columns, right.columns, strict=True):
            assert_same(one, other)
    assert fast.changed_values == slow.changed_values


def wire_rows(layout: Layout, rows: Sequence[Sequence[bytes | None]]) -> list[bytes]:
    """Rows in the order in which they travel."""
    mark = [MARK] if layout.has_mark else []
    return [binary_row([*mark, *(row[index] for index in layout.order)]) for row in rows]


def blocks_of(rows: Sequence[bytes], sizes: Sequence[int], ends: Collection[int] = ()) -> list[bytes]:
    """Blocks of so many rows, the rest in one more; ``ends`` are numbers of rows after which another statement begins."""
    messages = [row + TRAILER + HEADER if number in ends else row for number, row in enumerate(rows)]
    blocks = []
    for size in sizes:
        blocks.append(b"".join(messages[:size]))
        messages = messages[size:]
    blocks.append(b"".join(messages) + TRAILER)
    return [HEADER + blocks[0], *blocks[1:]]


@st.composite
def many_rows(draw: st.DrawFn, columns: Sequence[st.SearchStrategy[Any]], max_rows: int = 200) -> list[tuple[Any, ...]]:
    """Rows in which a few values of each column meet in every combination."""
    pools = [draw(st.lists(values, min_size=1, max_size=4)) for values in columns]
    choose = random.Random(draw(st.integers(0, 2**32))).choice
    return [tuple(map(choose, pools)) for _ in range(draw(st.integers(0, max_rows) | st.integers(0, 3)))]


@st.composite
def tables(draw: st.DrawFn, kinds: Sequence[Kind], max_columns: int = 4) -> tuple[list[Column], list[Kind]]:
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=max_columns))
    policy = draw(POLICIES)
    columns = [
        kind.column(f"c{number}", is_nullable=draw(st.booleans()), on_invalid=policy)
        for number, kind in enumerate(chosen)
    ]
    return columns, chosen
