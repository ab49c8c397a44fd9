"""Records that go.

Owns the removal.  Must not know why a record goes: ``choice`` decides.

A directory is renamed first and deleted then, so that no reader ever finds half a record: it is there as a whole, or it is not.  A crash
in between leaves a directory whose name begins with ``.removed-``; nobody lists it, and whoever prunes next deletes it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from procflow.record.errors import RecordBusyError
from procflow.record.reading.files import events_file_of
from procflow.record.reading.holding import held_record
from procflow.record.retention.choice import ListedRecord, Retention, chosen
from procflow.record.retention.listing import records_in

REMOVED_PREFIX: Final = ".removed-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a retention has done to a directory, or would do.

    Attributes:
        removed: The records that went, the least recently used first.
        kept: Those that had to go and stay, because somebody holds them or the system does not let us remove them.
        unfinished: Directories of earlier removals, and of this one, that are not wholly deleted; the next one
            tries again.
    """

    removed: tuple[ListedRecord, ...]
    kept: tuple[ListedRecord, ...]
    unfinished: tuple[str, ...]


def prune(
    root: str | os.PathLike[str], retention: Retention, *, dry_run: bool = False, now_ms: int | None = None
) -> Pruned:
    """Remove the records in ``root`` that are beyond ``retention``, and what earlier removals have left.

    Records that run, that somebody holds by a lock on their event file, or that cannot be read stay.  This blocks on the disk.

    Args:
        root: Where the directories of the runs are.
        retention: How much stays.
        dry_run: Whether to change nothing; ``removed`` and ``kept`` are the same.
        now_ms: The moment from which ages count; by default now.

    Raises:
        OSError: If ``root`` cannot be listed.
    """
    root = os.fspath(root)
    records = records_in(root)
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    removed: list[ListedRecord] = []
    kept: list[ListedRecord] = []
    for record in chosen(records, retention, now_ms=now_ms):
        (removed if _remove(record, dry_run=dry_run) else kept).append(record)
    leftovers = list(_leftovers(root))
    if not dry_run:
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)
        leftovers = [path for path in leftovers if os.path.lexists(path)]
    return Pruned(removed=tuple(removed), kept=tuple(kept), unfinished=tuple(leftovers))


def _remove(record: ListedRecord, *, dry_run: bool) -> bool:
    """Take the name of ``record`` away; return whether that was done, or could be."""
    try:
        with held_record(record.path, events_file_of(record.path), alone=True):
            if not dry_run:
                os.rename(record.path, _removed_path(record.path))
    except (OSError, RecordBusyError):  # somebody else may remove it at the same time
        return False
    return True


def _removed_path(path: str) -> str:
    root, name = os.path.split(path)
    # A directory of the same name may be left of an earlier removal.
    return os.path.join(root, f"{REMOVED_PREFIX}{time.time_ns():x}-{name}")


def _leftovers(root: str) -> Iterator[str]:
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(REMOVED_PREFIX) and entry.is_dir(follow_symlinks=False):
                yield entry.path
