"""One line per thing that happens, for logs and pipes: start, a sign of life every ten seconds, finish.

Pure: an event or a card becomes a line without colour.  The lines are for people; programs read ``--json``.
"""

from __future__ import annotations

from procflow_export.model.events import (
    ChunkFinished,
    Finished,
    PartWritten,
    ProgressInit,
    Retry,
    RunEvent,
    RunStarted,
    Status,
    Warned,
)
from procflow_export.ui import words
from procflow_export.ui.board import Board, Card, CardState
from procflow_export.ui.clean import one_line


def event_line(event: RunEvent, board: Board, *, is_verbose: bool = False) -> str | None:
    """Return the line of ``event``, which ``board`` has folded in, or ``None`` for one that is not worth a line."""
    match event:
        case RunStarted():
            name = one_line(event.engine)
            return f"run {event.run_id}: {words.plural(len(event.exports), 'export')}, {name}, at most {event.max_units} at once"
        case ProgressInit():
            about = f", about {words.compact(event.row_estimate)} rows" if event.row_estimate else ""
            key = f" by {one_line(event.key)}" if event.key else ""
            return f"{one_line(event.export)}: started, {words.plural(event.total_chunks, 'chunk')}{key}{about}"
        case Finished():
            return finished_line(event, board.card(event.export))
        case Retry() | Warned():
            return message_line(event)
        case PartWritten() if is_verbose:
            return f"{one_line(event.export)}: part {one_line(event.key)}, {words.plural(event.row_count, 'row')}, {words.size(event.size_bytes)}"
        case ChunkFinished() if is_verbose:
            tries = f", attempt {event.attempts}" if event.attempts > 1 else ""
            return (
                f"{one_line(event.export)}: chunk {event.chunk} done, {words.plural(event.row_count, 'row')}, "
                f"{words.duration(event.elapsed_s)}{tries}"
            )
        case _:
            return None


def message_line(event: Retry | Warned) -> str:
    """Return the line of something that did not stop an export."""
    match event:
        case Retry():
            when = f"in {words.duration(event.delay_s)}" if event.delay_s else "now"
            failure = event.failure
            what = "planning" if event.chunk < 0 else f"chunk {event.chunk}"
            return (
                f"{one_line(event.export)}: {what} is tried again {when} after attempt {event.attempt}: "
                f"{failure.code}: {one_line(failure.message)}"
            )
        case Warned():
            return f"{one_line(event.export)}: {one_line(event.code)}: {one_line(event.message)}"


def finished_line(event: Finished, card: Card) -> str:
    """Return the verdict on one export."""
    name = one_line(event.export)
    if event.status is Status.SUCCESS:
        rate, elapsed = card.rows_per_s(0.0), card.elapsed_s(0.0)
        speed = f", {words.rate(rate)}" if rate else ""
        retries = f", {words.plural(event.retry_count, 'retry', many='retries')}" if event.retry_count else ""
        return (
            f"{name}: done, {words.plural(event.row_count, 'row')} in {words.plural(event.part_count, 'part')}, "
            f"{words.size(event.size_bytes)}, {words.duration(elapsed or 0.0)}{speed}{retries}"
        )
    if event.status is Status.SKIPPED:
        return f"{name}: {event.skip_reason or 'nothing to do'}; what was published stays"
    if event.status is Status.CANCELLED:
        return f"{name}: cancelled, nothing was published"
    reason = (
        f"{event.failure.code}: {one_line(event.failure.message)}" if event.failure is not None else "no reason given"
    )
    return f"{name}: failed, {reason}"


def progress_line(card: Card, now_s: float) -> str:
    """Return how far a running export is."""
    fraction, rate, left = card.fraction(), card.rows_per_s(now_s), card.left_s(now_s)
    pieces = [words.plural(card.row_count, "row")]
    if fraction is not None:
        pieces.insert(0, words.percent(fraction))
    if rate is not None:
        pieces.append(words.rate(rate))
    if card.size_bytes:
        pieces.append(words.size(card.size_bytes))
    if card.chunk_count is not None and card.chunk_count > 1:
        pieces.append(f"{card.chunks_done} of {card.chunk_count} chunks")
    if left is not None:
        pieces.append(f"about {words.duration(max(left, 1.0))} left")
    return f"{card.name}: {', '.join(pieces)}"


def sign_of_life(board: Board, now_s: float) -> list[str]:
    """Return one line per export that is at work; the others were told before."""
    at_work = (CardState.RUNNING, CardState.PLANNING)
    lines = [progress_line(card, now_s) for card in board.cards.values() if card.state is CardState.RUNNING]
    lines += [f"{card.name}: planning" for card in board.cards.values() if card.state is CardState.PLANNING]
    waiting = sum(not card.state.is_ended and card.state not in at_work for card in board.cards.values())
    if waiting:
        lines.append(f"{words.plural(waiting, 'export')} waiting")
    return lines
