"""From what was typed to a record on disk.

Owns what a RUN may be: a path, an id or the beginning of one, a name, ``latest``.  ``chosen()`` decides, the rest looks at the disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from procflow.record.cli.statuses import CommandError, Status
from procflow.record.reading.files import EVENTS_FILE
from procflow.record.retention.choice import ListedRecord
from procflow.record.retention.listing import records_in
from procflow.record.views.words import instant_text, printable

ROOT_VARIABLE: Final = "PROCFLOW_RUNS"
DEFAULT_ROOT: Final = "runs"
LATEST: Final = "latest"

_SHOWN: Final = 8


class Candidate(NamedTuple):
    """A run that may be meant; ``handle`` names it where it is: its directory below the root, or its id in a database."""

    handle: str
    run_id: str
    name: str
    started_at_ms: int | None


def root_of(typed: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory in which runs are looked for by name."""
    return Path(typed or environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)


def find_run(typed: str, root: Path) -> Path:
    """Return the record that ``typed`` means: the directory of a run, or a file of events.

    Raises:
        CommandError: If it means none, or more than one.
    """
    if not typed:
        raise CommandError(Status.USAGE, "RUN must not be empty", _ADVICE)
    path = Path(typed)
    if os.sep in typed or typed in (os.curdir, os.pardir) or os.path.isfile(path) or is_record(path):
        if not os.path.lexists(path):
            raise CommandError(Status.UNREADABLE, f"there is no record {typed}: no such file or directory", _ADVICE)
        return path
    if is_record(root / typed):  # no need to look at all the others
        return root / typed
    found = chosen(typed, [_candidate(record) for record in records_below(root)])
    if not found:
        raise CommandError(Status.UNREADABLE, f"there is no run {typed} in {root}", _ADVICE)
    if len(found) > 1:
        raise ambiguous(typed, found)
    return root / found[0].handle


def chosen(typed: str, known: Sequence[Candidate]) -> list[Candidate]:
    """Return which of ``known`` are meant: by id, else by the beginning of directory or id, else by name, else the latest of all."""
    for found in (
        [one for one in known if one.handle == typed],  # one that cannot be looked into, too
        [one for one in known if one.run_id == typed],
        [one for one in known if one.handle.startswith(typed) or one.run_id.startswith(typed)],
        [one for one in known if one.name == typed],
    ):
        if found:
            return found
    if typed == LATEST and known:
        return [max(known, key=_age)]
    return []


def records_below(root: Path) -> list[ListedRecord]:
    """Return the records of the directories in ``root``.

    Raises:
        CommandError: If it cannot be listed.
    """
    try:
        return records_in(root)
    except OSError as exc:
        raise CommandError(
            Status.UNREADABLE,
            f"the directory of runs {root} cannot be read: {exc.strerror}",
            f"name the right one with --root or the variable {ROOT_VARIABLE}, or give the path of a record",
        ) from exc


def ambiguous(typed: str, found: Sequence[Candidate]) -> CommandError:
    """Return the error that shows which runs may be meant."""
    latest = sorted(found, key=_age, reverse=True)
    shown = "".join(
        f"\n    {one.handle}  {printable(one.name, columns=30)}  {instant_text(one.started_at_ms) if one.started_at_ms is not None else ''}".rstrip()
        for one in latest[:_SHOWN]
    )
    more = f"\n    and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return CommandError(
        Status.USAGE, f"{typed} may be any of {len(found)} runs", f"give more of the id of one of them:{shown}{more}"
    )


_ADVICE: Final = (
    "give the directory of a run, its file of events, the beginning of its id, its name, or latest; "
    "`procflow record list` lists what there is"
)


def is_record(directory: Path) -> bool:
    """Whether ``directory`` holds a file of events that can be seen."""
    return any(os.path.exists(directory / name) for name in (EVENTS_FILE, f"{EVENTS_FILE}.gz"))


def _candidate(record: ListedRecord) -> Candidate:
    return Candidate(Path(record.path).name, record.run_id or "", record.name or "", record.started_at_ms)


def _age(one: Candidate) -> tuple[int, str]:
    return (one.started_at_ms if one.started_at_ms is not None else -1, one.run_id)
