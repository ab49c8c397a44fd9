"""The page of types says what the rows of the tests say."""

from __future__ import annotations

from tools import type_tables
from tools.promises import ROOT


def test_the_page_is_up_to_date() -> None:
    """E-20: docs/reference/type-tables.md is made of the rows that the round trips run over; `python -m tools.type_tables` makes it."""
    assert type_tables.PAGE.read_text("utf-8") == type_tables.render()


def test_every_row_has_a_test_of_its_own() -> None:
    """E-23: every row of the page names its round trip, and no two name the same."""
    for section in type_tables.SECTIONS:
        slugs = [row.slug for row in section.rows]
        assert len(slugs) == len(set(slugs))
        text = (ROOT / "tests" / "export" / "types" / section.test).read_text("utf-8")
        assert '@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)\ndef test_a_type_comes_back(' in text
