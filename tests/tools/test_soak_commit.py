"""The soak that kills exports: twenty seeded kills in every run of the tests, and that it would see what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tools.servers import ServerUnavailableError, binaries
from tools.soak.crashes.databases import SqliteDatabase
from tools.soak.crashes.findings import PublishedFolder, wrong_state, wrong_versions
from tools.soak.crashes.plans import LOCAL, MODES, SOURCES, STORES, Victim, draw
from tools.soak.crashes.tables import Change, MovingTable
from tools.soak.crashes.trials import Trial

ROOT = Path(__file__).resolve().parents[2]
SHARES = (("sqlite", 0), ("sqlite", 4), ("postgres", 0), ("postgres", 5), ("mysql", 0))
KILLS = 4
PLACES = ("--destination", "local")


@pytest.mark.parametrize(("source", "first"), SHARES)
def test_seeded_kills_leave_every_set_right(source: str, first: int, tmp_path: Path) -> None:
    """E-43, E-44: parent, worker, backends and servers are killed at drawn moments; each row is published once, and nothing is left."""
    if source != "sqlite":
        try:
            binaries("postgres" if source == "postgres" else "mariadb")
        except ServerUnavailableError as exc:
            pytest.skip(str(exc))
    command = [sys.executable, "-m", "tools.soak", "commit", "--seed", "7", "--keep-going", "--source", source, *PLACES]
    done = subprocess.run(
        [*command, "--kills", str(KILLS), "--first", str(first), "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert f"{KILLS} kills" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


# --- that it would see it -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A published table."""
    directory = tmp_path_factory.mktemp("trial")
    plan = replace(draw("see", 0, sources=("sqlite",), stores=()), mode="chunked, chunk")
    trial = Trial(plan, directory, SqliteDatabase(directory / "source.db"))
    trial.table.commit(2)
    trial.run_undisturbed()
    return trial


def without_a_row(table: pa.Table) -> pa.Table:
    return table.slice(1)


def with_a_row_twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(7, 1)])


def with_another_value(table: pa.Table) -> pa.Table:
    notes = table["note"].to_pylist()
    notes[3] = f"{notes[3]}!"
    return table.set_column(table.schema.get_field_index("note"), "note", pa.array(notes))


@pytest.mark.parametrize("change", [without_a_row, with_a_row_twice, with_another_value])
def test_a_wrong_set_is_seen(trial: Trial, tmp_path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """E-44: a set with a row too few, a row too many or a wrong value is told apart from a right one, by both checks."""
    right = PublishedFolder(trial.folder.root)
    parts = [trial.folder.root / part["key"] for part in (right.manifest() or {})["parts"]]
    pq.write_table(change(pa.concat_tables([pq.read_table(part) for part in parts])), tmp_path / "part.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps({"parts": [{"key": "part.parquet"}]}))

    wrong = PublishedFolder(tmp_path).rows("sqlite")

    for check in (wrong_state, wrong_versions):
        assert check(trial.table, right.rows("sqlite"), at_least=0) is None
        assert check(trial.table, wrong, at_least=0) is not None


def test_an_old_state_is_seen(tmp_path: Path) -> None:
    """E-43: a set that lacks what was committed before its run began is not right, however whole it is."""
    database = SqliteDatabase(tmp_path / "source.db")
    table = MovingTable(database, change=Change.ANYTHING, rows=50, seed="1", has_nulls=False)
    before = table.published(table.state_after(0))

    table.commit(1)

    assert wrong_state(table, before, at_least=0) is None
    assert wrong_state(table, before, at_least=table.committed) is not None


def test_what_is_left_is_seen(trial: Trial) -> None:
    """E-44: a part that no manifest names, and a hidden file, are leftovers; parts, manifests and marker are not."""
    root = trial.folder.root
    assert trial.folder.leftovers() == []

    for name in ("t-0000-c00000-p000.parquet", ".procflow~=t~=x.tmp"):
        (root / name).write_bytes(b"")
    try:
        assert trial.folder.leftovers() == [".procflow~=t~=x.tmp", "t-0000-c00000-p000.parquet"]
    finally:
        for name in ("t-0000-c00000-p000.parquet", ".procflow~=t~=x.tmp"):
            (root / name).unlink()


def test_plans_follow_from_the_seed_and_reach_everything() -> None:
    """E-44: the same seed draws the same kills; some hundred of them kill everybody, in every mode, from every source."""
    plans = [draw("1", number) for number in range(300)]

    assert plans == [draw("1", number) for number in range(300)]
    assert {plan.victim for plan in plans} == {*Victim}
    assert {(plan.mode, plan.engine) for plan in plans} >= {(mode, "processes") for mode in MODES}
    assert {plan.source for plan in plans} == {*SOURCES}
    assert {plan.destination for plan in plans} == {LOCAL, *STORES}
    assert all(plan.engine == "processes" for plan in plans if plan.victim is Victim.WORKER)
    assert all(plan.source == "postgres" for plan in plans if plan.victim is Victim.BACKEND_PROCESS)
    assert max(Counter(plan.victim for plan in plans).values()) == 300 // len(Victim)
