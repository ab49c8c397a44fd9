"""A run as a command asked for it: out of its record, or out of a database.

Owns the choice between the two.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from procflow.record.cli.runs import Candidate, ambiguous, chosen, find_run, root_of
from procflow.record.cli.statuses import CommandError, Status
from procflow.record.fold.view import RunView
from procflow.record.loading import load
from procflow.record.storing import runs_in, view_from

DATABASE: Final = "records.sqlite"
"""The database of the runs of a directory, if no other is named."""


def view_of_run(parsed: argparse.Namespace) -> tuple[RunView, str]:
    """Return the run that RUN names, and where it came from.

    Raises:
        CommandError: If RUN means none, or more than one.
        UnreadableRecordError: If its record cannot be read.
        UnusableDatabaseError: If the database cannot be used.
    """
    if parsed.database is None:
        path = find_run(parsed.run, root_of(parsed.root))
        return load(path), os.fspath(path)
    return view_from(parsed.database, stored_run(parsed.run, parsed.database)), parsed.database


def stored_run(typed: str, database: str) -> str:
    """Return the id of the run that ``typed`` means in a database.

    Raises:
        CommandError: If it means none, or more than one.
    """
    known = [
        Candidate(
            one.run_id,
            one.run_id,
            one.run.name or "",
            one.run.started_at_ms,
        )
        for one in runs_in(database)
    ]
    found = chosen(typed, known)
    if not found:
        raise CommandError(
            Status.UNREADABLE,
            f"the database {database} has no run {typed}",
            f"`procflow record list --database {database}` lists those that it has; `ingest` puts one there",
        )
    if len(found) > 1:
        raise ambiguous(typed, found)
    return found[0].run_id


def database_of(typed: str | None, root: Path) -> Path:
    """Return the database that is meant if none is named."""
    return Path(typed) if typed is not None else root / DATABASE
