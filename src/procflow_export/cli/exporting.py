"""Running exports under the eyes of a person: engine, display, signals, and the last words.

Owns what ``run`` and ``demo`` have in common.  The first signal stops a run in order: no new work, every worker ended, nothing
half-written left.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec
from rich.text import Text

from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import STATUS_OF, Interrupts
from procflow_export.cli.tracebacks import kept_tracebacks
from procflow_export.config.structs import ExportConfig, LoadedConfig, Mode
from procflow_export.engines.in_process import InProcessEngine
from procflow_export.engines.processes import ProcessEngine
from procflow_export.exporter import Exporter
from procflow_export.model.codes import ExitStatus
from procflow_export.model.destination import DestinationType
from procflow_export.model.errors import MisuseError
from procflow_export.model.events import Finished, RunFinished, Status
from procflow_export.pipeline.policy import RunPolicy
from procflow_export.ui.board import Board, CardState
from procflow_export.ui.clean import many_lines
from procflow_export.ui.painter import Painter
from procflow_export.ui.show import CardsDisplay, Display, PlainDisplay, SilentDisplay
from procflow_export.ui.summary import render_summary

BACKEND: Final = "asyncio"
PROCESSES: Final = "processes"
IN_PROCESS: Final = "in-process"
SHOWN_REMARK_LINES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How a run ended, as this program tells it.

    Attributes:
        exit_status: What the program exits with.
        finished: The run's last event; ``None`` when it did not come that far.
        exports: The verdict on every export that got one, in order.
        record: The directory of the run's record; ``None`` if it was not recorded.
    """

    exit_status: ExitStatus
    finished: RunFinished | None
    exports: tuple[Finished, ...]
    record: Path | None = None

    @property
    def is_success(self) -> bool:
        """Whether every export was published."""
        return self.exit_status is ExitStatus.OK

    def as_data(self) -> dict[str, object]:
        """Return what ``--json`` prints: every field, present or not worth a word."""
        status = self.finished.status if self.finished is not None else Status.CANCELLED
        data: dict[str, object] = {"status": status, "exit_status": int(self.exit_status)}
        if self.finished is not None:
            data |= {name: value for name, value in fields_of(self.finished).items() if name not in data}
        if self.record is not None:
            data["record"] = str(self.record)
        return data | {"exports": [fields_of(verdict) for verdict in self.exports]}


def fields_of(event: RunFinished | Finished) -> dict[str, object]:
    """Return what ``event`` says, without its envelope: what ``--json`` prints of a verdict."""
    envelope = ("seq", "at_ms", "mono_ns", "exit_status")
    return {name: value for name, value in msgspec.structs.asdict(event).items() if name not in envelope}


@dataclass(slots=True, eq=False, kw_only=True)
class RunOnce:
    """One run of one configuration, shown by ``face``.

    Attributes:
        loaded: What to export.
        face: Where to show it.
        exports: Names of the exports to run; empty means all.
        engine: ``processes`` or ``in-process``; ``None`` takes what the configuration says.
        max_units: Chunks at once; ``None`` means one for each processor, and no more than there can be.
        memory_mb: Memory of each process; ``None`` takes what the configuration says.
        record: The directory of all records; ``None`` records nothing.
        state: The directory of the state; ``None`` takes the one beside the configuration.
        resume: Go on with what the last run left.
        drain_s: How long chunks that a later run can use may go on when the run is stopped.
        retry_command: Returns what to type to run some exports again.
        interrupts: Signals that stop the run; held from its beginning, and still afterwards.
    """

    loaded: LoadedConfig
    face: Face
    exports: Sequence[str] = ()
    engine: str | None = None
    max_units: int | None = None
    memory_mb: int | None = None
    record: Path | None = None
    state: Path | None = None
    resume: bool = False
    drain_s: float = 0.0
    retry_command: Callable[[Sequence[str]], str]
    interrupts: Interrupts
    _board: Board = field(default_factory=Board)
    _is_stopping: bool = False
    _recorded_in: Path | None = None
    _tracebacks: list[str] = field(default_factory=list)

    def execute(self) -> RunReport:
        """Run the exports to their verdicts in an event loop of their own, say how it went, and return that."""
        self.interrupts.hold()
        with kept_tracebacks() as self._tracebacks:
            return anyio.run(self._execute, backend=BACKEND)

    async def _execute(self) -> RunReport:
        engine = self._open_engine()
        display = self._display()
        last: list[Text] = []
        # A task group would wrap what the exporter raises, so its failure is carried past the group.
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(display.keep_current, name="display")
                try:
                    exporter = Exporter(
                        self.loaded,
                        exports=self.exports or None,
                        engine=engine,
                        record=self.record,
                        state=self.state,
                        resume=self.resume,
                        policy=RunPolicy(drain_s=self.drain_s),
                    )
                    await self._follow(exporter, display)
                except Exception as exc:  # noqa: BLE001 (raised again below)
                    failure = exc
                group.cancel_scope.cancel()
            if failure is not None:
                raise failure
            last = self._last_words(engine)
        finally:
            await display.close(last)
        return self._report()

    async def _follow(self, exporter: Exporter, display: Display) -> None:
        async with exporter:
            self._recorded_in = exporter.record_directory
            events = exporter.run()
            self.interrupts.attach(partial(self._stop, exporter))
            async for event in events:
                display.hear(event)

    def _stop(self, exporter: Exporter) -> None:
        if self.interrupts.first is None:
            return
        if self._is_stopping:
            self._board.notice = "still stopping"
            exporter.cancel("asked again")  # nothing is drained any more
            return
        self._is_stopping = True
        name = self.interrupts.first.name
        what = "chunks that can be used go on" if self.drain_s else "workers are being ended"
        self._board.notice = f"stopping ({name})"
        if not self.face.is_live:
            self.face.tell(f"{name}: stopping, {what}")
        exporter.cancel(f"stopped by {name}", signal=name)

    def _open_engine(self) -> ProcessEngine | InProcessEngine:
        config = self.loaded.config
        kind = self.engine or (
            IN_PROCESS if config.parallel_exports and not config.parallel_export_processes else PROCESSES
        )
        chosen = [export for export in config.exports if not self.exports or export.name in self.exports]
        if any(config.destination_of(export).type is DestinationType.STDOUT for export in chosen):
            if self.face.is_json:
                raise MisuseError("--json and an export to standard output both want standard output")
            kind = self.engine or IN_PROCESS
        at_most = sum(_parallel_units(export) for export in chosen)
        max_units = self.max_units or max(1, min(_processors(), at_most))
        memory_mb = self.memory_mb or config.memory_mb
        if kind == PROCESSES:
            return ProcessEngine(max_units=max_units, memory_mb=memory_mb)
        return InProcessEngine(max_units=max_units, memory_bytes=memory_mb << 20)

    def _display(self) -> Display:
        face = self.face
        if face.is_quiet:
            return SilentDisplay(self._board, face.show)
        if face.is_live:
            painter = Painter(face.err, has_color=face.has_color)
            return CardsDisplay(self._board, painter, glyphs=face.glyphs, is_verbose=face.is_verbose)
        return PlainDisplay(self._board, face.tell, face.show, is_verbose=face.is_verbose)

    def _last_words(self, engine: ProcessEngine | InProcessEngine) -> list[Text]:
        board, face = self._board, self.face
        rows: list[Text] = []
        failed = any(card.state not in (CardState.DONE, CardState.SKIPPED) for card in board.cards.values())
        if failed or not face.is_quiet:
            rows = render_summary(board, width=face.width, next_command=self.retry_command, glyphs=face.glyphs)
        for text in self._tracebacks:
            rows += [Text(), *(Text(f"   {line}", style="dim") for line in many_lines(text))]
        if isinstance(engine, ProcessEngine) and not face.is_quiet:
            rows += _remarks(engine, is_verbose=face.is_verbose)
        if self._recorded_in is not None and not face.is_quiet:
            rows.append(Text.assemble(" ", ("record  ", "dim"), os.path.relpath(self._recorded_in)))
        if self.interrupts.first is not None:
            rows.append(self._stopped())
        return rows

    def _stopped(self) -> Text:
        cards = self._board.cards.values()
        published = sum(card.state is CardState.DONE for card in cards)
        assert self.interrupts.first is not None
        text = f" stopped by {self.interrupts.first.name}: {published} of {len(cards)} exports published, "
        return Text(text + "every worker ended, nothing half-written left", style="yellow")

    def _report(self) -> RunReport:
        finished = self._board.finished
        status = ExitStatus.INTERNAL if finished is None else ExitStatus(finished.exit_status)
        if self.interrupts.first is not None and status is not ExitStatus.OK:
            status = ExitStatus(STATUS_OF[self.interrupts.first])
        verdicts = (card.finished for card in self._board.cards.values())
        return RunReport(
            exit_status=status,
            finished=finished,
            exports=tuple(verdict for verdict in verdicts if verdict is not None),
            record=self._recorded_in,
        )


def _remarks(engine: ProcessEngine, *, is_verbose: bool) -> list[Text]:
    """Return what workers wrote to standard error, equal texts once."""
    groups: dict[str, list[str]] = {}
    for remark in engine.remarks:
        groups.setdefault(remark.text, []).append(remark.worker)
    rows: list[Text] = []
    for text, workers in groups.items():
        lines = many_lines(text)
        shown = lines if is_verbose else lines[-SHOWN_REMARK_LINES:]
        left_out = f", {len(lines) - len(shown)} lines before these" if len(shown) < len(lines) else ""
        rows.append(Text())
        rows.append(Text(f" {', '.join(workers)} wrote{left_out}:", style="dim"))
        rows += [Text(f"   {line}", style="dim") for line in shown]
    return rows


def _parallel_units(export: ExportConfig) -> int:
    return export.parallel if export.mode is Mode.CHUNKED else 1


def _processors() -> int:
    with suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def retry_command(
    program: str, loaded: LoadedConfig, *, params: Sequence[str], options: Sequence[str] = ()
) -> Callable[[Sequence[str]], str]:
    """Return a function from names of exports to the command that runs them again.

    Values of parameters may be secrets and are not repeated: ``-p NAME="$NAME"`` takes them from the shell.
    """
    file = os.path.relpath(loaded.file) if loaded.file is not None else "CONFIG"

    def command(names: Sequence[str]) -> str:
        words = [program, "run", shlex.quote(file)]
        words += [f"-e {shlex.quote(name)}" for name in names]
        words += [f'-p {name}="${name}"' for name in params]
        return " ".join((*words, *options))

    return command


def shown_python() -> str:
    """Return how a person here calls this interpreter: as it was typed, or by its path from this folder."""
    typed = sys.orig_argv[0] if sys.orig_argv else sys.executable
    if not Path(typed).is_absolute():
        return typed
    relative = os.path.relpath(typed)
    return typed if relative.startswith("..") else relative


def shown_program(program: str) -> str:
    """Return ``program`` as it can be typed: with the interpreter of now where it is a module."""
    return (
        program.replace("python ", f"{shlex.quote(shown_python())} ", 1) if program.startswith("python ") else program
    )
