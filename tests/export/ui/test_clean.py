"""Foreign text that reaches a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procflow_export.ui.clean import many_lines, normalised_reason, one_line, shorten


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\r\nof\ttext", "two lines of text"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdevice\x1b\\done", "done"),
        ("\x9b2Jcleared", "cleared"),
        ("a\x00b\x07c\x7fd\x85e", "abcd e"),
        ("unfinished \x1b[", "unfinished"),
        ("right\u202eto left", "rightto left"),
        ("zero\u200bwidth", "zerowidth"),
        ("日本 表 ñ", "日本 表 ñ"),
    ],
)
def test_one_line_keeps_words_and_nothing_else(text: str, expected: str) -> None:
    """E-63: a message is one line without escape codes and control characters."""
    assert one_line(text) == expected


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]0;m\x9b\x07\\"))))
def test_nothing_that_moves_a_cursor_survives(text: str) -> None:
    """E-33: escape codes and control characters are removed, whatever the text."""
    for line in (one_line(text), *many_lines(text)):
        assert not any(unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") for char in line)
        assert "\n" not in line


def test_many_lines_show_what_a_terminal_would() -> None:
    """E-33: lines stay lines; an overwritten line shows its last state, and blank ends go."""
    text = "\n\n10%\r20%\rdone\n\tindented  \nlast\n\n"

    assert many_lines(text) == ["done", "    indented", "last"]


def test_reasons_that_differ_in_numbers_are_the_same_reason() -> None:
    """E-33: failures are grouped by their reason, whatever ids and ports stand in it."""
    assert normalised_reason("cannot connect to 10.0.0.1:5432") == normalised_reason("Cannot connect to 10.0.0.2:6432")
    assert normalised_reason("permission denied") != normalised_reason("no such table")


def test_shorten_marks_what_it_cut() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert shorten("abc", 0) == ""
