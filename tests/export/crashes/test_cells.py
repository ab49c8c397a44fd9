"""The crash table of docs/reference/outputs.md, line by line: the real command, stopped at a point while somebody is killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from procflow_export.destinations.crash import CRASH_POINTS, READ_POINTS
from tools.servers import ServerUnavailableError
from tools.soak.crashes.databases import PostgresDatabase, Servers, SqliteDatabase
from tools.soak.crashes.findings import PublishedFolder
from tools.soak.crashes.places import Stores
from tools.soak.crashes.plans import Moment, Plan, Victim
from tools.soak.crashes.program import survivors
from tools.soak.crashes.trials import EXPORT, Trial

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "outputs.md"
NEXT_RUN = ("publishes its own set", "removes that, publishes its own set", "adopts the set, publishes its own")
IS_OVER = ("succeeds", "reads the chunk again in another worker")


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table."""

    point: str
    killed: str
    readers: str
    left: str
    marker: str
    same_run: str
    next_run: str

    def __str__(self) -> str:
        return f"{self.killed}-{self.point}"


def cells() -> list[Cell]:
    lines = re.findall(
        r"^\| \**`((?:unit|part|publish|put|state)\.[a-z_:0-9]+)`\** \|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    return [Cell(point, *(word.strip() for word in rest.split("|"))) for point, rest in lines]


def plan_of(cell: Cell, source: str) -> Plan:
    point, _, count = cell.point.partition(":")
    return Plan(
        number=0,
        seed=str(cell),
        victim=Victim(cell.killed),
        moment=Moment(point=point, count=int(count or 1)),
        mode="full",
        source=source,
        engine="processes",
        destination="local",
        has_set=True,
        has_retries=cell.killed == "worker",
    )


def check(cell: Cell, trial: Trial) -> None:
    """Kill, look, run again, look: what the line says, and nothing else."""
    kind = trial.database.kind
    before = trial.folder.names()
    old = trial.folder.rows(kind)
    committed = trial.table.committed

    with trial.run(trial.plan.engine, stop_at=cell.point) as program:
        assert program.wait_moment(None), f"the point was never reached: {trial.last_words()}"
        assert trial.kill(program)
        status = program.process.wait() if cell.killed == "parent" else program.finish()
        assert survivors(program) == []

    folder = trial.folder
    new = trial.table.published(trial.table.state_after(committed))
    assert folder.rows(kind) == {"the old set": old, "the new set": new}[cell.readers]
    assert folder.is_marked() == (cell.marker == "fresh")
    left = left_beside(folder, before, is_new=cell.readers == "the new set")
    assert left in (cell.left.removeprefix("perhaps "), "nothing" if "perhaps" in cell.left else cell.left)
    if cell.same_run == "is dead":
        assert status == -signal.SIGKILL
    else:
        assert (status == 0) == (cell.same_run in IS_OVER), trial.last_words()
    assert ("is tried again" in trial.last_words()) == (cell.same_run == IS_OVER[1])

    assert cell.next_run in NEXT_RUN
    beside = folder.leftovers()
    assert bool(beside) <= ("removes that" in cell.next_run)
    trial.table.commit(1)
    trial.run_undisturbed()
    folder = trial.folder
    assert folder.rows(kind) == trial.table.published(trial.table.state_after(committed + 1))
    assert folder.is_marked()
    assert folder.leftovers() == []


def left_beside(folder: PublishedFolder, before: set[str], *, is_new: bool) -> str:
    """Name what a run left beside the set that readers follow."""
    added = folder.names() - before
    manifest = folder.manifest()
    assert manifest is not None
    if is_new:
        added -= {f"manifest-{manifest['run_id']}.json", *(part["key"] for part in manifest["parts"])}
    kinds = {"manifest" if name.startswith("manifest-") else "part" for name in added}
    assert not any(name.startswith(".") for name in added)
    return ", ".join(sorted(kinds, reverse=True)) or "nothing"


@pytest.fixture(scope="module")
def sqlite_trial(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Cell, Path], Trial]:
    """A shop that has a set and newer rows; each test gets a copy of it."""
    home = tmp_path_factory.mktemp("home")
    (cell, *_) = cells()
    trial = Trial(plan_of(cell, "sqlite"), home, SqliteDatabase(home / "source.db"))
    trial.run_undisturbed()
    trial.table.commit(3)

    def copied(cell: Cell, directory: Path) -> Trial:
        shutil.copytree(home, directory, dirs_exist_ok=True)
        database = SqliteDatabase(directory / "source.db")
        return Trial(plan_of(cell, "sqlite"), directory, database, table=trial.table.copied(database))

    return copied


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.killed in ("parent", "worker")], ids=str)
def test_a_killed_process_leaves_what_the_table_says(
    cell: Cell, sqlite_trial: Callable[[Cell, Path], Trial], tmp_path: Path
) -> None:
    """E-42, E-43, E-44: SIGKILL of the parent or a worker at a point: what is on disk, and that the next run publishes."""
    check(cell, sqlite_trial(cell, tmp_path))


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.killed == "backend"], ids=str)
def test_a_killed_backend_leaves_what_the_table_says(cell: Cell, postgres_url: str, tmp_path: Path) -> None:
    """E-44: the server ends every connection while an export is at a point."""
    name = f"cell_{os.getpid()}_{re.sub('[^a-z]', '_', cell.point)}"
    trial = Trial(plan_of(cell, "postgres"), tmp_path, PostgresDatabase(postgres_url, name))
    try:
        trial.run_undisturbed()
        trial.table.commit(3)
        check(cell, trial)
    finally:
        trial.database.drop()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Servers that nobody else uses."""
    with Servers() as servers:
        yield servers


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.killed == "server"], ids=str)
def test_a_killed_server_leaves_what_the_table_says(cell: Cell, servers: Servers, tmp_path: Path) -> None:
    """E-44: SIGKILL of the whole server, which comes back on what it left."""
    try:
        server = servers.get("postgres")
    except ServerUnavailableError as exc:
        pytest.skip(str(exc))
    database = PostgresDatabase(server.url, f"cell_{re.sub('[^a-z]', '_', cell.point)}", server)
    trial = Trial(plan_of(cell, "postgres"), tmp_path, database)
    trial.run_undisturbed()
    trial.table.commit(3)
    check(cell, trial)


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    """Object stores that nobody else uses."""
    with Stores() as stores:
        yield stores


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.killed == "store"], ids=str)
def test_a_killed_store_leaves_what_the_table_says(cell: Cell, stores: Stores, tmp_path: Path) -> None:
    """E-44: SIGKILL of an object store that keeps its objects on disk, which comes back on what it left."""
    name = f"cell-{re.sub('[^a-z]', '-', cell.point)}"
    try:
        place = stores.place("rclone", name, tmp_path, EXPORT)
    except ServerUnavailableError as exc:
        pytest.skip(str(exc))
    trial = Trial(plan_of(cell, "sqlite"), tmp_path, SqliteDatabase(tmp_path / "source.db"), place=place)
    trial.run_undisturbed()
    trial.table.commit(3)
    check(cell, trial)


def test_the_table_has_every_point() -> None:
    """E-44: no point is without a line for the parent's death; a new one breaks this test."""
    points = {cell.point.partition(":")[0] for cell in cells() if cell.killed == "parent"}
    assert points == {*READ_POINTS, *CRASH_POINTS}
    assert {cell.killed for cell in cells()} == {"parent", "worker", "backend", "server", "store"}
