"""``ingest`` and ``reproject``: records in a SQLite database."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from procflow.record.cli.documents import health_document
from procflow.record.cli.face import Face
from procflow.record.cli.runs import find_run, records_below, root_of
from procflow.record.cli.sources import database_of, stored_run
from procflow.record.cli.statuses import Status
from procflow.record.errors import UnreadableRecordError
from procflow.record.store.reports import IngestReport
from procflow.record.storing import ingest, reproject
from procflow.record.views.looks import Look
from procflow.record.views.summary import health_line
from procflow.record.views.words import counted


def ingest_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Bring a database up to the records that are named, or to all below the root."""
    root = root_of(parsed.root)
    database = database_of(parsed.database, root)
    paths = [find_run(typed, root) for typed in parsed.runs] or [Path(record.path) for record in records_below(root)]
    reports: list[IngestReport] = []
    failures: list[UnreadableRecordError] = []
    for path in paths:
        try:
            report = ingest(path, database)
        except UnreadableRecordError as exc:  # the others are ingested all the same
            failures.append(exc)
            if not face.is_json:
                face.say(f"procflow record: {exc}")
            continue
        reports.append(report)
        if not face.is_json:
            look = Look.FINE if report.health.is_clean else Look.BAD
            health = face.paint(health_line(report.health), look)
            face.lines(
                [
                    f"{report.run_id or '(no event yet)'}  {counted(report.event_count, 'new event')}, {report.state.value}, {health}"
                ]
            )
    if face.is_json:
        face.data(
            {
                "database": os.fspath(database),
                "runs": [
                    {
                        "path": report.path, "run_id": report.run_id, "new_events": report.event_count,
                        "state": report.state.value, "health": health_document(report.health),
                    }
                    for report in reports
                ],
                "failures": [{"path": exc.path, "message": str(exc)} for exc in failures],
            }
        )  # fmt: skip
    if failures:
        return Status.UNREADABLE
    return Status.DONE if all(report.health.is_clean for report in reports) else Status.DEFECTS


def reproject_command(parsed: argparse.Namespace, face: Face) -> Status:
    """Make the rows of a database anew from the lines in it."""
    database = database_of(parsed.database, root_of(parsed.root))
    run_ids = [stored_run(typed, os.fspath(database)) for typed in parsed.runs]
    done: dict[str, int] = {}
    if not parsed.runs:
        done = reproject(database)
    for run_id in run_ids:
        done |= reproject(database, run_id)
    if face.is_json:
        face.data(
            {
                "database": os.fspath(database),
                "runs": [{"run_id": name, "events": count} for name, count in done.items()],
            }
        )
    else:
        face.lines(f"{run_id}  {counted(count, 'event')}" for run_id, count in done.items())
    return Status.DONE
