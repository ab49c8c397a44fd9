"""What the commands that check published sets have in common: how they wait, how findings look, and how they end.

Owns the loop of such a command: progress for people while it reads, and a signal that ends it in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import msgspec
from rich.text import Text

from procflow_export.checks.findings import CheckFinding
from procflow_export.cli.exporting import BACKEND
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import STATUS_OF, Interrupts
from procflow_export.model.codes import ExitStatus, worst
from procflow_export.model.errors import Failure, Severity
from procflow_export.ui import words
from procflow_export.ui.clean import many_lines, one_line

PROGRESS_S: Final = 10.0
"""How often long work says how far it is."""
T = TypeVar("T")


class Progress:
    """What was read so far, told every now and then."""

    def __init__(self, face: Face, verb: str) -> None:
        self._face = face
        self._verb = verb
        self._read: Counter[str] = Counter()

    def watch(self, export: str, size_bytes: int) -> None:
        """Take note; called from any thread."""
        self._read[export] += size_bytes

    async def tell(self) -> None:
        """Say it, for ever."""
        while True:
            await anyio.sleep(PROGRESS_S)
            done = ", ".join(f"{one_line(name)} {words.size(count)}" for name, count in sorted(self._read.items()))
            if done:
                self._face.tell(f"{self._verb}: {done} read")


def watched(face: Face, interrupts: Interrupts, verb: str, work: Callable[[Progress], Awaitable[T]]) -> T | None:
    """Run ``work`` in a loop of its own; return what it returns, or None if a signal stopped it.

    Raises:
        ExportError: What ``work`` raised.
    """
    interrupts.hold()
    return anyio.run(partial(_watched, face, interrupts, verb, work), backend=BACKEND)


async def _watched(face: Face, interrupts: Interrupts, verb: str, work: Callable[[Progress], Awaitable[T]]) -> T | None:
    progress = Progress(face, verb)
    result: T | None = None
    # A task group would wrap what the work raises, so it is carried past the group.
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        interrupts.attach(group.cancel_scope.cancel)
        group.start_soon(progress.tell, name="progress")
        try:
            result = await work(progress)
        except Exception as exc:  # noqa: BLE001 (raised again below)
            failure = exc
        group.cancel_scope.cancel()
    if failure is not None and interrupts.first is None:
        raise failure
    return result if interrupts.first is None else None


def stopped(face: Face, interrupts: Interrupts) -> int:
    """Say that a check was given up, and return the status that goes with it; half a verdict is none."""
    assert interrupts.first is not None, "something stopped it"
    status = STATUS_OF[interrupts.first]
    face.tell(f"stopped by {interrupts.first.name}")
    if face.is_json:
        face.data({"status": "cancelled", "exit_status": status, "exports": []})
    return status


def status_of(statuses: Sequence[ExitStatus]) -> ExitStatus:
    """Return the exit status of a check of several exports."""
    return worst(status for status in statuses if status is not ExitStatus.OK)


def title(face: Face, name: str, status: ExitStatus, findings: Sequence[CheckFinding], rest: str) -> Text:
    """Return the line of one export."""
    if status is not ExitStatus.OK:
        mark = (face.glyphs.failed, "bold red")
    elif findings:
        mark = ("!", "bold yellow")
    else:
        mark = (face.glyphs.done, "green")
    return Text.assemble(" ", mark, " ", (one_line(name), "bold"), f"  {one_line(rest)}")


def finding_rows(findings: Sequence[CheckFinding]) -> list[Text]:
    """Return what was found, a line each."""
    styles = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow"}
    return [
        Text.assemble("     ", (finding.code.value, styles[finding.severity]), f": {one_line(finding.message)}")
        for finding in findings
    ]


def failure_rows(failure: Failure | None) -> list[Text]:
    """Return why a check was given up."""
    if failure is None:
        return []
    return [
        Text.assemble("     ", (failure.code.value, "bold red"), f": {one_line(failure.message)}"),
        *(Text(f"     {line}", style="dim") for note in failure.notes for line in many_lines(note)),
        Text.assemble("     ", ("what to do  ", "dim"), failure.code.action),
    ]


def as_data(result: msgspec.Struct, status: ExitStatus) -> dict[str, Any]:
    """Return what ``--json`` prints of the check of one export."""
    return {"exit_status": int(status)} | msgspec.structs.asdict(result)
