"""``list``: the runs of a directory, or of a database."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from procflow.record.cli.documents import listed_document
from procflow.record.cli.face import Face
from procflow.record.cli.runs import records_below, root_of
from procflow.record.cli.statuses import Status
from procflow.record.cli.tables import Column, table_lines
from procflow.record.events import LOST, SUCCEEDED
from procflow.record.reading.states import RecordState
from procflow.record.retention.choice import ListedRecord
from procflow.record.storing import runs_in
from procflow.record.views.looks import Look
from procflow.record.views.words import bytes_text, duration_text, instant_text

_ENDED: Final = "ENDED"
_LEAST_ID: Final = 8


def list_command(parsed: argparse.Namespace, face: Face) -> Status:
    """List runs, the latest first."""
    records = records_below(root_of(parsed.root)) if parsed.database is None else _stored(parsed.database)
    names = shortest_names(Path(record.path).name for record in records)
    found = sorted(records, key=lambda record: (record.started_at_ms or 0, record.path), reverse=True)
    if parsed.state is not None:
        found = [record for record in found if record.state.value == parsed.state]
    found = found[: parsed.number]
    if face.is_json:
        face.data({"runs": [listed_document(record) for record in found]})
    elif found:
        face.lines(record_lines(found, face, names=names if face.width is not None else {}))
    else:
        face.say("no runs")
    return Status.DONE


def record_lines(records: Sequence[ListedRecord], face: Face, *, names: dict[str, str]) -> list[str]:
    """Return a table of records; ``names`` shortens the names of their directories."""
    columns = [
        Column(head="RUN"),
        Column(head="NAME", least=8, rank=1),
        Column(head=_ENDED),
        Column(head="BEGAN (UTC)", rank=3),
        Column(head="TOOK", is_right=True, rank=2),
        Column(head="SIZE", is_right=True, rank=4),
    ]
    now_ms = time.time_ns() // 1_000_000
    rows = [_row(record, names, now_ms) for record in records]
    return table_lines(columns, rows, width=face.width, paint=face.paint, painted=_ENDED)


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


def _stored(database: str) -> list[ListedRecord]:
    return [
        ListedRecord(
            path=one.run_id, state=one.state, run_id=one.run_id, name=one.run.name, started_at_ms=one.run.started_at_ms,
            finished_at_ms=one.run.finished_at_ms, outcome=one.run.outcome,
        )
        for one in runs_in(database)
    ]  # fmt: skip


def _row(record: ListedRecord, names: dict[str, str], now_ms: int) -> tuple[Look, Sequence[str]]:
    directory = Path(record.path).name
    name = f"({record.problem})" if record.problem else record.name or ""
    end_ms = now_ms if record.state is RecordState.RUNNING else record.finished_at_ms
    # Of the two ends of a record only the wall clock is known: a step of it shows here, and nowhere else.
    took = ""
    if end_ms is not None and record.started_at_ms is not None:
        took = duration_text(max(end_ms - record.started_at_ms, 0) * 1_000_000)
    began = instant_text(record.started_at_ms) if record.started_at_ms is not None else ""
    size = bytes_text(record.size_bytes) if record.size_bytes else ""
    return _look(record), (
        names.get(directory, directory),
        name,
        record.outcome or record.state.value,
        began,
        took,
        size,
    )


def _look(record: ListedRecord) -> Look:
    if record.state is RecordState.RUNNING:
        return Look.OPEN
    return {SUCCEEDED: Look.FINE, LOST: Look.LOST}.get(record.outcome or "", Look.BAD)
