"""The decoder of binary ``COPY`` without a server: against the reference, cell by cell, and against data that imitates rows."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow_export.model.errors import SourceError
from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.postgres.decoding import framing
from procflow_export.sources.postgres.decoding.binary import BinaryDecoder
from procflow_export.sources.postgres.decoding.framing import walk_row
from procflow_export.sources.postgres.decoding.layout import MARK, layout_of
from procflow_export.sources.postgres.decoding.reference import BinaryForm, ReferenceDecoder
from tests.export.sources.copy_formats import HEADER, TRAILER
from tests.export.sources.copy_kinds import (
    KINDS,
    POLICIES,
    Kind,
    assert_same_results,
    blocks_of,
    many_rows,
    tables,
    wire_rows,
)

INT4 = Kind(LogicalType.INTEGER, pa.int32(), "integer", st.integers(0, 3).map(lambda value: struct.pack(">i", value)))
BYTES = Kind(LogicalType.BYTES, pa.binary(), "bytea", st.binary(max_size=3))


def both(columns: Sequence[Column], key: tuple[str, ...] = ()) -> tuple[BinaryDecoder, ReferenceDecoder]:
    return BinaryDecoder(columns, key=key), ReferenceDecoder(columns, BinaryForm(columns), key=key)


@given(table=tables(KINDS), data=st.data())
@settings(max_examples=300, deadline=None)
def test_every_type_equals_the_reference(table: tuple[list[Column], list[Kind]], data: st.DataObject) -> None:
    """E-23: every type, NULLs, extremes and misfits under every policy, in blocks of any number of rows."""
    columns, kinds = table
    rows = data.draw(
        many_rows(
            [
                st.none() | kind.binary if column.is_nullable else kind.binary
                for kind, column in zip(kinds, columns, strict=True)
            ]
        )
    )
    sizes = data.draw(st.lists(st.integers(0, 100), max_size=3))
    ends = data.draw(st.sets(st.integers(0, 200), max_size=3))
    key = data.draw(st.sampled_from([(), (columns[0].name,), tuple(column.name for column in columns[:2])]))

    blocks = blocks_of(wire_rows(layout_of(columns), rows), sizes, ends)

    assert_same_results(*both(columns, key), blocks)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.native_type)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_each_type_alone_equals_the_reference(kind: Kind, data: st.DataObject) -> None:
    """E-23: the same for each type by itself, so that none is left out by chance."""
    columns = [kind.column("v", on_invalid=data.draw(POLICIES))]
    rows = data.draw(many_rows([st.none() | kind.binary]))

    assert_same_results(*both(columns), blocks_of(wire_rows(layout_of(columns), rows), [50]))


@given(data=st.data(), has_key=st.booleans(), is_null_possible=st.booleans())
@settings(max_examples=200, deadline=None)
def test_data_that_imitates_rows_is_data(data: st.DataObject, has_key: bool, is_null_possible: bool) -> None:
    """E-23: whole rows, and their beginnings, inside of values change nothing, nor does a NULL where none should be."""
    columns = [INT4.column("id", is_nullable=not has_key), BYTES.column("a"), BYTES.column("b")]
    layout = layout_of(columns)
    fake = wire_rows(layout, [(b"\0\0\0\1", b"", b"x"), (b"\0\0\0\2", None, None)])
    pieces = [
        *fake,
        fake[0] + fake[1],
        fake[0][:7],
        fake[0][:14],
        b"\0\3\0\0\0\4",
        MARK,
        TRAILER,
        TRAILER + HEADER,
        b"\0\0\0\4",
        b"",
    ]
    values = st.none() | st.lists(st.sampled_from(pieces), max_size=3).map(b"".join)
    keys = st.none() | INT4.binary if is_null_possible else INT4.binary
    rows = data.draw(many_rows([keys, values, values]))
    sizes = data.draw(st.lists(st.integers(1, 100), max_size=2))
    ends = data.draw(st.sets(st.integers(0, 200), max_size=2))

    assert_same_results(*both(columns), blocks_of(wire_rows(layout, rows), sizes, ends))


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_rows_are_an_error(data: st.DataObject) -> None:
    """E-23: a block that is cut, or changed anywhere, is refused, or is rows to the reference too."""
    columns = [INT4.column("id", is_nullable=False), INT4.column("n"), BYTES.column("a"), BYTES.column("b")]
    cells = (INT4.binary, st.none() | INT4.binary, st.none() | BYTES.binary, BYTES.binary)
    block = bytearray(b"".join(wire_rows(layout_of(columns), data.draw(many_rows(cells, max_rows=30)))))
    if not block:
        return
    for place in data.draw(st.lists(st.integers(0, len(block) - 1), max_size=3)):
        block[place] = data.draw(st.sampled_from([0, 1, 4, 255]))
    block = block[: data.draw(st.integers(0, len(block)) | st.just(len(block)))]

    fast, slow = both(columns)
    assert fast.decode(HEADER).equals(slow.decode(HEADER))

    try:
        right = slow.decode(bytes(block))
    except SourceError:
        with pytest.raises(SourceError):
            fast.decode(bytes(block))
    else:
        assert fast.decode(bytes(block)).equals(right)


def test_a_huge_value_is_a_block_of_its_own() -> None:
    """E-23: a row that is longer than every other block."""
    columns = [INT4.column("id", is_nullable=False), BYTES.column("a")]
    rows = wire_rows(layout_of(columns), [(b"\0\0\0\1", b"x" * 3_000_000), (b"\0\0\0\2", b"y"), (b"\0\0\0\3", None)])

    assert_same_results(*both(columns), blocks_of(rows, [1]))


@pytest.mark.parametrize("column_count", [1, 2, 16, 255, 256, 257, 1000, 1600])
def test_any_number_of_columns(column_count: int) -> None:
    """E-23: one column, and as many as the server has, with NULLs in any of them."""
    columns = [INT4.column(f"c{number}", is_nullable=number != column_count - 1) for number in range(column_count)]
    rows = [
        tuple(
            None if number == row and column.is_nullable else struct.pack(">i", number)
            for number, column in enumerate(columns)
        )
        for row in range(5)
    ]

    assert_same_results(*both(columns), blocks_of(wire_rows(layout_of(columns), rows), [2]))


def test_rows_are_found_by_search_not_by_walking(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-23: of a block of good rows, only the first is walked in Python, whatever is NULL in it."""
    columns = [INT4.column("id", is_nullable=False), INT4.column("n"), BYTES.column("a"), BYTES.column("b")]
    rows = [
        (struct.pack(">i", n), None if n % 7 == 0 else b"\0\0\0\1", b"x" * (n % 5), None if n % 3 else b"")
        for n in range(1000)
    ]
    walked: list[int] = []

    def walk(data: bytes, position: int, column_count: int) -> tuple[list[int], int]:
        walked.append(position)
        return walk_row(data, position, column_count)

    monkeypatch.setattr(framing, "walk_row", walk)

    for has_key in (True, False):
        decoder = BinaryDecoder([replace(columns[0], is_nullable=not has_key), *columns[1:]])
        layout = layout_of([replace(columns[0], is_nullable=not has_key), *columns[1:]])
        for block in blocks_of(wire_rows(layout, rows), [400]):
            assert decoder.decode(block).num_rows in {400, 600}

    assert len(walked) == 4


@pytest.mark.parametrize(
    "beginning",
    [b"", HEADER[:-1], b"PGCOPY\n\xff\n\0" + bytes(9), HEADER[:11] + b"\0\1\0\0" + bytes(4), HEADER[:-1] + b"\5"],
    ids=["nothing", "cut", "translated newline", "object ids", "extension that is not there"],
)
def test_header_that_is_not_known_is_refused(beginning: bytes) -> None:
    """E-23: what comes is checked before it is read."""
    with pytest.raises(SourceError):
        BinaryDecoder([INT4.column("id")]).decode(beginning)


def test_value_of_another_width_is_refused() -> None:
    """E-23: the server's bytes are never read as another type's."""
    layout = layout_of([INT4.column("id")])
    for rows in ([(b"\0\0\0\0\0\0\0\1",)], [(b"\0\0\0\0\0\0\0\1",), (b"\0\0\0\1",), (None,)]):
        with pytest.raises(SourceError, match="bytes where its type has 4"):
            BinaryDecoder([INT4.column("id")]).decode(HEADER + b"".join(wire_rows(layout, rows)))
