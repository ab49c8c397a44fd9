"""Which key an export is cut by."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from procflow_export.config.structs import ExportConfig, Mode
from procflow_export.model.codes import Code
from procflow_export.model.errors import PlanError
from procflow_export.model.keys import Indexes, KeyKind, KeyPart
from procflow_export.model.plan import Query, Relation, Selection
from procflow_export.model.settings import Format
from procflow_export.model.types import Column, LogicalType
from procflow_export.planning.keys import Days, Facts, Ranges, Slices, chunked_way, described, key_kind, reading_order


def column(name: str, kind: LogicalType, native: str = "", *, is_nullable: bool = False) -> Column:
    return Column(
        name=name, native_type=native or kind.value, logical_type=kind, arrow_type=pa.string(), is_nullable=is_nullable
    )


ID = column("id", LogicalType.INTEGER)
TENANT = column("tenant", LogicalType.TEXT)
CODE = column("code", LogicalType.UUID)
AT = column("at", LogicalType.INSTANT, is_nullable=True)
RATE = column("rate", LogicalType.FLOAT)


def facts(*columns: Column, selection: Selection | None = None, leading: str = "", **indexes: Any) -> Facts:
    return Facts(
        selection=selection or Relation(table="orders"),
        columns=columns,
        indexes=Indexes(leading_columns=frozenset(leading.split()), **indexes),
        row_estimate=None,
    )


def chunked(**keys: Any) -> ExportConfig:
    return ExportConfig(name="orders", table="orders", mode=Mode.CHUNKED, format=Format.PARQUET, **keys)


def part(of: Column) -> KeyPart:
    kind = key_kind(of)
    assert kind is not None
    return KeyPart(column=of.name, kind=kind, is_nullable=of.is_nullable)


def test_a_table_resolves_its_own_key() -> None:
    """E-10: an integer key is cut by range, wherever it stands; any other whole unique key by slices."""
    both = facts(TENANT, ID, unique_keys=(("tenant",), ("id",)))
    composite = facts(TENANT, CODE, ID, RATE, unique_keys=(("rate",), ("tenant", "code"), ("code",)))

    assert chunked_way(chunked(), both) == (Ranges(part=part(ID)), ())
    assert chunked_way(chunked(chunk_count=7), composite) == (Slices(key=(part(TENANT), part(CODE)), count=7), ())


def test_a_table_without_a_key_says_what_is_missing() -> None:
    """E-10: neither a view nor a table whose only key cannot be a bound is cut by guess."""
    for known in (facts(ID), facts(RATE, unique_keys=(("rate",),))):
        with pytest.raises(PlanError) as caught:
            chunked_way(chunked(), known)

        assert caught.value.code is Code.PLAN_KEY_MISSING


def test_a_named_key_must_be_one_and_the_usable_ones_are_told() -> None:
    """E-10: partial, nullable and prefix indexes are not among the keys, so naming their columns is refused (lesson 10)."""
    known = facts(TENANT, CODE, ID, unique_keys=(("id",), ("tenant", "code")))

    way, notes = chunked_way(chunked(chunk_by_key=["tenant", "code"], chunk_size=10), known)
    assert (way, notes) == (Slices(key=(part(TENANT), part(CODE)), rows=10), ())
    for wrong in ("tenant", ["code", "tenant"], ["tenant", "code", "id"]):
        with pytest.raises(PlanError) as caught:
            chunked_way(chunked(chunk_by_key=wrong), known)
        assert caught.value.code is Code.PLAN_KEY_NOT_USABLE
        assert "usable: id, (tenant, code)" in str(caught.value)


def test_the_key_of_a_query_is_taken_at_its_word() -> None:
    """E-10: slices lose no row whatever the key is; that an index serves it cannot be known."""
    known = facts(TENANT, selection=Query(text="select 1"))

    way, notes = chunked_way(chunked(chunk_by_key="tenant"), known)

    assert way == Slices(key=(part(TENANT),))
    assert "not known" in notes[0]


@pytest.mark.parametrize(
    ("name", "note"), [("ID", "the column is spelled 'id'"), ("idd", None)], ids=["wrong-case", "wrong-name"]
)
def test_a_misspelt_column_is_an_error_with_its_right_spelling(name: str, note: str | None) -> None:
    """E-62: names are as the catalog spells them (lesson 40)."""
    with pytest.raises(PlanError) as caught:
        chunked_way(chunked(chunk_column=name), facts(ID))

    assert caught.value.code is Code.PLAN_KEY_MISSING
    assert getattr(caught.value, "__notes__", [None])[0] == note


@pytest.mark.parametrize("kind", [kind for kind in LogicalType if kind is not LogicalType.INTEGER])
def test_only_an_integer_column_is_cut_by_range(kind: LogicalType) -> None:
    """E-10: a key of another type is refused with its name and type, however much its values look like integers."""
    with pytest.raises(PlanError) as caught:
        chunked_way(chunked(chunk_column="code"), facts(column("code", kind, "varchar(9)")))

    assert caught.value.code is Code.PLAN_KEY_NOT_USABLE
    assert "'code'" in str(caught.value)
    assert "varchar(9)" in str(caught.value)


def test_days_need_a_calendar() -> None:
    """E-10: `chunk_by_days` cuts dates and timestamps, with NULLs or without."""
    known = facts(AT, ID, leading="at id")

    assert chunked_way(chunked(chunk_column="at", chunk_by_days=7), known) == (Days(part=part(AT), days=7), ())
    with pytest.raises(PlanError):
        chunked_way(chunked(chunk_column="id", chunk_by_days=7), known)


def test_a_column_that_no_index_begins_with_is_told() -> None:
    """E-5: whoever names such a column hears that every chunk reads the whole table."""
    assert chunked_way(chunked(chunk_column="id"), facts(ID, leading="id"))[1] == ()
    assert "no index" in chunked_way(chunked(chunk_column="id"), facts(ID))[1][0]


def test_floats_and_sets_are_no_keys() -> None:
    """E-10: what cannot be written as it is, or is ordered otherwise than it is compared, is never a bound."""
    refused = [
        column("a", LogicalType.FLOAT),
        column("a", LogicalType.ENUM),
        column("a", LogicalType.YEAR),
        column("a", LogicalType.TEXT, "set('a','b')"),
        column("a", LogicalType.TEXT, "set"),
        column("a", LogicalType.OTHER, "tsvector"),
    ]

    assert [key_kind(each) for each in refused] == [None] * len(refused)
    assert key_kind(column("a", LogicalType.TEXT, "settings_name")) is KeyKind.TEXT
    assert key_kind(column("a", LogicalType.OTHER, "numeric")) is KeyKind.DECIMAL


def test_a_coalesced_key_needs_two_columns_of_one_kind() -> None:
    """E-10: the fallback stands in for the cursor, so it is compared with the same values."""
    later = column("later", LogicalType.INSTANT)

    both = facts(AT, later, ID).part("at", "later")

    assert str(both) == "coalesce(at, later)"
    assert not both.is_nullable
    assert described((both, part(ID))) == "(coalesce(at, later), id)"
    with pytest.raises(PlanError):
        facts(AT, ID).part("at", "id")


def test_a_chunk_is_read_in_the_order_of_a_key_that_begins_like_its_own() -> None:
    """E-5: a unique key is best, because no piece can be longer than its rows; else the first column that an index begins with."""
    both = facts(TENANT, CODE, ID, AT, unique_keys=(("id",), ("tenant", "code")), leading="id tenant at")

    assert reading_order((), both) == (part(ID),)
    assert reading_order((part(ID),), both) == (part(ID),)
    assert reading_order((part(TENANT),), both) == (part(TENANT), part(CODE))
    assert reading_order((part(AT), part(ID)), both) == (part(AT),)
    assert reading_order((part(CODE),), both) == ()
    assert reading_order((KeyPart(column="tenant", kind=KeyKind.TEXT, fallback="code"),), both) == ()


def test_a_whole_table_is_read_in_the_order_of_its_first_key_or_of_none() -> None:
    """E-5: in the order of another index its rows lie scattered; a query has no index that is known."""
    second = facts(RATE, ID, unique_keys=(("rate",), ("id",)), leading="rate id")
    query = facts(ID, selection=Query(text="SELECT 1 AS id"))

    assert reading_order((), second) == ()
    assert reading_order((), query) == ()
    assert reading_order((part(ID),), query) == ()
