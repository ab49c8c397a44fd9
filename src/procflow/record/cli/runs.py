"""From what was typed to a record on disk.

Owns what a RUN may be: a path, an id or the beginning of one, a name, ``latest``.  ``chosen()`` decides, the rest looks at the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from procflow.record.cli.statuses import CommandError, Status
from procflow.record.errors import UnreadableRecordError
from procflow.record.events import RunStarted
from procflow.record.loading import read_events
from procflow.record.reading.files import EVENTS_FILE
from procflow.record.views.words import instant_text, printable

ROOT_VARIABLE: Final = "PROCFLOW_RUNS"
DEFAULT_ROOT: Final = "runs"
LATEST: Final = "latest"

_SHOWN: Final = 8


class Candidate(NamedTuple):
    """A directory that may be meant."""

    directory: str
    run_id: str
    name: str
    started_at_ms: int


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
    if os.sep in typed or typed in (os.curdir, os.pardir) or path.is_file() or (path / EVENTS_FILE).exists():
        if not path.exists():
            raise CommandError(Status.UNREADABLE, f"there is no record {typed}: no such file or directory", _ADVICE)
        return path
    directories = directories_in(root)
    if typed in directories:
        return root / typed
    by_directory = [name for name in directories if name.startswith(typed)]
    if len(by_directory) == 1:
        return root / by_directory[0]
    found = chosen(typed, [_candidate(root / name) for name in by_directory or directories])
    if not found:
        raise CommandError(Status.UNREADABLE, f"there is no run {typed} in {root}", _ADVICE)
    if len(found) > 1:
        raise ambiguous(typed, found)
    return root / found[0].directory


def chosen(typed: str, known: Sequence[Candidate]) -> list[Candidate]:
    """Return which of ``known`` are meant: by id, else by the beginning of directory or id, else by name, else the latest of all."""
    for found in (
        [one for one in known if one.run_id == typed],
        [one for one in known if one.directory.startswith(typed) or one.run_id.startswith(typed)],
        [one for one in known if one.name == typed],
    ):
        if found:
            return found
    if typed == LATEST and known:
        return [max(known, key=lambda one: (one.started_at_ms, one.run_id))]
    return []


def directories_in(root: Path) -> list[str]:
    """Return the names of the directories in ``root`` that hold a record, in order.

    Raises:
        CommandError: If ``root`` cannot be read.
    """
    try:
        names = sorted(os.listdir(root))
    except OSError as exc:
        raise CommandError(
            Status.UNREADABLE,
            f"the directory of runs {root} cannot be read: {exc.strerror}",
            f"name the right one with --root or the variable {ROOT_VARIABLE}, or give the path of a record",
        ) from exc
    return [name for name in names if is_record(root / name)]


def is_record(directory: Path) -> bool:
    """Whether ``directory`` holds a file of events."""
    return any((directory / name).exists() for name in (EVENTS_FILE, f"{EVENTS_FILE}.gz"))


def header_of(path: Path) -> RunStarted | None:
    """Return the first event of a record, if it is one that begins a record and can be read."""
    with suppress(UnreadableRecordError, OSError):
        events: Iterator[object] = (line.event for line in read_events(path))
        first = next(events, None)
        return first if isinstance(first, RunStarted) else None
    return None


def _candidate(path: Path) -> Candidate:
    header = header_of(path)
    if header is None:
        return Candidate(path.name, "", "", -1)
    return Candidate(path.name, header.run_id, header.name, header.at_ms)


def ambiguous(typed: str, found: Sequence[Candidate]) -> CommandError:
    """Return the error that shows which runs may be meant."""
    latest = sorted(found, key=lambda one: one.started_at_ms, reverse=True)
    shown = "".join(
        f"\n    {one.directory}  {printable(one.name, columns=30)}  {instant_text(one.started_at_ms) if one.started_at_ms >= 0 else ''}".rstrip()
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
