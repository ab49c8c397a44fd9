"""Key values in SQL text: none can end its literal, and what is no value of its kind is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.model.keys import Bound, KeyKind, KeyPart, KeyValue
from procflow_export.model.plan import KeyRange, NullKeys
from procflow_export.sources import literals, sql

WRITERS: list[Callable[[KeyValue], str]] = [literals.postgres, literals.mysql, literals.sqlite]
CHECKED = [KeyKind.INTEGER, KeyKind.BYTES]
HOSTILE = ["1; DROP TABLE t", "1' OR '1'='1", "0x10", "1e9", "", " 1", "--", "1\n", "١"]


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_text_is_itself_and_nothing_else(text: str) -> None:
    """E-10: a text key of any characters is one literal: quotes and backslashes end nothing."""
    value = KeyValue(KeyKind.TEXT, text)

    with sqlite3.connect(":memory:") as connection:
        assert connection.execute(f"SELECT {literals.sqlite(value)}").fetchone() == (text,)
    assert literals.postgres(value) == "'" + text.replace("'", "''") + "'"
    assert bytes.fromhex(literals.mysql(value).removeprefix("_utf8mb4 X'").removesuffix("'")).decode() == text


@given(data=st.binary(), number=st.integers())
def test_bytes_and_integers_of_any_size_are_themselves(data: bytes, number: int) -> None:
    """E-10: integers are unbounded, bytes are any."""
    raw, whole = KeyValue(KeyKind.BYTES, data.hex()), KeyValue(KeyKind.INTEGER, str(number))

    with sqlite3.connect(":memory:") as connection:
        assert connection.execute(f"SELECT {literals.sqlite(raw)}").fetchone() == (data,)
    assert [write(whole) for write in WRITERS] == [str(number)] * 3
    assert literals.mysql(raw) == f"X'{data.hex()}'"
    assert literals.postgres(raw) == f"'\\x{data.hex()}'"


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("kind", CHECKED)
@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_value_of_its_kind_is_refused(write: Callable[[KeyValue], str], kind: KeyKind, text: str) -> None:
    """E-10: nothing but digits is ever written without quotes, wherever the value came from."""
    if kind is KeyKind.BYTES and text == "":
        return  # no bytes are bytes

    with pytest.raises(SourceError) as caught:
        write(KeyValue(kind, text))

    assert caught.value.code is Code.PLAN_KEY_NOT_USABLE


@pytest.mark.parametrize("kind", [KeyKind.DECIMAL, KeyKind.DATE, KeyKind.TIMESTAMP, KeyKind.INSTANT])
def test_mysql_writes_times_and_decimals_only_as_such(kind: KeyKind) -> None:
    """E-10: these stand in quotes whose escapes the server's mode decides, or in none: so their characters are checked."""
    for text in ("2026-01-01' OR 1 = 1", "1\\", "1; --", "\u0661"):
        with pytest.raises(SourceError):
            literals.mysql(KeyValue(kind, text))


def test_instants_say_their_zone_and_days_begin_before_every_time_of_the_day() -> None:
    """E-10: bounds of time do not depend on a session, nor on how SQLite's texts are spelled (lesson 2)."""
    instant = KeyValue(KeyKind.INSTANT, "2026-03-08 00:00:00+00")

    assert literals.postgres(instant) == "'2026-03-08 00:00:00+00'"
    assert literals.mysql(instant) == "'2026-03-08 00:00:00'"  # every session is in UTC there
    assert literals.sqlite(instant) == "'2026-03-08'"
    assert "2026-03-07T23:59:59" < "2026-03-08" <= min("2026-03-08 00:00:00", "2026-03-08T00:00:00")


def test_conditions_of_composite_keys() -> None:
    """E-10: row values where an index serves them, written out where it does not."""
    a, b = KeyPart(column="a", kind=KeyKind.INTEGER), KeyPart(column="b", kind=KeyKind.TEXT, is_nullable=True)
    values = (KeyValue(KeyKind.INTEGER, "1"), KeyValue(KeyKind.TEXT, "x"))
    chunk = KeyRange(key=(a, b), low=Bound(values, is_inclusive=False), high=Bound(values[:1], is_inclusive=True))

    assert sql.POSTGRES.condition(chunk) == '("a", "b") > (1, \'x\') AND "a" <= 1 AND "b" IS NOT NULL'
    assert sql.MYSQL.condition(chunk) == (
        "`a` >= 1 AND ((`a` > 1) OR (`a` = 1 AND `b` > _utf8mb4 X'78')) AND `a` <= 1 AND `b` IS NOT NULL"
    )
    assert sql.SQLITE.condition(NullKeys(key=(a, b))) == "`b` IS NULL"
    assert sql.SQLITE.condition(NullKeys(key=(a,))) == "1 = 0"
    assert sql.SQLITE.condition(KeyRange(key=(a,))) is None


def test_a_real_is_no_key() -> None:
    """E-10: a text of a float does not lead back to it in every version of SQLite: refused, not rounded."""
    with pytest.raises(SourceError):
        literals.sqlite_value(0.1)
    with pytest.raises(SourceError):
        literals.sqlite(KeyValue(KeyKind.TEXT, "a\0b"))
