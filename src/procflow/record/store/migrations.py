"""The tables of the database, in every version that they had.

Owns what SQLite is told about them, and the way from one version to the next.  Must not know rows, nor files of records.

A migration that was released is never changed; what comes later is appended.  ``PRAGMA user_version`` counts those that were done.

No CHECK compares two times: wall clocks step back.  No key holds one.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_FIRST: Final = (
    """
    CREATE TABLE runs (
        run_id TEXT NOT NULL PRIMARY KEY,
        header_run_id TEXT, name TEXT, format TEXT, procflow TEXT, python TEXT, platform TEXT, host TEXT,
        pid INTEGER, pid_start INTEGER, boot_id TEXT, meta TEXT, redaction TEXT, trace TEXT,
        first_seq INTEGER NOT NULL, started_seq INTEGER, finished_seq INTEGER,
        started_at_ms INTEGER, start_mono_ns INTEGER, finished_at_ms INTEGER, duration_ns INTEGER,
        outcome TEXT, synthesized INTEGER NOT NULL, totals TEXT,
        cancel_seq INTEGER, cancel_reason TEXT, cancel_signal TEXT,
        last_seq INTEGER NOT NULL, last_at_ms INTEGER, last_mono_ns INTEGER,
        CHECK ((outcome IS NULL) = (finished_at_ms IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE streams (
        run_id TEXT NOT NULL PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
        path TEXT NOT NULL, file_id TEXT NOT NULL, head_sha256 TEXT NOT NULL,
        byte_offset INTEGER NOT NULL, next_seq INTEGER NOT NULL, state TEXT,
        corrupt INTEGER NOT NULL, unknown INTEGER NOT NULL, duplicates INTEGER NOT NULL, conflicts INTEGER NOT NULL,
        gaps INTEGER NOT NULL, dropped INTEGER NOT NULL, torn_bytes INTEGER NOT NULL, clock_step_ms INTEGER NOT NULL,
        position TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE events (
        run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
        seq INTEGER NOT NULL, type TEXT NOT NULL, at_ms INTEGER NOT NULL,
        byte_offset INTEGER NOT NULL, raw TEXT NOT NULL,
        PRIMARY KEY (run_id, seq)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE jobs (
        run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
        job_id TEXT NOT NULL, attempt INTEGER NOT NULL,
        first_seq INTEGER NOT NULL, declared_seq INTEGER, started_seq INTEGER, finished_seq INTEGER,
        "after" TEXT NOT NULL, because TEXT NOT NULL, has_calls INTEGER NOT NULL,
        started_at_ms INTEGER, start_mono_ns INTEGER, finished_at_ms INTEGER, duration_ns INTEGER,
        outcome TEXT, error TEXT, synthesized INTEGER NOT NULL,
        PRIMARY KEY (run_id, job_id, attempt),
        CHECK ((outcome IS NULL) = (finished_at_ms IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE sh (
        run_id TEXT NOT NULL, job_id TEXT NOT NULL, attempt INTEGER NOT NULL, sh INTEGER NOT NULL,
        first_seq INTEGER NOT NULL, started_seq INTEGER, spawned_seq INTEGER, finished_seq INTEGER,
        argv TEXT NOT NULL, argv_b64 TEXT, cmd TEXT, cwd TEXT, cwd_b64 TEXT, shell INTEGER NOT NULL,
        env_set TEXT NOT NULL, env_unset TEXT NOT NULL, env TEXT, timeout_ms INTEGER, log_path TEXT, pipe TEXT, cut TEXT,
        pid INTEGER, pid_start INTEGER,
        started_at_ms INTEGER, start_mono_ns INTEGER, finished_at_ms INTEGER, duration_ns INTEGER,
        outcome TEXT, exit_code INTEGER, signal TEXT, stdout_bytes INTEGER, stderr_bytes INTEGER,
        log_dropped_bytes INTEGER NOT NULL, escalated INTEGER NOT NULL, usage TEXT, error TEXT,
        synthesized INTEGER NOT NULL,
        PRIMARY KEY (run_id, job_id, attempt, sh),
        FOREIGN KEY (run_id, job_id, attempt) REFERENCES jobs ON DELETE CASCADE,
        CHECK ((outcome IS NULL) = (finished_at_ms IS NULL))
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE notes (
        run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
        seq INTEGER NOT NULL, "key" TEXT NOT NULL, value TEXT NOT NULL, at_ms INTEGER NOT NULL,
        job_id TEXT, attempt INTEGER, sh INTEGER,
        PRIMARY KEY (run_id, seq)
    ) STRICT, WITHOUT ROWID
    """,
    # What recovery looks for, and what it made up.  Both are few, and so are the entries of these.
    "CREATE INDEX open_jobs ON jobs (run_id) WHERE outcome IS NULL",
    "CREATE INDEX open_sh ON sh (run_id) WHERE outcome IS NULL",
    "CREATE INDEX synthesized_jobs ON jobs (run_id) WHERE synthesized = 1",
    "CREATE INDEX synthesized_sh ON sh (run_id) WHERE synthesized = 1",
    # The table of quire, a CI runner, by its name and with its six columns: -1 is what has no exit code.
    """
    CREATE VIEW sh_events (run_id, job_id, started_at_ms, finished_at_ms, exit_code, cmd) AS
        SELECT run_id, job_id, coalesce(started_at_ms, finished_at_ms), finished_at_ms, coalesce(exit_code, -1),
            coalesce(cmd, '')
        FROM sh WHERE finished_seq IS NOT NULL
    """,
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST,)
"""The statements that lead to version 1, to version 2, and so on."""

VERSION: Final = len(MIGRATIONS)
"""The version that this release writes."""


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 if there are none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, *, to_version: int = VERSION) -> None:
    """Do the migrations that are left; call it in a transaction."""
    for version in range(version_of(connection), to_version):
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        # A pragma takes no parameters.
        connection.execute(f"PRAGMA user_version = {version + 1:d}")
