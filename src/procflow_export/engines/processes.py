"""The processes engine: every unit is done by a child process of ``procflow``.

Owns the pool: workers are started when they are needed, at most ``max_units`` of them, do one unit after the other, and are replaced
when they die.  Must not know retries, exports or the order of work (see ``pipeline``), nor how a child is talked to (``child``).

A crash of one worker is the failure of one unit.  Leaving the engine's block ends every worker by the phases of
``child.SHUTDOWN``, all at the same time.
"""

from __future__ import annotations

import contextlib
import os
import site
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.abc

import procflow
from procflow_export.engines.child import SHUTDOWN, WorkerChild
from procflow_export.engines.protocol import Readers, ReaderStep
from procflow_export.model.codes import Code
from procflow_export.model.errors import ExportError, MisuseError, SourceError, WorkerError
from procflow_export.model.events import UnitEvent
from procflow_export.model.plan import Snapshot, UnitResult, WorkUnit
from procflow_export.model.settings import DEFAULT_MEMORY_MB, SourceConfig
from procflow_export.pipeline.groups import end_group
from procflow_export.sources.scopes import open_task_group

CLOSE_S: Final = 2.0
"""How long idle workers may take to exit by themselves when the engine is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRemark:
    """What a worker wrote to standard error although nothing it did failed for it; secrets are masked."""

    worker: str
    pid: int | None
    text: str


def worker_command(
    number: int,
    *,
    python: str | None = None,
    environ: Mapping[str, str] | None = None,
    memory_mb: int = DEFAULT_MEMORY_MB,
) -> procflow.Command:
    """Return the command of worker ``number``, which has a budget of ``memory_mb``.

    ``-P`` keeps the working directory off the module path: a ``random.py`` lying there must not break an export.  Where the package
    is not installed but was found through a changed path, its folder travels in ``PYTHONPATH``, behind what is there.

    Raises:
        WorkerError: If this interpreter does not know its own executable (embedded Python).
    """
    executable = python or sys.executable
    if not executable:
        raise WorkerError(
            Code.WORKER_NOT_STARTED, "this interpreter does not know its executable; use the in-process engine"
        )
    return procflow.Command(
        executable,
        "-P",
        "-m",
        "procflow_export",
        "worker",
        "--memory",
        str(memory_mb),
        env={**(environ or {}), "PYTHONPATH": _python_path(os.environ if environ is None else environ)},
        inherit_env=environ is None,
        name=f"worker-{number}",
    )


def _python_path(environ: Mapping[str, str]) -> str | None:
    """The child's PYTHONPATH: the host's, and behind it our own folder unless every interpreter of this kind finds it anyway."""
    inherited = environ.get("PYTHONPATH") or None
    root = str(Path(__file__).resolve().parents[2])
    if root in {str(Path(folder).resolve()) for folder in (*site.getsitepackages(), site.getusersitepackages())}:
        return inherited
    return root if inherited is None else f"{inherited}{os.pathsep}{root}"


class ProcessEngine:
    """Does work units in child processes; an async context manager."""

    def __init__(
        self,
        *,
        max_units: int,
        memory_mb: int = DEFAULT_MEMORY_MB,
        python: str | None = None,
        environ: Mapping[str, str] | None = None,
        shutdown: procflow.Shutdown = SHUTDOWN,
    ) -> None:
        """Prepare for at most ``max_units`` workers.

        Args:
            max_units: How many units are done at once, each by its own process.
            memory_mb: Memory that each process may have.
            python: Interpreter of the workers; by default the one that runs this.
            environ: Environment of the workers, references in the configuration included; by default this process's.
            shutdown: How a worker is ended that does not end by itself.
        """
        if max_units < 1:
            raise MisuseError(f"the processes engine needs at least 1 process, not {max_units}")
        self._max_units = max_units
        self._memory_mb = memory_mb
        self._python = python
        self._environ = environ
        self._shutdown = shutdown
        self._slots = anyio.Semaphore(max_units)
        self._group: anyio.abc.TaskGroup | None = None
        self._workers: set[WorkerChild] = set()
        self._idle: list[WorkerChild] = []
        self._changed = anyio.Event()
        self._started_count = 0
        self._malformed_lines = 0
        self._remarks: list[WorkerRemark] = []

    def __repr__(self) -> str:
        return f"<ProcessEngine {len(self._workers)} of at most {self._max_units} workers, {len(self._idle)} idle>"

    @property
    def name(self) -> str:
        """``processes``."""
        return "processes"

    @property
    def max_units(self) -> int:
        """How many units may run at once."""
        return self._max_units

    @property
    def started_count(self) -> int:
        """Workers started so far, replacements included."""
        return self._started_count

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(worker.pid for worker in self._workers if worker.pid is not None)

    @property
    def malformed_lines(self) -> int:
        """Lines of workers that were no events, over the whole life of the engine."""
        return self._malformed_lines + sum(worker.malformed_lines for worker in self._workers)

    @property
    def remarks(self) -> tuple[WorkerRemark, ...]:
        """What workers that have ended wrote to standard error, in the order of their ends."""
        return tuple(self._remarks)

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise MisuseError("an engine is entered once")
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        group = self._group
        if group is None:
            raise MisuseError("the engine was not entered")
        try:
            if exc_type is None:
                with anyio.move_on_after(CLOSE_S):
                    async with anyio.create_task_group() as closers:
                        for worker in self._workers:
                            closers.start_soon(worker.close)
        finally:
            handled = await end_group(group, exc_type, exc, traceback)
        return handled

    async def execute(self, unit: WorkUnit, report: Callable[[UnitEvent], None]) -> UnitResult:
        """Do one unit in a worker; see ``engines.port.Engine``.

        Raises:
            ExportError: If the unit failed.  A worker that died raises ``WorkerError`` with its outcome and its last lines.
        """
        async with self._slots:
            while True:
                worker = await self._taken(unit)
                try:
                    return await worker.do(unit, report)
                except SourceError as exc:
                    if (
                        exc.code is not Code.SOURCE_SNAPSHOT_LOST
                        or unit.snapshot is None
                        or not unit.snapshot.is_joined
                    ):
                        raise
                    # It has none left; another worker may.
                    worker.readers.pop(unit.snapshot.name, None)
                finally:
                    if worker.is_usable:
                        self._idle.append(worker)
                    self._notify()

    async def prepare_readers(self, source: SourceConfig, snapshot: Snapshot, count: int) -> None:
        """Open connections for a snapshot in as many workers as there may be: see ``Engine.prepare_readers``."""
        while len(self._workers) < min(count, self._max_units):
            self._idle.append(self._start())
        alive = [worker for worker in self._workers if worker.is_alive]
        hosts = sorted(alive, key=lambda worker: sum(worker.readers.values()))[:count]
        async with open_task_group() as asking:
            for number, host in enumerate(hosts):
                share = count // len(hosts) + (number < count % len(hosts))
                host.readers[snapshot.name] = share
                message = Readers(step=ReaderStep.PREPARE, source=source, snapshot=snapshot, count=share)
                asking.start_soon(host.ask, message)

    async def join_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """Let them begin to read it: see ``Engine.join_snapshot``."""
        async with open_task_group() as asking:
            for host in self._hosts(snapshot):
                asking.start_soon(host.ask, Readers(step=ReaderStep.JOIN, source=source, snapshot=snapshot))

    async def leave_snapshot(self, source: SourceConfig, snapshot: Snapshot) -> None:
        """Close them: see ``Engine.leave_snapshot``."""
        message = Readers(step=ReaderStep.LEAVE, source=source, snapshot=snapshot)

        async def leave(host: WorkerChild) -> None:
            with contextlib.suppress(ExportError):
                await host.ask(message)

        async with open_task_group() as asking:
            for host in self._hosts(snapshot):
                del host.readers[snapshot.name]
                asking.start_soon(leave, host)
        self._notify()

    def _hosts(self, snapshot: Snapshot) -> list[WorkerChild]:
        return [worker for worker in self._workers if worker.is_alive and snapshot.name in worker.readers]

    async def _taken(self, unit: WorkUnit) -> WorkerChild:
        """Return a worker that is idle and can do a unit: one that reads the unit's snapshot, if only joined ones do."""
        if unit.snapshot is None or not unit.snapshot.is_joined:
            return self._take()
        while hosts := self._hosts(unit.snapshot):
            for host in hosts:
                if host in self._idle and host.is_usable:
                    self._idle.remove(host)
                    return host
            await self._changed.wait()
        raise SourceError(Code.SOURCE_SNAPSHOT_LOST, "no worker that reads the snapshot is left")

    def _take(self) -> WorkerChild:
        self._idle = [worker for worker in self._idle if worker.is_usable]
        # Whoever reads a snapshot is wanted by its units, and nobody else can do them.
        free = next((worker for worker in reversed(self._idle) if not worker.readers), None)
        if free is None and (len(self._workers) < self._max_units or not self._idle):
            return self._start()
        chosen = free or self._idle[-1]
        self._idle.remove(chosen)
        return chosen

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _start(self) -> WorkerChild:
        if self._group is None:
            raise MisuseError("the engine was not entered")
        self._started_count += 1
        command = worker_command(
            self._started_count, python=self._python, environ=self._environ, memory_mb=self._memory_mb
        )
        worker = WorkerChild(command, shutdown=self._shutdown, environ=self._environ)
        self._workers.add(worker)
        self._group.start_soon(self._run, worker, f"worker-{self._started_count}", name=f"worker-{self._started_count}")
        return worker

    async def _run(self, worker: WorkerChild, name: str) -> None:
        try:
            await worker.run()
        finally:
            self._workers.discard(worker)
            self._notify()
            self._malformed_lines += worker.malformed_lines
            text = worker.stderr_text()
            if text:
                self._remarks.append(WorkerRemark(worker=name, pid=worker.pid, text=text))
