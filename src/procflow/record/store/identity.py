"""Which run a record is of, and whether it is the file that was ingested before.

Owns the comparison of a file with what a database holds of it.  Must not know rows of the fold.

A path says nothing: files are moved, packed, restored, replaced.  The first line names the run; the hash of it, device and inode name
the file.  Of another file with the same first line, a copy, every event that is in the database must stand where it stood.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from procflow.record.codec import RecordCodec
from procflow.record.envelope import MalformedEventError
from procflow.record.errors import ReplacedRecordError
from procflow.record.events import RunStarted
from procflow.record.reading.files import RecordFile
from procflow.record.reading.lines import MAX_READ_LINE_BYTES, LineCutter
from procflow.record.store.lines import Placed, last_line, lines_of
from procflow.record.store.streams import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the first line of a record that is not blank says.

    Attributes:
        run_id: What the run is called in a database: as the header says, or a hash of the line if that is damaged.
        head_sha256: Hash of the line.
        header: The header, if the line is one.
    """

    run_id: str
    head_sha256: str
    header: RunStarted | None


def identity_of(file: RecordFile) -> Identity | None:
    """Return what ``file`` is; ``None`` if its first line is not whole yet."""
    head = b""
    for block in file.blocks():
        head = (head + block).lstrip()
        line, newline, _ = head.partition(b"\n")
        if newline or len(head) > MAX_READ_LINE_BYTES:
            return _identity(line)
    return None


def check_same(connection: sqlite3.Connection, file: RecordFile, identity: Identity, stream: Stream) -> None:
    """Compare ``file`` with the stream that the database has of its run.

    Raises:
        ReplacedRecordError: If it is not that file, nor a copy of it that may have grown.
    """
    if identity.head_sha256 != stream.head_sha256:
        reason = "the database has this run from a file that begins differently"
    elif not _ends_a_line_at(file, stream.position.offset):
        reason = "it is shorter than what was ingested, or has other lines"
    elif file.file_id == stream.file_id:
        last = last_line(connection, identity.run_id)
        reason = "" if last is None or _has_lines(file, [last]) else "its lines are not those that were ingested"
    else:
        stored = lines_of(connection, identity.run_id)
        reason = "" if _has_lines(file, stored) else "its lines are not those of the file that was ingested"
    if reason:
        raise ReplacedRecordError(path=file.path, run_id=identity.run_id, reason=reason)


def _ends_a_line_at(file: RecordFile, offset: int) -> bool:
    return offset == 0 or next(file.blocks(offset - 1), b"").startswith(b"\n")


def _has_lines(file: RecordFile, stored: Iterable[Placed]) -> bool:
    """Whether each of ``stored``, in the order of the file, stands in its place."""
    cut: Iterator[tuple[int, bytes | None]] | None = None
    for offset, raw in stored:
        cut = cut if cut is not None else _lines_from(file, offset)
        if next(((at, line) for at, line in cut if at >= offset), None) != (offset, raw):
            return False
    return True


def _lines_from(file: RecordFile, offset: int) -> Iterator[tuple[int, bytes | None]]:
    cutter = LineCutter(offset=offset)
    for block in file.blocks(offset):
        yield from cutter.feed(block)


def _identity(line: bytes) -> Identity:
    digest = hashlib.sha256(line[:MAX_READ_LINE_BYTES]).hexdigest()
    try:
        event = RecordCodec().decode(line) if len(line) <= MAX_READ_LINE_BYTES else None
    except MalformedEventError:
        event = None
    if isinstance(event, RunStarted):
        return Identity(run_id=event.run_id, head_sha256=digest, header=event)
    return Identity(run_id=f"head-{digest[:32]}", head_sha256=digest, header=None)
