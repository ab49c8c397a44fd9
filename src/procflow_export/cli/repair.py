"""``repair``: say which published sets would be made anew and why, and with ``--execute`` do it."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.to_thread
from rich.text import Text

from procflow_export.checks.validation import Validation, ValidationDepth
from procflow_export.cli.checking import (
    Progress,
    as_data,
    failure_rows,
    finding_rows,
    status_of,
    stopped,
    title,
    watched,
)
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import Interrupts
from procflow_export.cli.reconcile import verdict_text
from procflow_export.cli.run import loaded_config, run_once
from procflow_export.cli.validate import validation_rows
from procflow_export.config.structs import LoadedConfig
from procflow_export.model.codes import ExitStatus
from procflow_export.model.reconciling import Verdict
from procflow_export.pipeline.checking import validate
from procflow_export.pipeline.repairing import RepairPlan, forget_cursors, plan_repairs
from procflow_export.state import open_state
from procflow_export.ui import words
from procflow_export.ui.clean import one_line


def repair_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Plan the repair of every export, and do it where that is wanted; return the exit status.

    Without ``--execute`` it is 3 if there is something to repair.  With it, it is that of the run, or of what could not be
    repaired.
    """
    loaded = loaded_config(parsed, face)

    async def plan(progress: Progress) -> tuple[RepairPlan, ...]:
        return await plan_repairs(
            loaded,
            depth=ValidationDepth(parsed.depth),
            exports=parsed.exports or None,
            environ=os.environ,
            also_undecided=parsed.undecided,
            watch=progress.watch,
        )

    plans = watched(face, interrupts, "repair", plan)
    if plans is None:
        return stopped(face, interrupts)
    status = status_of([plan.exit_status for plan in plans])
    if status or not face.is_quiet:
        face.show(_rows(face, plans))
    wanted = [plan for plan in plans if plan.is_needed and plan.failure is None]
    data: dict[str, object] = {"executed": bool(parsed.execute and wanted)}
    if wanted and not parsed.execute:
        face.tell("nothing was changed: `--execute` does it")
    elif wanted:
        done = _execute(parsed, loaded, face, interrupts, wanted)
        if done is None:
            return stopped(face, interrupts)
        statuses, more = done
        data |= more
        status = status_of([*statuses, *(plan.exit_status for plan in plans if plan.failure is not None)])
    if face.is_json:
        exports = [as_data(plan, plan.exit_status) for plan in plans]
        face.data(
            {"status": "failed" if status else "success", "exit_status": int(status)} | data | {"exports": exports}
        )
    return int(status)


def _execute(
    parsed: argparse.Namespace, loaded: LoadedConfig, face: Face, interrupts: Interrupts, plans: Sequence[RepairPlan]
) -> tuple[list[ExitStatus], dict[str, object]] | None:
    """Make the sets anew and look at them; return how that ended, and what programs are told of it."""
    names = [plan.export for plan in plans]

    async def forget(_: Progress) -> bool:
        with ExitStack() as opening:
            directory = Path(parsed.state) if parsed.state is not None else loaded.state_directory
            store = await anyio.to_thread.run_sync(opening.enter_context, open_state(directory))
            await forget_cursors(loaded, [plan.export for plan in plans if plan.forgets_cursor], store)
        return True

    if any(plan.forgets_cursor for plan in plans) and watched(face, interrupts, "repair", forget) is None:
        return None
    report = run_once(parsed, loaded, face, interrupts, exports=names).execute()
    if not report.is_success:
        return [report.exit_status], {"run": report.as_data()}

    async def look(progress: Progress) -> tuple[Validation, ...]:
        run_id = None if report.finished is None else report.finished.run_id
        return await validate(loaded, depth=ValidationDepth.SAMPLE, exports=names, run_id=run_id, watch=progress.watch)

    checked = watched(face, interrupts, "repair", look)
    if checked is None:
        return None
    statuses = [one.exit_status for one in checked]
    if any(statuses) or not face.is_quiet:
        face.show(validation_rows(face, checked))
    return statuses, {"run": report.as_data(), "validated": [as_data(one, one.exit_status) for one in checked]}


def _rows(face: Face, plans: Sequence[RepairPlan]) -> list[Text]:
    rows: list[Text] = []
    for plan in plans:
        rows.append(title(face, plan.export, plan.exit_status, plan.findings, _described(plan)))
        rows += finding_rows(plan.findings)
        rows += failure_rows(plan.failure)
        if plan.is_needed and plan.failure is None:
            rows.append(Text.assemble("     ", ("repair  ", "dim"), one_line(_what(plan))))
    return rows


def _described(plan: RepairPlan) -> str:
    verdicts = Counter({Verdict(name): count for name, count in plan.verdicts.items()})
    return f"{'to be repaired' if plan.is_needed else 'nothing to repair'}, {verdict_text(verdicts)}"


def _what(plan: RepairPlan) -> str:
    text = f"export it anew from one new snapshot, and replace {words.plural(plan.part_count, 'part')}"
    text += f" with {words.plural(plan.row_count, 'row')} by one swap of the manifest"
    if plan.forgets_cursor:
        text += (
            "; the cursor is forgotten first, so rows that the source no longer has, and earlier versions of rows, go"
        )
    return text
