"""The state store: what is remembered, and for how long a lease is held."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig, DestinationType
from procflow_export.model.errors import StateError
from procflow_export.model.ledger import ChunkStanding, ExportEntry, Place, RunEntry, SealedPlan, Standing
from procflow_export.model.manifest import CursorOwner, StoredCursor
from procflow_export.model.plan import PartRecord, UnitResult
from procflow_export.state import StateStore, open_state
from procflow_export.state.migrations import VERSION

AT = "2026-03-04T05:06:07.000Z"
PLACE = Place(destination=DestinationConfig(type=DestinationType.LOCAL, path="/data/orders"), part_stem="orders-1-c")
CURSOR = StoredCursor(
    owner=CursorOwner(mode="full", source="s", selection="t", destination="d", format="csv", cursor="c"),
    key=(),
    position=None,
)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    with open_state(tmp_path / "shop.state" if request.param == "file" else None) as opened:
        assert isinstance(opened, StateStore)
        yield opened


def run_of(run_id: str, at: str = AT) -> RunEntry:
    return RunEntry(
        run_id=run_id, standing=Standing.RUNNING, started_at=at, engine="processes", host="h", pid=1, release="0",
        exports=("orders",),
    )  # fmt: skip


def entry_of(run_id: str, at: str = AT) -> ExportEntry:
    return ExportEntry(
        run_id=run_id, export="orders", standing=Standing.RUNNING, mode="chunked", place=PLACE, started_at=at
    )


def result_of(index: int) -> UnitResult:
    part = PartRecord(key=f"p{index}", row_count=3, size_bytes=5, checksum="sha256:00", chunk=index)
    return UnitResult(index=index, parts=(part,), row_count=3, schema_fingerprint="f", elapsed_s=0.5, peak_rss_bytes=7)


def begin(store: StateStore, run_id: str, at: str = AT) -> None:
    store.begin_run(run_of(run_id, at))
    store.begin_export(entry_of(run_id, at))


PLAN = SealedPlan(
    digest="d", cut=b'{"key":[]}', previous_run_id=None, base_run_id=None, chunk_count=2, consistency="chunk"
)


def test_what_was_written_is_read(store: StateStore) -> None:
    """E-45: runs, exports, chunks, files and cursors come back as they went in."""
    begin(store, "1")
    store.plan_export("1", "orders", PLAN, {}, None, AT)
    store.begin_chunk("1", "orders", 0, 1, AT)
    store.end_chunk("1", "orders", result_of(0), AT)
    store.begin_chunk("1", "orders", 1, 2, AT)
    store.publish("1", "orders", CURSOR, ("old",), AT)
    ended = msgspec.structs.replace(entry_of("1"), standing=Standing.SUCCESS, row_count=3, finished_at=AT, work_s=1.5)
    store.end_export(ended)
    store.end_run("1", Standing.SUCCESS, 0, AT)

    assert store.runs(limit=5) == [
        msgspec.structs.replace(run_of("1"), standing=Standing.SUCCESS, exit_status=0, finished_at=AT)
    ]
    assert store.exports(run_id="1") == [msgspec.structs.replace(ended, plan=PLAN)]
    first, second = store.chunks("1", "orders")
    assert (first.standing, first.result) == (ChunkStanding.DONE, result_of(0))
    assert (second.standing, second.attempts, second.result) == (ChunkStanding.RUNNING, 2, None)
    (file,) = store.files("orders")
    assert (file.key, file.run_id, file.superseded_at) == ("p0", "1", None)
    cursor = store.cursor("orders")
    assert cursor is not None
    assert (cursor.run_id, cursor.cursor) == ("1", CURSOR)
    assert store.cursor("others") is None


def test_a_run_that_never_ended_has_died_when_the_next_one_begins(store: StateStore) -> None:
    """E-45: whoever has the lease knows that nobody else is running."""
    begin(store, "1", "2026-01-01T00:00:00.000Z")

    begin(store, "2", "2026-01-02T00:00:00.000Z")

    assert [(entry.run_id, entry.standing) for entry in store.exports(export="orders")] == [
        ("2", Standing.RUNNING),
        ("1", Standing.DIED),
    ]


def test_chunks_only_move_forward(store: StateStore) -> None:
    """E-45: a late word about a failed attempt does not undo a chunk that is done."""
    begin(store, "1")
    store.plan_export("1", "orders", PLAN, {}, None, AT)
    store.begin_chunk("1", "orders", 0, 1, AT)
    store.fail_chunk("1", "orders", 0, "WORKER_DIED", AT)
    store.begin_chunk("1", "orders", 0, 2, AT)
    store.end_chunk("1", "orders", result_of(0), AT)
    store.fail_chunk("1", "orders", 0, "WORKER_DIED", AT)

    (chunk,) = store.chunks("1", "orders")
    assert (chunk.standing, chunk.attempts, chunk.code) == (ChunkStanding.DONE, 2, None)


def test_a_plan_that_is_made_again_forgets_what_was_done(store: StateStore) -> None:
    """E-11, E-45: chunks of a snapshot that is lost are not those of the next one."""
    begin(store, "1")
    store.plan_export("1", "orders", PLAN, {}, None, AT)
    store.end_chunk("1", "orders", result_of(1), AT)

    store.plan_export("1", "orders", PLAN, {0: result_of(0)}, "0", AT)

    (chunk,) = store.chunks("1", "orders")
    assert chunk.chunk == 0
    assert store.exports(run_id="1")[0].resumed_from == "0"


def test_one_lease_an_export(store: StateStore) -> None:
    """E-45: two runs never work on one export, two exports have two leases, and a lease that was given back can be had."""
    with store.leased("orders", "run-1"), store.leased("items", "run-1"):
        held = store.lease("orders")
        assert held is not None
        assert (held.run_id, held.pid) == ("run-1", os.getpid())
        with pytest.raises(StateError, match="run-1") as caught, store.leased("orders", "run-2"):
            pytest.fail("two leases of one export")
        assert caught.value.code is Code.EXPORT_LEASED
        assert caught.value.is_transient

    assert store.lease("orders") is None
    with store.leased("orders", "run-2"):
        pass


def test_what_goes_wrong_beside_a_state_is_not_its_fault(store: StateStore) -> None:
    """E-45: an error of the run that has a state open stays what it is."""
    with pytest.raises(OSError, match="elsewhere"), open_state(None):
        raise OSError(28, "elsewhere")


def test_a_lease_ends_although_a_child_was_forked(tmp_path: Path) -> None:
    """E-45: a program that forks while a run goes on has children with the lock's descriptor: they hold no lease."""
    code = """if True:
        import os, sys
        from pathlib import Path
        from procflow_export.state import open_state
        with open_state(Path(sys.argv[1])) as store:
            reading, writing = os.pipe()
            with store.leased("orders", "1"):
                child = os.fork()
                if not child:
                    os.close(writing)
                    os.read(reading, 1)
                    os._exit(0)
            print(store.lease("orders"))
            with store.leased("orders", "2"):
                pass
            os.close(writing)
            os.waitpid(child, 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout.strip()) == (0, "None"), done.stderr


def test_every_name_that_an_export_may_have_is_one_of_a_lease(store: StateStore) -> None:
    """E-45, E-62: 120 bytes of any script."""
    with store.leased("é" * 60, "1"), store.leased("a b.c%~'()", "1"):
        assert store.lease("é" * 60) is not None


def test_many_threads_write_one_after_the_other(store: StateStore) -> None:
    """E-45: one writer."""
    begin(store, "1")
    store.plan_export("1", "orders", PLAN, {}, None, AT)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda index: store.end_chunk("1", "orders", result_of(index), AT), range(200)))

    assert [chunk.chunk for chunk in store.chunks("1", "orders")] == list(range(200))


def test_a_state_outlives_its_process_and_stays_private(tmp_path: Path) -> None:
    """E-45: what a killed process wrote is there; keys of rows are data, so nobody else may read them."""
    directory = tmp_path / "deep" / "shop.state"
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from procflow_export.state import open_state
        from tests.export.state.test_store import begin
        with open_state(Path(sys.argv[1])) as store, store.leased("orders", "1"):
            begin(store, "1")
            print("written", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr

    with open_state(directory) as store:
        assert store.runs(limit=1)[0].run_id == "1"
        assert store.lease("orders") is None  # the kernel gave it back
    assert directory.stat().st_mode & 0o077 == 0
    assert (directory / "state.db").stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_state_in_a_directory_of_others_is_private(tmp_path: Path) -> None:
    """E-45: `--state DIR` may name a directory that everybody can read."""
    tmp_path.chmod(0o755)

    with open_state(tmp_path) as store:
        store.begin_run(run_of("1"))
        modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}

    assert modes.keys() >= {"state.db", "state.db-wal", "leases"}
    assert set(modes.values()) == {0}


def test_long_texts_are_no_keys(tmp_path: Path) -> None:
    """E-45: noting down a chunk costs the same however long its export's plan is: SQLite reads all of a key to compare it."""
    with open_state(tmp_path), closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        tables = {name: without_rowid for _, name, _, _, without_rowid, _ in connection.execute("PRAGMA table_list")}

    assert (tables["exports"], tables["chunks"]) == (0, 0)


@contextmanager
def changed(directory: Path, statement: str) -> Iterator[None]:
    with open_state(directory):
        pass
    with closing(sqlite3.connect(directory / "state.db")) as connection, connection:
        connection.execute(statement)
    yield


@pytest.mark.parametrize(
    ("statement", "reason"),
    [(f"PRAGMA user_version = {VERSION + 1}", "has version"), ("PRAGMA application_id = 7", "another program")],
)
def test_what_this_release_cannot_know_is_refused(statement: str, reason: str, tmp_path: Path) -> None:
    """E-45: a newer state, or a file of somebody else, is left as it is."""
    with changed(tmp_path, statement), pytest.raises(StateError, match=reason) as caught, open_state(tmp_path):
        pass
    assert caught.value.code is Code.STATE_NOT_USABLE


def test_a_damaged_state_is_one_clear_error(tmp_path: Path) -> None:
    """E-45: bytes that are no database are told, not replaced."""
    (tmp_path / "leases").mkdir()
    (tmp_path / "state.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)

    with pytest.raises(StateError) as caught, open_state(tmp_path):
        pass

    assert caught.value.code is Code.STATE_NOT_USABLE
    assert (tmp_path / "state.db").read_bytes().startswith(b"no database")


def test_a_state_that_cannot_be_made_says_where_to_put_it(tmp_path: Path) -> None:
    """E-45, E-61: the operator reads which directory, why, and what to do."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StateError, match="cannot be made") as caught, open_state(tmp_path / "file" / "shop.state"):
        pass

    assert "--state DIR" in caught.value.__notes__[0]


def test_processes_that_open_a_new_state_at_once_all_do(tmp_path: Path) -> None:
    """E-45: the tables are made once, whoever comes first (lesson 30: "database is locked" on a fresh state)."""
    code = """if True:
        import sys
        from pathlib import Path
        from procflow_export.state import open_state
        from tests.export.state.test_store import begin
        sys.stdin.readline()
        with open_state(Path(sys.argv[1])) as store:
            store.begin_run(__import__("tests.export.state.test_store", fromlist=["run_of"]).run_of(sys.argv[2]))
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "s"), str(number)],
            env=environ,
            stdin=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for process in starters:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in starters:
        process.communicate()
        assert process.returncode == 0

    with open_state(tmp_path / "s") as store:
        assert len(store.runs(limit=10)) == 6
    shutil.rmtree(tmp_path / "s")
