"""Rows that stay in place on a terminal."""

from __future__ import annotations

import io
import os

import pytest
from rich.text import Text

from procflow_export.ui.painter import Painter
from tests.export.ui.screen import Screen


class Terminal(io.StringIO):
    """A stream that feeds a screen."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self.screen = screen

    def write(self, text: str) -> int:
        self.screen.feed(text)
        return len(text)


@pytest.fixture
def screen() -> Screen:
    return Screen(40, 10)


@pytest.fixture
def painter(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Painter:
    monkeypatch.setattr(
        "procflow_export.ui.painter.terminal_size", lambda stream: os.terminal_size((screen.columns, screen.lines))
    )
    return Painter(Terminal(screen))


def picture(count: int, width: int, mark: str = "x") -> list[Text]:
    return [Text(f"{mark}{index} ".ljust(width, "."), style="bold red") for index in range(count)]


def plain(rows: list[Text]) -> list[str]:
    return [row.plain for row in rows]


def test_a_picture_replaces_the_one_before(screen: Screen, painter: Painter) -> None:
    """E-63: cards are redrawn in place, also when there are fewer or more of them."""
    screen.feed("before\r\n")
    for count in (3, 5, 2, 9, 1, 4):
        painter.paint(picture(count, 40))

        assert screen.text == ["before", *plain(picture(count, 40))]


def test_messages_scroll_away_above_the_picture(screen: Screen, painter: Painter) -> None:
    painter.paint(picture(3, 30))
    painter.paint(picture(2, 30), above=[Text("retry one"), Text("retry two")])
    painter.paint(picture(3, 30), above=[Text("a long message " * 4)])

    long = "a long message " * 4
    wrapped = [long[:40].rstrip(), long[40:].rstrip()]
    assert screen.text == ["retry one", "retry two", *wrapped, *plain(picture(3, 30))]


@pytest.mark.parametrize("widths", [(30,), (13,), (39, 20, 11), (20, 60, 15)])
def test_no_ghost_stays_behind_after_a_resize(screen: Screen, painter: Painter, widths: tuple[int, ...]) -> None:
    """E-63: resize-safe: what an earlier width left behind is taken away whole."""
    screen.lines = 40
    screen.feed("before\r\n")
    painter.paint(picture(3, 40))
    for width in widths:
        screen.resize(width)
        painter.paint(picture(3, width))

        assert [row for row in screen.text if "." in row] == plain(picture(3, width))
        assert "".join(screen.text).startswith("before")


def test_closing_leaves_the_last_words_and_the_cursor(screen: Screen, painter: Painter) -> None:
    painter.paint(picture(3, 30))
    assert not screen.has_cursor

    painter.close([Text("summary")])
    painter.close([Text("never shown")])
    painter.paint(picture(3, 30))

    assert screen.text == ["summary"]
    assert screen.has_cursor
    assert screen.wraps


def test_a_terminal_that_is_gone_is_left_alone() -> None:
    """E-63: losing the terminal never fails a run."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    painter = Painter(Gone())
    painter.paint(picture(2, 10))
    painter.paint(picture(2, 10))
    painter.close()
