"""How far each record was ingested, and from which file.

Owns the table ``streams``: the position of the reader is in it as JSON, the columns beside it are for people.  Must not know files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from procflow.record.reading.reader import Health, Position
from procflow.record.reading.states import RecordState

OVER: Final = frozenset({RecordState.FINISHED, RecordState.CRASHED})
"""States of a run from which nothing more is expected: then, and only then, its open rows have endings that were made up."""

_MAX: Final = 2**63 - 1

_positions = msgspec.json.Decoder(Position)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What the database knows of the file of a run.

    Attributes:
        path: Where it was when it was ingested last.
        file_id: Device and inode it had then.
        head_sha256: Hash of its first line.
        position: Behind the last line that was ingested.
        torn_bytes: What stood behind that.
        state: What the record was when its end was reached; ``None`` if the ingest is in the middle of it, or of a live run.
    """

    path: str
    file_id: str
    head_sha256: str
    position: Position
    torn_bytes: int
    state: RecordState | None

    @property
    def health(self) -> Health:
        """What is wrong with the record, as far as it was ingested."""
        return msgspec.structs.replace(self.position.health, torn_bytes=self.torn_bytes)


def stream_of(connection: sqlite3.Connection, run_id: str) -> Stream | None:
    """Return the stream of a run; ``None`` if there is none."""
    found = connection.execute(f"{_SELECT} WHERE run_id = ?", (run_id,)).fetchone()
    return None if found is None else _stream(*found[1:])


def all_streams(connection: sqlite3.Connection) -> Iterator[tuple[str, Stream]]:
    """Yield the ids of all runs with their streams."""
    return ((found[0], _stream(*found[1:])) for found in connection.execute(f"{_SELECT} ORDER BY run_id"))


def put_stream(connection: sqlite3.Connection, run_id: str, stream: Stream) -> None:
    """Keep the stream of a run, in place of what was there."""
    position, health = stream.position, stream.health
    numbers = (
        position.offset, position.next_seq, health.corrupt, health.unknown, health.duplicates, health.conflicts,
        len(health.gaps), health.dropped, health.torn_bytes, health.clock_step_ms,
    )  # fmt: skip
    connection.execute(
        _UPSERT,
        (
            run_id, stream.path, stream.file_id, stream.head_sha256,
            stream.state.value if stream.state is not None else None, _encode(position).decode(),
            *(max(-_MAX, min(number, _MAX)) for number in numbers),  # sums of what stands on lines may be larger
        ),
    )  # fmt: skip


def _stream(path: str, file_id: str, head_sha256: str, position: str, torn_bytes: int, state: str | None) -> Stream:
    return Stream(
        path=path,
        file_id=file_id,
        head_sha256=head_sha256,
        position=_positions.decode(position),
        torn_bytes=torn_bytes,
        state=RecordState(state) if state is not None else None,
    )


_SELECT: Final = "SELECT run_id, path, file_id, head_sha256, position, torn_bytes, state FROM streams"
_UPSERT: Final = """
    INSERT INTO streams (run_id, path, file_id, head_sha256, state, position, byte_offset, next_seq, corrupt, unknown,
        duplicates, conflicts, gaps, dropped, torn_bytes, clock_step_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run_id) DO UPDATE SET path = excluded.path, file_id = excluded.file_id,
        head_sha256 = excluded.head_sha256, state = excluded.state, position = excluded.position,
        byte_offset = excluded.byte_offset, next_seq = excluded.next_seq, corrupt = excluded.corrupt,
        unknown = excluded.unknown, duplicates = excluded.duplicates, conflicts = excluded.conflicts,
        gaps = excluded.gaps, dropped = excluded.dropped, torn_bytes = excluded.torn_bytes,
        clock_step_ms = excluded.clock_step_ms
"""
