"""``tail`` and ``replay``: the events of a record, as they come or as they came."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import anyio

from procflow.record.cli.face import Face
from procflow.record.cli.runs import find_run, root_of
from procflow.record.cli.statuses import Status
from procflow.record.loading import read_events
from procflow.record.reading.reader import Line
from procflow.record.reading.states import RecordState
from procflow.record.tailing import tail
from procflow.record.views.event_lines import event_line
from procflow.record.views.looks import Look
from procflow.record.views.words import fitted

_WHO_COLUMNS: Final = 16
_TIME_COLUMNS: Final = 7
_LOOK_AFTER_S: Final = 0.5
_QUIET: Final = (Look.OPEN, Look.WAITING)


def tail_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Show the events of a record and go on until the run is over, or until nobody reads any more."""
    path = find_run(parsed.run, root_of(parsed.root))
    if parsed.no_follow:
        for line in read_events(path):
            if line.head.seq >= parsed.from_seq and not face.is_reader_gone:
                show_event(line, face, is_raw=parsed.json)
        return Status.DONE
    state = anyio.run(_follow, path, parsed, face)
    if state is RecordState.CRASHED and not face.is_reader_gone:
        face.say("the record has no end: its writer is gone")
    return Status.DONE


def show_event(line: Line, face: Face, *, is_raw: bool) -> None:
    """Write an event as its bytes, or as one line for people."""
    if is_raw:
        face.hold(line.raw + b"\n")
        return
    time, who, what, look = event_line(line.event)
    columns = _WHO_COLUMNS if face.width is None or face.width >= 70 else 10
    shown = face.cut(what, used=_TIME_COLUMNS + columns + 2)
    colour = None if look in _QUIET else look
    face.lines(
        [f"{face.paint(f'{time:>{_TIME_COLUMNS}}', is_dim=True)} {fitted(who, columns)} {face.paint(shown, colour)}"]
    )


async def _follow(path: Path, parsed: argparse.Namespace, face: Face) -> RecordState:
    async with tail(path, parsed.from_seq) as lines, anyio.create_task_group() as group:
        group.start_soon(_watch_reader, face, group.cancel_scope, name="watch the reader of standard output")
        async for line in lines:
            show_event(line, face, is_raw=parsed.json)
            face.flush()
            if face.is_reader_gone:
                break
        group.cancel_scope.cancel()
    return lines.state


async def _watch_reader(face: Face, scope: anyio.CancelScope) -> None:
    """End ``scope`` when nobody reads any more: a quiet run would hold up the whole pipeline."""
    while not face.is_reader_gone:
        await anyio.sleep(_LOOK_AFTER_S)
        face.look_after_reader()
    scope.cancel()
