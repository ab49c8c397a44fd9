"""One plan, done: a source, an export that is killed, what readers find then, the runs after it, what they find, and what is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.soak.crashes.databases import (
    Database,
    MariaDatabase,
    PostgresDatabase,
    Servers,
    SqliteDatabase,
    wait_until,
)
from tools.soak.crashes.findings import PublishedFolder, wrong_state, wrong_versions
from tools.soak.crashes.places import LocalPlace, Place, Stores
from tools.soak.crashes.plans import BATCH_ROWS, MODES, ROWS, STORE_OF, Plan, Victim
from tools.soak.crashes.program import Program, started, survivors
from tools.soak.crashes.tables import MovingTable

MOST_RERUNS: Final = 4
CLIENTS_GONE_WITHIN_S: Final = 10.0
"""How long a server may take to see that a client is gone: PostgreSQL looks every second, MariaDB when it writes to it."""
EXPORT: Final = "t"


@dataclass(slots=True)
class Finding:
    """What became of one plan.

    Attributes:
        plan: The plan.
        was_hit: Whether its moment came; a run may be over before it.
        wrong: What is wrong with what readers find, or with how a run ended.
        left: Who or what was still there when it should not have been.
        runs: Runs after the kill, until one succeeded.
    """

    plan: Plan
    was_hit: bool = False
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def is_good(self) -> bool:
        return not self.wrong and not self.left


class Trial:
    """A place where one plan is carried out."""

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        database: Database,
        *,
        place: Place | None = None,
        table: MovingTable | None = None,
    ) -> None:
        """Make the table and the configuration of a plan; a table that is given is already in its database."""
        self.plan = plan
        self.mode = MODES[plan.mode]
        self.directory = directory
        self.database = database
        self.table = table or MovingTable(
            self.database,
            change=self.mode.change,
            rows=ROWS,
            seed=f"{plan.seed}.{plan.number}",
            has_nulls=self.mode.has_nulls,
        )
        self.place = place or LocalPlace(directory, EXPORT)
        self.finding = Finding(plan)
        self._write_config()

    @property
    def folder(self) -> PublishedFolder:
        """What is at the destination now."""
        return self.place.folder()

    def carry_out(self) -> Finding:
        """Do what the plan says and return what was found."""
        plan, finding = self.plan, self.finding
        if plan.has_set:
            self.run_undisturbed()
            self.table.commit(3)
        at_kill = self.table.committed
        with self.table.moving():
            has_succeeded = self._killed_run()
            self._check_readers(floor=0, may_be_empty=not plan.has_set and not has_succeeded)
            while not has_succeeded and finding.runs < MOST_RERUNS:
                finding.runs += 1
                # What an earlier attempt published or finished stands, if the run is resumed.
                at_least = at_kill if plan.resumes else self.table.committed
                with self.run(plan.engine, resumes=plan.resumes) as program:
                    has_succeeded = program.finish() == 0
                if has_succeeded:
                    self._check_readers(floor=at_least)
            if not has_succeeded:
                finding.wrong.append(f"no run succeeds any more: {self.last_words()}")
        if self.mode.is_cumulative and has_succeeded:
            # Quiet now: the last run must bring the set up to everything that was committed.
            self.table.commit(1)
            self.run_undisturbed()
            self._check_readers(floor=self.table.committed)
        self._check_leftovers()
        return finding

    def run_undisturbed(self, engine: str = "in-process") -> None:
        """Run the export to its end.

        Raises:
            RuntimeError: If it fails.
        """
        with self.run(engine) as program:
            if program.finish() != 0:
                raise RuntimeError(f"a run that nobody disturbed failed: {self.last_words()}")

    # ---- the run that is killed

    def _killed_run(self) -> bool:
        """Run until the moment, kill, and wait for what becomes of it; return whether it succeeded all the same."""
        moment = self.plan.moment
        at_least = self.table.committed
        with self.run(self.plan.engine, stop_at=None if moment.point is None else str(moment)) as program:
            if program.wait_moment(None if moment.point is not None else moment.delay_s):
                self.finding.was_hit = self.kill(program)
            if self.plan.victim is Victim.PARENT and self.finding.was_hit:
                program.process.wait()
                self.finding.left += survivors(program)
                return False
            has_succeeded = program.finish() == 0
            self.finding.left += survivors(program)
        if has_succeeded:
            self._check_readers(floor=at_least)
        return has_succeeded

    def kill(self, program: Program) -> bool:
        """Kill who is to be killed; return whether there was somebody."""
        program.family()  # those whom only descent tells are not found once the parent is gone
        match self.plan.victim:
            case Victim.PARENT:
                with suppress(ProcessLookupError):
                    os.kill(program.process.pid, signal.SIGKILL)
                return program.process.wait() == -signal.SIGKILL
            case Victim.WORKER:
                workers = program.workers()
                for pid in workers[:1]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return bool(workers)
            case Victim.BACKEND:
                self.database.kill_backends()
            case Victim.BACKEND_PROCESS:
                self.database.kill_backend_process()
            case Victim.SERVER:
                self.database.kill_server()
            case Victim.STORE:
                self.place.kill()
        return True

    # ---- what is found

    def _check_readers(self, *, floor: int, may_be_empty: bool = False) -> None:
        """Compare what readers find with what the mode promises."""
        folder = self.folder
        if folder.manifest() is None:
            if not may_be_empty:
                self.finding.wrong.append("nothing is published")
            return
        check: Callable[..., str | None] = wrong_state if self.mode.is_one_state else wrong_versions
        try:
            wrong = check(self.table, folder.rows(self.database.kind), at_least=floor)
        except Exception as exc:  # noqa: BLE001 (whatever an independent reader stumbles over is wrong)
            wrong = f"the set cannot be read: {exc}"
        if wrong is not None:
            self.finding.wrong.append(wrong)

    def _check_leftovers(self) -> None:
        """Look for everything that must be gone after a run that succeeded."""
        left, folder = self.finding.left, self.folder
        if not folder.is_marked():
            self.finding.wrong.append("the marker is not that of the manifest")
        left += [f"file {name}" for name in folder.leftovers()]
        left += [f"temporary file {path.name}" for path in (self.directory / "tmp").iterdir()]
        with suppress(TimeoutError):
            wait_until(lambda: not self.database.clients(), "no connection", patience_s=CLIENTS_GONE_WITHIN_S)
        left += [f"connection {client}" for client in self.database.clients()]

    def last_words(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-2_000:]

    # ---- the command

    def run(self, engine: str, *, stop_at: str | None = None, resumes: bool = False) -> AbstractContextManager[Program]:
        """Start the command; nothing of it is alive when the block is left."""
        words = ["run", "c.json", "--engine", engine, "--processes", "2", *(["--resume"] if resumes else [])]
        return started(self.directory, *words, stop_at=stop_at, environ=self.place.environ)

    def _write_config(self) -> None:
        tuning = {
            "profile": "fast",
            "batch_size": BATCH_ROWS,
            "max_retries": 3 if self.plan.has_retries else 0,
            "retry_backoff_ms": 10,
        }
        config = {
            "source": {**self.database.source, "tuning": tuning},
            "destination": self.place.config,
            "exports": [{"name": EXPORT, "table": "t", "format": "parquet", **self.mode.options}],
        }
        (self.directory / "c.json").write_text(json.dumps(config))


def open_database(plan: Plan, directory: Path, servers: Servers) -> Database:
    """Return an empty database of the plan's kind."""
    name = f"soak_{plan.number}"
    match plan.source:
        case "postgres":
            server = servers.get("postgres")
            return PostgresDatabase(server.url, name, server)
        case "mysql":
            server = servers.get("mariadb")
            return MariaDatabase(server.url, name, server)
        case _:
            return SqliteDatabase(directory / "source.db")


def open_place(plan: Plan, directory: Path, stores: Stores) -> Place:
    """Return an empty destination of the plan's kind."""
    kind = STORE_OF.get(plan.destination)
    return (
        LocalPlace(directory, EXPORT) if kind is None else stores.place(kind, f"soak-{plan.number}", directory, EXPORT)
    )


def carry_out(plan: Plan, root: Path, servers: Servers, stores: Stores) -> Finding:
    """Carry out one plan in a directory of its own below ``root``, which is removed if nothing was wrong."""
    directory = root / f"plan-{plan.number}"
    directory.mkdir()
    database, place = open_database(plan, directory, servers), open_place(plan, directory, stores)
    finding = Trial(plan, directory, database, place=place).carry_out()
    if finding.is_good:
        shutil.rmtree(directory)
    return finding
