"""``check``: everything that would stop a run, found before one starts, for all exports at once.

Goes the way of ``run`` up to the first row: the same configuration, the same resolver, the same planner.
"""

from __future__ import annotations

import argparse
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import anyio
from rich.text import Text

from procflow_export.cli.exporting import BACKEND
from procflow_export.cli.face import Face
from procflow_export.cli.interrupts import STATUS_OF, Interrupts
from procflow_export.cli.run import loaded_config
from procflow_export.config.structs import LoadedConfig
from procflow_export.engines.redaction import secrets_of_targets, text_cleaner
from procflow_export.exporter import Exporter
from procflow_export.model.codes import worst
from procflow_export.model.errors import ExportError, Failure, MisuseError, failure_from
from procflow_export.model.manifest import Manifest
from procflow_export.model.plan import Query
from procflow_export.pipeline.prepare import check_consistency, plan_target, published_set
from procflow_export.pipeline.sources import SharedSources
from procflow_export.planning.keys import described
from procflow_export.planning.plan import ExportPlan, Target
from procflow_export.ui import words
from procflow_export.ui.clean import many_lines, one_line
from procflow_export.ui.layout import left_cell

MAX_AT_ONCE: Final = 4


@dataclass(slots=True, kw_only=True)
class _Checked:
    target: Target
    plan: ExportPlan | None = None
    failures: tuple[Failure, ...] = ()


def check_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Check every export and return the exit status: 0, or what the worst finding asks for."""
    loaded = loaded_config(parsed, face)
    interrupts.hold()
    checked = anyio.run(_check_all, loaded, parsed.exports, face, interrupts, backend=BACKEND)
    if interrupts.first is not None:
        return _stopped(face, interrupts.first)
    status = worst(failure.code.exit_status for one in checked for failure in one.failures)
    bad = sum(bool(one.failures) for one in checked)
    if bad or not face.is_quiet:
        face.show(_rows(checked, face, has_types=parsed.type_report))
        face.show([Text(), _verdict(len(checked), bad)])
    if face.is_json:
        face.data(
            {
                "status": "failed" if bad else "success",
                "exit_status": int(status),
                "exports": [_data(one) for one in checked],
            }
        )
    return int(status)


def _stopped(face: Face, number: signal.Signals) -> int:
    """Say that the check was given up, and return the status that goes with it; half a verdict is none."""
    status = STATUS_OF[number]
    face.tell(f"stopped by {number.name}")
    if face.is_json:
        face.data({"status": "cancelled", "exit_status": status, "exports": []})
    return status


async def _check_all(
    loaded: LoadedConfig, exports: Sequence[str], face: Face, interrupts: Interrupts
) -> list[_Checked]:
    # The exporter gives the targets and is left without running: nothing is started, read or written.
    async with Exporter(loaded, exports=exports or None) as exporter:
        checked = [_Checked(target=target) for target in exporter.targets]
    clean = text_cleaner(secrets_of_targets((one.target for one in checked), os.environ))
    limiter, threads = anyio.CapacityLimiter(MAX_AT_ONCE), anyio.CapacityLimiter(MAX_AT_ONCE)
    async with SharedSources(os.environ) as sources, anyio.create_task_group() as group:
        interrupts.attach(group.cancel_scope.cancel)
        for one in checked:
            check = partial(_check, one, sources, limiter=limiter, threads=threads, face=face, clean=clean)
            group.start_soon(check, name=f"check {one.target.export.name}")
    return checked


async def _check(
    one: _Checked,
    sources: SharedSources,
    *,
    limiter: anyio.CapacityLimiter,
    threads: anyio.CapacityLimiter,
    face: Face,
    clean: Callable[[str], str],
) -> None:
    failures: list[Failure] = []
    async with limiter:
        previous: Manifest | None = None
        try:
            previous = await published_set(one.target, threads)
        except Exception as exc:  # noqa: BLE001 (recorded: the source and the other exports are checked too)
            failures.append(_recorded(exc, face, clean))
        try:
            one.plan = await plan_target(one.target, sources, previous)
            remark = await check_consistency(one.plan, sources)
            if remark is not None:
                one.plan = replace(one.plan, warnings=(*one.plan.warnings, remark))
        except Exception as exc:  # noqa: BLE001 (recorded as well)
            failures.append(_recorded(exc, face, clean))
    one.failures = tuple(failures)


def _recorded(exc: Exception, face: Face, clean: Callable[[str], str]) -> Failure:
    if not isinstance(exc, ExportError):
        face.say(clean("".join(traceback.format_exception(exc))))
    return failure_from(exc).cleaned(clean)


def _rows(checked: Sequence[_Checked], face: Face, *, has_types: bool) -> list[Text]:
    glyphs = face.glyphs
    names = [one_line(one.target.export.name) for one in checked]
    cells = max((len(name) for name in names), default=0)
    rows: list[Text] = []
    for one, name in zip(checked, names, strict=True):
        is_bad = bool(one.failures)
        mark = (glyphs.failed, "bold red") if is_bad else (glyphs.done, "green")
        title = Text.assemble(" ", mark, " ", (left_cell(name, cells), "bold"), "  ")
        title.append(_described(one) if one.plan is not None else _what(one.target))
        rows.append(title)
        for failure in one.failures:
            rows.append(Text.assemble("     ", (failure.code.value, "bold red"), f": {one_line(failure.message)}"))
            rows += [Text(f"     {line}", style="dim") for note in failure.notes for line in many_lines(note)]
            rows.append(Text.assemble("     ", ("what to do  ", "dim"), failure.code.action))
        if one.plan is not None:
            rows += [Text.assemble("   ", ("! ", "bold yellow"), one_line(warning)) for warning in one.plan.warnings]
            if has_types:
                rows += _types(one.plan)
    return rows


def _what(target: Target) -> str:
    kind = "a query" if isinstance(target.selection, Query) else f"table {one_line(str(target.selection))}"
    return f"{target.source.type.value}, {kind}"


def _described(one: _Checked) -> str:
    plan = one.plan
    if plan is None:
        raise MisuseError("an export without a plan cannot be described")
    pieces = [_what(one.target), words.plural(len(plan.columns), "column")]
    if plan.row_estimate is not None:
        pieces.append(f"about {words.compact(plan.row_estimate)} rows")
    how = f" ({one_line(plan.cut.description)})" if plan.cut.description else ""
    pieces.append("nothing new" if plan.is_nothing_new else f"{words.plural(len(plan.chunks), 'chunk')}{how}")
    options = one.target.format
    pieces.append(f"{options.format.value} ({options.compression.value})")
    return ", ".join(pieces)


def _types(plan: ExportPlan) -> list[Text]:
    lines = [("column", "source type", "Arrow type", "", "fidelity")]
    lines += [
        (
            one_line(column.name),
            one_line(column.native_type),
            str(column.arrow_type),
            "" if column.is_nullable else "not null",
            column.fidelity.value,
        )
        for column in plan.columns
    ]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    rows = []
    for number, line in enumerate(lines):
        text = "     " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        rows.append(Text(text.rstrip(), style="dim" if number == 0 else ""))
    return rows


def _verdict(count: int, bad: int) -> Text:
    if bad:
        return Text(f" {bad} of {words.plural(count, 'export')} would fail", style="bold red")
    return Text(f" {words.plural(count, 'export')} ready to run", style="bold green")


def _data(one: _Checked) -> dict[str, object]:
    data: dict[str, object] = {"export": one.target.export.name, "failures": one.failures}
    if one.plan is None:
        return data
    plan = one.plan
    return data | {
        "row_estimate": plan.row_estimate,
        "chunks": len(plan.chunks),
        "key": described(plan.chunks.key) or None,
        "cut": plan.cut.description or None,
        "warnings": plan.warnings,
        "columns": [
            {
                "name": column.name,
                "native_type": column.native_type,
                "arrow_type": str(column.arrow_type),
                "is_nullable": column.is_nullable,
                "fidelity": column.fidelity.value,
            }
            for column in plan.columns
        ],
    }
