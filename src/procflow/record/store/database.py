"""The database file: how it is opened, and what makes it one of ours.

Owns connections, transactions and the check of versions.  Must not know what stands in the tables.

Readers are never in the way of a writer, nor it in theirs (WAL), and a writer waits for the one before it.  A transaction that was
committed survives the death of every process; the last ones before a power failure may be lost (``synchronous=NORMAL``), and then
they are ingested again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from procflow.record.errors import UnusableDatabaseError
from procflow.record.store.migrations import VERSION, migrate, version_of

APPLICATION_ID: Final = 0x70665272
"""Tells the database from those of other programs (``PRAGMA application_id``)."""

BUSY_WAIT_S: Final = 30.0
"""How long a writer waits for another one."""

_RETRY_S: Final = 0.005

_OLDEST_SQLITE: Final = (3, 37, 0)  # the first with STRICT tables


@contextmanager
def open_database(
    path: str | os.PathLike[str], *, busy_wait_s: float = BUSY_WAIT_S, is_new_allowed: bool = True
) -> Iterator[sqlite3.Connection]:
    """Open the database ``path`` for writing; make it, readable for nobody else, if there is none and that ``is_new_allowed``.

    Raises:
        UnusableDatabaseError: If it is not one of ours, needs a newer release, or the system does not let us; also if that
            turns out inside the block.
    """
    with (
        _errors_of(path),
        contextlib.closing(_connect(path, busy_wait_s, is_new_allowed=is_new_allowed)) as connection,
    ):
        version = _checked_version(connection, path)
        if not version and not is_new_allowed:
            raise UnusableDatabaseError(path=os.fspath(path), reason="there is nothing in it")
        if version > VERSION:
            reason = f"its tables have version {version}, this release writes {VERSION}; it can be read"
            raise UnusableDatabaseError(path=os.fspath(path), reason=reason, theirs=version, ours=VERSION)
        _log_ahead(connection, busy_wait_s)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        if version < VERSION:
            with transaction(connection):
                migrate(connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        yield connection


@contextmanager
def open_to_read(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    """Open the database ``path`` as it is at this moment; nothing that happens inside the block changes it.

    One of a newer release can be read, one of an older release is migrated first.

    Raises:
        UnusableDatabaseError: If there is none, or none of ours, or the system does not let us.
    """
    with _errors_of(path):
        with contextlib.closing(_connect(path, BUSY_WAIT_S, is_read_only=True)) as connection:
            version = _checked_version(connection, path)
        if not version:
            raise UnusableDatabaseError(path=os.fspath(path), reason="there is nothing in it")
        if version < VERSION:
            with open_database(path):
                pass
        with contextlib.closing(_connect(path, BUSY_WAIT_S, is_read_only=True)) as connection:
            connection.execute("BEGIN")
            yield connection


def _log_ahead(connection: sqlite3.Connection, busy_wait_s: float) -> None:
    """Have readers and the writer of the database not wait for each other.

    Where WAL cannot be had, on some network file systems, everything works, but readers may wait for a writer.
    """
    # SQLite does not wait for a second writer here, because the change holds a reader's lock already and two could wait
    # for each other (https://www.sqlite.org/c3ref/busy_handler.html).
    deadline = time.monotonic() + busy_wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what is in the block as a whole or not at all; whoever else wants to write waits."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself gives some up, when the disk is full
            connection.execute("ROLLBACK")
        raise


def _connect(
    path: str | os.PathLike[str], busy_wait_s: float, *, is_read_only: bool = False, is_new_allowed: bool = False
) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        reason = f"SQLite {sqlite3.sqlite_version} is too old, 3.37 is needed"
        raise UnusableDatabaseError(path=os.fspath(path), reason=reason)
    if is_new_allowed:
        _create_private(path)
    mode = "rw" if not is_read_only else "ro&immutable=1" if _is_frozen(path) else "ro"
    address = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=busy_wait_s)


def _is_frozen(path: str | os.PathLike[str]) -> bool:
    """Whether all of the database is in its file and that cannot change; SQLite cannot make what WAL needs beside it then, nor needs it."""
    try:
        is_read_only_system = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:  # not there: that is said when it is opened
        return False
    return is_read_only_system and not os.path.lexists(f"{os.fspath(path)}-wal")


def _create_private(path: str | os.PathLike[str]) -> None:
    # Never opened if it is there: closing it would take the locks away that this process has on it through SQLite.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as exc:
        raise UnusableDatabaseError(path=os.fspath(path), reason=exc.strerror or "it cannot be made") from exc


def _checked_version(connection: sqlite3.Connection, path: str | os.PathLike[str]) -> int:
    # In this order: somebody else may be making it, and whoever sees its tables finds their owner too.
    (count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if count and application != APPLICATION_ID:
        raise UnusableDatabaseError(path=os.fspath(path), reason="it belongs to another program")
    return version_of(connection)


@contextmanager
def _errors_of(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        code: int | None = getattr(exc, "sqlite_errorcode", None)  # misuse of the module has none
        primary = code & 0xFF if code is not None else None
        raise UnusableDatabaseError(path=os.fspath(path), reason=str(exc), sqlite_code=primary) from exc
