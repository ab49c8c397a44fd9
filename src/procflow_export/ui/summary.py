"""The last thing a person sees of a run: what came out, what failed and why, and what to type next.

Pure: a board becomes rows of text.  The table wraps nowhere; what explains a failure may.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from procflow_export.model.errors import Failure
from procflow_export.ui import words
from procflow_export.ui.board import Board, Card, CardState
from procflow_export.ui.clean import many_lines, normalised_reason, one_line
from procflow_export.ui.layout import GUTTER, MAX_NAME_CELLS, MIN_NAME_CELLS, STYLES, UNICODE, Glyphs, cut, left_cell

SAME_REASON_COUNT: Final = 3
"""So many exports that failed for one reason are told together."""
SHOWN_TAIL_LINES: Final = 12
SHOWN_NOTES: Final = 8
MIN_PARAGRAPH_CELLS: Final = 20
_WHAT_TO_DO: Final = "what to do  "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    heading: str
    cell: Callable[[Card], str]
    rank: int
    """Which column goes first when they do not all fit: the lowest."""


def _speed(card: Card) -> str:
    rate = card.rows_per_s(0.0) if card.state is CardState.DONE else None
    return words.compact(rate) if rate is not None else ""


def _time(card: Card) -> str:
    elapsed = card.elapsed_s(0.0) if card.finished is not None else None
    return words.duration(elapsed) if elapsed is not None else ""


_COLUMNS: Final = (
    _Column(
        heading="rows", cell=lambda card: words.whole(card.row_count) if card.state is CardState.DONE else "", rank=9
    ),
    _Column(
        heading="parts", cell=lambda card: words.whole(card.part_count) if card.state is CardState.DONE else "", rank=5
    ),
    _Column(
        heading="written", cell=lambda card: words.size(card.size_bytes) if card.state is CardState.DONE else "", rank=7
    ),
    _Column(heading="time", cell=_time, rank=8),
    _Column(heading="rows/s", cell=_speed, rank=4),
    _Column(
        heading="peak RSS", cell=lambda card: words.size(card.peak_rss_bytes) if card.peak_rss_bytes else "", rank=3
    ),
    _Column(heading="retries", cell=lambda card: words.whole(card.retry_count) if card.retry_count else "", rank=6),
    _Column(heading="status", cell=lambda card: card.state.value, rank=10),
)


def render_summary(
    board: Board, *, width: int, next_command: Callable[[Sequence[str]], str], glyphs: Glyphs = UNICODE
) -> list[Text]:
    """Return the table of all exports, every failure with its reason and remedy, and the totals.

    Args:
        board: All that is known of the run.
        width: Cells of a row of the table.
        next_command: Returns what to type to run these exports again.
        glyphs: Characters that the terminal can show.
    """
    rows = _table(list(board.cards.values()), width=width, glyphs=glyphs)
    rows.extend(_changes(board))
    for cards in _grouped(board):
        rows.append(Text())
        rows.extend(_failure(cards, next_command, width=width, glyphs=glyphs))
    rows.append(Text())
    rows.append(_total(board, width=width, glyphs=glyphs))
    return rows


def _table(cards: Sequence[Card], *, width: int, glyphs: Glyphs) -> list[Text]:
    if not cards:
        return []
    wanted = [column for column in _COLUMNS if column.heading != "retries" or any(card.retry_count for card in cards)]
    longest = max(cell_len(card.name) for card in cards)
    name_cells = max(MIN_NAME_CELLS, min(longest, MAX_NAME_CELLS, max(MIN_NAME_CELLS, width // 3)))
    sizes = {column: max(len(column.heading), *(len(column.cell(card)) for card in cards)) for column in wanted}
    while wanted and 3 + name_cells + sum(sizes[column] + len(GUTTER) for column in wanted) > width:
        wanted.remove(min(wanted, key=lambda column: column.rank))
    heading = Text("   " + left_cell("export", name_cells), style="dim")
    for column in wanted:
        is_last = column.heading == "status"
        heading.append(GUTTER + (column.heading if is_last else column.heading.rjust(sizes[column])))
    rows = [cut(heading, width, glyphs)]
    for card in cards:
        line = Text(" ")
        line.append(_icon(card, glyphs), style=STYLES[card.state])
        line.append(" " + left_cell(card.name, name_cells, glyphs.ellipsis))
        for column in wanted:
            text = column.cell(card)
            style = STYLES[card.state] if column.heading == "status" else ""
            line.append(GUTTER)
            line.append(text if column.heading == "status" else text.rjust(sizes[column]), style=style)
        rows.append(cut(line, width, glyphs))
    return rows


def _icon(card: Card, glyphs: Glyphs) -> str:
    return {
        CardState.DONE: glyphs.done,
        CardState.SKIPPED: glyphs.done,
        CardState.FAILED: glyphs.failed,
        CardState.CANCELLED: glyphs.cancelled,
    }.get(card.state, glyphs.waiting)


def _changes(board: Board) -> list[Text]:
    """Return what was changed on the way; these lines may wrap, as nothing of them may be cut."""
    return [
        Text.assemble(" ", ("!", "bold yellow"), f" {card.name}.{change}")
        for card in board.cards.values()
        for change in card.changes
    ]


def _grouped(board: Board) -> list[list[Card]]:
    """Return the failed cards, those with one reason together where they are many, in the order of the run."""
    groups: dict[tuple[str, str], list[Card]] = {}
    for card in board.cards.values():
        if card.state is CardState.FAILED:
            failure = card.failure
            key = (failure.code.value, normalised_reason(failure.message)) if failure is not None else ("", "")
            groups.setdefault(key, []).append(card)
    together: list[list[Card]] = []
    for cards in groups.values():
        together.extend([cards] if len(cards) >= SAME_REASON_COUNT else [[card] for card in cards])
    return together


def _failure(
    cards: Sequence[Card], next_command: Callable[[Sequence[str]], str], *, width: int, glyphs: Glyphs
) -> list[Text]:
    names = [card.name for card in cards]
    failure = cards[0].failure
    title = Text.assemble(" ", (glyphs.failed, "bold red"), " ")
    if len(cards) == 1:
        title.append(names[0], style="bold")
        title.append(" failed")
    else:
        title.append(f"{len(cards)} exports", style="bold")
        title.append(f" failed for the same reason: {', '.join(names)}")
    if failure is None:
        return [title]
    title.append(": ")
    title.append(failure.code.value, style="bold red")
    rows = [title, *_paragraph(many_lines(failure.message), width=width)]
    rows.extend(_paragraph(_notes(failure), width=width, style="dim"))
    rows.extend(_tail(failure, is_one_of_many=len(cards) > 1))
    remedy = _paragraph([failure.code.action], width=width, indent=" " * (3 + len(_WHAT_TO_DO)))
    remedy[0] = Text.assemble("   ", (_WHAT_TO_DO, "dim"), remedy[0].plain.lstrip())
    rows.extend(remedy)
    keys = [card.finished.export for card in cards if card.finished is not None]
    rows.append(Text.assemble("   ", ("then".ljust(len(_WHAT_TO_DO)), "dim"), (one_line(next_command(keys)), "cyan")))
    return rows


def _paragraph(lines: Sequence[str], *, width: int, indent: str = "   ", style: str = "") -> list[Text]:
    room = max(width, len(indent) + MIN_PARAGRAPH_CELLS)
    rows: list[Text] = []
    for line in lines:
        wrapped = textwrap.wrap(line, room, initial_indent=indent, subsequent_indent=indent) or [""]
        rows.extend(Text(row, style=style) for row in wrapped)
    return rows


def _notes(failure: Failure) -> list[str]:
    lines = [line for note in failure.notes for line in many_lines(note)]
    if len(lines) > SHOWN_NOTES:
        lines = [*lines[:SHOWN_NOTES], f"… {len(lines) - SHOWN_NOTES} more lines"]
    return lines


def _tail(failure: Failure, *, is_one_of_many: bool) -> list[Text]:
    lines = many_lines(failure.stderr_tail)
    if not lines:
        return []
    shown = lines[-SHOWN_TAIL_LINES:]
    which = "of one worker" if is_one_of_many else "of the worker"
    more = f", {len(lines) - len(shown)} before them" if len(lines) > len(shown) else ""
    rows = [Text(f"   last lines {which}{more}:", style="dim")]
    return rows + [Text(f"     {line}", style="dim") for line in shown]


def _total(board: Board, *, width: int, glyphs: Glyphs) -> Text:
    total = board.total(board.now_s)
    done = [card for card in board.cards.values() if card.state is CardState.DONE]
    parts = sum(card.part_count for card in done)
    rows = sum(card.row_count for card in done)
    failed, cancelled = total.failed_count, sum(card.state is CardState.CANCELLED for card in board.cards.values())
    line = Text(" ")
    skipped = sum(card.state is CardState.SKIPPED for card in board.cards.values())
    is_good = len(done) + skipped == total.card_count
    verdict = f"{len(done)} of {total.card_count} exports published"
    if len(done) == total.card_count:
        verdict = "all exports published"
    elif is_good:
        verdict += f", nothing new in {skipped}"
    line.append(verdict, style="bold green" if is_good else "bold red" if failed else "bold yellow")
    pieces = [words.plural(rows, "row"), words.plural(parts, "part"), words.size(sum(card.size_bytes for card in done))]
    pieces.append(words.duration(total.elapsed_s))
    if board.finished is not None and board.finished.longest_transaction_s:
        statement, transaction = board.finished.longest_statement_s, board.finished.longest_transaction_s
        pieces.append(f"longest statement {words.duration(statement)}, transaction {words.duration(transaction)}")
    if failed:
        pieces.insert(0, f"{failed} failed")
    if cancelled:
        pieces.insert(0, f"{cancelled} cancelled")
    if total.warning_count:
        pieces.append(words.plural(total.warning_count, "warning"))
    for piece in pieces:
        if line.cell_len + 3 + len(piece) > width:
            break
        line.append(f" {glyphs.dot} ", style="dim")
        line.append(piece)
    return line
