"""The logs of a run, rewritten where they are.

Owns which files are logs, and what is done to each.  Must not know events.

A log with segments beside it, as a crash leaves one, is put together first: the new file says the same as all of them did, so a reader
finds the same at every moment, and only then are secrets taken out of the one file that is left.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final

from procflow.record.logs.reader import Damaged, read_log
from procflow.record.logs.storage import make_private_directories, segments_of
from procflow.record.redaction.redactor import Redactor
from procflow.record.scrubbing.outputs import encoded, hidden_parts, scrubbed_lines
from procflow.record.scrubbing.replacing import BESIDE_SUFFIX, sync_directory, take_place, write_beside

LOGS_DIRECTORY: Final = "jobs"

_LOG: Final = re.compile(r"sh-\d{4,}(-\d+)?\.log")
_SEGMENT: Final = re.compile(r"(sh-\d{4,}(-\d+)?\.log)\.\d{6,}\.\d+\.\d+\.part")


def log_paths(directory: str) -> list[str]:
    """Return the paths of all logs of the run in ``directory``, relative to it, in order."""
    return sorted(path for path in _files(directory) if _LOG.fullmatch(os.path.basename(path)) and _is_in_jobs(path))


def other_paths(directory: str, events_file: str) -> list[str]:
    """Return the paths of what else is there, relative to ``directory``, in order."""
    return sorted(
        path
        for path in _files(directory)
        if path != events_file and not (_is_in_jobs(path) and _is_log(os.path.basename(path)))
    )


def remove_beginnings(directory: str, events_file: str) -> None:
    """Remove the beginnings of files that an earlier attempt has left."""
    for path in _files(directory):
        if path.endswith(BESIDE_SUFFIX):
            whole = path.removesuffix(BESIDE_SUFFIX)
            if whole == events_file or (_is_in_jobs(whole) and _LOG.fullmatch(os.path.basename(whole))):
                os.unlink(os.path.join(directory, path))


def scrub_log(path: str, redactor: Redactor) -> bool:
    """Take the secrets out of the log ``path``; return whether there were any."""
    before = redactor.statistics().replaced_count
    parts = hidden_parts(read_log(path), redactor)
    if not any(parts.values()) and not _has_foreign_parts(path):
        return False
    _merge_segments(path)
    beside = write_beside(path, scrubbed_lines(read_log(path), parts, redactor))
    if redactor.statistics().replaced_count == before:
        os.unlink(beside)
        return False
    take_place(beside)
    return True


def move_logs(directory: str, moved: Mapping[str, str]) -> None:
    """Give logs the paths that they have from now on, and remove the directories that are empty by that.

    One that is not there was moved by an earlier attempt, or never was there.
    """
    for old, new in moved.items():
        source, target = os.path.join(directory, old), os.path.join(directory, new)
        if not _is_in_jobs(old) or not os.path.isfile(source):
            continue
        make_private_directories(directory, os.path.dirname(new))
        os.rename(source, target)
        sync_directory(os.path.dirname(source))
        changed = os.path.dirname(target)
        while changed != directory:  # it may have been made just now
            sync_directory(changed)
            changed = os.path.dirname(changed)


def remove_empty_directories(directory: str) -> None:
    """Remove the directories of jobs that hold nothing: the id of a job may be what has to go."""
    for path, _, _ in os.walk(os.path.join(directory, LOGS_DIRECTORY), topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _merge_segments(path: str) -> None:
    segments = segments_of(path)
    if not segments:
        return
    take_place(write_beside(path, map(encoded, read_log(path))))
    for segment, _ in segments:
        os.unlink(segment)
    sync_directory(os.path.dirname(path))


def _has_foreign_parts(path: str) -> bool:
    """Whether there is anything in the log that is no line of one: such parts are searched while it is rewritten."""
    if any(isinstance(item, Damaged) for item in read_log(path)):
        return True
    return any(map(_is_torn, (path, *(segment for segment, _ in segments_of(path)))))


def _is_torn(path: str) -> bool:
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _files(directory: str) -> Iterator[str]:
    for parent, _, names in os.walk(directory):
        for name in names:
            yield os.path.relpath(os.path.join(parent, name), directory)


def _is_in_jobs(path: str) -> bool:
    first, *rest = path.split("/")
    return first == LOGS_DIRECTORY and ".." not in rest


def _is_log(name: str) -> bool:
    return _LOG.fullmatch(name) is not None or _SEGMENT.fullmatch(name) is not None
