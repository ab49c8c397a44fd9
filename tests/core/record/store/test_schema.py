"""The database file: its versions, its rights, whose it is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from procflow.record import storing
from procflow.record.errors import UnusableDatabaseError
from procflow.record.loading import load
from procflow.record.store import columns, database, migrations
from procflow.record.store.database import open_database
from procflow.record.store.migrations import VERSION, migrate, version_of
from tests.core.record.sample import RECORD
from tests.core.record.store.databases import TABLES, dump_of
from tests.core.record.store.test_ingest import RUN

SCHEMAS = sorted((Path(__file__).parents[1] / "golden" / "schemas").glob("*.sql"), key=lambda path: int(path.stem))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(RECORD)
    return path


def schema_of(connection: sqlite3.Connection) -> list[str]:
    return [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")]


def plain(sql: str) -> str:
    return " ".join(sql.split())


@pytest.mark.parametrize("golden", SCHEMAS, ids=lambda path: f"version {path.stem}")
def test_a_released_schema_never_changes(golden: Path) -> None:
    """RR-58: the migrations up to a version make the schema of that version, which is kept beside the tests."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, to_version=int(golden.stem))
        made = "".join(f"{plain(sql)};\n" for sql in schema_of(connection))

    assert made == golden.read_text("utf-8")


@pytest.mark.parametrize("golden", SCHEMAS, ids=lambda path: f"version {path.stem}")
def test_every_older_schema_is_migrated(golden: Path, file: Path, tmp_path: Path) -> None:
    """RR-58: a database that an earlier release made is brought to the version of today when it is opened, rows and all."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.executescript(golden.read_text("utf-8"))
        connection.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {golden.stem}")

    storing.ingest(file, old)
    storing.ingest(file, new)

    assert dump_of(old) == dump_of(new)
    with open_database(old) as connection, open_database(new) as fresh:
        assert version_of(connection) == VERSION
        assert sorted(map(plain, schema_of(connection))) == sorted(map(plain, schema_of(fresh)))


def test_the_versions_are_all_there() -> None:
    """RR-58: no released schema lacks its golden file."""
    assert [int(path.stem) for path in SCHEMAS] == list(range(1, VERSION + 1))


def test_a_migration_is_done_as_a_whole_or_not_at_all(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RR-58: one that fails leaves the version and the tables of before, and the next release can try again."""
    path = tmp_path / "runs.db"
    storing.ingest(file, path)
    before = dump_of(path)

    def later(*statements: str) -> None:
        monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS[:VERSION], statements))
        monkeypatch.setattr(database, "VERSION", VERSION + 1)
        monkeypatch.setattr(database, "migrate", lambda connection: migrate(connection, to_version=VERSION + 1))

    later("ALTER TABLE runs ADD COLUMN colour TEXT", "CREATE TABLE runs (clashes)")
    with pytest.raises(UnusableDatabaseError, match="already exists"):
        storing.ingest(file, path)
    monkeypatch.undo()
    assert dump_of(path) == before

    later("ALTER TABLE runs ADD COLUMN colour TEXT")
    assert storing.view_from(path, RUN) == load(file)  # reading migrates too
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert version_of(connection) == VERSION + 1


def test_a_newer_database_is_read_and_not_written(file: Path, tmp_path: Path) -> None:
    """RR-58: the error names both versions, and what stands there can be seen."""
    path = tmp_path / "runs.db"
    storing.ingest(file, path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE runs ADD COLUMN colour TEXT")
        connection.execute(f"PRAGMA user_version = {VERSION + 3}")

    for write in (
        lambda: storing.ingest(file, path),
        lambda: storing.reproject(path),
        lambda: storing.forget(path, RUN),
    ):
        with pytest.raises(UnusableDatabaseError, match="can be read") as caught:
            write()
        assert (caught.value.theirs, caught.value.ours) == (VERSION + 3, VERSION)
    assert storing.view_from(path, RUN) == load(file)
    assert [stored.run_id for stored in storing.runs_in(path)] == [RUN]


def test_what_is_no_database_of_ours(file: Path, tmp_path: Path) -> None:
    """RR-58: tables of another program, other files, nothing at all, a directory that is not there: one error, nothing changed."""
    other, text, empty = tmp_path / "other.db", tmp_path / "text", tmp_path / "empty"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    text.write_text("no database, and longer than a header of one: " + "x" * 100)
    empty.touch()
    contents = [path.read_bytes() for path in (other, text)]

    for path in (other, text, tmp_path / "nothing" / "runs.db", tmp_path):
        with pytest.raises(UnusableDatabaseError) as caught:
            storing.ingest(file, path)
        assert caught.value.path == str(path)
    for path in (other, text, tmp_path / "nothing" / "runs.db", empty):
        with pytest.raises(UnusableDatabaseError):
            storing.runs_in(path)
    assert [path.read_bytes() for path in (other, text)] == contents
    assert not (tmp_path / "nothing").exists()


def test_a_database_on_a_read_only_file_system_is_read(file: Path, tmp_path: Path) -> None:
    """RR-57: a backup needs no files of WAL beside it; to write there is an error that says so."""
    path = tmp_path / "there" / "runs.db"
    path.parent.mkdir()
    storing.ingest(file, path)
    script = f"""
import subprocess, sys
from procflow.record import UnusableDatabaseError, ingest, load, runs_in, view_from
mounting = [["mount", "--bind", {str(path.parent)!r}, {str(path.parent)!r}], ["mount", "-o", "remount,ro,bind", {str(path.parent)!r}]]
for command in mounting:
    if subprocess.run(command, capture_output=True).returncode:
        sys.exit(77)
assert [stored.run_id for stored in runs_in({str(path)!r})] == [{RUN!r}]
assert view_from({str(path)!r}, {RUN!r}) == load({str(file)!r})
try:
    ingest({str(file)!r}, {str(path)!r})
except UnusableDatabaseError as exc:
    assert exc.sqlite_code is not None
else:
    raise AssertionError("nothing can be written there")
"""
    try:
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("needs unshare(1)")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("needs the right to mount")

    assert done.returncode == 0, done.stderr


def test_nobody_else_may_read_it(file: Path, tmp_path: Path) -> None:
    """RR-103: with a umask of 0 the database and what SQLite keeps beside it are their owner's alone."""
    path = tmp_path / "runs.db"
    umask = os.umask(0)
    try:
        with open_database(path) as connection:
            connection.execute("PRAGMA user_version")
            storing.ingest(file, path)
            modes = {left.name: stat.S_IMODE(left.stat().st_mode) for left in tmp_path.glob("runs.db*")}
    finally:
        os.umask(umask)

    assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}


def test_the_file_is_as_it_was_designed(file: Path, tmp_path: Path) -> None:
    """RR-57: readers and a writer do not block each other (WAL), keys are enforced, values have types, and the version is told."""
    path = tmp_path / "runs.db"
    storing.ingest(file, path)

    with open_database(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        strict = {name: is_strict for _, name, _, _, _, is_strict in connection.execute("PRAGMA table_list")}
        assert all(strict[table] for table in TABLES)
        for statement in (
            "UPDATE sh SET outcome = NULL",
            "UPDATE jobs SET finished_at_ms = NULL",
            "UPDATE runs SET outcome = NULL",
            "INSERT INTO notes VALUES ('nobody', 1, 'a.b', '1', 1, NULL, NULL, NULL)",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)


@pytest.mark.parametrize(
    "table", [columns.RUNS, columns.JOBS, columns.CALLS, columns.NOTES], ids=lambda table: table.name
)
def test_every_field_of_a_row_has_its_column(table: columns.Table[msgspec.Struct]) -> None:
    """RR-87: nothing that the fold knows is lost in the database, and the database holds nothing that it does not know."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}

    assert there == {"run_id", *table.columns}


def test_sqlite_is_loaded_when_it_is_needed() -> None:
    """RR-25: a program that records and keeps no database pays nothing for it."""
    program = "import sys, procflow.record; print('sqlite3' in sys.modules)"

    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
