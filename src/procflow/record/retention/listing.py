"""What records there are in a directory.

Owns the look at many records at once.  Must not know what is done with them.

A record is known by its first and its last event, so only the two ends of each file are read: a thousand long records are listed in the time
of a thousand short ones.  A packed record has no end that can be found without unpacking it all, which is done.  What is damaged in
between is not seen here; ``load()`` sees it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from procflow.record.codec import RecordCodec
from procflow.record.envelope import MalformedEventError
from procflow.record.errors import UnreadableRecordError
from procflow.record.events import LOST, RunFinished, RunStarted
from procflow.record.reading.files import EVENTS_FILE, RecordFile, open_record
from procflow.record.reading.liveness import writer_by_pid
from procflow.record.reading.reader import RecordReader
from procflow.record.reading.states import RecordState, Writer, record_state
from procflow.record.retention.choice import ListedRecord

END_BYTES: Final = 16 << 10
"""How much of each end is read at first: enough for an event with a few long texts."""

MAX_END_BYTES: Final = 1 << 20
"""How much is read where that was not enough: an event may be as long as a line may be."""


def records_in(root: str | os.PathLike[str]) -> list[ListedRecord]:
    """Return the records of the runs whose directories are in ``root``, in the order of the directories' names.

    Those of this package are ids of runs, which sort in the order in which the runs began.  What cannot be read is listed with its
    ``problem``; a directory without an event file is no record, and not listed.  This blocks on the disk.

    Raises:
        OSError: If ``root`` cannot be listed.
    """
    return [_listed(path) for path in sorted(_directories(os.fspath(root)))]


def _directories(root: str) -> Iterator[str]:
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and _holds_record(entry.path):
                yield entry.path


def _holds_record(directory: str) -> bool:
    plain = os.path.join(directory, EVENTS_FILE)
    try:
        os.lstat(plain)
    except FileNotFoundError:
        return os.path.lexists(f"{plain}.gz")
    except OSError:  # it may be one, and nobody is told by leaving it out
        pass
    return True


def _listed(directory: str) -> ListedRecord:
    size_bytes = bytes_in(directory)
    try:
        with open_record(directory, is_use=False) as file:
            try:
                return _looked_at(directory, file, size_bytes)
            except OSError as exc:
                raise UnreadableRecordError(path=file.path, reason=exc.strerror or "it cannot be read") from exc
    except UnreadableRecordError as exc:
        return ListedRecord(path=directory, state=RecordState.UNREADABLE, size_bytes=size_bytes, problem=exc.reason)


def _looked_at(directory: str, file: RecordFile, size_bytes: int) -> ListedRecord:
    used_at_ms = file.used_at_ms
    writer = file.writer()
    first, last = _ends(file)
    header = _header(first, file.path)
    ending = _ending(last)
    if writer is Writer.UNKNOWN:
        writer = writer_by_pid(header)
        ending = ending or _ending(_ends(file)[1])  # what it wrote before it was asked
    state = record_state(is_finished=ending is not None, writer=writer)
    return ListedRecord(
        path=directory,
        state=state,
        run_id=header.run_id if header is not None else None,
        name=header.name if header is not None else None,
        started_at_ms=header.at_ms if header is not None else None,
        finished_at_ms=ending.at_ms if ending is not None else None,
        outcome=ending.outcome if ending is not None else LOST if state is RecordState.CRASHED else None,
        size_bytes=size_bytes,
        used_at_ms=used_at_ms,
        is_locked=writer is Writer.ALIVE,
    )


def _ends(file: RecordFile) -> tuple[bytes, bytes]:
    first, last = file.ends(END_BYTES)
    if len(first) == END_BYTES and (b"\n" not in first or last.count(b"\n") < 2):
        return file.ends(MAX_END_BYTES)
    return first, last


def _header(first: bytes, path: str) -> RunStarted | None:
    reader = RecordReader(path)
    for line in reader.feed(first):
        if isinstance(line.event, RunStarted):
            return line.event
    reader.check_is_record()
    return None


def _ending(last: bytes) -> RunFinished | None:
    codec = RecordCodec()
    # What stands behind the last newline is torn.
    for line in reversed(last.split(b"\n")[:-1]):
        if b"run_finished" in line:
            try:
                event = codec.decode(line)
            except MalformedEventError:  # damaged, or cut by where the reading began
                continue
            if isinstance(event, RunFinished):
                return event
    return None


def bytes_in(directory: str) -> int:
    """Return how many bytes the files in ``directory`` and below have; what cannot be looked at has none."""
    size_bytes = 0
    open_directories = [directory]
    while open_directories:
        with contextlib.suppress(OSError), os.scandir(open_directories.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    open_directories.append(entry.path)
                else:
                    with contextlib.suppress(OSError):  # removed meanwhile
                        size_bytes += entry.stat(follow_symlinks=False).st_size
    return size_bytes
