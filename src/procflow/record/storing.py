"""The door to databases of runs.

Owns the functions that users call.  Must not know tables.

A database is a cache of records: it may be deleted at any time and made again by ingesting the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeAlias

from procflow.record.errors import UnknownRunError
from procflow.record.fold.view import RunView
from procflow.record.reading.files import open_record
from procflow.record.store.database import open_database, open_to_read, transaction
from procflow.record.store.ingest import Ingest
from procflow.record.store.reports import IngestReport, StoredRun
from procflow.record.store.reproject import rebuilt_lines, reproject_run
from procflow.record.store.streams import all_streams, stream_of
from procflow.record.store.viewing import stored_runs, stored_view

AnyPath: TypeAlias = str | os.PathLike[str]


def ingest(record: AnyPath, database: AnyPath) -> IngestReport:
    """Bring ``database`` up to what stands in ``record``, the file or the directory of a run.

    What is there already is not read again, so it costs what is new.  It may be interrupted at any moment, and others may ingest into
    the same database at once, the same record too.  Of a run that is over and was not finished, what is open gets an ending that is
    marked as made up; when more of the file appears, the next ingest puts the real one there.  The file stays as it is.
    The database is made, readable for nobody else, if there is none.  This blocks on the disk.

    Raises:
        UnreadableRecordError: If ``record`` is none, if another release is needed, or if the system does not let us.
        ReplacedRecordError: If the database has the beginning of this run from another file.
        UnusableDatabaseError: If ``database`` belongs to another program or a newer release, or cannot be written.
    """
    with open_record(record) as file, open_database(database) as connection:
        return Ingest(connection, file).run()


def reproject(database: AnyPath, run_id: str | None = None) -> dict[str, int]:
    """Make the rows of a run, or of all runs, anew from the lines in ``database``, without the files.

    For after an upgrade: events of types that are known now get their rows.

    Returns:
        The runs, and how many events each one's rows were made of.

    Raises:
        UnknownRunError: If there is no such run.
        UnusableDatabaseError: As ``ingest()``, and if there is no database.
    """
    done: dict[str, int] = {}
    with open_database(database, is_new_allowed=False) as connection:
        for name in [run_id] if run_id is not None else [name for name, _ in list(all_streams(connection))]:
            count = reproject_run(connection, name)
            if count is None and run_id is not None:
                raise UnknownRunError(path=os.fspath(database), run_id=name)
            if count is not None:
                done[name] = count
    return done


def forget(database: AnyPath, run_id: str) -> bool:
    """Delete everything that ``database`` has of a run; return whether there was such a run.  No record is touched.

    Raises:
        UnusableDatabaseError: As ``reproject()``.
    """
    with open_database(database, is_new_allowed=False) as connection, transaction(connection):
        return connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,)).rowcount > 0


def runs_in(database: AnyPath) -> list[StoredRun]:
    """Return the runs in ``database``, in the order in which they began.

    Raises:
        UnusableDatabaseError: If there is none, if it belongs to another program, or if the system does not let us.
    """
    with open_to_read(database) as connection:
        return stored_runs(connection)


def view_from(database: AnyPath, run_id: str) -> RunView:
    """Return a run out of ``database``: the view that its file gave when it was ingested last.

    Raises:
        UnknownRunError: If there is no such run.
        UnusableDatabaseError: As ``runs_in()``.
    """
    with open_to_read(database) as connection:
        view = stored_view(connection, run_id)
    if view is None:
        raise UnknownRunError(path=os.fspath(database), run_id=run_id)
    return view


def record_from(database: AnyPath, run_id: str) -> Iterator[bytes]:
    """Yield the record of a run out of ``database``, line by line, for when its file is gone.

    Lines that were damaged, empty or repeated in the file are not there; the others are, byte for byte and in its order.
    The database stays open until the iterator is used up or closed.

    Raises:
        UnknownRunError: If there is no such run, when the first line is asked for.
        UnusableDatabaseError: As ``runs_in()``.
    """
    with open_to_read(database) as connection:
        if stream_of(connection, run_id) is None:
            raise UnknownRunError(path=os.fspath(database), run_id=run_id)
        yield from rebuilt_lines(connection, run_id)
