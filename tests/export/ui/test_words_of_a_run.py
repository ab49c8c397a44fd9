"""Plain lines and the summary."""

from __future__ import annotations

from collections.abc import Sequence

from procflow_export.model.codes import Code
from procflow_export.model.errors import Failure
from procflow_export.model.events import VALUES_CHANGED, Finished, PartWritten, Retry, RunEvent, Status, Warned
from procflow_export.ui.board import Board
from procflow_export.ui.layout import ASCII
from procflow_export.ui.plain import event_line, progress_line, sign_of_life
from procflow_export.ui.summary import render_summary
from tests.export.ui.events import RUN_ID, at, begun, fail, progress, start, succeed


def again(names: Sequence[str]) -> str:
    return "procflow-export run shop.yaml " + " ".join(f"-e {name}" for name in names)


def summary(board: Board, width: int = 100) -> list[str]:
    return [row.plain.rstrip() for row in render_summary(board, width=width, next_command=again)]


def test_signs_of_life_name_what_works_and_count_what_waits() -> None:
    """E-63: without a terminal, a plain line per export that is at work."""
    board = begun("orders", "items", "notes")
    start(board, "orders", 0.0, chunks=4, estimate=1000)
    start(board, "items", 0.0)
    progress(board, "orders", 1.0, 0)
    progress(board, "orders", 11.0, 500, done=2, size=2048)

    assert sign_of_life(board, 11.0) == [
        "orders: 50%, 500 rows, 50/s, 2.0 KiB, 2 of 4 chunks, about 10 s left",
        "2 exports waiting",
    ]
    assert progress_line(board.cards["orders"], 11.0) == sign_of_life(board, 11.0)[0]


def test_what_happens_is_one_line_whatever_it_says() -> None:
    """E-63: one line per message, nothing foreign in it."""
    board = begun("a")
    failure = Failure(code=Code.SOURCE_CONNECTION_LOST, message="server\nwent \x1b[31maway")
    events: list[RunEvent] = [
        at(1.0, Retry(export="a", chunk=3, attempt=1, delay_s=2.0, failure=failure)),
        at(1.0, Retry(export="a", chunk=-1, attempt=1, delay_s=0.0, failure=failure)),
        at(1.0, Warned(export="a", code="PLAN", message="sparse\tkeys\r\n")),
    ]

    assert [event_line(event, board) for event in events] == [
        "a: chunk 3 is tried again in 2.0 s after attempt 1: SOURCE_CONNECTION_LOST: server went away",
        "a: planning is tried again now after attempt 1: SOURCE_CONNECTION_LOST: server went away",
        "a: PLAN: sparse keys",
    ]
    part = at(1.0, PartWritten(export="a", chunk=0, key="a-p000.parquet", row_count=1, size_bytes=10))
    assert event_line(part, board) is None
    assert event_line(part, board, is_verbose=True) == "a: part a-p000.parquet, 1 row, 10 B"


def test_the_summary_of_a_good_run_is_a_table_and_a_verdict() -> None:
    """E-63: export, rows, parts, bytes, time, rows/s, peak RSS, status."""
    board = begun("orders", "items")
    for name in ("orders", "items"):
        start(board, name)
        progress(board, name, 0.0, 0)
        succeed(board, name, 2.0, 1000)

    rows = summary(board)
    assert rows[0].split() == ["export", "rows", "parts", "written", "time", "rows/s", "peak", "RSS", "status"]
    assert rows[1].split() == ["✓", "orders", "1,000", "4", "9.8", "KiB", "2.0", "s", "500", "90.0", "MiB", "done"]
    assert rows[-1] == " all exports published · 2,000 rows · 8 parts · 19.5 KiB · 2.0 s"


def test_the_summary_tells_what_policies_changed() -> None:
    """E-21: every column whose values were changed has a line of its own, whole however narrow the screen is."""
    board = begun("orders")
    start(board, "orders")
    for change in ("created: 12 values changed to NULL", "price: 1 value changed to the nearest that fits"):
        board.apply(at(1.0, Warned(export="orders", code=VALUES_CHANGED, message=change)))
    succeed(board, "orders", 2.0, 1000, changed_values={"created": 12, "price": 1})

    for width in (100, 30):
        rows = summary(board, width=width)
        assert " ! orders.created: 12 values changed to NULL" in rows
        assert " ! orders.price: 1 value changed to the nearest that fits" in rows


def test_a_failure_has_code_message_last_lines_remedy_and_command() -> None:
    """E-33, E-63: what failed, why, what the worker said last, what to do, what to type."""
    board = begun("orders")
    start(board, "orders")
    tail = "\n".join(f"line {number}" for number in range(30)) + "\nlast \x1b[31mwords\x07"
    fail(
        board,
        "orders",
        1.0,
        "the worker\x1b[2J died",
        Code.WORKER_DIED,
        notes=("chunk 3, attempt 4 of 4",),
        stderr_tail=tail,
    )

    rows = summary(board)
    text = "\n".join(rows)
    assert " ✗ orders failed: WORKER_DIED" in rows
    assert "   the worker died" in rows
    assert "   chunk 3, attempt 4 of 4" in rows
    assert "   last lines of the worker, 19 before them:" in rows
    assert "     last words" in rows
    assert "     line 18" not in rows
    assert "   what to do  Look at the worker's last lines; if it was killed, memory may be short." in text
    assert "   then        procflow-export run shop.yaml -e orders" in rows
    assert rows[-1].startswith(" 0 of 1 exports published · 1 failed")


def test_the_same_reason_is_told_once() -> None:
    """E-33: grouped when three or more failed for the same normalised reason."""
    board = begun("a", "b", "c", "d")
    for number, name in enumerate("abc"):
        fail(board, name, 1.0, f"cannot connect to 10.0.0.{number}:5432")
    fail(board, "d", 1.0, "permission denied")

    rows = summary(board)
    assert " ✗ 3 exports failed for the same reason: a, b, c: SOURCE_DENIED" in rows
    assert "   then        procflow-export run shop.yaml -e a -e b -e c" in rows
    assert sum("what to do" in row for row in rows) == 2


def test_two_failures_are_told_one_by_one() -> None:
    board = begun("a", "b")
    for name in "ab":
        fail(board, name, 1.0, "same")

    assert sum("what to do" in row for row in summary(board)) == 2


def test_a_narrow_summary_keeps_status_and_rows() -> None:
    board = begun("orders")
    succeed(board, "orders", 2.0, 1000)
    rows = summary(board, 40)

    assert rows[0].split()[-1] == "status"
    assert all(len(row) <= 40 for row in rows)


def test_ascii_is_ascii() -> None:
    board = begun("orders", "b")
    succeed(board, "orders", 2.0, 1000)
    fail(board, "b", 1.0, "x")

    assert all(row.plain.isascii() for row in render_summary(board, width=80, next_command=again, glyphs=ASCII))


def test_an_export_with_nothing_new_is_neither_published_nor_failed() -> None:
    """E-63: its card and its line say so, and a run of such exports is good (lesson 20)."""
    board = begun("orders", "items")
    for name in ("orders", "items"):
        start(board, name, chunks=0)
    succeed(board, "items", 1.0, 5)
    verdict = at(1.0, Finished(run_id=RUN_ID, export="orders", status=Status.SKIPPED, skip_reason="nothing is new"))
    board.apply(verdict)

    rows = summary(board)

    assert event_line(verdict, board) == "orders: nothing is new; what was published stays"
    assert rows[1].startswith(" ✓ orders")
    assert rows[1].endswith("nothing new")
    assert rows[-1].startswith(" 1 of 2 exports published, nothing new in 1 · 5 rows")
    assert board.cards["orders"].fraction() == 1.0
