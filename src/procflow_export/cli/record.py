"""``record``: what a recorded run was, as it was shown when it ended, or what was running when it died."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from rich.text import Text

from procflow.record import RecordState, UnreadableRecordError, load, state_of
from procflow.record.views.gantt import MIN_WIDTH, gantt
from procflow_export.cli.exporting import fields_of, shown_program
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import Interrupts
from procflow_export.model.errors import MisuseError
from procflow_export.pipeline.recorded import read_run
from procflow_export.ui import words
from procflow_export.ui.board import Board, Card
from procflow_export.ui.clean import many_lines
from procflow_export.ui.plain import sign_of_life
from procflow_export.ui.summary import render_summary


def record_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Show the run that a record tells of, as far as it has come; return the exit status."""
    board = Board()
    state = state_of(parsed.record)  # asked first: what is written afterwards only adds to what is shown
    try:
        for event in read_run(parsed.record):
            board.apply(event)
    except UnreadableRecordError as exc:
        raise MisuseError(str(exc)) from exc
    if not board.cards:
        raise MisuseError(f"{parsed.record} is no record of a run of exports")

    program = shown_program(parsed.program)

    def again(names: Sequence[str]) -> str:
        return " ".join([program, "run", "CONFIG", *(f"-e {shlex.quote(name)}" for name in names)])

    rows = render_summary(board, width=face.width, next_command=again, glyphs=face.glyphs)
    if state is not RecordState.FINISHED:
        rows += _unfinished(board, state)
    if face.is_verbose:
        rows += _timeline(parsed.record, face)
    if not face.is_quiet:
        face.show(rows)
    interrupts.hold()
    if face.is_json:
        face.data(_data(board, state))
    return 0


def _unfinished(board: Board, state: RecordState) -> list[Text]:
    """Return what was going on where the record ends."""
    what = "still goes on" if state is RecordState.RUNNING else "died: nobody writes its record any more"
    open_count = sum(not card.state.is_ended for card in board.cards.values())
    rows = [
        Text(
            f" this run {what}; {open_count} of {words.plural(len(board.cards), 'export')} had not ended",
            style="yellow",
        )
    ]
    return rows + [Text(f"   {line}") for line in sign_of_life(board, board.now_s)]


def _timeline(record: str, face: Face) -> list[Text]:
    chart = gantt(load(record), width=max(face.width, MIN_WIDTH))
    return [Text(), *(Text(line) for line in many_lines(chart))]


def _data(board: Board, state: RecordState) -> dict[str, object]:
    return {
        "state": state.value,
        "run_id": board.run_id,
        "run": None if board.finished is None else fields_of(board.finished),
        "exports": [_card(name, card) for name, card in board.cards.items()],
    }


def _card(name: str, card: Card) -> dict[str, object]:
    if card.finished is not None:
        return fields_of(card.finished)
    return {
        "export": name,
        "status": card.state.value,
        "row_count": card.row_count,
        "size_bytes": card.size_bytes,
        "part_count": card.part_count,
        "chunk_count": card.chunk_count,
        "chunks_done": card.chunks_done,
    }
