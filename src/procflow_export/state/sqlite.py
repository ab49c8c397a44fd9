"""The state in SQLite: in a directory beside the configuration, or in memory.

Owns the database: how it is opened, and every statement.  Must not know what a run makes of it.

``state.db`` is in WAL mode: readers never wait for the writer.  One process may hold several runs' stores open, and several
processes may; each statement that writes is one short transaction, for which the others wait.  A newer version is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from procflow_export.model.codes import Code
from procflow_export.model.errors import StateError
from procflow_export.model.ledger import (
    ChunkEntry,
    CursorEntry,
    ExportEntry,
    FileEntry,
    Lease,
    RunEntry,
    SealedPlan,
    Standing,
)
from procflow_export.model.manifest import StoredCursor
from procflow_export.model.plan import PartRecord, UnitResult
from procflow_export.state.leases import FileLeases, Leases, OwnLeases
from procflow_export.state.migrations import VERSION, migrate, version_of

APPLICATION_ID: Final = 0x70667865
"""Tells the database from those of other programs (``PRAGMA application_id``)."""
BUSY_WAIT_S: Final = 30.0
"""How long a writer waits for another one."""
DATABASE: Final = "state.db"
LEASES: Final = "leases"
_LOCK: Final = "open.lock"

Row = TypeVar("Row", bound=msgspec.Struct)
# Prepares the types for all threads: see ``model.manifest``.
_PREPARED: Final = tuple(
    msgspec.json.Decoder(kind) for kind in (RunEntry, ExportEntry, ChunkEntry, FileEntry, CursorEntry)
)
_JSON_COLUMNS: Final = frozenset({"place", "plan", "result", "cursor", "exports"})


@contextmanager
def open_state(directory: Path | None) -> Iterator[SqliteState]:
    """Open the state in ``directory``, which is made if it is not there; ``None`` is one in memory.

    Raises:
        StateError: ``STATE_NOT_USABLE`` if the directory cannot be written, the file is no state of this program, or is one of a
            newer release.
    """
    location = "memory" if directory is None else str(directory)
    with _errors(location):
        connection = _connected(":memory:") if directory is None else _opened(directory)
    leases: Leases = OwnLeases() if directory is None else FileLeases(directory / LEASES)
    with contextlib.closing(connection):
        yield SqliteState(connection, location=location, leases=leases)


def _opened(directory: Path) -> sqlite3.Connection:
    _make_private(directory)
    with _opening(directory):
        with contextlib.suppress(FileExistsError):
            # Private in a directory that was there before, too; SQLite's other files get the permissions of this one.
            # Never opened when it is there: closing it would take away the locks of this process's connections.
            os.close(os.open(directory / DATABASE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return _connected(str(directory / DATABASE))


def _make_private(directory: Path) -> None:
    """Make the state readable for its owner only: keys of rows are data."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / LEASES).mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        error = StateError(
            Code.STATE_NOT_USABLE, f"the state directory {directory} cannot be made: {exc.strerror or exc}"
        )
        error.add_note("`--state DIR` puts it where the program may write")
        raise error from exc


@contextmanager
def _opening(directory: Path) -> Iterator[None]:
    """Let one process at a time make and migrate the tables.

    SQLite does not wait for a second process that changes to WAL, since two could wait for each other
    (https://www.sqlite.org/c3ref/busy_handler.html).
    """
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # without locks, the lease says what is wrong
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _connected(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_WAIT_S, check_same_thread=False)
    try:
        (count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if count and application != APPLICATION_ID:
            raise StateError(Code.STATE_NOT_USABLE, f"{path} belongs to another program")
        if (version := version_of(connection)) > VERSION:
            raise StateError(
                Code.STATE_NOT_USABLE,
                f"the state {path} has version {version}, this release knows {VERSION}: use the release that wrote it",
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        if version < VERSION:
            with _transaction(connection):
                migrate(connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
    except BaseException:
        connection.close()
        raise
    return connection


class SqliteState:
    """A ``StateStore`` over one open database."""

    def __init__(self, connection: sqlite3.Connection, *, location: str, leases: Leases) -> None:
        self._connection = connection
        self._location = location
        self._leases = leases
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        """The directory, or ``memory``."""
        return self._location

    # ---- leases

    @contextmanager
    def leased(self, export: str, run_id: str | None) -> Iterator[None]:
        """See ``StateStore.leased()``."""
        with self._leases.leased(export, run_id):
            yield

    def lease(self, export: str) -> Lease | None:
        """See ``StateStore.lease()``."""
        return self._leases.lease(export)

    # ---- what a run writes

    def begin_run(self, run: RunEntry) -> None:
        """See ``StateStore.begin_run()``."""
        with self._writing() as connection:
            _insert(connection, "runs", _columns(run))

    def end_run(self, run_id: str, standing: Standing, exit_status: int, finished_at: str) -> None:
        """See ``StateStore.end_run()``."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE runs SET standing = ?, exit_status = ?, finished_at = ? WHERE run_id = ?",
                (standing.value, exit_status, finished_at, run_id),
            )

    def begin_export(self, entry: ExportEntry) -> None:
        """See ``StateStore.begin_export()``."""
        with self._writing() as connection:
            # The lease is ours: whoever was running is not any more.
            connection.execute(
                "UPDATE exports SET standing = 'died' WHERE standing = 'running' AND export = ? AND run_id <> ?",
                (entry.export, entry.run_id),
            )
            # Nobody goes on with these: their chunks and plans may be large, and every run reads the entries.
            connection.execute(
                "DELETE FROM chunks WHERE export = ? AND run_id IN"
                " (SELECT run_id FROM exports WHERE export = ? AND is_swept)",
                (entry.export, entry.export),
            )
            connection.execute(
                "UPDATE exports SET plan = NULL WHERE export = ? AND is_swept AND plan IS NOT NULL", (entry.export,)
            )
            connection.execute("DELETE FROM exports WHERE export = ? AND run_id = ?", (entry.export, entry.run_id))
            _insert(connection, "exports", _columns(entry))

    def plan_export(
        self,
        run_id: str,
        export: str,
        plan: SealedPlan,
        kept: Mapping[int, UnitResult],
        resumed_from: str | None,
        at: str,
    ) -> None:
        """See ``StateStore.plan_export()``."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE exports SET plan = ?, resumed_from = ? WHERE export = ? AND run_id = ?",
                (_json(plan), resumed_from, export, run_id),
            )
            connection.execute("DELETE FROM chunks WHERE export = ? AND run_id = ?", (export, run_id))
            for result in kept.values():
                self._end_chunk(connection, run_id, export, result, at)

    def begin_chunk(self, run_id: str, export: str, chunk: int, attempt: int, at: str) -> None:
        """See ``StateStore.begin_chunk()``."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO chunks (export, run_id, chunk, standing, attempts, changed_at)"
                " VALUES (?, ?, ?, 'running', ?, ?)",
                (export, run_id, chunk, attempt, at),
            )

    def end_chunk(self, run_id: str, export: str, result: UnitResult, at: str) -> None:
        """See ``StateStore.end_chunk()``."""
        with self._writing() as connection:
            self._end_chunk(connection, run_id, export, result, at)

    def _end_chunk(self, connection: sqlite3.Connection, run_id: str, export: str, result: UnitResult, at: str) -> None:
        connection.execute(
            "INSERT INTO chunks (export, run_id, chunk, standing, attempts, changed_at, result)"
            " VALUES (?, ?, ?, 'done', 1, ?, ?) ON CONFLICT DO UPDATE"
            " SET standing = 'done', changed_at = excluded.changed_at, result = excluded.result, code = NULL",
            (export, run_id, result.index, at, _json(result)),
        )
        connection.executemany(
            'INSERT OR REPLACE INTO files (export, "key", run_id, row_count, size_bytes, checksum, recorded_at)'
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [_file_row(export, run_id, part, at) for part in result.parts],
        )

    def fail_chunk(self, run_id: str, export: str, chunk: int, code: str, at: str) -> None:
        """See ``StateStore.fail_chunk()``."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE chunks SET standing = 'failed', code = ?, changed_at = ?"
                " WHERE export = ? AND run_id = ? AND chunk = ? AND standing = 'running'",
                (code, at, export, run_id, chunk),
            )

    def end_export(self, entry: ExportEntry) -> None:
        """See ``StateStore.end_export()``."""
        values = _columns(entry)
        kept = ("export", "run_id", "plan", "resumed_from", "is_swept", "started_at")
        changed = {name: value for name, value in values.items() if name not in kept}
        assignments = ", ".join(f"{name} = :{name}" for name in changed)
        with self._writing() as connection:
            connection.execute(  # the names are those of the struct's fields
                f"UPDATE exports SET {assignments} WHERE export = :export AND run_id = :run_id",  # noqa: S608
                values,
            )

    def publish(
        self, run_id: str, export: str, cursor: StoredCursor | None, superseded: Sequence[str], at: str
    ) -> None:
        """See ``StateStore.publish()``."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE exports SET standing = 'success' WHERE export = ? AND run_id = ?", (export, run_id)
            )
            connection.execute(
                'INSERT OR REPLACE INTO cursors (export, run_id, "cursor", changed_at) VALUES (?, ?, ?, ?)',
                (export, run_id, None if cursor is None else _json(cursor), at),
            )
            connection.executemany(
                'UPDATE files SET superseded_at = ? WHERE export = ? AND "key" = ? AND superseded_at IS NULL',
                [(at, export, key) for key in superseded],
            )

    def sweep(self, run_id: str, export: str, removed: Sequence[str]) -> None:
        """See ``StateStore.sweep()``."""
        with self._writing() as connection:
            connection.execute("UPDATE exports SET is_swept = 1 WHERE export = ? AND run_id = ?", (export, run_id))
            _forget(connection, export, removed)

    def forget_files(self, export: str, keys: Sequence[str]) -> None:
        """See ``StateStore.forget_files()``."""
        with self._writing() as connection:
            _forget(connection, export, keys)

    # ---- what is asked

    def runs(self, *, limit: int) -> list[RunEntry]:
        """See ``StateStore.runs()``."""
        return self._read(RunEntry, "SELECT * FROM runs ORDER BY started_at DESC, run_id DESC LIMIT ?", limit)

    def run(self, run_id: str) -> RunEntry | None:
        """See ``StateStore.run()``."""
        found = self._read(RunEntry, "SELECT * FROM runs WHERE run_id = ?", run_id)
        return found[0] if found else None

    def exports(self, *, run_id: str | None = None, export: str | None = None) -> list[ExportEntry]:
        """See ``StateStore.exports()``."""
        found = self._read(
            ExportEntry,
            "SELECT * FROM exports WHERE run_id = coalesce(?, run_id) AND export = coalesce(?, export)"
            " ORDER BY started_at DESC, run_id DESC",
            run_id,
            export,
        )
        run = None if run_id is None else self.run(run_id)
        return found if run is None else sorted(found, key=lambda entry: run.exports.index(entry.export))

    def chunks(self, run_id: str, export: str) -> list[ChunkEntry]:
        """See ``StateStore.chunks()``."""
        return self._read(
            ChunkEntry,
            "SELECT chunk, standing, attempts, changed_at, result, code FROM chunks"
            " WHERE run_id = ? AND export = ? ORDER BY chunk",
            run_id,
            export,
        )

    def files(self, export: str) -> list[FileEntry]:
        """See ``StateStore.files()``."""
        return self._read(FileEntry, 'SELECT * FROM files WHERE export = ? ORDER BY recorded_at, run_id, "key"', export)

    def cursor(self, export: str) -> CursorEntry | None:
        """See ``StateStore.cursor()``."""
        found = self._read(CursorEntry, "SELECT * FROM cursors WHERE export = ?", export)
        return found[0] if found else None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _errors(self._location), _transaction(self._connection):
            yield self._connection

    def _read(self, kind: type[Row], statement: str, *parameters: object) -> list[Row]:
        with self._lock, _errors(self._location):
            cursor = self._connection.execute(statement, parameters)
            names = [column[0] for column in cursor.description]
            return [_decoded(kind, dict(zip(names, row, strict=True))) for row in cursor]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what is in the block as a whole or not at all; whoever else wants to write waits."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself gives some up, when the disk is full
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, table: str, values: Mapping[str, object]) -> None:
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608 (names of struct fields)


def _forget(connection: sqlite3.Connection, export: str, keys: Sequence[str]) -> None:
    connection.executemany('DELETE FROM files WHERE export = ? AND "key" = ?', [(export, key) for key in keys])


def _columns(entry: msgspec.Struct) -> dict[str, object]:
    """Return a row's values by column; what is no plain value is JSON."""
    plain: dict[str, object] = {}
    for name, value in msgspec.structs.asdict(entry).items():
        if name in _JSON_COLUMNS and value is not None:
            plain[name] = _json(value)
        else:
            plain[name] = value.value if isinstance(value, Standing) else value
    return plain


def _file_row(export: str, run_id: str, part: PartRecord, at: str) -> tuple[object, ...]:
    return export, part.key, run_id, part.row_count, part.size_bytes, part.checksum, at


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decoded(kind: type[Row], values: dict[str, object]) -> Row:
    for name in _JSON_COLUMNS & values.keys():
        text = values[name]
        values[name] = None if text is None else msgspec.json.decode(str(text))
    return msgspec.convert(values, kind, strict=False)  # SQLite's booleans are numbers


@contextmanager
def _errors(location: str) -> Iterator[None]:
    """Turn what SQLite and the system say into our codes."""
    try:
        yield
    except sqlite3.Error as exc:
        primary = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
        code = Code.STATE_NOT_USABLE if primary in _NOT_USABLE else Code.STATE_FAILED
        raise StateError(code, f"the state in {location} cannot be used: {exc}") from exc
    except msgspec.DecodeError as exc:
        raise StateError(
            Code.STATE_NOT_USABLE, f"the state in {location} holds what this release does not know"
        ) from exc
    except OSError as exc:
        code = Code.STATE_FAILED if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else Code.STATE_NOT_USABLE
        raise StateError(code, f"the state in {location} cannot be used: {exc.strerror or exc}") from exc


_NOT_USABLE: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
    }
)
