"""From a file to what its run was.

Owns the order of the steps: the writer is asked first, then everything is read.  Must not know what stands in a record.
"""

from __future__ import annotations

import os
from collections.abc import Generator

from procflow.record.errors import UnreadableRecordError
from procflow.record.events import RunStarted
from procflow.record.fold.view import RunFold, RunView
from procflow.record.reading.files import RecordFile, open_record
from procflow.record.reading.liveness import writer_by_pid
from procflow.record.reading.reader import Line, RecordReader
from procflow.record.reading.states import RecordState, Writer, record_state


def load(path: str | os.PathLike[str]) -> RunView:
    """Read the record ``path``, the file or the directory of the run, to its end as it is now.

    Of a run that is over and was not finished, the view has endings that recovery made up; the file stays as it is.
    Memory grows with the calls and jobs of the run, not with the length of the file.  This blocks on the disk.

    Raises:
        UnreadableRecordError: If there is none, if it is no record, if another release is needed, or if the system does not let us.
    """
    with open_record(path) as file:
        try:
            return _load(file)
        except OSError as exc:
            raise UnreadableRecordError(path=file.path, reason=exc.strerror or "it cannot be read") from exc


def state_of(path: str | os.PathLike[str]) -> RecordState:
    """Return what the record ``path`` is, ``UNREADABLE`` included.  It is read to its end."""
    try:
        return load(path).state
    except UnreadableRecordError:
        return RecordState.UNREADABLE


def read_events(path: str | os.PathLike[str], *, reader: RecordReader | None = None) -> Generator[Line, None, None]:
    """Yield the events of the record ``path`` with their offsets, up to its end as it is then.

    A ``reader`` of one's own tells afterwards what was wrong (``reader.health``) and where to go on (``reader.position``).

    Raises:
        UnreadableRecordError: As ``load()``; that no line is an event is known at the end only.
    """
    with open_record(path) as file:
        reader = reader or RecordReader(file.path)
        for block in file.blocks(reader.next_offset):
            yield from reader.feed(block)
        reader.check_is_record()


def _load(file: RecordFile) -> RunView:
    writer = file.writer()
    reader, folding = RecordReader(file.path), RunFold()
    header: RunStarted | None = None

    def read_on() -> None:
        nonlocal header
        for block in file.blocks(reader.next_offset):
            for line in reader.feed(block):
                folding.add(line.event)
                if header is None and isinstance(line.event, RunStarted):
                    header = line.event

    read_on()
    if writer is Writer.UNKNOWN and not reader.is_finished:
        # The header names the writer, so it can be asked only now; what it wrote meanwhile is read after it was asked.
        writer = writer_by_pid(header)
        read_on()
    reader.check_is_record()
    state = record_state(is_finished=reader.is_finished, writer=writer)
    return folding.view(state=state, health=reader.health)
