"""``validate``: whether published sets are what their manifests say."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

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
from procflow_export.cli.run import loaded_config
from procflow_export.pipeline.checking import validate
from procflow_export.ui import words


def validate_command(parsed: argparse.Namespace, face: Face, interrupts: Interrupts) -> int:
    """Validate the published set of every export and return the exit status: 0, or 3 where one is not to be trusted."""
    loaded = loaded_config(parsed, face)

    async def work(progress: Progress) -> tuple[Validation, ...]:
        return await validate(
            loaded,
            depth=ValidationDepth(parsed.depth),
            exports=parsed.exports or None,
            environ=os.environ,
            run_id=parsed.run_id,
            watch=progress.watch,
        )

    results = watched(face, interrupts, "validate", work)
    if results is None:
        return stopped(face, interrupts)
    status = status_of([result.exit_status for result in results])
    if status or not face.is_quiet:
        face.show(validation_rows(face, results))
    if face.is_json:
        exports = [as_data(result, result.exit_status) for result in results]
        face.data({"status": "failed" if status else "success", "exit_status": int(status), "exports": exports})
    return int(status)


def validation_rows(face: Face, results: Sequence[Validation]) -> list[Text]:
    """Return what people read of validations."""
    rows: list[Text] = []
    for result in results:
        rows.append(title(face, result.export, result.exit_status, result.findings, _described(result)))
        rows += finding_rows(result.findings)
        rows += failure_rows(result.failure)
    return rows


def _described(result: Validation) -> str:
    if result.run_id is None:
        return result.location
    pieces = [words.plural(result.row_count, "row"), words.plural(result.part_count, "part")]
    if result.depth is ValidationDepth.FULL:
        compared = (
            "their values compared" if result.compared_count == result.read_count else "digests and rows compared"
        )
        if 0 < result.compared_count < result.read_count:
            compared = f"the values of {result.compared_count} compared"
        pieces.append(f"{result.read_count} read, {compared}")
    return f"{', '.join(pieces)}  ({result.depth.value})"
