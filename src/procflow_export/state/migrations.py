"""The tables of the state, in every version that they had.

Owns what SQLite is told about them, and the way from one version to the next.  Must not know rows.

Tables with long texts have row ids: without them a row is the key of its tree, and SQLite reads all of a long one to compare it,
which made each chunk cost as much as its export's plan is long.

A migration that was released is never changed; what comes later is appended.  ``PRAGMA user_version`` counts those that were done.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_FIRST: Final = (
    """
    CREATE TABLE runs (
        run_id TEXT NOT NULL PRIMARY KEY, standing TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT,
        engine TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, release TEXT NOT NULL, exit_status INTEGER,
        exports TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE exports (
        export TEXT NOT NULL, run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
        standing TEXT NOT NULL, mode TEXT NOT NULL, place TEXT NOT NULL,
        started_at TEXT NOT NULL, finished_at TEXT, plan TEXT, resumed_from TEXT,
        row_count INTEGER NOT NULL, part_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL, retry_count INTEGER NOT NULL,
        work_s REAL NOT NULL, elapsed_s REAL NOT NULL, peak_rss_bytes INTEGER NOT NULL,
        manifest_key TEXT, code TEXT, message TEXT, is_swept INTEGER NOT NULL,
        PRIMARY KEY (export, run_id)
    ) STRICT
    """,
    """
    CREATE TABLE chunks (
        export TEXT NOT NULL, run_id TEXT NOT NULL, chunk INTEGER NOT NULL,
        standing TEXT NOT NULL, attempts INTEGER NOT NULL, changed_at TEXT NOT NULL, result TEXT, code TEXT,
        PRIMARY KEY (export, run_id, chunk),
        FOREIGN KEY (export, run_id) REFERENCES exports ON DELETE CASCADE
    ) STRICT
    """,
    """
    CREATE TABLE files (
        export TEXT NOT NULL, "key" TEXT NOT NULL, run_id TEXT NOT NULL,
        row_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL, checksum TEXT NOT NULL,
        recorded_at TEXT NOT NULL, superseded_at TEXT,
        PRIMARY KEY (export, "key")
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE cursors (
        export TEXT NOT NULL PRIMARY KEY, run_id TEXT NOT NULL, "cursor" TEXT, changed_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST,)
"""The statements that lead to version 1, to version 2, and so on."""

VERSION: Final = len(MIGRATIONS)
"""The version that this release reads and writes."""


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 if there are none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Do the migrations that are left; call it in a transaction."""
    for version in range(version_of(connection), VERSION):
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        # A pragma takes no parameters.
        connection.execute(f"PRAGMA user_version = {version + 1:d}")
