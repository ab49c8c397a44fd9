"""``list``: the runs of a directory, or of a database."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from procflow.record.cli.face import Face
from procflow.record.cli.runs import directories_in, root_of
from procflow.record.cli.statuses import Status
from procflow.record.cli.tables import Column, table_lines
from procflow.record.errors import UnreadableRecordError
from procflow.record.fold.rows import RunRow
from procflow.record.loading import load
from procflow.record.reading.reader import Health
from procflow.record.reading.states import RecordState
from procflow.record.storing import runs_in
from procflow.record.views.looks import Look, ending_word, look_of
from procflow.record.views.open_work import elapsed_ns
from procflow.record.views.summary import health_line
from procflow.record.views.words import duration_text, instant_text

_ENDED: Final = "ENDED"
_LEAST_ID: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of the list; ``run`` is ``None`` for a record that cannot be read, and ``problem`` says why."""

    handle: str
    path: str
    state: RecordState
    run: RunRow | None
    health: Health
    problem: str = ""


def list_command(parsed: argparse.Namespace, face: Face) -> Status:
    """List runs, the latest first."""
    if parsed.database is not None:
        found = [
            Listed(handle=one.run_id, path=one.path, state=one.state, run=one.run, health=one.health)
            for one in runs_in(parsed.database)
        ]
    else:
        root = root_of(parsed.root)
        found = [_listed(root / name) for name in directories_in(root)]
    handles = [one.handle for one in found]
    found.sort(key=_began_at, reverse=True)
    if parsed.state is not None:
        found = [one for one in found if one.state.value == parsed.state]
    found = found[: parsed.number]
    now_ms = time.time_ns() // 1_000_000
    if face.is_json:
        face.data({"runs": [_document(one, now_ms) for one in found]})
        return Status.DONE
    if not found:
        face.say("no runs")
        return Status.DONE
    shortest = shortest_names(handles) if face.width is not None else {}
    columns = [
        Column(head="RUN"),
        Column(head="NAME", least=8, rank=1),
        Column(head=_ENDED),
        Column(head="BEGAN (UTC)", rank=3),
        Column(head="TOOK", is_right=True, rank=2),
        Column(head="RECORD", least=10, rank=4),
    ]
    rows = [_row(one, shortest.get(one.handle, one.handle), now_ms) for one in found]
    face.lines(table_lines(columns, rows, width=face.width, paint=face.paint, painted=_ENDED))
    return Status.DONE


def shortest_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each name the shortest beginning of it, of at least eight letters, that no other name has."""
    ordered = sorted(set(names))
    common = [_common(one, other) for one, other in pairwise(ordered)]
    needed = (
        [max(before, after) + 1 for before, after in zip([0, *common], [*common, 0], strict=True)] if ordered else []
    )
    return {name: name[: max(length, _LEAST_ID)] for name, length in zip(ordered, needed, strict=True)}


def _common(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _listed(path: Path) -> Listed:
    try:
        view = load(path)
    except UnreadableRecordError as exc:
        return Listed(
            handle=path.name,
            path=os.fspath(path),
            state=RecordState.UNREADABLE,
            run=None,
            health=Health(),
            problem=exc.reason,
        )
    return Listed(handle=path.name, path=os.fspath(path), state=view.state, run=view.run, health=view.health)


def _began_at(one: Listed) -> tuple[int, str]:
    started = one.run.started_at_ms if one.run is not None else None
    return (started if started is not None else -1, one.handle)


def _row(one: Listed, shown: str, now_ms: int) -> tuple[Look | None, Sequence[str]]:
    if one.run is None:
        return Look.BAD, (shown, "", one.state.value, "", "", one.problem)
    health = health_line(one.health)
    took = duration_text(elapsed_ns(one.run, one.run, one.state, now_ms))
    ended = "running" if one.state is RecordState.RUNNING else ending_word(one.run)
    record = health if one.state is RecordState.FINISHED else f"{one.state.value}, {health}"
    return look_of(one.run), (shown, one.run.name or "", ended, instant_text(one.run.started_at_ms), took, record)


def _document(one: Listed, now_ms: int) -> dict[str, object]:
    told: dict[str, object] = {"path": one.path, "state": one.state.value}
    if one.run is None:
        return told | {"problem": one.problem}
    run = one.run
    return told | {
        "run_id": run.run_id,
        "name": run.name,
        "outcome": run.outcome,
        "started_at_ms": run.started_at_ms,
        "finished_at_ms": run.finished_at_ms,
        "elapsed_ns": elapsed_ns(run, run, one.state, now_ms),
        "is_clean": one.health.is_clean,
        "health": health_line(one.health),
    }
