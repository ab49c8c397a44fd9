"""The fold of run events into cards."""

from __future__ import annotations

import pytest

from procflow_export.model.codes import Code
from procflow_export.model.errors import Failure
from procflow_export.model.events import Finished, Retry, RunFinished, Status, Warned
from procflow_export.ui.board import CardState
from tests.export.ui.events import RUN_ID, at, begun, fail, progress, start, succeed


def test_a_card_follows_its_export_from_waiting_to_done() -> None:
    """E-63: a card shows state, rows, bytes, chunks and the end."""
    board = begun("orders")
    card = board.cards["orders"]
    seen = [card.state]
    start(board, "orders", 1.0, chunks=4, estimate=1000)
    seen.append(card.state)
    progress(board, "orders", 2.0, 500, done=2, size=700)
    seen.append(card.state)
    assert (card.row_count, card.size_bytes, card.chunks_done, card.chunk_count) == (500, 700, 2, 4)
    succeed(board, "orders", 3.0, 1003)

    assert [*seen, card.state] == [CardState.WAITING, CardState.QUEUED, CardState.RUNNING, CardState.DONE]
    assert (card.row_count, card.chunks_done, card.fraction()) == (1003, 4, 1.0)


def test_speed_is_that_of_the_last_seconds() -> None:
    """E-63: rows/s shows the pace of now, not the average since the start."""
    board = begun("orders")
    start(board, "orders")
    for second in range(1, 21):
        progress(board, "orders", float(second), second * 10 if second <= 10 else 100 + (second - 10) * 1000)

    rate = board.cards["orders"].rows_per_s(20.0)
    assert rate is not None
    assert rate == pytest.approx(1000, rel=0.05)


def test_speed_falls_while_nothing_happens() -> None:
    board = begun("orders")
    start(board, "orders")
    progress(board, "orders", 1.0, 0)
    progress(board, "orders", 2.0, 1000)
    card = board.cards["orders"]

    assert (card.rows_per_s(2.0) or 0) > (card.rows_per_s(20.0) or 0) > 0


def test_time_left_comes_from_the_row_estimate() -> None:
    """E-63: ETA from row estimates."""
    board = begun("orders")
    start(board, "orders", 0.0, chunks=1, estimate=1000)
    progress(board, "orders", 5.0, 0, chunks=1)
    progress(board, "orders", 15.0, 250, chunks=1)

    assert board.cards["orders"].left_s(15.0) == pytest.approx(30.0)


def test_time_left_comes_from_chunks_without_an_estimate() -> None:
    board = begun("orders")
    start(board, "orders", 0.0, chunks=4)
    progress(board, "orders", 5.0, 0)
    assert board.cards["orders"].left_s(6.5) is None
    progress(board, "orders", 15.0, 250, done=2)

    assert board.cards["orders"].left_s(15.0) == pytest.approx(10.0)


def test_an_estimate_that_is_too_low_never_reads_a_hundred_percent() -> None:
    board = begun("orders")
    start(board, "orders", 0.0, chunks=1, estimate=10)
    progress(board, "orders", 10.0, 250, chunks=1)

    assert board.cards["orders"].fraction() == 0.99


def test_rows_of_a_failed_attempt_are_taken_back() -> None:
    """E-63: after a retry the speed starts anew and is never negative."""
    board = begun("orders")
    start(board, "orders")
    progress(board, "orders", 1.0, 5000)
    board.apply(
        at(
            1.5,
            Retry(
                export="orders", chunk=0, attempt=1, delay_s=1.0, failure=Failure(code=Code.WORKER_DIED, message="x")
            ),
        )
    )
    progress(board, "orders", 2.0, 100)

    card = board.cards["orders"]
    assert (card.row_count, card.retry_count) == (100, 1)
    assert (card.rows_per_s(3.0) or 0) >= 0


def test_totals_are_the_sums_of_the_cards() -> None:
    board = begun("a", "b", "c")
    start(board, "a")
    start(board, "b")
    progress(board, "b", 1.0, 70, size=7)
    succeed(board, "a", 1.0, 30)
    fail(board, "c", 1.0, "no")
    board.apply(at(1.0, Warned(export="b", code="X", message="y")))

    total = board.total(2.0)
    assert (total.card_count, total.ended_count, total.failed_count) == (3, 2, 1)
    assert (total.row_count, total.size_bytes, total.warning_count) == (100, 307, 1)


def test_late_progress_does_not_revive_a_finished_card() -> None:
    board = begun("a")
    start(board, "a")
    succeed(board, "a", 1.0, 30)
    progress(board, "a", 1.1, 10)

    assert (board.cards["a"].state, board.cards["a"].row_count) == (CardState.DONE, 30)


def test_an_export_nobody_announced_gets_a_card() -> None:
    board = begun()
    board.apply(at(1.0, Finished(run_id=RUN_ID, export="sur\x1b[2Jprise", status=Status.CANCELLED)))

    assert [card.name for card in board.cards.values()] == ["surprise"]


def test_the_run_s_own_totals_win_at_the_end() -> None:
    board = begun("a")
    succeed(board, "a", 1.0, 30)
    board.apply(
        at(
            2.0,
            RunFinished(
                run_id=RUN_ID,
                status=Status.SUCCESS,
                succeeded=1,
                failed=0,
                cancelled=0,
                row_count=30,
                part_count=1,
                size_bytes=3,
                elapsed_s=1.75,
                peak_rss_bytes=1,
                exit_status=0,
            ),
        )
    )

    assert board.total(99.0).elapsed_s == 1.75


def test_time_counts_from_the_first_work_not_from_the_queue() -> None:
    """E-63: an export that waited for a worker is not called slow for it."""
    board = begun("orders")
    start(board, "orders", 0.0)
    card = board.cards["orders"]
    assert card.elapsed_s(50.0) is None
    progress(board, "orders", 100.0, 0)
    progress(board, "orders", 101.0, 500)
    succeed(board, "orders", 102.0, 1000)

    assert card.elapsed_s(200.0) == pytest.approx(2.0)
    assert card.rows_per_s(200.0) == pytest.approx(500.0)
