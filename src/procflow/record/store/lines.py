"""The events of a run as they stand in its file.

Owns the table ``events``: every event once, byte for byte, with its place.  Must not know what events mean.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from procflow.record.envelope import Unknown
from procflow.record.events import EVENT_TYPES
from procflow.record.reading.reader import Line
from procflow.record.reading.sequence import REMEMBERED

_TAGS: Final = {event_type: str(event_type.__struct_config__.tag) for event_type in EVENT_TYPES}

Placed: TypeAlias = tuple[int, bytes]
"""Where a line stands in the file, and the line without its newline."""


def put_lines(connection: sqlite3.Connection, run_id: str, lines: Iterable[Line]) -> int:
    """Keep ``lines``; return how many were not there yet."""
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO events (run_id, seq, type, at_ms, byte_offset, raw) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        ((run_id, *_head(line), line.offset, line.raw.decode()) for line in lines),
    )
    return connection.total_changes - before


def lines_of(connection: sqlite3.Connection, run_id: str) -> Iterator[Placed]:
    """Yield every line of a run in the order of its file."""
    asked = "SELECT byte_offset, raw FROM events WHERE run_id = ? ORDER BY byte_offset"
    return ((offset, raw.encode()) for offset, raw in connection.execute(asked, (run_id,)))


def last_line(connection: sqlite3.Connection, run_id: str) -> Placed | None:
    """Return the line with the highest number."""
    asked = "SELECT byte_offset, raw FROM events WHERE run_id = ? ORDER BY seq DESC LIMIT 1"
    found = connection.execute(asked, (run_id,)).fetchone()
    return None if found is None else (found[0], found[1].encode())


def lines_before(connection: sqlite3.Connection, run_id: str, offset: int) -> list[tuple[int, bytes]]:
    """Return the last lines that stand before ``offset``, as many as a reader remembers, oldest first, with their numbers."""
    asked = "SELECT seq, raw FROM events WHERE run_id = ? AND byte_offset < ? ORDER BY byte_offset DESC LIMIT ?"
    found = connection.execute(asked, (run_id, offset, REMEMBERED)).fetchall()
    return [(seq, raw.encode()) for seq, raw in reversed(found)]


def _head(line: Line) -> tuple[int, str, int]:
    event = line.event
    if isinstance(event, Unknown):
        return event.head.seq, event.head.type, event.head.at_ms
    return event.seq, _TAGS[type(event)], event.at_ms
