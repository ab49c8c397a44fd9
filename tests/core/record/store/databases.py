"""Databases to test with, and what stands in them."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from procflow.record.reading.files import open_record
from procflow.record.store.database import open_to_read
from procflow.record.store.ingest import Ingest
from procflow.record.store.migrations import migrate
from procflow.record.store.reports import IngestReport

Dump: TypeAlias = dict[str, list[tuple[object, ...]]]

TABLES = ("runs", "streams", "events", "jobs", "sh", "notes")
FILE_COLUMNS = {"path", "file_id"}
"""What a copy of the file changes."""


def dump(connection: sqlite3.Connection, *, without: frozenset[str] | set[str] = frozenset()) -> Dump:
    """Return every row of every table, ordered by all columns."""
    found: Dump = {}
    for table in TABLES:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in without]
        names = ", ".join(f'"{column}"' for column in columns)
        found[table] = connection.execute(f"SELECT {names} FROM {table} ORDER BY {names}").fetchall()
    return found


def dump_of(database: Path, *, without: frozenset[str] | set[str] = frozenset()) -> Dump:
    """Return what stands in a database file."""
    with open_to_read(database) as connection:
        return dump(connection, without=without)


@contextmanager
def in_memory() -> Iterator[sqlite3.Connection]:
    """Open a database that is no file: it is made quickly."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(_empty())
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


@functools.cache
def _empty() -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        return connection.serialize()


def take_in(connection: sqlite3.Connection, record: Path, *, batch_events: int = 1000) -> IngestReport:
    """Ingest a record into an open database, as a process of its own would."""
    with open_record(record) as file:
        return Ingest(connection, file, batch_events=batch_events).run()


def dump_at_once(record: Path) -> Dump:
    """Return what one ingest makes of a record."""
    with in_memory() as connection:
        take_in(connection, record)
        return dump(connection)


def append(path: Path, data: bytes) -> None:
    """Let a file grow."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
