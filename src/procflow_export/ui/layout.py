"""Cards as rows of text: which columns fit, which cards fit, how each one reads.

Pure: (cards, width, height) -> rows, each at most ``width`` cells wide and never more than ``height`` of them.  Must not know a
terminal, a clock or an event.

A row is never wrapped and never holds a line end: everything foreign has passed ``clean.one_line`` before it is here, and the
last step cuts every row to the width.  When columns do not fit, the least needed ones go first; when rows do not fit, cards that
wait or are done make room for those that run or failed, and one line says how many are not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from procflow_export.ui import words
from procflow_export.ui.board import Board, Card, CardState
from procflow_export.ui.clean import one_line

MIN_BAR_CELLS: Final = 8
MAX_BAR_CELLS: Final = 32
MAX_NAME_CELLS: Final = 28
MIN_NAME_CELLS: Final = 8
MIN_WIDTH: Final = 24
MIN_HEIGHT: Final = 3
GUTTER: Final = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """The characters that carry meaning; ``ASCII`` where the terminal cannot show the others."""

    full: str
    half: str
    empty: str
    spinner: str
    waiting: str
    done: str
    failed: str
    cancelled: str
    dot: str
    ellipsis: str


UNICODE: Final = Glyphs(
    full="━",
    half="╸",
    empty="─",
    spinner="⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
    waiting="·",
    done="✓",
    failed="✗",
    cancelled="■",
    dot="·",
    ellipsis="…",
)
ASCII: Final = Glyphs(
    full="=",
    half=">",
    empty=" ",
    spinner="|/-\\",
    waiting=".",
    done="+",
    failed="x",
    cancelled="#",
    dot="|",
    ellipsis="~",
)

STYLES: Final[dict[CardState, str]] = {
    CardState.WAITING: "dim",
    CardState.PLANNING: "cyan",
    CardState.QUEUED: "dim",
    CardState.RUNNING: "cyan",
    CardState.DONE: "green",
    CardState.SKIPPED: "green",
    CardState.FAILED: "bold red",
    CardState.CANCELLED: "yellow",
}

# Which cards are shown when not all fit: the lowest number stays longest.
_IMPORTANCE: Final[dict[CardState, int]] = {
    CardState.FAILED: 0,
    CardState.RUNNING: 1,
    CardState.PLANNING: 1,
    CardState.CANCELLED: 2,
    CardState.DONE: 3,
    CardState.SKIPPED: 3,
    CardState.QUEUED: 4,
    CardState.WAITING: 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column of numbers: its heading, its text for a card, and when it has to go (lowest first)."""

    heading: str
    cell: Callable[[Card, float], str]
    rank: int


def _rows(card: Card, _now_s: float) -> str:
    return words.whole(card.row_count)


def _compact_rows(card: Card, _now_s: float) -> str:
    return words.compact(card.row_count)


def _rate(card: Card, now_s: float) -> str:
    rate = card.rows_per_s(now_s)
    return words.compact(rate) if rate is not None else ""


def _written(card: Card, _now_s: float) -> str:
    return words.size(card.size_bytes) if card.size_bytes else ""


def _chunks(card: Card, _now_s: float) -> str:
    return f"{card.chunks_done}/{card.chunk_count}" if card.chunk_count is not None else ""


def _time(card: Card, now_s: float) -> str:
    elapsed = card.elapsed_s(now_s)
    return words.duration(elapsed) if elapsed is not None else ""


def _left(card: Card, now_s: float) -> str:
    left = card.left_s(now_s)
    return words.duration(max(left, 1.0)) if left is not None else ""


def _retries(card: Card, _now_s: float) -> str:
    return words.whole(card.retry_count) if card.retry_count else ""


_ROWS: Final = _Column(heading="rows", cell=_rows, rank=9)
_COMPACT_ROWS: Final = _Column(heading="rows", cell=_compact_rows, rank=9)
_RETRIES: Final = _Column(heading="retries", cell=_retries, rank=4)
_COLUMNS: Final = (
    _ROWS,
    _Column(heading="rows/s", cell=_rate, rank=7),
    _Column(heading="written", cell=_written, rank=3),
    _Column(heading="chunks", cell=_chunks, rank=2),
    _RETRIES,
    _Column(heading="time", cell=_time, rank=8),
    _Column(heading="left", cell=_left, rank=6),
)


def render_board(board: Board, *, width: int, height: int, now_s: float, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Return the rows of all cards and the total line; at most ``height`` rows of at most ``width`` cells.

    Below ``MIN_WIDTH`` cells or ``MIN_HEIGHT`` rows only the total line is returned.
    """
    total = _total_row(board, width=width, now_s=now_s, glyphs=glyphs)
    cards = list(board.cards.values())
    if not cards or width < MIN_WIDTH or height < MIN_HEIGHT:
        return [total]
    # One row is the total; the heading and the blank before the total are luxuries.
    has_heading = height >= len(cards) + 3
    has_blank = height >= len(cards) + 2
    room = height - 1 - has_heading - has_blank
    shown, hidden = cards, list[Card]()
    if len(cards) > room:
        shown, hidden = _choose(cards, room - 1)
    grid = _Grid.fit(cards, width=width, now_s=now_s)
    rows = [grid.heading(glyphs)] if has_heading else []
    rows.extend(grid.row(card, now_s=now_s, glyphs=glyphs) for card in shown)
    if hidden:
        rows.append(cut(Text(f"   {glyphs.ellipsis} and {_census(hidden)}", style="dim"), width, glyphs))
    if has_blank:
        rows.append(Text())
    rows.append(total)
    return rows


def _choose(cards: Sequence[Card], room: int) -> tuple[list[Card], list[Card]]:
    ranked = sorted(range(len(cards)), key=lambda index: (_IMPORTANCE[cards[index].state], index))
    kept = set(ranked[: max(room, 0)])
    return (
        [card for index, card in enumerate(cards) if index in kept],
        [card for index, card in enumerate(cards) if index not in kept],
    )


def _census(cards: Sequence[Card]) -> str:
    counts: dict[str, int] = {}
    for card in cards:
        counts[card.state.value] = counts.get(card.state.value, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """The widths that all rows of one picture share."""

    width: int
    name_cells: int
    bar_cells: int
    has_percent: bool
    columns: tuple[tuple[_Column, int], ...]

    @classmethod
    def fit(cls, cards: Sequence[Card], *, width: int, now_s: float) -> _Grid:
        """Choose the columns that fit ``width``: all of them if possible, else by rank."""
        longest = max(cell_len(card.name) for card in cards)
        name_cells = max(MIN_NAME_CELLS, min(longest, MAX_NAME_CELLS, max(MIN_NAME_CELLS, width // 3)))
        wanted = list(_COLUMNS)
        if not any(card.retry_count for card in cards):
            wanted.remove(_RETRIES)
        if width < 60:
            wanted[0] = _COMPACT_ROWS
        fixed = 3 + name_cells  # " ✓ " and the name
        percent_cells = len(GUTTER) + 4
        while True:
            sized = tuple((column, _column_cells(column, cards, now_s)) for column in wanted)
            numbers = sum(cells + len(GUTTER) for _, cells in sized)
            left = width - fixed - numbers - percent_cells
            bar = left - len(GUTTER)
            enough = MIN_BAR_CELLS if width >= 72 else 0
            if left >= 0 and bar >= enough:
                bar_cells = min(bar, MAX_BAR_CELLS) if bar >= MIN_BAR_CELLS else 0
                return cls(width=width, name_cells=name_cells, bar_cells=bar_cells, has_percent=True, columns=sized)
            if not wanted:
                return cls(width=width, name_cells=name_cells, bar_cells=0, has_percent=False, columns=())
            wanted.remove(min(wanted, key=lambda column: column.rank))

    def heading(self, glyphs: Glyphs) -> Text:
        """The row that names the columns."""
        line = Text("   " + left_cell("export", self.name_cells))
        if self.bar_cells:
            line.append(GUTTER + left_cell("progress", self.bar_cells))
        if self.has_percent:
            line.append(GUTTER + " " * 4)
        for column, cells in self.columns:
            line.append(GUTTER + column.heading.rjust(cells))
        line.stylize("dim")
        return cut(line, self.width, glyphs)

    def row(self, card: Card, *, now_s: float, glyphs: Glyphs) -> Text:
        """One card."""
        line = Text(" ")
        line.append(_icon(card, now_s, glyphs), style=STYLES[card.state])
        line.append(" ")
        line.append(
            left_cell(card.name, self.name_cells, glyphs.ellipsis),
            style="bold" if card.state is CardState.RUNNING else "",
        )
        remark = _remark(card)
        if remark is not None:
            line.append(GUTTER)
            line.append(remark, style="red" if card.state is CardState.FAILED else STYLES[card.state])
            return cut(line, self.width, glyphs)
        fraction = card.fraction()
        if self.bar_cells:
            line.append(GUTTER)
            line.append_text(_bar(fraction, self.bar_cells, STYLES[card.state], glyphs))
        if self.has_percent:
            line.append(GUTTER + (words.percent(fraction) if fraction is not None else "").rjust(4), style="default")
        for column, cells in self.columns:
            style = (
                "yellow"
                if column is _RETRIES
                else ("" if column.heading == "rows" else "dim" if card.state is CardState.DONE else "")
            )
            line.append(GUTTER)
            line.append(column.cell(card, now_s).rjust(cells), style=style)
        return cut(line, self.width, glyphs)


def _column_cells(column: _Column, cards: Sequence[Card], now_s: float) -> int:
    floor: Literal[7, 0] = 7 if column.heading in ("rows", "written") else 0  # numbers grow: columns should not dance
    return max(floor, len(column.heading), *(len(column.cell(card, now_s)) for card in cards))


def _icon(card: Card, now_s: float, glyphs: Glyphs) -> str:
    match card.state:
        case CardState.WAITING | CardState.QUEUED:
            return glyphs.waiting
        case CardState.PLANNING | CardState.RUNNING:
            return glyphs.spinner[int(now_s * 10) % len(glyphs.spinner)]
        case CardState.DONE | CardState.SKIPPED:
            return glyphs.done
        case CardState.FAILED:
            return glyphs.failed
        case CardState.CANCELLED:
            return glyphs.cancelled


def _remark(card: Card) -> str | None:
    """The words that stand in place of the numbers, or ``None`` for a card that has numbers."""
    match card.state:
        case CardState.WAITING:
            return "waiting"
        case CardState.PLANNING:
            return "planning"
        case CardState.QUEUED:
            return _queued(card)
        case CardState.FAILED:
            return f"{card.failure.code}: {one_line(card.failure.message)}" if card.failure is not None else "failed"
        case CardState.CANCELLED | CardState.SKIPPED:
            return str(card.state.value)
        case CardState.RUNNING | CardState.DONE:
            return None


def _queued(card: Card) -> str:
    pieces = ["queued"]
    if card.chunk_count is not None and card.chunk_count > 1:
        pieces.append(f"{words.whole(card.chunk_count)} chunks")
    if card.row_estimate:
        pieces.append(f"about {words.compact(card.row_estimate)} rows")
    return ", ".join(pieces)


def _bar(fraction: float | None, cells: int, style: str, glyphs: Glyphs) -> Text:
    bar = Text()
    filled = (fraction or 0.0) * cells
    whole = min(int(filled), cells)
    bar.append(glyphs.full * whole, style=style)
    if whole < cells:
        has_half = filled - whole >= 0.5
        bar.append(glyphs.half if has_half else "", style=style)
        bar.append(glyphs.empty * (cells - whole - has_half), style="bright_black")
    return bar


def left_cell(text: str, cells: int, ellipsis: str = "…") -> str:
    """Return ``text`` in exactly ``cells`` cells."""
    if cell_len(text) <= cells:
        return set_cell_size(text, cells)
    return set_cell_size(set_cell_size(text, cells - 1).rstrip() + ellipsis, cells)


def cut(line: Text, width: int, glyphs: Glyphs) -> Text:
    """Cut ``line`` to ``width`` cells, the last one an ellipsis, and return it."""
    if line.cell_len > width:
        line.truncate(max(width - 1, 0))
        line.rstrip()
        line.append(glyphs.ellipsis, style="dim")
    line.no_wrap = True
    return line


def _is_starting(board: Board) -> bool:
    states = {card.state for card in board.cards.values()}
    return CardState.QUEUED in states and CardState.RUNNING not in states


def _total_row(board: Board, *, width: int, now_s: float, glyphs: Glyphs) -> Text:
    """``3 of 4 exports · 1,234 rows · 400k rows/s · 2.5 MiB · 3.1 s``; what does not fit is left out from the right."""
    total = board.total(now_s)
    pieces: list[tuple[str, str]] = []
    if board.notice:
        pieces.append((board.notice, "bold yellow"))
    if not board.cards:
        pieces.append(("starting", "dim"))
    else:
        pieces.append((f"{total.ended_count} of {total.card_count} done", "bold"))
    if total.failed_count:
        pieces.append((f"{total.failed_count} failed", "bold red"))
    if total.row_count:
        pieces.append((f"{words.whole(total.row_count)} rows", ""))
        if total.rows_per_s:
            pieces.append((f"{words.compact(total.rows_per_s)} rows/s", ""))
        if total.size_bytes:
            pieces.append((words.size(total.size_bytes), ""))
    elif _is_starting(board):
        pieces.append(("workers are starting" if board.engine == "processes" else "starting", "dim"))
    pieces.append((words.duration(total.elapsed_s), ""))
    if total.warning_count:
        pieces.append((words.plural(total.warning_count, "warning"), "yellow"))
    if total.retry_count:
        pieces.append((words.plural(total.retry_count, "retry", many="retries"), "yellow"))
    line = Text(" ")
    for index, (text, style) in enumerate(pieces):
        separator = f" {glyphs.dot} " if index else ""
        if index and line.cell_len + len(separator) + cell_len(text) > width:
            break
        line.append(separator, style="dim")
        line.append(text, style=style)
    return cut(line, width, glyphs)
