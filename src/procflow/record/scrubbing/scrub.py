"""A record that is over, rewritten without secrets.

Owns the order of the steps: logs first, each by itself, then their new paths, and last the events.  Every file is replaced as a whole, so a
crash leaves each of them old or new; the same call again does the rest.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from procflow.record.envelope import Unknown
from procflow.record.errors import RecordBusyError
from procflow.record.events import RunEvent
from procflow.record.loading import load, read_events
from procflow.record.logs.paths import log_path
from procflow.record.reading.files import events_file_of, open_record
from procflow.record.reading.holding import held_record
from procflow.record.reading.states import RecordState
from procflow.record.redaction.redactor import AnySecret, Redactor
from procflow.record.redaction.rules import RedactionRules
from procflow.record.scrubbing.events import LineScrubber, moved_logs
from procflow.record.scrubbing.logs import (
    log_paths,
    move_logs,
    other_paths,
    remove_beginnings,
    remove_empty_directories,
    scrub_log,
)
from procflow.record.scrubbing.replacing import take_place, write_beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrubbed:
    """What was done to a record.

    Attributes:
        event_places: In how many places of its events a secret was replaced.
        log_places: In how many of its logs.
        changed: The files that were rewritten, by their paths relative to the directory of the run.
        unsearched: Files in this directory that are none of the record's, and were left alone.
    """

    event_places: int
    log_places: int
    changed: tuple[str, ...]
    unsearched: tuple[str, ...]


def scrub(path: str | os.PathLike[str], secrets: Iterable[AnySecret]) -> Scrubbed:
    """Take ``secrets`` out of the record ``path``, which is over, and out of its logs.

    Files in which one is found are written anew and renamed into place, synced; the others are not touched.  Events keep their numbers and times,
    lines of logs their times and places.  A record that is packed by gzip is packed again.  A crash leaves every file old or new, as a whole;
    calling this again does the rest, and changes nothing where nothing is left.  Who has the record open reads the old file on.

    Only the files are rewritten: delete and ingest again a database that was made of them.  The bytes of the old files are freed, not overwritten.
    The forms that are found, and those that are not, are those of ``Redactor``.  This blocks on the disk.

    Raises:
        RecordBusyError: If the run is not over, or somebody else removes or rewrites the record.
        UnreadableRecordError: If the record as a whole cannot be read: what is not understood is not rewritten.
        OSError: If a file cannot be read or written.
        ValueError: As ``Redactor()``.
    """
    redactor = Redactor(secrets, rules=RedactionRules.none())
    events_file = os.path.realpath(events_file_of(path))
    directory, name = os.path.split(events_file)
    if load(events_file).state is RecordState.RUNNING:
        raise RecordBusyError(path=directory)
    with held_record(directory, events_file, alone=False):
        remove_beginnings(directory, name)
        moved = moved_logs(
            _events(events_file), redactor, lambda job_id, attempt, sh: log_path(job_id, attempt=attempt, sh=sh)
        )
        before_logs = redactor.statistics().replaced_count
        changed = [log for log in log_paths(directory) if scrub_log(os.path.join(directory, log), redactor)]
        move_logs(directory, moved)
        before_events = redactor.statistics().replaced_count
        if _scrub_events(events_file, LineScrubber(redactor, moved_logs=moved), redactor):
            changed.append(name)
        remove_empty_directories(directory)
        return Scrubbed(
            event_places=redactor.statistics().replaced_count - before_events,
            log_places=before_events - before_logs,
            changed=tuple(moved.get(path, path) for path in changed),
            unsearched=tuple(other_paths(directory, name)),
        )


def _events(events_file: str) -> Iterator[RunEvent]:
    for line in read_events(events_file):
        if not isinstance(line.event, Unknown):
            yield line.event


def _scrub_events(events_file: str, scrubber: LineScrubber, redactor: Redactor) -> bool:
    before = redactor.statistics().replaced_count
    with open_record(events_file) as file:
        blocks = scrubber.file(file.blocks())
        beside = write_beside(events_file, _packed(blocks) if file.is_packed else blocks)
    if redactor.statistics().replaced_count == before:
        os.unlink(beside)
        return False
    take_place(beside)
    return True


def _packed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()
