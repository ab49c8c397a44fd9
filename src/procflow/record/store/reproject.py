"""From the stored lines of a run to its rows, and to its file, without the file.

Owns the way back from ``events``: after an upgrade that understands more of them, or when the file is gone.  Must not know files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from procflow.record.fold.fold import fold
from procflow.record.fold.rows import RunRow
from procflow.record.reading.reader import Position, RecordReader
from procflow.record.reading.states import RecordState
from procflow.record.store.database import transaction
from procflow.record.store.endings import recover
from procflow.record.store.lines import lines_of
from procflow.record.store.rows import StoredRows
from procflow.record.store.streams import OVER, Stream, put_stream, stream_of

_MOST_HELD = 1000


def reproject_run(connection: sqlite3.Connection, run_id: str) -> int | None:
    """Make the rows of a run anew; return how many events they were made of, ``None`` if there is no such run.

    This is one transaction: nobody sees half of it, and who wants to write waits.
    """
    with transaction(connection):
        stream = stream_of(connection, run_id)
        if stream is None:
            return None
        connection.execute("DELETE FROM notes WHERE run_id = ?", (run_id,))
        connection.execute("DELETE FROM jobs WHERE run_id = ?", (run_id,))
        rows, reader = StoredRows(connection, run_id), RecordReader(stream.path)
        count = 0
        for _, raw in lines_of(connection, run_id):
            for line in reader.feed(raw + b"\n"):
                if not count:
                    # The lines hang on the row of the run, so it stays, and is what it was before the first event.
                    rows.put_run(RunRow(first_seq=reader.position.next_seq - 1))
                fold(rows, line.event)
                count += 1
                if count % _MOST_HELD == 0:
                    rows.flush()
        rows.flush()
        state = RecordState.FINISHED if reader.is_finished else stream.state
        if state in OVER:
            recover(rows)
        put_stream(connection, run_id, replace(stream, state=state, position=_merged(stream, reader.position)))
        return count


def rebuilt_lines(connection: sqlite3.Connection, run_id: str) -> Iterator[bytes]:
    """Yield the record of a run, line by line: what was damaged, empty or repeated in the file is not in it."""
    return (raw + b"\n" for _, raw in lines_of(connection, run_id))


def _merged(stream: Stream, again: Position) -> Position:
    """Return the position of the file with what the lines say now; the lines that were not stored are known to it only."""
    before = stream.position.health
    health = msgspec.structs.replace(
        again.health,
        corrupt=before.corrupt + again.health.corrupt,
        corrupt_offsets=before.corrupt_offsets,
        duplicates=before.duplicates,
        conflicts=before.conflicts,
    )
    return msgspec.structs.replace(
        again, offset=stream.position.offset, has_header=stream.position.has_header, health=health
    )
