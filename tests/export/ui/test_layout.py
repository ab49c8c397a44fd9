"""Cards as rows of text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procflow_export.ui.board import Board
from procflow_export.ui.layout import ASCII, render_board
from tests.export.ui.events import begun, fail, progress, start, succeed


def busy_board() -> Board:
    board = begun("customers", "order_items", "orders", "payments", "a name that is far too long for any card ever")
    for name in ("customers", "order_items", "orders"):
        start(board, name, 0.1, chunks=12, estimate=100_000)
    progress(board, "order_items", 1.0, 30_000, done=3, chunks=12, size=400_000)
    progress(board, "order_items", 3.0, 60_000, done=7, chunks=12, size=800_000)
    succeed(board, "customers", 0.8, 6000, chunk_count=1, part_count=1)
    fail(board, "payments", 2.0, "permission denied\nfor table \x1b[31mpayments")
    return board


def text(board: Board, width: int, height: int, now_s: float = 3.0) -> list[str]:
    return [row.plain.rstrip() for row in render_board(board, width=width, height=height, now_s=now_s)]


def test_every_state_reads_well() -> None:
    """E-63: state, rows, rows/s, bytes, chunks, time and what is left, one line an export."""
    rows = text(busy_board(), 110, 20)

    assert rows[0].split() == ["export", "progress", "rows", "rows/s", "written", "chunks", "time", "left"]
    assert rows[1].startswith(" ✓ customers")
    assert "100%" in rows[1]
    assert "6,000" in rows[1]
    assert "1/1" in rows[1]
    assert "60%" in rows[2]
    assert "60,000" in rows[2]
    assert "15.0k" in rows[2]
    assert "7/12" in rows[2]
    assert rows[2].endswith("2.0 s  1.3 s")
    assert rows[3].startswith(" · orders")
    assert rows[3].endswith("queued, 12 chunks, about 100k rows")
    assert rows[4].startswith(" ✗ payments")
    assert rows[4].endswith("SOURCE_DENIED: permission denied for table payments")
    assert rows[5].startswith(" · a name that is far too long…")
    assert rows[5].endswith("waiting")
    assert rows[6] == ""
    assert rows[7].startswith(" 2 of 5 done · 1 failed · 66,000 rows · ")


@pytest.mark.parametrize(("width", "headings"), [(60, ["rows", "rows/s", "time"]), (40, ["rows", "time"])])
def test_a_narrow_terminal_gives_up_what_matters_least(width: int, headings: list[str]) -> None:
    row = text(busy_board(), width, 20)[0].split()

    assert row[0] == "export"
    assert [word for word in row[1:] if word != "progress"] == headings


def test_a_low_terminal_keeps_what_runs_or_failed() -> None:
    """E-63: taller-than-terminal-safe: cards that wait or are done make room, and the rest is counted."""
    rows = text(busy_board(), 80, 4)

    assert len(rows) == 4
    assert "order_items" in rows[0]
    assert "payments" in rows[1]
    assert rows[2].split() == ["…", "and", "1", "done,", "1", "queued,", "1", "waiting"]
    assert rows[3].startswith(" 2 of 5 done")


def test_ascii_terminals_get_ascii() -> None:
    for row in render_board(busy_board(), width=100, height=20, now_s=3.0, glyphs=ASCII):
        assert row.plain.isascii()


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 40),
    names=st.lists(st.text(max_size=40), max_size=30, unique=True),
    ended=st.integers(0, 30),
)
def test_no_row_is_too_wide_and_there_are_never_too_many(width: int, height: int, names: list[str], ended: int) -> None:
    """E-63: whatever the size and the names, the picture fits the terminal and every row is one line."""
    board = begun(*names)
    for index, name in enumerate(names):
        start(board, name, 0.0, chunks=index + 1, estimate=index * 1000)
        if index < ended:
            succeed(board, name, 1.0 + index, 10**index % 10**9)
        elif index % 3:
            progress(board, name, 1.0, index * 777, done=index // 2, chunks=index + 1, size=index * 10**6)

    rows = render_board(board, width=width, height=height, now_s=40.0)

    assert len(rows) <= height
    for row in rows:
        assert row.cell_len <= width
        assert "\n" not in row.plain
