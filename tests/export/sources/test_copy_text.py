"""The decoder of text ``COPY`` without a server: against the reference, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow_export.model.errors import SourceError
from procflow_export.model.types import Column, LogicalType
from procflow_export.sources.failures import ValueRefusedError
from procflow_export.sources.postgres.decoding.cells import NOT_UTF8
from procflow_export.sources.postgres.decoding.reference import ReferenceDecoder, TextForm
from procflow_export.sources.postgres.decoding.text import TextDecoder
from tests.export.sources.copy_formats import text_row
from tests.export.sources.copy_kinds import (
    POLICIES,
    TEXT_KINDS,
    TEXTS,
    Kind,
    assert_same_results,
    many_rows,
    tables,
)

MARK = "\ufeff"
TEXT = Kind(LogicalType.TEXT, pa.string(), "text", st.nothing(), TEXTS)
DATE = Kind(LogicalType.DATE, pa.date32(), "date", st.nothing(), st.nothing())


def both(columns: Sequence[Column], key: tuple[str, ...] = ()) -> tuple[TextDecoder, ReferenceDecoder]:
    return TextDecoder(columns, key=key), ReferenceDecoder(columns, TextForm(columns), key=key)


def text_of(kind: Kind) -> st.SearchStrategy[str | None]:
    assert kind.text is not None
    return st.none() | kind.text


@given(table=tables(TEXT_KINDS), data=st.data())
@settings(max_examples=300, deadline=None)
def test_every_type_equals_the_reference(table: tuple[list[Column], list[Kind]], data: st.DataObject) -> None:
    """E-23: every type, NULLs, extremes and misfits under every policy, in blocks that are cut anywhere."""
    columns, kinds = table
    rows = data.draw(many_rows([text_of(kind) for kind in kinds], max_rows=30))
    key = data.draw(st.sampled_from([(), (columns[0].name,), tuple(column.name for column in columns[:2])]))
    fast, slow = both(columns, key)
    rest = b"".join(map(text_row, rows))
    blocks = []
    for size in data.draw(st.lists(st.integers(0, len(rest)), max_size=3)):
        length = fast.cut(rest[:size])
        blocks.append(rest[:length])
        rest = rest[length:]
    blocks.append(rest)

    assert_same_results(fast, slow, [block for block in blocks if block])


@pytest.mark.parametrize("kind", TEXT_KINDS, ids=lambda kind: kind.native_type)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_each_type_alone_equals_the_reference(kind: Kind, data: st.DataObject) -> None:
    """E-23: the same for each type by itself, so that none is left out by chance."""
    columns = [kind.column("v", on_invalid=data.draw(POLICIES))]
    rows = data.draw(many_rows([text_of(kind)], max_rows=30))

    assert_same_results(*both(columns), [b"".join(map(text_row, rows))] if rows else [])


@given(rows=st.lists(st.tuples(st.none() | TEXTS, st.none() | TEXTS), min_size=1))
def test_texts_and_nulls_are_exact(rows: list[tuple[str | None, str | None]]) -> None:
    """E-23: any text, the empty text and NULL are three different things."""
    batch = TextDecoder([TEXT.column("a"), TEXT.column("b\t")]).decode(b"".join(map(text_row, rows)))

    assert list(zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True)) == rows


@given(values=st.lists(st.none() | TEXTS, min_size=1))
def test_one_column_of_texts_is_exact(values: list[str | None]) -> None:
    """E-23: with one column an empty line is a row."""
    batch = TextDecoder([TEXT.column("a")]).decode(b"".join(text_row([value]) for value in values))

    assert batch[0].to_pylist() == values


@given(text=st.text(st.sampled_from("\\Nnbtrfv.\n\t\r\b\f\v'\"x"), max_size=8))
def test_escapes_are_undone(text: str) -> None:
    """E-23: what looks like an escape inside of a text is one only where the server wrote one."""
    columns = [TEXT.column("a"), TEXT.column("b")]
    block = text_row([text, None])

    for decoder in both(columns):
        assert decoder.decode(block).to_pylist() == [{"a": text, "b": None}]


@pytest.mark.parametrize("first", [MARK, MARK + "a", MARK * 2, MARK + '"', MARK + "a\tb\n", None, ""])
@pytest.mark.parametrize("is_fast", [True, False])
def test_byte_order_mark_at_the_beginning_is_data(first: str | None, is_fast: bool) -> None:
    """E-20: U+FEFF is a character like others, in every block, whichever way it is decoded."""
    rows = [[first, "2024-01-01" if is_fast else "10000-01-01"], [MARK, None]]
    days = [19723 if is_fast else 2932897, None]
    decoder = TextDecoder([TEXT.column("a"), DATE.column("d")])

    for _ in range(2):
        batch = decoder.decode(b"".join(map(text_row, rows)))

        assert batch[0].to_pylist() == [first, MARK]
        assert batch[1].cast(pa.int32()).to_pylist() == days


def test_text_that_is_not_utf8_is_refused_with_its_row() -> None:
    """E-21: bytes that are no text do not pass for one."""
    with pytest.raises(ValueRefusedError) as caught:
        TextDecoder([TEXT.column("id"), TEXT.column("v")], key=("id",)).decode(b"1\ta\n2\t\xff\n")

    assert (caught.value.column, caught.value.place) == ("v", "id = 2")
    assert NOT_UTF8 in str(caught.value)


@pytest.mark.parametrize("block", [b"1\n", b"1\t2\t3\n", b"1\t2", b"1\tx\n", b"\t\n"])
def test_rows_of_another_shape_are_refused(block: bytes) -> None:
    """E-23: what is not the format is an error, not data."""
    number = Kind(LogicalType.INTEGER, pa.int32(), "integer", st.nothing())

    with pytest.raises(SourceError):
        TextDecoder([number.column("a"), number.column("b")]).decode(block)
